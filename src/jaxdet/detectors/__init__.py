"""Detectors whole, and the named models."""

from jaxdet.detectors.classes import with_classes as with_classes
from jaxdet.detectors.config import DetectorTransform as DetectorTransform
from jaxdet.detectors.config import FasterRCNNConfig as FasterRCNNConfig
from jaxdet.detectors.config import FPNConfig as FPNConfig
from jaxdet.detectors.faster_rcnn import FasterRCNN as FasterRCNN
from jaxdet.detectors.headhunter import headhunter_config as headhunter_config
from jaxdet.detectors.presets import abstract as abstract
from jaxdet.detectors.presets import build as build
from jaxdet.detectors.presets import detector_config as detector_config
from jaxdet.detectors.presets import faster_rcnn as faster_rcnn
from jaxdet.detectors.presets import list_models as list_models
from jaxdet.detectors.presets import model_config as model_config
