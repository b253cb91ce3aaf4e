"""Names from `jaxdet.models`, kept for programs that were written for earlier versions."""

from jaxdet.models import DetectorTransform as DetectorTransform
from jaxdet.models import FasterRCNN as FasterRCNN
from jaxdet.models import FasterRCNNConfig as FasterRCNNConfig
from jaxdet.models import FPNConfig as FPNConfig
from jaxdet.models import abstract as abstract
from jaxdet.models import build as build
from jaxdet.models import detector_config as detector_config
from jaxdet.models import headhunter_config as headhunter_config
from jaxdet.models import list_models as list_models
from jaxdet.models import model_config as model_config
from jaxdet.models import with_classes as with_classes
from jaxdet.models.faster_rcnn import faster_rcnn as faster_rcnn
