"""Options, stored models and what a user gives `predict`: mistakes show at once, meaning travels with weights."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

import jaxdet
from filled_model import filled
from jaxdet.heads import AnchorGenerator
from jaxdet.models import detector_config, model_config
from jaxdet.nn import NormConfig, Numerics
from jaxdet.runs import RECIPES, read_config
from jaxdet.runs.start import start_from
from jaxdet.typed import check_field
from small_detector import ONE_LEVEL, tiny_config

SMALL = {"fpn_out_channels": 8, "box_representation_size": 8, "min_size": 64, "max_size": 96}


@pytest.mark.parametrize(
    "options, says",
    [
        ({"min_size": "large"}, "'min_size' must be a whole number"),
        ({"min_size": 600.5}, "'min_size' must be a whole number"),
        ({"box_score_thresh": "0,3"}, "'box_score_thresh' must be a number"),
        ({"canvas": "slow"}, 'canvas must be "image" or "fast"'),
        ({"num_classes": None}, "'num_classes' must be a whole number .now 91., not None"),
        ({"names": ("a", "b")}, "2 class names for num_classes=91"),
        ({"backbone_stem": "4x4"}, "did you mean"),
    ],
)
def test_a_wrong_option_is_refused(options, says):
    with pytest.raises(ValueError, match=says):
        model_config("fasterrcnn_resnet50_fpn", **options)


@pytest.mark.parametrize(
    "options, says",
    [
        ({"steps": "abc"}, "option 'steps' must be a whole number or None .now None., not 'abc'"),
        ({"epochs": "x"}, "option 'epochs' must be a number or None"),
        (
            {"model_rpn_anchor_generator": 16},
            "must be an AnchorGenerator .only in a Python file",
        ),
        ({"frozen": "backbone"}, r"'frozen' must be a list, \[\.\.\.\], with each item text .*, not 'backbone'"),
        ({"batch_size": None}, "'batch_size' must be a whole number .now 8., not None"),
        ({"batch_size": True}, "'batch_size' must be a whole number .now 8., not True"),
        ({"eval_every": [1]}, "'eval_every' must be a number or text or None"),
        ({"ema_decay": "x"}, "'ema_decay' must be a number or None"),
        ({"augment_min_sizes": 640}, "'augment_min_sizes' must be a list"),
        ({"augment_min_sizes": [640, "x"]}, "'augment_min_sizes' must be a list"),
        ({"val_annotations": 3}, "'val_annotations' must be text"),
        ({"optimizer_betas": [1]}, "'optimizer_betas' must be a list of 2: a number; a number"),
        ({"optimizer_lr_scales": ["backbone", 0.1]}, "with each item a list of 2: text; a number"),
        ({"optimizer_milestones": 5}, "'optimizer_milestones' must be a list, .*, with each item a number or text"),
        ({"backbone": "resnet"}, "'backbone' must be a function .only in a Python file. or None"),
        ({"metrics": 3}, "'metrics' must be one of 'coco', 'crowd'"),
        ({"weights": 3}, "'weights' must be text or None"),
        ({"model_bbox_reg_weights": [1, 2, 3]}, "'model_bbox_reg_weights' must be a list of 4"),
        ({"dtype": "float31"}, "float31"),
        ({"workers": -1}, "workers must be at least 0"),
        ({"max_boxes": 0}, "max_boxes must be above 0"),
        ({"optimizer_warmup_steps": -1}, "warmup_steps must be at least 0"),
        ({"optimizer_clip_norm": 0}, "clip_norm must be above 0"),
    ],
)
def test_a_wrong_option_of_a_run_is_refused(options, says):
    with pytest.raises(ValueError, match=says):
        read_config("finetune", options)


def test_what_every_configuration_holds_is_of_its_type():
    """The check knows all annotations that there are: none is passed over, none refuses a default."""
    seen = set()

    def look(config):
        seen.add(type(config).__name__)
        for field in dataclasses.fields(config):
            value = getattr(config, field.name)
            assert check_field(config, field.name, field.name, value) == value
            if dataclasses.is_dataclass(value):
                look(value)

    for recipe in RECIPES.values():
        look(recipe())
    for name in jaxdet.list_models():
        look(model_config(name))
    assert {"TrainConfig", "OptimizerConfig", "Augmentation", "CocoFiles", "BoxConfig", "NormConfig"} <= seen
    assert model_config("headhunter_resnet50", soft_nms=True, ohem=False).soft_nms is not None


def test_whole_floats_are_whole_numbers():
    assert model_config("fasterrcnn_resnet50_fpn", min_size=6e2).transform.min_size == 600


def test_unknown_types_and_precisions_are_refused():
    with pytest.raises(ValueError, match="float31"):
        Numerics(dtype="float31")
    with pytest.raises(ValueError, match="'exact'"):
        Numerics(precision="exact")


def test_no_classes_give_a_body():
    body = jaxdet.create_model("mobilenet_v1", num_classes=None)
    assert body.fc is None
    with pytest.raises(ValueError, match=r"call features\(x\)"):
        body(np.zeros((1, 32, 32, 3), np.float32))


def test_a_start_takes_norms_from_its_weights_and_the_rest_from_the_configuration(tmp_path, caplog):
    anchors = AnchorGenerator(((20,), (40,), (60,), (80,)), (0.5, 1.0, 2.0))
    stored = jaxdet.create_model(
        "fasterrcnn_mobilenet_v1_fpn",
        num_classes=5,
        backbone_norm=NormConfig("frozen", eps=0.0),
        rpn_anchor_generator=anchors,
        image_mean=(0.0, 0.0, 0.0),
        **SMALL,
    )
    jaxdet.save(stored, tmp_path / "stored")
    config = detector_config("fasterrcnn_mobilenet_v1_fpn", num_classes=3, box_score_thresh=0.3, **SMALL)
    model = start_from(config, jaxdet.load(tmp_path / "stored"))
    assert model.config.backbone.norm == NormConfig("frozen", eps=0.0)
    assert model.config.rpn == config.rpn and model.config.transform == config.transform
    assert "image_mean: 0.485, 0.456, 0.406 (the weights were trained with 0, 0, 0)" in caplog.text
    assert "predictor: initialised for 3 classes (the weights have 5)" in caplog.text
    assert (model.config.num_classes, model.config.box.score_thresh) == (3, 0.3)
    np.testing.assert_array_equal(
        model.fpn.inner_blocks[0].conv.kernel[...], stored.fpn.inner_blocks[0].conv.kernel[...]
    )
    assert model.box_predictor.cls_score.kernel[...].shape == (8, 3)
    jaxdet.save(jaxdet.create_model("mobilenet_v1", num_classes=2), tmp_path / "classifier")
    with pytest.raises(ValueError, match="holds a classifier"):
        start_from(config, jaxdet.load(tmp_path / "classifier"))


def test_predict_on_batches_greys_thin_and_no_images():
    model = filled(tiny_config(num_classes=3, **ONE_LEVEL))
    rng = np.random.default_rng(0)
    images = [rng.integers(0, 256, (50, 70, 3), np.uint8) for _ in range(3)]
    single = jaxdet.predict(model, images)
    paired = jaxdet.predict(model, images, batch_size=2)
    for one, two in zip(single, paired, strict=True):
        np.testing.assert_allclose(two["boxes"], one["boxes"], atol=1e-3)
        np.testing.assert_array_equal(two["labels"], one["labels"])
    strict = jaxdet.predict(model, images[:1], score_threshold=0.4)[0]
    assert (strict["scores"] > 0.4).all() and len(strict["scores"]) == (single[0]["scores"] > 0.4).sum()
    assert jaxdet.predict(model, []) == []
    for wrong, says in (
        (np.zeros((4, 4), np.uint8), "expected RGB"),
        (np.full((4, 4, 3), 200.0, np.float32), r"not in 0\.\.1"),
        (np.zeros((1, 500, 3), np.uint8), "no pixels"),
    ):
        with pytest.raises(ValueError, match=says):
            jaxdet.predict(model, [wrong])
    with pytest.raises(ValueError, match="batch_size"):
        jaxdet.predict(model, images, batch_size=0)
