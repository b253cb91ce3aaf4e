"""Comparison of a classifier with its original: every feature map, and the logits."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import jax
import numpy as np
from flax import nnx
from jax import Array

from jaxdet.base import Model
from jaxdet.data import centre_crop
from jaxdet_convert.parity.listen import as_map, as_numpy, evaluating, listening
from jaxdet_convert.parity.report import Compared, stage


def compare(module: Any, model: Any, image: np.ndarray, number: int, *, map_names: Sequence[str]) -> Compared:
    """Compares both on one image. `jaxdet_convert.sources.base.Parity` documents the other arguments.

    Args:
        map_names: see `jaxdet_convert.sources.base.BackboneSource`; those of all namings.
    """
    transform = model.config.transform
    x = centre_crop(image, transform.resize, transform.crop, transform.image_mean, transform.image_std)
    maps, logits = trace_torch(module, model.names, x, map_names)
    ours, our_logits = jax.device_get(_trace(*nnx.split(model), x[None]))
    stages = [stage(name, theirs, ours[name][0]) for name, theirs in maps.items()]
    return Compared((*stages, stage("logits", logits, our_logits[0])))


def notes(module: Any, model: Model) -> tuple[str, ...]:
    return ("Both get the same images, cropped and normalised by the model's transform.",)


def trace_torch(
    module: Any, names: Sequence[str], x: np.ndarray, map_names: Sequence[str]
) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Feature maps ``{jaxdet's name: [h, w, C]}`` and logits ``[K]`` for a normalised image ``x [H, W, 3]``.

    Maps without a known name in the module are omitted.
    """
    import torch

    modules = dict(module.named_modules())
    parts: dict[str, str] = {}
    for text in map_names:
        paths = {name: text.format(name=name, index=index, number=index + 1) for index, name in enumerate(names)}
        if all(path in modules for path in paths.values()):
            parts = paths
            break
    with listening(module, parts) as seen, evaluating(module):
        first = next(module.parameters())
        tensor = torch.from_numpy(np.array(x.transpose(2, 0, 1)[None]))
        logits = module(tensor.to(first.device, first.dtype))
    return {name: as_map(value) for name, value in seen.items()}, as_numpy(logits)[0]


@partial(jax.jit, static_argnums=0)
def _trace(graphdef: nnx.GraphDef, state: nnx.State, x: Array) -> tuple[dict[str, Array], Array]:
    """Feature maps by name, and logits, for a batch of normalised images."""
    model = nnx.merge(graphdef, state)
    return model.features(x), model(x)
