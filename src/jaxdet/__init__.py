"""jaxdet: object detection in pure JAX / Flax NNX, with PyTorch's numbers.

Public names are imported on first use, so that ``import jaxdet`` and the command line's help do not wait for JAX.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from jaxdet.backbones import Darknet53 as Darknet53
    from jaxdet.backbones import MobileNetV1 as MobileNetV1
    from jaxdet.backbones import ResNet as ResNet
    from jaxdet.compilation_cache import enable_compilation_cache as enable_compilation_cache
    from jaxdet.create import create_model as create_model
    from jaxdet.create import headhunter_from_cfg as headhunter_from_cfg
    from jaxdet.heads import AnchorGenerator as AnchorGenerator
    from jaxdet.inference import predict as predict
    from jaxdet.inference import with_options as with_options
    from jaxdet.models import FCOS as FCOS
    from jaxdet.models import FasterRCNN as FasterRCNN
    from jaxdet.models import HeadHunter as HeadHunter
    from jaxdet.models import RetinaNet as RetinaNet
    from jaxdet.models import list_models as list_models
    from jaxdet.models import with_classes as with_classes
    from jaxdet.models.faster_rcnn import faster_rcnn as faster_rcnn
    from jaxdet.models.fcos import fcos as fcos
    from jaxdet.models.retinanet import retinanet as retinanet
    from jaxdet.necks import FPN as FPN
    from jaxdet.ops import BoxCoder as BoxCoder
    from jaxdet.ops import batched_nms as batched_nms
    from jaxdet.ops import box_iou as box_iou
    from jaxdet.ops import nms as nms
    from jaxdet.ops import roi_align as roi_align
    from jaxdet.saving.model import load as load
    from jaxdet.saving.model import save as save
    from jaxdet.saving.resolve import list_weights as list_weights
    from jaxdet.types import Detections as Detections
    from jaxdet.types import Images as Images
    from jaxdet.types import Proposals as Proposals
    from jaxdet.types import Targets as Targets

    __version__: str

_EXPORTS = {
    "jaxdet.backbones": ("Darknet53", "MobileNetV1", "ResNet"),
    "jaxdet.compilation_cache": ("enable_compilation_cache",),
    "jaxdet.models": ("FCOS", "FasterRCNN", "HeadHunter", "RetinaNet", "list_models", "with_classes"),
    "jaxdet.models.faster_rcnn": ("faster_rcnn",),
    "jaxdet.models.fcos": ("fcos",),
    "jaxdet.models.retinanet": ("retinanet",),
    "jaxdet.heads": ("AnchorGenerator",),
    "jaxdet.inference": ("predict", "with_options"),
    "jaxdet.create": ("create_model", "headhunter_from_cfg"),
    "jaxdet.necks": ("FPN",),
    "jaxdet.ops": ("BoxCoder", "batched_nms", "box_iou", "nms", "roi_align"),
    "jaxdet.saving.model": ("load", "save"),
    "jaxdet.saving.resolve": ("list_weights",),
    "jaxdet.types": ("Detections", "Images", "Proposals", "Targets"),
}
_MODULES = {name: module for module, names in _EXPORTS.items() for name in names}
# Imported on first use, so that jaxdet.data.read_image works after ``import jaxdet`` alone.
_SUBPACKAGES = (
    "backbones",
    "data",
    "evaluation",
    "heads",
    "models",
    "necks",
    "nn",
    "ops",
    "parallel",
    "runs",
    "training",
)

__all__ = sorted(_MODULES)


def __getattr__(name: str) -> Any:
    if name == "__version__":
        return _version()
    if name in _SUBPACKAGES:
        return importlib.import_module(f"jaxdet.{name}")
    if name not in _MODULES:
        raise AttributeError(f"module 'jaxdet' has no attribute {name!r}")
    return getattr(importlib.import_module(_MODULES[name]), name)


def __dir__() -> list[str]:
    return [*globals(), *_MODULES, "__version__"]


def _version() -> str:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("jaxdet")
    except PackageNotFoundError:  # run from the sources, without installation
        return "0+unknown"
