"""The parameters of a model from weights whose names and options are known, strictly; parts may start anew."""

from __future__ import annotations

import jax.numpy as jnp
from flax import nnx

from jaxdet.base import Model, ModelConfig
from jaxdet.models import abstract
from jaxdet.models.options import model_options, value_at
from jaxdet.models.registry import draw
from jaxdet.nn import Numerics
from jaxdet.nn.parameters import fill, flatten, shapes
from jaxdet_convert.apply import Converted, matching, to_jax
from jaxdet_convert.read.unwrap import tell
from jaxdet_convert.read.weights import Weights
from jaxdet_convert.sources.backbones import backbone_of
from jaxdet_convert.sources.base import Recognised
from jaxdet_convert.sources.registry import model_table, source_of

_COUNTERS = "{x:path}.count"


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
    drop, begins = _left_out(found, config, fresh is not None)
    new = [path for path in target if path.startswith(begins)]
    if fresh is not None and not new:
        raise ValueError("the weights have no classifier: say how many classes the new one has (num_classes=)")
    table = model_table(config, found.origin)
    drop = matching(drop, [name for original in read.tensors for name in (original, table.modern(original))])
    # A file of numbers alone has no counters.
    numbers = not config.needs_backbone and backbone_of(config.backbone_config).numbers in found.origin
    counters = matching((_COUNTERS,), target) if numbers else ()
    converted = to_jax(read.tensors, table, target, drop=drop, fresh=(*new, *counters))
    tell(read, converted.cast)
    # A copy, because an array of the caller's would be shared and could change under the model.
    values = {path: jnp.array(array) for path, array in converted.arrays.items()}
    values |= {path: jnp.zeros((), jnp.int32) for path in converted.fresh if path.endswith(".count")}
    if fresh is not None:
        values |= draw(model, begins, rngs=fresh)
    model = fill(model, values)
    model.origin = found.origin
    return model, converted


def _left_out(found: Recognised, config: ModelConfig, fresh: bool) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Templates of names that are dropped, and how the paths begin that start anew."""
    source = source_of(config)
    if found.bare:
        parts = {f"{path.partition('.')[0]}." for path in shapes(abstract(config))}
        return source.dropped, tuple(sorted(parts - {*source.trunk}))
    return (source.predictor, config.predictor) if fresh else ((), ())


def _check_anchors(config: ModelConfig, found: Recognised) -> None:
    report = config.anchors()
    if report is None or not found.num_anchors:
        return
    counts = report.generator.num_anchors_per_location()
    if set(counts) != {found.num_anchors}:
        options = model_options(config).items()
        option = next(name for name, path in options if value_at(config, path) is report.generator)
        raise ValueError(
            f"the weights predict {found.num_anchors} anchors a location and the anchor generator gives {counts} a "
            f"level: say with which they were trained ({option}=AnchorGenerator(sizes, aspect_ratios))"
        )
