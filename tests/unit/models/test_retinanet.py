"""RetinaNet as a whole: its presets, its configuration, and a small one from images to losses and detections."""

from __future__ import annotations

from dataclasses import replace

import jax
import numpy as np
import pytest
from flax import nnx

import jaxdet
from jaxdet.heads import AnchorGenerator
from jaxdet.inference import with_options
from jaxdet.models import FasterRCNNConfig, RetinaNetConfig, abstract, model_config
from jaxdet.models.options import changes
from jaxdet.nn import NormConfig, Numerics
from jaxdet.nn.parameters import arrays
from jaxdet.summary import summarize
from jaxdet.types import Images, Targets
from small_detector import SmallBackbone

KEYS = jax.random.split(jax.random.key(0), 3)


def _small(**options):
    """On maps of strides 8, 16 and 32, with a score threshold that new models reach."""
    backbone = SmallBackbone(numerics=Numerics(), rngs=nnx.Rngs(0))
    options = {"fpn_out_channels": 16, "min_size": 64, "max_size": 64, "score_thresh": 0.005} | options
    return jaxdet.retinanet(backbone, 4, rngs=nnx.Rngs(1), **options)


def _spread(model):
    """The same, with scores and boxes that differ from each other."""
    for head in (model.head.classification, model.head.regression):
        for conv in (*(block.conv for block in head.tower), head.output):
            conv.kernel[...] *= 10
    return model


def _batch():
    """Two images with objects, and a slot without an image."""
    pixels = np.random.default_rng(0).normal(size=(3, 64, 96, 3)).astype(np.float32)
    sizes = np.array([[64, 90], [50, 64], [0, 0]], np.int32)
    boxes = np.full((3, 2, 4), np.nan, np.float32)
    boxes[0], boxes[1, 0] = [[5, 5, 40, 40], [30, 20, 80, 60]], [10, 10, 42, 42]
    valid = np.array([[True, True], [True, False], [False, False]])
    return Images(pixels, sizes), Targets(boxes, np.full((3, 2), 2, np.int32), valid)


@jax.jit
def _both(model, images, targets, keys):
    return model.losses_and_detections(images, targets, keys)


@pytest.mark.parametrize(
    "name, parameters, constants, gmacs",
    [("retinanet_resnet50_fpn", 34_014_999, 53_120, 151.54), ("retinanet_resnet50_fpn_v2", 38_198_935, 0, 152.238)],
)
def test_the_presets_are_as_large_as_torchvision_says(name, parameters, constants, gmacs):
    """At 800x800, by the metadata of its weights; of frozen norms it counts no parameter."""
    summary = summarize(abstract(model_config(name)), 800, 800)
    assert (summary.trainable, summary.parameters - summary.trainable) == (parameters, constants)
    assert round(summary.macs / 1e9, 3) == gmacs
    stages = {stage.name: stage for stage in summary.stages}
    assert list(stages) == ["Transform", "Backbone", "FPN", "Head", "Anchors", "Post-processing"]
    assert stages["Head"].outputs[0].shape == (90_000, 91) and stages["Head"].outputs[-1].shape == (441, 4)
    assert "every 61x61 px; sizes 256, 322, 406" in stages["Anchors"].outputs[3].note
    assert stages["Post-processing"].outputs[0].shape == (300, 4)


def test_a_new_model_starts_as_torchvisions():
    values = arrays(_small(head_norm=NormConfig("group", groups=4)))
    np.testing.assert_allclose(values["head.classification.output.bias"], np.full(36, -np.log(99)), rtol=1e-6)
    assert not values["head.regression.output.bias"].any()
    assert sorted(path for path in values if ".tower.3." in path) == [
        f"head.{half}.tower.3.{path}"
        for half in ("classification", "regression")
        for path in ("conv.kernel", "norm.bias", "norm.scale")
    ]
    assert 0.0097 < float(values["head.classification.tower.0.conv.kernel"].std()) < 0.0103


def test_anchors_of_a_backbone_of_ones_own():
    assert _small().config.anchor_generator == AnchorGenerator(
        ((32, 40, 50), (64, 80, 101), (128, 161, 203)), (0.5, 1.0, 2.0)
    )
    assert _small(fpn_p6p7=None).config.anchor_generator.sizes == ((32, 40, 50),)
    assert _small(anchor_sizes=((8,),) * 3).config.anchor_generator.sizes == ((8,),) * 3
    given = AnchorGenerator((8, 16, 32), (1.0,))
    assert _small(anchor_generator=given).config.anchor_generator == given
    with pytest.raises(ValueError, match="for 2 levels, but there are 3 feature maps"):
        _small(anchor_sizes=((8,), (16,)))
    with pytest.raises(ValueError, match="head is shared by all levels"):
        _small(anchor_sizes=((8,), (16, 20), (32,)))


def test_losses_and_detections_come_from_one_call():
    images, targets = _batch()
    model = _spread(_small())
    values, found = _both(model, images, targets, KEYS)
    assert set(values) == {"classification", "bbox_regression"} and all(float(value) > 0 for value in values.values())
    alone = jax.jit(lambda model: (model.losses(images, targets, KEYS, train=False), model(images)))(model)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-4), (values, found), alone)
    assert found.valid.sum(axis=1).tolist()[:2] > [10, 10] and not found.valid[2].any()
    for row, (height, width) in enumerate(images.sizes[:2]):
        boxes = np.asarray(found.boxes[row])[np.asarray(found.valid[row])]
        assert boxes.min() >= 0 and boxes[:, 2].max() <= width and boxes[:, 3].max() <= height
    images, targets = jax.tree.map(lambda x: x[:2], (images, targets))  # the slot without an image changes no loss
    without, _ = _both(model, images, targets, KEYS[:2])
    for name, value in values.items():
        np.testing.assert_allclose(value, without[name], rtol=1e-5)


def test_a_step_trains_every_parameter():
    images, targets = _batch()
    graphdef, params, rest = nnx.split(_small(box_loss="giou", head_norm=NormConfig("group", groups=4)), nnx.Param, ...)

    @jax.jit
    def gradients(params):
        def total(params):
            return sum(nnx.merge(graphdef, params, rest, copy=True).losses(images, targets, KEYS).values())

        return jax.grad(total)(params)

    leaves = jax.tree.leaves_with_path(gradients(params))
    for path, leaf in leaves:
        assert np.isfinite(leaf).all() and np.abs(leaf).max() > 0, jax.tree_util.keystr(path)
    assert len(leaves) > 40


def test_the_options_of_post_processing_are_read_at_each_call():
    images, _ = _batch()
    model = _spread(_small())
    outputs = jax.jit(lambda model: model.predict(model.features(images), images))(model)

    def scores(**options):
        changed = with_options(model, **options)
        found = jax.jit(lambda outputs: changed.detect(outputs, images))(outputs)
        return np.asarray(found.scores)[np.asarray(found.valid)], found.scores.shape

    every, shape = scores()
    assert shape == (3, 300)
    few, shape = scores(detections_per_img=7, nms_thresh=1.0)
    assert shape == (3, 7) and len(few) == 14
    threshold = float(np.sort(every)[-6])
    best, _ = scores(score_thresh=threshold, topk_candidates=2)
    assert 0 < len(best) <= 5 and best.min() > threshold


def test_other_classes_start_the_class_prediction_anew():
    model = _small()
    changed = jaxdet.with_classes(model, ["a", "b"], rngs=nnx.Rngs(3))
    before, after = arrays(model), arrays(changed)
    new = {"head.classification.output.kernel", "head.classification.output.bias"}
    assert all(after[path] is before[path] for path in before.keys() - new)
    assert after["head.classification.output.kernel"].shape == (3, 3, 16, 27)
    np.testing.assert_allclose(after["head.classification.output.bias"], np.full(27, -np.log(99)), rtol=1e-6)
    assert changed.predicted_classes() == 3 and model.predicted_classes() == 4


def test_what_weights_fix():
    ours = model_config("retinanet_resnet50_fpn", num_classes=5, score_thresh=0.3)
    stored = model_config("retinanet_resnet50_fpn_v2", num_classes=7)
    followed = ours.fixed_by_weights(stored)
    expected = replace(
        stored, num_classes=5, score_thresh=0.3, box_loss="l1", backbone=replace(stored.backbone, num_classes=None)
    )
    assert followed == expected and followed.fixed_by_weights(stored) == followed
    fewer = replace(stored, anchor_generator=AnchorGenerator((32, 64, 128, 256, 512), (1.0,)))
    assert ours.fixed_by_weights(fewer).anchor_generator == fewer.anchor_generator
    moved = replace(ours, anchor_generator=AnchorGenerator(((8, 9, 10),) * 5, (0.5, 1.0, 2.0)))
    assert moved.fixed_by_weights(stored).anchor_generator == moved.anchor_generator
    assert [line.split(":")[0] for line in changes(moved, ours)] == ["anchors"]
    for one, other in ((ours, FasterRCNNConfig(backbone=ours.backbone)), (FasterRCNNConfig(ours.backbone), ours)):
        with pytest.raises(ValueError, match=r"holds a (FasterRCNN|RetinaNet), but the run trains a (Fas|Ret)"):
            one.fixed_by_weights(other)


def test_the_architecture_is_what_modules_are_made_of():
    config = model_config("retinanet_resnet50_fpn")
    same = model_config(
        "retinanet_resnet50_fpn", score_thresh=0.3, box_loss="giou", min_size=64, canvas="fast",
        anchor_generator=AnchorGenerator(((8, 9, 10),) * 5, (0.5, 1.0, 2.0)),
    )  # fmt: skip
    assert config.architecture() == same.architecture()
    for other in ({"num_classes": 2}, {"head_norm": NormConfig("group")}, {"fpn_p6p7": "c5"}):
        assert model_config("retinanet_resnet50_fpn", **other).architecture() != config.architecture()


@pytest.mark.parametrize(
    "options, message",
    [
        ({"box_loss": "iou"}, "box_loss must be one of l1, giou"),
        ({"bg_iou_thresh": 0.6}, "bg_iou_thresh 0.6 is above fg_iou_thresh 0.5"),
        ({"topk_candidates": 0}, "topk_candidates must be at least 1"),
        ({"num_classes": 1}, "num_classes must be at least 2"),
    ],
)
def test_refusals(options, message):
    with pytest.raises(ValueError, match=message):
        RetinaNetConfig(**options)
