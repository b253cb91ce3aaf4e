"""Online hard example mining: loss and gradient against a plain reference."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdet.heads import RoIOutputs
from jaxdet.models import detector_config
from jaxdet.models.faster_rcnn.losses import box_losses
from jaxdet.models.faster_rcnn.targets import ProposalTargets

VALID = np.array([[True] * 6, [True, True, True, False, False, False]])


def _case():
    rng = np.random.default_rng(0)
    logits = rng.normal(0, 2, (2, 6, 3)).astype(np.float32)
    labels = rng.integers(0, 3, (2, 6))
    deltas = rng.normal(size=(2, 6, 3, 4)).astype(np.float32)
    targets = np.where(VALID[..., None], rng.normal(size=(2, 6, 4)), np.nan).astype(np.float32)
    sampled = ProposalTargets(jnp.zeros((2, 6, 4)), jnp.asarray(labels), jnp.asarray(targets), jnp.asarray(VALID))
    return logits, deltas, labels, sampled


def _reference(logits, labels, k):
    """The mean over each image's hardest, and its gradient with respect to the logits."""
    shifted = np.exp(logits - logits.max(-1, keepdims=True))
    shares = shifted / shifted.sum(-1, keepdims=True)
    values = -np.log(np.take_along_axis(shares, labels[..., None], -1))[..., 0]
    chosen = np.zeros(values.shape, bool)
    for row in range(len(values)):
        known = [slot for slot in np.argsort(-values[row]) if VALID[row, slot]]
        chosen[row, known[:k]] = True
    gradient = (shares - np.eye(3)[labels]) * chosen[..., None] / chosen.sum()
    return values[chosen].mean(), gradient


@pytest.mark.parametrize("k", [1, 2, 4, 6, 500])
def test_the_hardest_of_each_image_count(k):
    """An image with three samples gives no more than three; with a k as large as the sample all of them count."""
    logits, deltas, labels, sampled = _case()

    def loss(logits):
        return box_losses(RoIOutputs(logits, jnp.asarray(deltas)), sampled, 1.0, k)["loss_classifier"]

    value, gradient = jax.value_and_grad(loss)(jnp.asarray(logits))
    expected, expected_gradient = _reference(logits, labels, k)
    np.testing.assert_allclose(value, expected, rtol=1e-5)
    np.testing.assert_allclose(gradient, expected_gradient, atol=1e-6)


def test_the_box_loss_sees_all_samples_and_a_large_k_is_the_mean():
    logits, deltas, _, sampled = _case()
    outputs = RoIOutputs(jnp.asarray(logits), jnp.asarray(deltas))
    plain = box_losses(outputs, sampled, 1.0)
    assert box_losses(outputs, sampled, 1.0, 1)["loss_box_reg"] == plain["loss_box_reg"]
    assert box_losses(outputs, sampled, 1.0, 6) == plain
    assert box_losses(outputs, sampled, 1.0, 2)["loss_classifier"] > plain["loss_classifier"]


@pytest.mark.parametrize("k", [True, 0, 2.5])
def test_k_is_a_number_of_proposals(k):
    with pytest.raises(ValueError, match=r"ohem.* must be a (number of proposals per image|whole number)"):
        detector_config("headhunter_resnet50", ohem=k)
