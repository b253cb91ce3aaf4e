"""Feature pyramids: which level gets what, and that padding changes nothing."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from jaxdet.necks import FPN, RetinaFaceFPN
from jaxdet.nn import NormConfig

SIDES, CHANNELS = {"z": 8, "b": 4, "a": 2}, (3, 4, 5)  # names that sort the other way


def _maps(factor=1, fill=0.0):
    """Maps of an image that fills them, or the upper left part of larger ones."""
    rng = np.random.default_rng(0)
    maps = {}
    for (name, side), channels in zip(SIDES.items(), CHANNELS, strict=True):
        whole = np.full((1, factor * side, factor * side, channels), fill, np.float32)
        whole[:, :side, :side] = rng.normal(size=(1, side, side, channels))
        maps[name] = jnp.asarray(whole)
    return maps


@pytest.mark.parametrize(
    "make",
    [
        lambda: FPN(CHANNELS, 6, norm=NormConfig(), rngs=nnx.Rngs(0)),
        lambda: FPN(CHANNELS, 6, pool=False, rngs=nnx.Rngs(0)),
        lambda: RetinaFaceFPN(CHANNELS, 6, rngs=nnx.Rngs(0)),
    ],
    ids=["norm and pool", "bias", "RetinaFace"],
)
def test_what_lies_beyond_the_extents_changes_nothing(make):
    """Neither outputs nor, in training, statistics."""
    extents = {name: jnp.array([[side, side]]) for name, side in SIDES.items()}

    @jax.jit
    def run(maps, extents):
        model = make()
        return model(maps, extents, train=True), nnx.state(model, nnx.BatchStat)

    alone, statistics = run(_maps(), None)
    padded, same = run(_maps(2, np.nan), extents)
    for name, level in alone.items():
        side = level.shape[1]
        np.testing.assert_allclose(padded[name][:, :side, :side], level, atol=1e-5)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6), same, statistics)


def test_levels_come_by_resolution_and_the_pool_is_half_of_the_last():
    model = FPN(CHANNELS, 6, rngs=nnx.Rngs(0))
    shuffled = dict(sorted(_maps().items()))  # as a jit boundary gives them back
    outputs = model(shuffled)
    assert [(name, level.shape[1]) for name, level in outputs.items()] == [("z", 8), ("b", 4), ("a", 2), ("pool", 1)]
    np.testing.assert_array_equal(outputs["pool"][:, 0, 0], outputs["a"][:, 0, 0])
    assert model.strides({"z": 4, "b": 8, "a": 16}) == {"z": 4, "b": 8, "a": 16, "pool": 32}
    with pytest.raises(ValueError, match="takes 3 feature maps, got 2"):
        model({"z": shuffled["z"], "b": shuffled["b"]})
