"""HeadHunter's named models: what each option means, and that canvas and mates change nothing."""

from __future__ import annotations

import logging
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import jaxdet
import jaxdet_convert
from jaxdet.heads import AnchorGenerator, pool_proposals
from jaxdet.models import abstract, detector_config, list_models
from jaxdet.models.registry import CONFIG_TYPES
from jaxdet.ops import SoftNMS, resized_size
from jaxdet.saving.model import fill, flatten
from jaxdet.summary.stages import detector_stages
from jaxdet.training import losses
from jaxdet.types import Images, Targets

FOUR = {"layer1": 0, "layer2": 1, "layer3": 2, "layer4": 3}
CFG = {
    "name": "Resnet50", "pretrain": False, "return_layers": FOUR, "in_channel": 256, "out_channel": 256,
    "anchor_sizes": ((18,), (36,), (72,), (128,), (208,), (320,)), "aspect_ratios": ((0.5, 1.0, 1.5),) * 6,
}  # fmt: skip
MOBILE = {
    "name": "mobilenet0.25", "return_layers": {"stage1": 1, "stage2": 2, "stage3": 3}, "in_channel": 32,
    "out_channel": 64, "clip": False, "steps": [8, 16, 32],
}  # fmt: skip


def test_defaults_are_the_originals():
    config = detector_config("headhunter_resnet50")
    assert config.rpn.anchor_generator == AnchorGenerator((12, 32, 64, 112), (0.5, 1.0, 1.5))
    assert config.fpn.levels == ("layer1", "layer2", "layer3", "layer4") and not config.fpn.pool
    assert (config.num_classes, config.names) == (2, ("__background__", "head"))
    assert config.transform.image_mean[0] == 0.485 and not config.transform.enlarge
    assert (config.rpn.smooth_l1_beta, config.box.smooth_l1_beta) == (0.0, 1.0)
    assert (config.box.detections_per_img, config.soft_nms, config.box.pool_levels) == (100, None, None)
    assert config.backbone.norm.kind == "batch" and config.context.kind is None and not config.upscale_rpn
    assert detector_config("headhunter_resnet152").backbone.blocks == (3, 8, 36, 3)
    mobile = detector_config("headhunter_mobilenet")
    assert (mobile.fpn.kind, mobile.fpn.out_channels, mobile.backbone.stem) == ("retinaface", 64, "3x3s2")
    assert mobile.rpn.anchor_generator.sizes == ((12,), (32,), (64,))
    assert {name for name in list_models() if name.startswith("headhunter")} == {
        "headhunter_resnet50", "headhunter_resnet152", "headhunter_mobilenet",
    }  # fmt: skip


@pytest.mark.parametrize(
    "benchmark, sizes, last",
    [
        ("ScutHead", (18, 36, 72, 128), 1.5),
        ("CrowdHuman", (10, 48, 128, 192), 2.0),
        ("CHuman", (10, 48, 128, 192), 2.0),
        ("Combined", (12, 32, 64, 112), 1.5),
        ("hh_anchors", (12, 18, 24, 32), 1.5),
        (False, (32, 64, 128, 256), 2.0),
    ],
)
def test_anchors_by_benchmark(benchmark, sizes, last):
    generator = detector_config("headhunter_resnet50", median_anchors=benchmark).rpn.anchor_generator
    assert generator == AnchorGenerator(sizes, (0.5, 1.0, last))


def test_options_under_the_originals_names():
    config = detector_config(
        "headhunter_resnet50", context="ssh", default_filter=True, custom_sampling=True, ohem=64, soft_nms=True,
        upscale_rpn=True, preset="evaluate", return_layers=("layer2", "layer3", "layer4"), rpn_smooth_l1_beta=1 / 9,
    )  # fmt: skip
    assert (config.context.kind, config.context.default_filter, config.upscale_rpn) == ("ssh", True, True)
    assert (config.rpn.fg_iou_thresh, config.box.bg_iou_thresh, config.box.positive_fraction) == (0.5, 0.4, 0.5)
    assert config.box.ohem == 64 and config.rpn.smooth_l1_beta == 1 / 9
    assert config.soft_nms == SoftNMS(plus_one=True) and config.box.class_agnostic_nms
    assert (config.box.score_thresh, config.box.detections_per_img) == (0.3, 300)
    np.testing.assert_allclose(config.transform.image_mean, np.array([117, 110, 105]) / 255)
    np.testing.assert_allclose(config.transform.image_std, np.array([67.10, 65.45, 66.23]) / 255)
    assert config.fpn.kind == "retinaface" and config.fpn.levels == ("layer2", "layer3", "layer4")
    trained = detector_config("headhunter_resnet50", preset="train")
    assert (trained.box.score_thresh, trained.box.detections_per_img) == (0.05, 300)
    stored = jaxdet.config.from_dict(jaxdet.config.to_dict(config), CONFIG_TYPES)
    assert stored == config


def test_soft_nms_is_headhunters_and_ohem_of_both():
    config = detector_config("headhunter_resnet50", ohem=128)
    changed = replace(config, soft_nms=True)
    assert changed.soft_nms == SoftNMS() and not changed.box.class_agnostic_nms and changed.box.ohem == 128
    assert detector_config("headhunter_resnet50", soft_nms=SoftNMS("linear")).soft_nms.kind == "linear"
    with pytest.raises(ValueError, match="unknown option 'soft_nms'"):
        detector_config("fasterrcnn_resnet50_fpn", soft_nms=True)


@pytest.mark.parametrize(
    "options, says",
    [
        ({"context": "fpn"}, "context must be None or one of ssh, cpm, deform_ssh"),
        ({"median_anchors": "Scuthead"}, "did you mean 'ScutHead'"),
        ({"preset": "test"}, "one of train, evaluate"),
        ({"return_layers": ("layer1", "layer2")}, "three or four feature maps"),
        ({"return_layers": {**FOUR, "layer5": 4}}, "not 5: "),
        ({"return_layers": dict.fromkeys(FOUR, 9)}, "a key from 0 to 3"),
        ({"return_layer": FOUR}, "did you mean 'return_layers'"),
        ({"soft_nms": "linear"}, "soft_nms must be True, False"),
    ],
)
def test_wrong_options_are_refused(options, says):
    with pytest.raises(ValueError, match=says):
        detector_config("headhunter_resnet50", **options)


def test_levels_that_are_not_there_are_refused():
    with pytest.raises(ValueError, match="box_pool_levels"):
        abstract(detector_config("headhunter_resnet50", box_pool_levels=("pool",)))
    with pytest.raises(ValueError, match="fpn_pool=False"):
        abstract(
            detector_config(
                "headhunter_resnet50",
                fpn_pool=True,
                context="ssh",
                rpn_anchor_generator=AnchorGenerator((8, 16, 32, 64, 128), (1.0,)),
            )
        )


def test_a_cfg_of_the_originals(caplog, monkeypatch):
    """Configurations alone: the models are not drawn."""
    made = []
    monkeypatch.setattr("jaxdet.create.build", lambda config, **_: made.append(config) or abstract(config))

    def config_of(cfg, **options):
        caplog.clear()
        with caplog.at_level(logging.WARNING, "jaxdet"):
            jaxdet.headhunter_from_cfg(cfg, **options)
        return made[-1], [record.getMessage() for record in caplog.records]

    config, said = config_of(CFG, context="SSH", soft_nms=True, use_deform=True)
    expected = detector_config("headhunter_resnet50", context="ssh", soft_nms=True, median_anchors="ScutHead")
    assert config == expected
    assert len(said) == 2 and "anchor_sizes after the first 4" in said[0] and "deform_ssh" in said[1]
    config, said = config_of(MOBILE, context="cpm")
    assert config.fpn.out_channels == 64 and config.fpn.kind == "retinaface"
    assert said == ["HeadHunter's cfg: these keys have no effect: clip, steps"]
    # The original's keys for ResNet-152 are its blocks a stage: two of them happen to be among those it pools from.
    accident = {"layer1": 2, "layer2": 8, "layer3": 36, "layer4": 3}
    config, said = config_of({"name": "Resnet152", "return_layers": accident, "pretrain": True})
    assert config.box.pool_levels == ("layer1", "layer4") and "names no checkpoint" in said[0]
    assert config_of(CFG, median_anchors=False)[0].rpn.anchor_generator.sizes[0] == (32,)
    assert config_of(CFG, median_anchors="Combined")[0].rpn.anchor_generator.sizes[0] == (12,)


@pytest.mark.parametrize(
    "changes, says",
    [
        ({"name": "Resnet34"}, "one of Resnet50, Resnet152, mobilenet0.25"),
        ({"return_layers": {**FOUR, "pool": 4}}, "not 5: "),
        ({"in_channel": 64}, "in_channel 256, not 64"),
        ({"anchor_sizes": ((12,),) * 3}, "4 levels need anchors each"),
        ({"pretrain": "missing.pth"}, "missing.pth"),
    ],
)
def test_a_cfg_that_does_not_fit_is_refused(changes, says, monkeypatch):
    monkeypatch.setattr("jaxdet.create.build", lambda config, **_: abstract(config))
    with pytest.raises((ValueError, OSError), match=says):
        jaxdet.headhunter_from_cfg(CFG | changes)


def test_images_are_never_enlarged():
    assert resized_size(300, 420, 800, 1400, enlarge=False) == (300, 420)
    assert resized_size(300, 420, 800, 1400) == (800, 1120)
    assert resized_size(1080, 1920, 800, 1400, enlarge=False) == resized_size(1080, 1920, 800, 1400) == (787, 1400)
    assert resized_size(700, 2800, 800, 1400, enlarge=False) == (350, 1400)


def test_levels_left_out_give_zeros():
    """Boxes of 40 and 150 pixels lie on the first and the second map given; of 300 pixels on none."""
    maps = [jnp.full((1, 100, 100, 1), 1.0), jnp.full((1, 13, 13, 1), 2.0)]
    boxes = jnp.array([[[0.0, 0, 40, 40], [0, 0, 150, 150], [0, 0, 300, 300]]])
    pooled = pool_proposals(maps, boxes, jnp.ones((1, 3), bool), (4, 32))
    np.testing.assert_array_equal(pooled[0, :, 3, 3, 0], [1.0, 2.0, 0.0])


def test_anchors_a_whole_or_an_exact_step_apart():
    """A 2x2 stem makes 17 cells of 64 pixels."""
    for whole, last in ((True, 16 * 3), (False, 16 * 64 / 17)):
        generator = AnchorGenerator((8,), (1.0,), whole_steps=whole)
        boxes, valid = generator([(17, 17)], jnp.array([[64, 64]]), [jnp.array([[17, 17]])])
        np.testing.assert_allclose(boxes[0][0, -1], [last - 4, last - 4, last + 4, last + 4], rtol=1e-6)
        assert valid[0].all()


def _model(**options):
    """A small one whose numbers, drawn by numpy, keep the spread of their inputs: results differ from box to box."""
    config = detector_config(
        "headhunter_mobilenet", soft_nms=True, upscale_rpn=True, fpn_out_channels=16, box_representation_size=16,
        box_score_thresh=0.01, rpn_pre_nms_top_n_test=60, rpn_post_nms_top_n_test=40, **options,
    )  # fmt: skip
    rng = np.random.default_rng(0)
    model = abstract(config)
    values = {}
    for path, variable in flatten(nnx.state(model)).items():
        kind, shape = path.rsplit(".", 1)[1], variable.shape
        drawn = np.zeros(shape)
        if kind == "kernel":
            drawn = rng.normal(0, (2 / np.prod(shape[:-1])) ** 0.5, shape)
        elif kind in ("scale", "var"):
            drawn = rng.uniform(0.9, 1.1, shape)
        values[path] = drawn.astype(variable.dtype)
    return nnx.split(fill(model, values))


def _images(sizes, canvas, padding):
    pixels = np.full((len(sizes), *canvas, 3), padding, np.float32)
    for row, (height, width) in enumerate(sizes):
        rng = np.random.default_rng(height)
        pixels[row, :height, :width] = rng.normal(size=(height, width, 3))
    return Images(jnp.asarray(pixels), jnp.asarray(sizes, jnp.int32))


@pytest.mark.parametrize(
    "stem, context", [("2x2s1", "deform_ssh"), pytest.param("3x3s2", "ssh", marks=pytest.mark.verify)]
)
def test_alone_with_a_mate_and_on_a_larger_canvas(stem, context):
    """Upscaled, with context, offsets that move taps, and soft-NMS; NaN fills the padding."""
    graphdef, state = _model(backbone_stem=stem, context=context)
    run = jax.jit(lambda state, images: nnx.merge(graphdef, state)(images))
    alone = run(state, _images([(60, 90)], (64, 96), np.nan))
    mates = run(state, _images([(60, 90), (96, 128)], (96, 128), np.nan))
    assert alone.valid.sum() > 10
    np.testing.assert_array_equal(mates.valid[0], alone.valid[0])
    np.testing.assert_allclose(mates.scores[0], alone.scores[0], atol=1e-4)
    np.testing.assert_allclose(mates.boxes[0], alone.boxes[0], atol=2e-3)
    scores = np.asarray(alone.scores[0])[np.asarray(alone.valid[0])]
    assert (np.diff(scores) <= 0).all() and len(np.unique(scores)) > 10


def test_the_summary_counts_context_and_upscaling():
    model = abstract(detector_config("headhunter_mobilenet", context="deform_ssh", upscale_rpn=True, soft_nms=True))
    stages = {stage.name: stage for stage in detector_stages(model, 64, 96, 1)[1]}
    total = sum(leaf.size for leaf in jax.tree.leaves(nnx.state(model, nnx.Param)))
    assert sum(stage.parameters for stage in stages.values()) == total
    pixels = 8 * 12 + 4 * 6 + 2 * 3
    assert stages["RPN upscaling"].macs == stages["RoI upscaling"].macs == pixels * 64 * 64 * 64
    deformable = 9 * 64 * (32 + 18 + 9)
    plain = 25 * 64 * 16 + (25 + 49 + 49) * 16 * 16
    assert stages["Context"].macs == pixels * (deformable + plain)
    assert stages["Context"].parameters == 3 * (deformable + 18 + 9 + plain + 2 * 96)
    assert "gaussian soft-NMS over all classes" in stages["Post-processing"].detail


def test_pretrain_fills_the_body(shared):
    weights = shared / "weights" / "mobilenetV1X0.25_pretrain.tar"
    model = jaxdet.headhunter_from_cfg(MOBILE | {"pretrain": str(weights)})
    kernel = model.backbone.stage3[1].pointwise.conv.kernel[...]
    trained = jaxdet_convert.load_torch(weights)
    np.testing.assert_array_equal(kernel, trained.stage3[1].pointwise.conv.kernel[...])


@pytest.mark.verify
def test_every_parameter_trains_and_padding_changes_no_loss():
    """With OHEM, custom sampling, upscaling and offsets that move; NaN fills pixels and slots beyond."""
    graphdef, state = _model(
        backbone_stem="2x2s1", context="deform_ssh", ohem=8, custom_sampling=True, rpn_pre_nms_top_n_train=60,
        rpn_post_nms_top_n_train=40, box_batch_size_per_image=32,
    )  # fmt: skip
    graphdef, params, rest = nnx.split(nnx.merge(graphdef, state), nnx.Param, ...)

    @jax.jit
    def gradient(params, images, targets):
        def total(params):
            model = nnx.merge(graphdef, params, rest, copy=True)
            return sum(losses(model, images, targets, jax.random.split(jax.random.key(0), 1)).values())

        return jax.value_and_grad(total)(params)

    def targets(padding):
        boxes = jnp.array([[[10.0, 10, 22, 24], [30, 20, 60, 52], [padding] * 4]])
        return Targets(boxes, jnp.array([[1, 1, 0]]), jnp.array([[True, True, False]]))

    clean = gradient(params, _images([(60, 90)], (96, 128), 0.0), targets(0.0))
    dirty = gradient(params, _images([(60, 90)], (96, 128), np.nan), targets(np.nan))
    jax.tree.map(np.testing.assert_array_equal, dirty, clean)
    for path, leaf in jax.tree.leaves_with_path(clean[1]):
        assert np.isfinite(leaf).all() and np.abs(leaf).max() > 0, jax.tree_util.keystr(path)
