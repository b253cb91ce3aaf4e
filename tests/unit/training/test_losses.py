"""The losses' own arithmetic, and what padding may not do to them."""

from __future__ import annotations

import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from jaxdet.heads import RoIOutputs, RPNOutputs
from jaxdet.models import FasterRCNN, abstract, build
from jaxdet.models.faster_rcnn.losses import box_losses, rpn_losses
from jaxdet.models.faster_rcnn.targets import AnchorTargets, ProposalTargets
from jaxdet.ops.box_losses import smooth_l1
from jaxdet.training import image_keys, losses
from jaxdet.types import Images, Targets
from small_detector import small_detector, tiny_config


def test_smooth_l1_is_quadratic_then_linear():
    error = jnp.array([-0.1, 0.25, 2.0])
    np.testing.assert_allclose(smooth_l1(error, jnp.zeros(3), 0.5), [0.01, 0.0625, 1.75], rtol=1e-6)
    np.testing.assert_allclose(smooth_l1(error, jnp.zeros(3), 0.0), [0.1, 0.25, 2.0], rtol=1e-6)


@pytest.mark.parametrize("beta", [0.0, 0.5])
def test_an_exact_prediction_has_no_gradient(beta):
    gradient = jax.grad(lambda x: smooth_l1(x, jnp.ones(3), beta).sum())(jnp.array([1.0, 0.0, 3.0]))
    np.testing.assert_array_equal(gradient, [0, -1, 1])


def test_rpn_losses_by_hand():
    rpn = RPNOutputs(
        (jnp.array([[0.0, 2.0]]), jnp.array([[-1.0]])), (jnp.ones((1, 2, 4)), jnp.zeros((1, 1, 4))), (), ()
    )
    sampled = AnchorTargets(
        jnp.array([[1, 2, 0]]),
        jnp.array([[True, False, True]]),
        jnp.full((1, 3, 4), 3.0),
        jnp.array([[True, True, False]]),
    )
    values = rpn_losses(rpn, sampled, 1.0)
    expected = (np.log1p(np.exp(-2.0)) + np.log1p(np.exp(-1.0))) / 2
    np.testing.assert_allclose(values["loss_objectness"], expected, rtol=1e-6)
    np.testing.assert_allclose(values["loss_rpn_box_reg"], 4 * 1.5 / 2, rtol=1e-6)


def test_box_losses_by_hand():
    logits = jnp.array([[[1.0, 0.0], [0.0, 1.0], [9.0, 9.0]]])
    deltas = jnp.zeros((1, 3, 2, 4)).at[0, 1, 1].set(0.5)
    sampled = ProposalTargets(
        jnp.zeros((1, 3, 4)), jnp.array([[0, 1, 1]]), jnp.full((1, 3, 4), jnp.inf).at[0, 1].set(0.0),
        jnp.array([[True, True, False]]),
    )  # fmt: skip
    values = box_losses(RoIOutputs(logits, deltas), sampled, 1.0)
    np.testing.assert_allclose(values["loss_classifier"], np.log1p(np.exp(-1.0)), rtol=1e-6)
    np.testing.assert_allclose(values["loss_box_reg"], 4 * 0.125 / 2, rtol=1e-6)


def test_no_sample_gives_zero_not_nan():
    nothing = jnp.zeros((1, 2), bool)
    rpn = RPNOutputs((jnp.zeros((1, 4)),), (jnp.zeros((1, 4, 4)),), (), ())
    sampled = AnchorTargets(jnp.zeros((1, 2), jnp.int32), nothing, jnp.full((1, 2, 4), jnp.nan), nothing)
    assert all(float(value) == 0 for value in rpn_losses(rpn, sampled, 0.1).values())


@pytest.mark.parametrize(
    "make", [small_detector, pytest.param(lambda: build(tiny_config()), marks=pytest.mark.verify, id="mobilenet")]
)
def test_padding_changes_neither_losses_nor_gradients(make, batch):
    images, targets = batch
    rows = jnp.arange(images.pixels.shape[1])[None, :, None, None] < images.sizes[:, 0, None, None, None]
    columns = jnp.arange(images.pixels.shape[2])[None, None, :, None] < images.sizes[:, 1, None, None, None]
    dirty = Images(jnp.where(rows & columns, images.pixels, jnp.nan), images.sizes)
    spoilt = Targets(
        jnp.where(targets.valid[..., None], targets.boxes, jnp.nan),
        jnp.where(targets.valid, targets.labels, 77),
        targets.valid,
    )
    graphdef, params, rest = nnx.split(make(), nnx.Param, ...)
    keys = image_keys(jax.random.key(0), jnp.int32(0), 2)

    @jax.jit
    def gradient(params, images, targets):
        def total(params):
            return sum(losses(nnx.merge(graphdef, params, rest, copy=True), images, targets, keys).values())

        return jax.value_and_grad(total)(params)

    clean, soiled = gradient(params, images, targets), gradient(params, dirty, spoilt)
    assert np.isfinite(float(clean[0])) and float(clean[0]) > 0
    jax.tree.map(lambda a, b: np.testing.assert_array_equal(a, b), clean, soiled)


def test_losses_and_detections_come_from_one_call(small, batch):
    images, targets = batch
    graphdef, state = nnx.split(small)
    keys = image_keys(jax.random.key(0), jnp.int32(0), 2)
    both = jax.jit(lambda state: nnx.merge(graphdef, state).losses_and_detections(images, targets, keys))
    values, detections = both(state)
    alone = jax.jit(lambda state: nnx.merge(graphdef, state)(images))(state)
    assert set(values) == {"loss_classifier", "loss_box_reg", "loss_objectness", "loss_rpn_box_reg"}
    np.testing.assert_array_equal(detections.valid, alone.valid)
    np.testing.assert_allclose(detections.boxes, alone.boxes, atol=1e-4)
    assert detections.valid.any()


def test_each_stage_goes_by_its_own_options(batch, monkeypatch):
    """Losses see the proposals of training, detections those of inference; nothing is compiled."""
    config = tiny_config(
        rpn_post_nms_top_n_train=11, rpn_post_nms_top_n_test=7, rpn_smooth_l1_beta=0.5, box_smooth_l1_beta=0.25, ohem=3
    )
    seen = []
    propose = FasterRCNN.propose

    def spied(self, *args, **options):
        found = propose(self, *args, **options)
        seen.append(found.boxes.shape[1])
        return found

    def ruled(name):
        seen.append(name)
        return {name: jnp.zeros(())}

    module = sys.modules["jaxdet.models.faster_rcnn.model"]
    monkeypatch.setattr(FasterRCNN, "propose", spied)
    monkeypatch.setattr(module, "rpn_losses", lambda rpn, sampled, beta: ruled(f"rpn {beta}"))
    monkeypatch.setattr(module, "box_losses", lambda outputs, sampled, beta, ohem=None: ruled(f"box {beta} {ohem}"))
    graphdef, state = nnx.split(abstract(config))
    keys = image_keys(jax.random.key(0), jnp.int32(0), 2)
    jax.eval_shape(lambda state, *data: nnx.merge(graphdef, state).losses_and_detections(*data), state, *batch, keys)
    assert seen == [11, "box 0.25 3", "rpn 0.5", 7]


def test_a_row_without_an_image_changes_nothing(small, batch):
    """It is of size 0, and nothing is sampled in it, whatever its pixels hold."""
    images, targets = jax.tree.map(lambda leaf: leaf[1:], batch)
    filled = Images(
        jnp.concatenate([images.pixels, jnp.full_like(images.pixels, jnp.nan)]),
        jnp.concatenate([images.sizes, jnp.zeros_like(images.sizes)]),
    )
    wider = jax.tree.map(lambda leaf: jnp.concatenate([leaf, jnp.zeros_like(leaf)]), targets)
    graphdef, state = nnx.split(small)
    keys = image_keys(jax.random.key(0), jnp.int32(0), 2)

    @jax.jit
    def run(images, targets, keys):
        return losses(nnx.merge(graphdef, state), images, targets, keys, train=False)

    alone, beside = run(images, targets, keys[:1]), run(filled, wider, keys)
    for name, value in alone.items():
        assert float(value) > 0
        np.testing.assert_allclose(beside[name], value, rtol=1e-5, err_msg=name)
