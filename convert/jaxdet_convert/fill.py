"""Building a model from recognised weights, strictly. Some parts may be initialised instead."""

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
from jaxdet_convert.read.unwrap import log_changes
from jaxdet_convert.read.weights import Weights
from jaxdet_convert.sources.backbones import backbone_of
from jaxdet_convert.sources.base import Recognised
from jaxdet_convert.sources.registry import model_table, source_of

_COUNTERS = "{x:path}.count"


def fill_strictly(
    read: Weights, found: Recognised, config: ModelConfig, numerics: Numerics, fresh: nnx.Rngs | None = None
) -> tuple[Model, Converted]:
    """Builds the model of a configuration with the given weights.

    Args:
        fresh: initialises the predictor with these random numbers instead; for weights without heads, all heads.

    Raises:
        ConversionError: weights or parameters are left over, or have another shape.
        ValueError: the number of anchors per location differs from that of the weights.
    """
    _check_anchors(config, found)
    model = abstract(config, numerics=numerics)
    target = flatten(nnx.state(model))
    drop, prefixes = _find_excluded(found, config, fresh is not None)
    new = [path for path in target if path.startswith(prefixes)]
    if fresh is not None and not new:
        raise ValueError("the weights have no classifier: give the number of classes of the new one (num_classes=)")
    table = model_table(config, found.origin)
    drop = matching(drop, [name for original in read.tensors for name in (original, table.modern(original))])
    # The Darknet format has no batch counters.
    is_darknet = not config.needs_backbone and backbone_of(config.backbone_config).numbers in found.origin
    counters = matching((_COUNTERS,), target) if is_darknet else ()
    converted = to_jax(read.tensors, table, target, drop=drop, fresh=(*new, *counters))
    log_changes(read, converted.cast)
    # Copies, because the caller may change the arrays later.
    values = {path: jnp.array(array) for path, array in converted.arrays.items()}
    values |= {path: jnp.zeros((), jnp.int32) for path in converted.fresh if path.endswith(".count")}
    if fresh is not None:
        values |= draw(model, prefixes, rngs=fresh)
    model = fill(model, values)
    model.origin = found.origin
    return model, converted


def _find_excluded(found: Recognised, config: ModelConfig, fresh: bool) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Templates of the names to drop, and path prefixes of the parameters to initialise."""
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
            f"the weights have {found.num_anchors} anchors per location, but the anchor generator has {counts} on its "
            f"levels: give the one that they were trained with ({option}=AnchorGenerator(sizes, aspect_ratios))"
        )
