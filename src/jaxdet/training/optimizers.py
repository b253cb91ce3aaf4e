"""Optimizers from optax's parts, numerically equivalent to PyTorch's."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax import Array

from jaxdet.training.schedules import OptimizerConfig, make_schedule
from jaxdet.training.state import check_paths, under

_CLIP_EPS = 1e-6  # PyTorch's
_NORM_LEAVES = ("scale", "bias")


def make_optimizer(config: OptimizerConfig, steps: int) -> optax.GradientTransformation:
    """The optimizer for a run of ``steps``. It updates with the mean gradient of ``config.accumulate`` steps."""
    schedule = make_schedule(config, steps)
    parts = [] if config.clip_norm is None else [clip_by_norm(config.clip_norm)]
    decay = add_weight_decay(config)
    if config.kind == "adamw":
        parts += [optax.scale_by_adam(*config.betas, eps=config.eps), decay]
    else:
        momentum = optax.trace(config.momentum, nesterov=config.nesterov)
        parts += [momentum, decay] if config.decoupled else [decay, momentum]
    parts += [scale_by_path(config.lr_scales)] if config.lr_scales else []
    # The optimizer counts updates, the schedule counts steps.
    parts += [optax.scale_by_learning_rate(lambda update: schedule(update * config.accumulate))]
    optimizer = optax.chain(*parts)
    if config.accumulate == 1:
        return optimizer
    wide = jnp.result_type(float)  # by default optax accumulates in float32, also float64 gradients
    return optax.MultiSteps(optimizer, config.accumulate, accumulator_dtype=wide).gradient_transformation()


def clip_by_norm(largest: float) -> optax.GradientTransformation:
    """PyTorch's ``clip_grad_norm_``: scales gradients with a global norm above ``largest`` down to it."""

    def update(updates: Any, state: optax.EmptyState, params: Any = None) -> tuple[Any, optax.EmptyState]:
        factor = jnp.minimum(largest / (optax.tree.norm(updates) + _CLIP_EPS), 1)
        return jax.tree.map(lambda leaf: leaf * factor.astype(leaf.dtype), updates), state

    return optax.GradientTransformation(lambda params: optax.EmptyState(), update)


def add_weight_decay(config: OptimizerConfig) -> optax.GradientTransformation:
    """Adds each parameter times its weight decay to its update."""

    norm_decay = config.weight_decay if config.norm_weight_decay is None else config.norm_weight_decay
    return _by_path(lambda name, norm, update, param: update + (norm_decay if norm else config.weight_decay) * param)


def scale_by_path(scales: tuple[tuple[str, float], ...]) -> optax.GradientTransformation:
    """Multiplies the updates of the parameters under each path by its scale; the longest matching path applies.

    Its ``init`` raises ValueError for a path without trained parameters.
    """
    longest_first = sorted(scales, key=lambda entry: -len(entry[0]))

    def scale(name: str) -> float:
        return next((factor for path, factor in longest_first if under(name, (path,))), 1.0)

    def init(params: Any) -> optax.EmptyState:
        names = [_name(path) for path, _ in jax.tree_util.tree_flatten_with_path(params)[0]]
        check_paths("lr_scales", [path for path, _ in scales], names, "that trains")
        return optax.EmptyState()

    by_path = _by_path(lambda name, norm, update, param: update * scale(name))
    return optax.GradientTransformation(init, by_path.update)


def _by_path(change: Callable[[str, bool, Array, Array], Array]) -> optax.GradientTransformation:
    """A stateless transformation of every leaf: ``change(path, is it a norm's scale or bias, update, parameter)``."""

    def update(updates: Any, state: optax.EmptyState, params: Any = None) -> tuple[Any, optax.EmptyState]:
        names = [_name(path) for path, _ in jax.tree_util.tree_flatten_with_path(params)[0]]
        norms = {name.rpartition(".")[0] for name in names if name.endswith(".scale")}
        leaves, structure = jax.tree.flatten(updates)
        changed = [
            change(name, _is_norm(name, norms), leaf, param)
            for name, leaf, param in zip(names, leaves, jax.tree.leaves(params), strict=True)
        ]
        return jax.tree.unflatten(structure, changed), state

    return optax.GradientTransformation(lambda params: optax.EmptyState(), update)


def _is_norm(name: str, norms: set[str]) -> bool:
    parent, _, leaf = name.rpartition(".")
    return parent in norms and leaf in _NORM_LEAVES


def _name(path: tuple[Any, ...]) -> str:
    """The dotted path, such as ``"backbone.conv1.kernel"``, of a tree path through an `nnx.State`."""
    parts = [str(getattr(entry, "key", getattr(entry, "name", getattr(entry, "idx", entry)))) for entry in path]
    return ".".join(part for part in parts if part != "value")
