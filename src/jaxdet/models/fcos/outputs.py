"""The predictions of FCOS."""

from __future__ import annotations

from dataclasses import dataclass

import jax
from jax import Array

from jaxdet.heads.dense_head import DenseOutputs


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class FCOSOutputs(DenseOutputs):
    """The predictions of FCOS, one entry per level. Deltas are distances to the sides of the box, not negative."""

    centerness: tuple[Array, ...]  # [B, N] logits
