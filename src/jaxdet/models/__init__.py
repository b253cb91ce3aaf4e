"""Detectors whole, and the named models."""

from jaxdet.models.classes import with_classes as with_classes
from jaxdet.models.faster_rcnn.config import DetectorTransform as DetectorTransform
from jaxdet.models.faster_rcnn.config import FasterRCNNConfig as FasterRCNNConfig
from jaxdet.models.faster_rcnn.config import FPNConfig as FPNConfig
from jaxdet.models.faster_rcnn.model import FasterRCNN as FasterRCNN
from jaxdet.models.headhunter.presets import headhunter_config as headhunter_config
from jaxdet.models.registry import abstract as abstract
from jaxdet.models.registry import build as build
from jaxdet.models.registry import detector_config as detector_config
from jaxdet.models.registry import faster_rcnn as faster_rcnn
from jaxdet.models.registry import list_models as list_models
from jaxdet.models.registry import model_config as model_config
