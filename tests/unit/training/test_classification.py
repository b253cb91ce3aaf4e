"""The classifiers' loss by hand."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from jaxdet.backbones.base import Classifier
from jaxdet.nn import Numerics
from jaxdet.ops.cross_entropy import cross_entropy
from jaxdet.types import Images

LOGITS = jnp.log(jnp.array([[0.5, 0.25, 0.25], [0.2, 0.7, 0.1], [0.1, 0.1, 0.8]]))


def test_the_mean_over_rows_with_an_image():
    np.testing.assert_allclose(cross_entropy(LOGITS, jnp.array([0, 1, 0])), -np.log([0.5, 0.7, 0.1]).mean(), rtol=1e-6)
    dirty = LOGITS.at[2].set(jnp.nan)
    loss, gradient = jax.value_and_grad(cross_entropy)(dirty, jnp.array([0, 1, -1]))
    np.testing.assert_allclose(loss, -np.log([0.5, 0.7]).mean(), rtol=1e-6)
    assert cross_entropy(LOGITS, jnp.full(3, -1)) == 0
    assert np.isfinite(gradient[:2]).all()


def test_smoothing_reaches_the_loss():
    """A tenth of the target is spread over the three classes."""

    class Same(Classifier):
        def __init__(self):
            self.numerics = Numerics()

        def __call__(self, pixels, *, train=False):
            return LOGITS[:1]

    images = Images(jnp.zeros((1, 4, 4, 3)), jnp.full((1, 2), 4))
    plain, smooth = (
        Same().losses(images, jnp.array([0]), label_smoothing=share)["loss_cross_entropy"] for share in (0.0, 0.1)
    )
    np.testing.assert_allclose(plain, -np.log(0.5), rtol=1e-6)
    expected = -(0.9 * np.log(0.5) + 0.1 / 3 * np.log([0.5, 0.25, 0.25]).sum())
    np.testing.assert_allclose(smooth, expected, rtol=1e-6)
