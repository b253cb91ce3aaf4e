"""The head of dense detectors: initial values, the order of its predictions, and that padding changes nothing."""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from jaxdet.heads.dense_head import DenseHead
from jaxdet.nn import NormConfig
from jaxdet.nn.parameters import arrays

GROUPS = NormConfig("group", groups=2)


def _head(**options):
    return DenseHead(8, 2, 3, depth=2, rngs=nnx.Rngs(0), **options)


@pytest.mark.parametrize("norm, use_bias, biased", [(None, None, True), (GROUPS, None, False), (GROUPS, True, True)])
def test_initial_values(norm, use_bias, biased):
    """As torchvision's: with a norm the tower has no bias (RetinaNet v2) but where it is asked for (FCOS)."""
    values = arrays(_head(norm=norm, use_bias=use_bias, bias=-math.log(99)))
    kernels = {f"tower.{i}.conv.kernel" for i in range(2)} | {"output.kernel"}
    biases = {f"tower.{i}.conv.bias" for i in range(2)} if biased else set()
    norms = {f"tower.{i}.norm.{kind}" for i in range(2) for kind in ("scale", "bias")} if norm else set()
    assert set(values) == kernels | biases | norms | {"output.bias"}
    for name in kernels:
        assert 0.009 < float(values[name].std()) < 0.011 and abs(float(values[name].mean())) < 1e-3
    for name in biases:
        assert not values[name].any()
    np.testing.assert_allclose(values["output.bias"], np.full(6, -4.59512), rtol=1e-6)


def test_predictions_are_by_row_column_and_anchor():
    head = DenseHead(1, 2, 3, depth=0, bias=0.0, rngs=nnx.Rngs(0))
    head.output.kernel[...] = jnp.zeros((3, 3, 1, 6)).at[1, 1, 0].set(jnp.arange(6.0))  # 0, 1, 2 of the first anchor
    x = jnp.array([[10.0, 20, 30], [40, 50, 60]]).reshape(1, 2, 3, 1)
    (found,) = head({"map": x})
    expected = [[pixel * k for k in anchor] for pixel in range(10, 70, 10) for anchor in ((0, 1, 2), (3, 4, 5))]
    np.testing.assert_array_equal(found[0], expected)


@pytest.mark.parametrize("norm", [None, GROUPS], ids=["bias", "norm"])
def test_neither_padding_nor_batch_mates_change_a_prediction(norm):
    """Nor, for the parameters, the gradient of an image's own predictions."""
    head = _head(norm=norm)
    for conv in (*(block.conv for block in head.tower), head.output):
        conv.kernel[...] *= 20  # so that what happens at an edge is seen
    graphdef, state = nnx.split(head)
    rng = np.random.default_rng(0)
    sizes = {"high": ((4, 5), (6, 3)), "low": ((2, 3), (3, 2))}
    alone = {name: [rng.normal(size=(*size, 8)).astype(np.float32) for size in sizes[name]] for name in sizes}
    padded = {name: np.full((2, 7, 6, 8), np.nan, np.float32) for name in sizes}
    for name, members in alone.items():
        for row, x in enumerate(members):
            padded[name][row, : x.shape[0], : x.shape[1]] = x

    @jax.jit
    def run(state, maps, extents):
        def total(state):
            found = nnx.merge(graphdef, state)(maps, extents)
            own = []
            for name, x in zip(maps, found, strict=True):
                x = x.reshape(*maps[name].shape[:3], 6)
                rows, columns = (
                    jnp.arange(x.shape[axis + 1])[None] < extents[name][:, axis, None] for axis in range(2)
                )
                own.append(jnp.where((rows[:, :, None] & columns[:, None])[..., None], x, 0))
            return sum(jnp.sin(x).sum() for x in own), own

        (_, own), gradient = jax.value_and_grad(total, has_aux=True)(state)
        return own, gradient

    together, gradient = run(state, padded, {name: jnp.array(sizes[name]) for name in sizes})
    expected = None
    for row in range(2):
        maps = {name: members[row][None] for name, members in alone.items()}
        found, part = run(state, maps, {name: jnp.array([sizes[name][row]]) for name in sizes})
        for level, whole in zip(found, together, strict=True):
            np.testing.assert_allclose(whole[row, : level.shape[1], : level.shape[2]], level[0], atol=1e-5)
            assert float(jnp.abs(level).max()) > 0.3
        expected = part if expected is None else jax.tree.map(jnp.add, expected, part)
    for ours, theirs in zip(jax.tree.leaves(gradient), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-4 * float(jnp.abs(theirs).max()))
