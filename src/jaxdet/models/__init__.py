"""Complete models, one folder per family, and their registry."""

from jaxdet.base import Model as Model
from jaxdet.base import ModelConfig as ModelConfig
from jaxdet.base import Task as Task
from jaxdet.models.classes import with_classes as with_classes
from jaxdet.models.config import DetectorConfig as DetectorConfig
from jaxdet.models.config import DetectorTransform as DetectorTransform
from jaxdet.models.config import FPNConfig as FPNConfig
from jaxdet.models.detector import Detector as Detector
from jaxdet.models.detector import Stage as Stage
from jaxdet.models.faster_rcnn import FasterRCNN as FasterRCNN
from jaxdet.models.faster_rcnn import FasterRCNNConfig as FasterRCNNConfig
from jaxdet.models.fcos import FCOS as FCOS
from jaxdet.models.fcos import FCOSConfig as FCOSConfig
from jaxdet.models.headhunter import HeadHunter as HeadHunter
from jaxdet.models.headhunter import HeadHunterConfig as HeadHunterConfig
from jaxdet.models.headhunter import headhunter_config as headhunter_config
from jaxdet.models.registry import FAMILIES as FAMILIES
from jaxdet.models.registry import Family as Family
from jaxdet.models.registry import abstract as abstract
from jaxdet.models.registry import build as build
from jaxdet.models.registry import detector_config as detector_config
from jaxdet.models.registry import list_models as list_models
from jaxdet.models.registry import model_config as model_config
from jaxdet.models.retinanet import RetinaNet as RetinaNet
from jaxdet.models.retinanet import RetinaNetConfig as RetinaNetConfig
