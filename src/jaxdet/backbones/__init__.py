"""Backbones: classifiers that also return feature maps."""

from jaxdet.backbones.base import Backbone as Backbone
from jaxdet.backbones.base import BackboneConfig as BackboneConfig
from jaxdet.backbones.base import ClassifierTransform as ClassifierTransform
from jaxdet.backbones.darknet import Darknet53 as Darknet53
from jaxdet.backbones.darknet import Darknet53Config as Darknet53Config
from jaxdet.backbones.mobilenet_v1 import MobileNetV1 as MobileNetV1
from jaxdet.backbones.mobilenet_v1 import MobileNetV1Config as MobileNetV1Config
from jaxdet.backbones.resnet import ResNet as ResNet
from jaxdet.backbones.resnet import ResNetConfig as ResNetConfig
