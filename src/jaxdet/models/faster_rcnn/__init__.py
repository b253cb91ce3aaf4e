"""Faster R-CNN (Ren et al. 2015) with a feature pyramid, equivalent to torchvision's."""

from jaxdet.models.faster_rcnn.config import FasterRCNNConfig as FasterRCNNConfig
from jaxdet.models.faster_rcnn.model import FasterRCNN as FasterRCNN
from jaxdet.models.faster_rcnn.presets import PRESETS as PRESETS
from jaxdet.models.faster_rcnn.presets import faster_rcnn as faster_rcnn
