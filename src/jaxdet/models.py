"""`create_model`, the front door: named models, if wanted on a trained body."""

from __future__ import annotations

import logging
import os
from types import EllipsisType
from typing import Any

from flax import nnx

from jaxdet.detectors import FasterRCNN, build, model_config
from jaxdet.detectors.presets import Model
from jaxdet.nn import Numerics


def create_model(
    name: str,
    *,
    num_classes: int | EllipsisType | None = ...,
    dtype: str = "float32",
    precision: str = "highest",
    backbone_weights: str | os.PathLike[str] | None = None,
    rngs: nnx.Rngs | None = None,
    **options: Any,
) -> Model:
    """A model by its name (`jaxdet.list_models`), with freshly initialised parameters.

    Args:
        num_classes: of a classifier, None for a body alone; of a detector with the background (91 for COCO).
        dtype: ``"float32"`` or ``"bfloat16"``, in which it computes; parameters are float32.
        precision: of float32 products: ``"highest"`` is true float32 on every platform, ``"default"`` the platform's.
        backbone_weights: a classifier's checkpoint (PyTorch's, Darknet's, or a jaxdet folder) that fills a detector's
            body, strictly; its ``fc`` is left out, which the log names. Needs ``jaxdet[convert]``.
        rngs: of the parameters; by default ``nnx.Rngs(0)``.
        options: see `jaxdet.detectors.model_config`.
    """
    if num_classes is not ...:
        options["num_classes"] = num_classes
    model = build(model_config(name, **options), numerics=Numerics(dtype, precision=precision), rngs=rngs)
    if backbone_weights is None:
        return model
    if not isinstance(model, FasterRCNN):
        raise ValueError(
            f"backbone_weights fills a detector's body, and {name} has none: use jaxdet_convert.load_torch"
        )
    from jaxdet_convert import load_backbone  # the one reader of such files stands beside jaxdet

    model, dropped = load_backbone(model, backbone_weights)
    logging.getLogger("jaxdet").warning("%s: left out %s", backbone_weights, ", ".join(dropped) or "nothing")
    return model
