"""Stochastic depth and DropBlock: torchvision's result of the same draws, shares, and padding."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdet.ops import drop_block2d, drop_block3d, stochastic_depth
from torchvision_cpu import torchvision_or_skip

KEY = jax.random.key(3)


@pytest.fixture
def draws(monkeypatch):
    """Hands what JAX drew to torch, which asks for the blocks' centres: places without a whole block are left out."""
    torch = pytest.importorskip("torch")
    drawn = []
    bernoulli = jax.random.bernoulli

    def remember(*args):
        drawn.append(bernoulli(*args))
        return drawn[-1]

    def give(tensor, p):
        values = np.asarray(drawn[-1]).astype(np.float32)
        if values.ndim == tensor.ndim and values.ndim > 3:
            values = np.moveaxis(values, -1, 1)
        return tensor.copy_(torch.from_numpy(values[tuple(slice(size) for size in tensor.shape)].copy()))

    monkeypatch.setattr(jax.random, "bernoulli", remember)
    monkeypatch.setattr(torch.Tensor, "bernoulli_", give)
    return drawn


@pytest.mark.parametrize("mode", ["row", "batch"])
@pytest.mark.parametrize("p", [0.4, 1.0])
def test_stochastic_depth_of_the_same_draw(mode, p, draws):
    torchvision = torchvision_or_skip()
    import torch

    x = np.random.default_rng(0).normal(size=(8, 3, 2)).astype(np.float32)
    ours = stochastic_depth(jnp.asarray(x), p, mode, key=KEY)
    np.testing.assert_allclose(ours, torchvision.ops.stochastic_depth(torch.from_numpy(x), p, mode), rtol=1e-6)
    assert draws[0].shape == ((8, 1, 1) if mode == "row" else (1, 1, 1))
    gradient = jax.grad(lambda x: stochastic_depth(x, p, mode, key=KEY).sum())(jnp.asarray(x))
    np.testing.assert_allclose(gradient, np.where(draws[0], 1 / (1 - p) if p < 1 else 0, np.zeros_like(x)), rtol=1e-6)


@pytest.mark.parametrize(
    "name, shape, block", [("drop_block2d", (2, 9, 12, 3), 3), ("drop_block3d", (2, 5, 6, 7, 2), 3),
    ("drop_block2d", (2, 5, 12, 3), 7)],
)  # fmt: skip
def test_drop_block_of_the_same_draw(name, shape, block, draws):
    torchvision = torchvision_or_skip()
    import torch

    x = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    ours = {"drop_block2d": drop_block2d, "drop_block3d": drop_block3d}[name](jnp.asarray(x), 0.3, block, key=KEY)
    theirs = getattr(torchvision.ops, name)(torch.from_numpy(np.moveaxis(x, -1, 1).copy()), 0.3, block)
    np.testing.assert_allclose(ours, np.moveaxis(theirs.numpy(), 1, -1), rtol=1e-5)
    dropped = (np.asarray(ours) == 0).mean()
    assert 0.1 < dropped < 0.5


def test_drop_block_does_not_see_padding():
    x = np.random.default_rng(0).normal(1, 0.1, size=(64, 8, 8, 8)).astype(np.float32)
    padded = np.pad(x, ((0, 0), (0, 3), (0, 5), (0, 0)), constant_values=np.nan)
    extents = np.full((64, 2), 8)
    extents[1] = 2  # smaller than a block: keeps all
    dropped = np.asarray(jax.jit(lambda x, e: drop_block2d(x, 0.2, 3, key=KEY, extents=e))(padded, extents))
    assert not dropped[:, 8:].any() and not dropped[:, :, 8:].any() and not dropped[1, 2:].any()
    assert dropped[1, :2, :2].all()
    own = np.delete(dropped, 1, axis=0)[:, :8, :8]
    alone = np.asarray(jax.jit(lambda x: drop_block2d(x, 0.2, 3, key=KEY))(x))
    assert abs((own == 0).mean() - (alone == 0).mean()) < 0.02  # other draws of one distribution
    assert abs(own.mean() - 1) < 0.02 and abs(alone.mean() - 1) < 0.02


def test_nothing_is_dropped_without_training_and_keys_are_asked_for():
    x = jnp.ones((2, 3, 3, 4))
    for result in (
        stochastic_depth(x, 0.5, "row", training=False),
        stochastic_depth(x, 0.0, "row"),
        drop_block2d(x, 0.5, 3, training=False),
        drop_block2d(x, 0.0, 3),
    ):
        assert result is x
    with pytest.raises(ValueError, match="needs a random key"):
        stochastic_depth(x, 0.5, "row")
    with pytest.raises(ValueError, match="needs a random key"):
        drop_block2d(x, 0.5, 3)
    with pytest.raises(ValueError, match="must be odd, got 2"):
        drop_block2d(x, 0.5, 2, key=KEY)
    with pytest.raises(ValueError, match="5 axes"):
        drop_block3d(x, 0.5, 1, key=KEY)
    with pytest.raises(ValueError, match="'column'"):
        stochastic_depth(x, 0.5, "column", key=KEY)
    with pytest.raises(ValueError, match=r"\[0, 1\]"):
        stochastic_depth(x, 1.5, "row", key=KEY)
