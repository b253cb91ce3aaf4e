"""Random sampling of a fixed number of positives and negatives."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array


class Samples(NamedTuple):
    """The sampled rows, positives first. Invalid slots have index 0 and are not positive."""

    indices: Array  # [num] int32, without repetition among the valid
    is_positive: Array  # [num] bool
    valid: Array  # [num] bool


def sample_balanced(key: Array, positive: Array, negative: Array, num: int, positive_fraction: float) -> Samples:
    """Samples up to ``num`` of N rows, up to ``int(num * positive_fraction)`` of them positive, the rest negative.

    The counts are those of torchvision's ``BalancedPositiveNegativeSampler``: missing positives are replaced by
    negatives; missing negatives leave slots invalid.

    Args:
      key: a JAX random key.
      positive: ``[N]`` bool.
      negative: ``[N]`` bool, disjoint from ``positive``. Rows in neither are never sampled.
      num: the number of slots of the result.
      positive_fraction: in [0, 1].

    Returns:
      ``Samples``.
    """
    if num < 1 or not 0 <= positive_fraction <= 1:
        raise ValueError(
            f"sample_balanced: got num={num} and positive_fraction={positive_fraction}; "
            "num must be at least 1 and the fraction lie in [0, 1]."
        )
    # One draw for both: the masks are disjoint, and the k largest of independent uniforms are a uniform subset.
    priority = jax.random.uniform(key, positive.shape)
    most_positive = int(num * positive_fraction)
    positives = _largest(jnp.where(positive, priority, -1), most_positive)
    negatives = _largest(jnp.where(negative, priority, -1), num)
    num_positive = jnp.minimum(jnp.sum(positive), most_positive)
    num_negative = jnp.minimum(jnp.sum(negative), num - num_positive)

    slot = jnp.arange(num)
    is_positive = slot < num_positive
    valid = slot < num_positive + num_negative
    from_positives = positives[jnp.minimum(slot, most_positive - 1)] if most_positive else jnp.zeros(num, jnp.int32)
    from_negatives = negatives[jnp.maximum(slot - num_positive, 0)]  # [num]
    indices = jnp.where(is_positive, from_positives, from_negatives)
    return Samples(jnp.where(valid, indices, 0).astype(jnp.int32), is_positive, valid)


def _largest(priority: Array, count: int) -> Array:
    """Indices ``[count]`` of the ``count`` largest of ``priority [N]``, padded with zeros."""
    _, indices = jax.lax.top_k(priority, min(count, priority.shape[0]))
    return jnp.pad(indices, (0, count - indices.shape[0]))
