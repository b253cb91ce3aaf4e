"""The parameters of a model from weights whose names and options are known, strictly; parts may start anew."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from jaxdet.base import Model, ModelConfig
from jaxdet.heads import FastRCNNPredictor
from jaxdet.models import FasterRCNNConfig, abstract, build
from jaxdet.nn import Linear, Numerics
from jaxdet.nn.parameters import arrays, fill, flatten
from jaxdet_convert.apply import Converted, matching, to_jax
from jaxdet_convert.read.unwrap import tell
from jaxdet_convert.read.weights import Weights
from jaxdet_convert.recognise import Recognised
from jaxdet_convert.recognise_headhunter import RETINAFACE_HEADS
from jaxdet_convert.tables import model_table

_COUNTERS = "{x:path}.count"
_CLASSIFIERS = ("fc.{p:name}", "head.fc.{p:name}")
_HEADS = ("rpn_upscale.", "box_upscale.", "rpn_head.", "box_head.", "box_predictor.")


def fill_strictly(
    read: Weights, found: Recognised, config: ModelConfig, numerics: Numerics, fresh: nnx.Rngs | None = None
) -> tuple[Model, Converted]:
    """The model of a configuration with the weights that were read; with ``fresh``, its predictor is drawn from that.

    Raises:
        ConversionError: with everything that is left over on either side, or has another shape.
        ValueError: the anchors are not as many as the weights predict.
    """
    _check_anchors(config, found)
    model = abstract(config, numerics=numerics)
    target = flatten(nnx.state(model))
    drop, begins = _left_out(found, fresh is not None)
    new = [path for path in target if path.startswith(begins)]
    table = model_table(config, found.origin)
    drop = matching(drop, [name for original in read.tensors for name in (original, table.modern(original))])
    # Darknet counts images, not batches.
    counters = matching((_COUNTERS,), target) if found.origin[-1:] == ("darknet",) else ()
    converted = to_jax(read.tensors, table, target, drop=drop, fresh=(*new, *counters))
    tell(read, converted.cast)
    # A copy, because an array of the caller's would be shared and could change under the model.
    values = {path: jnp.array(array) for path, array in converted.arrays.items()}
    values |= {path: jnp.zeros((), jnp.int32) for path in converted.fresh if path.endswith(".count")}
    if fresh is not None:
        values |= _new_parts(config, {path: target[path] for path in new}, numerics, fresh)
    model = fill(model, values)
    model.origin = found.origin
    return model, converted


def _left_out(found: Recognised, fresh: bool) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Templates of names that are dropped, and how the paths begin that start anew."""
    if found.bare:
        return RETINAFACE_HEADS, _HEADS
    if not fresh:
        return (), ()
    return (
        (("roi_heads.box_predictor.{x:path}",), ("box_predictor.",)) if found.is_detector else (_CLASSIFIERS, ("fc.",))
    )


def _check_anchors(config: ModelConfig, found: Recognised) -> None:
    if not isinstance(config, FasterRCNNConfig) or not found.num_anchors:
        return
    counts = config.rpn.anchor_generator.num_anchors_per_location()
    if set(counts) != {found.num_anchors}:
        raise ValueError(
            f"the weights predict {found.num_anchors} anchors a location and the anchor generator gives {counts} a "
            "level: say with which they were trained (rpn_anchor_generator=AnchorGenerator(sizes, aspect_ratios))"
        )


def _new_parts(
    config: ModelConfig, structs: Mapping[str, Any], numerics: Numerics, rngs: nnx.Rngs
) -> dict[str, jax.Array]:
    """The parameters at these paths as a new model would have them."""
    if isinstance(config, FasterRCNNConfig):
        if all(path.startswith("box_predictor.") for path in structs):
            size = config.box.representation_size
            predictor = FastRCNNPredictor(size, config.num_classes, numerics=numerics, rngs=rngs)
            return {f"box_predictor.{path}": array for path, array in arrays(predictor).items()}

        def new(key: jax.Array) -> dict[str, jax.Array]:
            whole = arrays(build(config, numerics=numerics, rngs=nnx.Rngs(key)))
            return {path: whole[path] for path in structs}

        return jax.jit(new)(rngs.params())  # what is not asked for is not drawn
    if not structs:
        raise ValueError("the weights have no classifier: say how many classes the new one has (num_classes=)")
    features, classes = structs["fc.kernel"].shape
    return {
        f"fc.{path}": array for path, array in arrays(Linear(features, classes, numerics=numerics, rngs=rngs)).items()
    }
