"""FCOS as a whole: its preset, its configuration, and a small one from images to losses and detections."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import jaxdet
from jaxdet.heads import AnchorGenerator
from jaxdet.inference import with_options
from jaxdet.models import FCOSConfig, abstract, model_config
from jaxdet.models.fcos.losses import centerness_targets
from jaxdet.models.fcos.targets import assign_targets
from jaxdet.nn import NormConfig, Numerics
from jaxdet.nn.parameters import arrays
from jaxdet.summary import summarize
from jaxdet.types import Targets
from small_detector import SmallBackbone, make_batch, small_detector, small_fcos_config

KEYS = jax.random.split(jax.random.key(0), 2)


def test_the_preset_is_as_large_as_torchvision_says():
    """At 800x800, by the metadata of its weights, which excludes the constants of frozen norms."""
    summary = summarize(abstract(model_config("fcos_resnet50_fpn")), 800, 800)
    assert (summary.trainable, summary.parameters - summary.trainable) == (32_269_600, 53_120)
    assert round(summary.macs / 1e9, 3) == 128.207
    stages = {stage.name: stage for stage in summary.stages}
    shapes = [output.shape for output in stages["Head"].outputs]
    assert shapes[0] == (10_000, 91) and shapes[5] == (10_000, 4) and shapes[10] == (10_000,) and len(shapes) == 15
    assert "every 61x61 px; sizes 64" in stages["Anchors"].outputs[3].note
    assert stages["Post-processing"].outputs[0].shape == (100, 4)


def test_a_new_model_starts_as_torchvisions():
    values = arrays(small_detector(small_fcos_config(num_classes=4)))
    np.testing.assert_allclose(values["head.classification.output.bias"], np.full(4, -np.log(99)), rtol=1e-6)
    assert not values["head.regression.output.bias"].any() and not values["head.regression.centerness.bias"].any()
    assert not values["head.classification.tower.3.conv.bias"].any()  # a bias beside the norm
    assert 0.009 < float(values["head.regression.tower.0.conv.kernel"].std()) < 0.011


def test_it_stands_on_a_custom_backbone():
    def build(**options):
        backbone = SmallBackbone(numerics=Numerics(), rngs=nnx.Rngs(0))
        return jaxdet.fcos(
            backbone, 4, rngs=nnx.Rngs(1), fpn_out_channels=16, head_norm=NormConfig("group", groups=4), **options
        )  # fmt: skip

    assert build().config.anchor_generator == AnchorGenerator((8, 16, 32), (1.0,))
    assert build(fpn_p6p7=None).config.anchor_generator.sizes == ((8,),)
    assert build(anchor_sizes=(4, 8, 16)).config.anchor_generator.sizes == ((4,), (8,), (16,))
    with pytest.raises(ValueError, match="for 2 levels, but there are 3 feature maps"):
        build(anchor_sizes=(4, 8))


def test_what_is_refused():
    with pytest.raises(ValueError, match=r"one anchor per location, not \[2,"):
        FCOSConfig(anchor_generator=AnchorGenerator(((8, 9),) * 5, (1.0,)))
    with pytest.raises(ValueError, match="center_sampling_radius must be above 0"):
        FCOSConfig(center_sampling_radius=0.0)
    with pytest.raises(ValueError, match="topk_candidates must be at least 1"):
        FCOSConfig(topk_candidates=0)
    with pytest.raises(ValueError, match="holds a RetinaNet, but the run trains a FCOS"):
        model_config("fcos_resnet50_fpn").fixed_by_weights(model_config("retinanet_resnet50_fpn"))


def test_losses_and_detections_come_from_one_call():
    images, targets = make_batch()
    model = small_detector(small_fcos_config(num_classes=4))
    for half in (model.head.classification, model.head.regression):
        for conv in (*(block.conv for block in half.tower), half.output):
            conv.kernel[...] *= 10
    model.head.regression.output.bias[...] += 1  # boxes with an area
    both = jax.jit(lambda model, images, targets: model.losses_and_detections(images, targets, KEYS))
    values, found = both(model, images, targets)
    assert set(values) == {"classification", "bbox_regression", "bbox_ctrness"}
    assert all(float(value) > 0 for value in values.values())
    alone = jax.jit(lambda model: (model.losses(images, targets, KEYS, train=False), model(images)))(model)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-4), (values, found), alone)
    assert found.valid.all(axis=1).tolist() == [True, True] and found.scores.shape == (2, 20)
    few = jax.jit(lambda model: model(images))(with_options(model, detections_per_img=3, score_thresh=0.0))
    np.testing.assert_allclose(few.scores, found.scores[:, :3], rtol=1e-5)
    # Each loss is divided by the positives of the whole batch: the image without objects adds its background alone.
    own = jax.tree.map(lambda x: x[1:], (images, targets))
    without, _ = both(model, *own)
    for name in ("bbox_regression", "bbox_ctrness"):
        np.testing.assert_allclose(values[name], without[name], rtol=1e-5)
    assert values["classification"] > without["classification"]


def test_targets_by_hand():
    """Anchors of 8 pixels around (x, 20), and one level of 16 pixels around (x, 32)."""
    centres = np.array([[12, 20], [20, 20], [28, 20], [36, 20], [16, 32], [32, 32]])
    half = np.array([4, 4, 4, 4, 8, 8])[:, None]
    anchors = jnp.asarray(np.concatenate([centres - half, centres + half], axis=1), jnp.float32)
    targets = Targets(
        jnp.array([[10, 10, 50, 30], [18, 16, 30, 24], [np.nan] * 4], jnp.float32), jnp.array([1, 2, 3]),
        jnp.array([True, True, False]),
    )  # fmt: skip
    valid = jnp.array([True] * 5 + [False])
    found = assign_targets(anchors, valid, targets, counts=(4, 2))
    # (12, 20) is 18 pixels from the first centre, more than 12. The second box is smaller, and has the next two. The
    # last level has distances above 64 only.
    assert found.labels.tolist() == [0, 2, 2, 1, 0, 0]
    assert found.positive.tolist() == [False, True, True, True, False, False]
    assert found.negative.tolist() == [True, False, False, False, True, False]
    wide = assign_targets(anchors, valid, targets, counts=(4, 2), center_sampling_radius=2.5)
    assert wide.labels.tolist() == [1, 2, 2, 1, 0, 0]
    ignored = Targets(targets.boxes, targets.labels, targets.valid & False, jnp.array([True, False, False]))
    found = assign_targets(anchors, valid, ignored, counts=(4, 2))
    assert found.negative.tolist() == [False, False, False, False, True, False] and not found.positive.any()


def test_centerness_by_hand():
    distances = jnp.array([[1.0, 1, 1, 1], [1, 2, 4, 2], [1, 1, 4, 4]])
    np.testing.assert_allclose(centerness_targets(distances), [1, 0.5, 0.25])
