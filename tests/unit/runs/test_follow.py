"""What a run takes from the weights that it starts from, what its configuration decides, and that both are told."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

import jaxdet
from filled_model import filled
from jaxdet.backbones.base import ClassifierTransform
from jaxdet.cli.weights import config_or_given, effective_config, first_model
from jaxdet.config import from_dict, override
from jaxdet.data import Augmentation, Examples
from jaxdet.data_report.check import check
from jaxdet.heads import AnchorGenerator
from jaxdet.models import abstract, detector_config, model_config
from jaxdet.models.registry import CONFIG_TYPES
from jaxdet.nn import NormConfig
from jaxdet.nn.parameters import shapes
from jaxdet.runs import RECIPES, Run, TrainConfig, open_task
from jaxdet.runs.follow import follow_classifier, follow_weights
from small_detector import as_headhunter, tiny_config

FOUR = ((24, 48),) * 4
SMALL = {"fpn_out_channels": 8, "box_representation_size": 8, "min_size": 64, "max_size": 96}


def value(config, name):
    part, _, field = name.partition(".")
    return value(getattr(config, part), field) if field else getattr(config, part)


@pytest.mark.parametrize(
    "options, field, line",
    [
        ({"backbone_width": 0.5}, "backbone.width", "backbone_width: 0.25 -> 0.5"),
        ({"backbone_stem": "2x2s1"}, "backbone.stem", "backbone_stem: 3x3s2 -> 2x2s1"),
        ({"backbone_negative_slope": 0.25}, "backbone.negative_slope", "backbone_negative_slope: 0.1 -> 0.25"),
        ({"backbone_norm": NormConfig("frozen", eps=0.0)}, "backbone.norm",
         "backbone_norm: kind batch, eps 1e-05 -> kind frozen, eps 0"),
        ({"fpn_out_channels": 8}, "fpn.out_channels", "fpn_out_channels: 16 -> 8"),
        ({"fpn_norm": NormConfig()}, "fpn.norm", "fpn_norm: none -> Norm(kind batch"),
        ({"box_representation_size": 64}, "box.representation_size", "box_representation_size: 32 -> 64"),
        ({"box_output_size": 5}, "box.output_size", "box_output_size: 7 -> 5"),
        ({"box_conv_layers": (8, 8)}, "box.conv_layers", "box_conv_layers: none -> 8, 8"),
        ({"rpn_conv_depth": 2}, "rpn.conv_depth", "rpn_conv_depth: 1 -> 2"),
        ({"upscale_rpn": True}, "upscale_rpn", "upscale_rpn: False -> True"),
        ({"rpn_anchor_generator": AnchorGenerator(FOUR, (1.0,))}, "rpn.anchor_generator",
         "anchors: 16, 32, 48, 64 -> 24, 48"),
        ({"fpn_levels": ("stage2", "stage3"), "rpn_anchor_generator": AnchorGenerator((8, 16, 24), (1.0,))},
         "fpn.levels", "fpn_levels: stage1, stage2, stage3 -> stage2, stage3"),
        ({"context": "ssh", "fpn_pool": False, "rpn_anchor_generator": AnchorGenerator((8, 16, 24), (1.0,))},
         "context.kind", "anchors: 16, 32, 48, 64 -> 8, 16, 24"),
    ],
)  # fmt: skip
def test_what_has_to_follow_the_weights_does_and_is_told(options, field, line):
    own = {name: options[name] for name in ("context", "upscale_rpn") if name in options}
    options = {name: value for name, value in options.items() if name not in own}
    config, weights = tiny_config(num_classes=3, box_score_thresh=0.4), tiny_config(num_classes=3, **options)
    if own:
        config, weights = as_headhunter(config), override(as_headhunter(weights), own)
    followed, lines = follow_weights(config, weights)
    assert value(followed, field) == value(weights, field) != value(config, field)
    assert any(told.startswith(line) and told.endswith(", as in the weights") for told in lines), lines
    assert followed.box.score_thresh == 0.4
    assert shapes(abstract(followed)) == shapes(abstract(weights))
    assert follow_weights(followed, weights) == (followed, [])


@pytest.mark.parametrize(
    "options, field, line",
    [
        ({"rpn_anchor_generator": AnchorGenerator(((4,),) * 4, (1.0,))}, "rpn.anchor_generator",
         "anchors: 16, 32, 48, 64 (the weights were trained with 4)"),
        ({"bbox_reg_weights": (1.0, 1.0, 1.0, 1.0)}, "box.reg_weights",
         "bbox_reg_weights: 10, 10, 5, 5 (the weights were trained with 1, 1, 1, 1)"),
        ({"box_sampling_ratio": 1}, "box.sampling_ratio", "box_sampling_ratio: 2 (the weights were trained with 1)"),
        ({"image_mean": (0.5, 0.5, 0.5)}, "transform.image_mean",
         "image_mean: 0.485, 0.456, 0.406 (the weights were trained with 0.5, 0.5, 0.5)"),
        ({"image_std": (1.0, 1.0, 1.0)}, "transform.image_std",
         "image_std: 0.229, 0.224, 0.225 (the weights were trained with 1, 1, 1)"),
        ({"box_pool_levels": ("stage1",)}, "box.pool_levels",
         "box_pool_levels: none (the weights were trained with stage1)"),
    ],
)  # fmt: skip
def test_what_need_not_follow_is_the_configurations_and_is_told(options, field, line):
    config, weights = tiny_config(), tiny_config(**options)
    followed, lines = follow_weights(config, weights)
    assert followed == config and value(followed, field) != value(weights, field)
    assert lines == [line]
    assert follow_weights(weights, config)[0] == weights


def test_equal_configurations_and_thresholds_are_not_worth_a_line():
    config = tiny_config(box_score_thresh=0.3, min_size=96, rpn_nms_thresh=0.6)
    assert follow_weights(config, tiny_config()) == (config, [])


def test_a_pooled_level_is_the_configurations_where_anchors_fit():
    anchors = AnchorGenerator((8, 16, 24), (1.0,))
    config = tiny_config(fpn_pool=False, rpn_anchor_generator=anchors)
    followed, lines = follow_weights(config, tiny_config())
    assert followed == config and "fpn_pool: False (the weights were trained with True)" in lines


def test_a_classifier_keeps_its_own_preparation_of_images():
    ours, theirs = ClassifierTransform(100, 96), ClassifierTransform(32, 32)
    config = model_config("mobilenet_v1", width=0.25, num_classes=2, transform=ours)
    weights = model_config("mobilenet_v1", width=0.5, num_classes=9, transform=theirs)
    followed, lines = follow_weights(config, weights)
    assert followed == replace(config, width=0.5) and lines[0] == "width: 0.25 -> 0.5, as in the weights"
    assert lines[1:] == ["transform: resize 100, crop 96 (the weights were trained with resize 32, crop 32)"]


@pytest.fixture(scope="module")
def source():
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (64, 96, 3)).astype(np.uint8)
    example = {"image": image, "boxes": np.array([[8.0, 8.0, 24.0, 24.0]], np.float32), "labels": np.array([1])}
    return Examples((example,) * 2, ("a", "b", "c"))


@pytest.mark.parametrize(
    "anchors, recall",
    [
        (AnchorGenerator(((16,), (4,), (4,), (4,)), (1.0,)), 1.0),  # as many as the weights': the configuration's
        (AnchorGenerator(((4, 16),) * 4, (1.0,)), 0.0),  # more: those of the weights
    ],
    ids=["as many", "more"],
)
def test_model_record_check_and_batches_agree(source, tmp_path, anchors, recall):
    large = AnchorGenerator((200, 200, 200, 200), (1.0,))
    stored = filled(tiny_config(rpn_anchor_generator=large, image_mean=(0.5,) * 3))
    jaxdet.save(stored, tmp_path / "stored")
    given = TrainConfig(
        model=tiny_config(rpn_anchor_generator=anchors, image_mean=(0.25,) * 3, box_representation_size=48),
        train=source, augment=Augmentation(flip=0.0), weights=str(tmp_path / "stored"), steps=1, batch_size=2,
    )  # fmt: skip
    config, lines = effective_config(given)
    told = []
    task = open_task(config)
    model = first_model(given, task.names, told.append)
    run = Run(task, model, tmp_path / "run", progress=False)
    record = json.loads((tmp_path / "run" / "run.json").read_text())["config"]["model"]
    recorded = replace(from_dict(record, CONFIG_TYPES), num_classes=4, names=task.names)
    assert run.model().config == model.config == recorded
    expected = anchors if recall else stored.config.rpn.anchor_generator
    assert model.config.rpn.anchor_generator == expected
    assert check(config, decode=False, progress=False).sets[0].boxes.anchors.recalls[0] == recall
    (batch,) = task.batches(0)
    pixels = (source.sequence[0]["image"][0, 0] / 255 - 0.25) / model.config.transform.image_std
    np.testing.assert_allclose(batch.images.pixels[0, 0, 0], pixels, rtol=1e-5)
    assert told[:-1] == lines and told[-1].startswith("predictor: kept")
    assert "image_mean: 0.25, 0.25, 0.25 (the weights were trained with 0.5, 0.5, 0.5)" in lines
    assert "box_representation_size: 48 -> 32, as in the weights" in lines


def test_a_run_refuses_a_model_that_its_record_would_not_tell_of(source, tmp_path):
    task = open_task(TrainConfig(model=tiny_config(), train=source, steps=1, batch_size=2))
    other = filled(tiny_config(names=task.names, bbox_reg_weights=(1.0, 1.0, 1.0, 1.0)))
    with pytest.raises(ValueError, match=r"differs from the task's: bbox_reg_weights: 10, 10, 5, 5 -> 1, 1, 1, 1"):
        Run(task, other, tmp_path / "run", progress=False)
    assert not (tmp_path / "run").exists()


def test_the_finetune_recipe_needs_no_file_to_know_its_configuration(monkeypatch, tmp_path):
    monkeypatch.setenv("JAXDET_CACHE", str(tmp_path))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    given = RECIPES["finetune"]()
    config, lines = effective_config(given)
    norm = NormConfig("frozen", eps=0.0)
    assert config == replace(given, model=replace(given.model, backbone=replace(given.model.backbone, norm=norm)))
    assert lines == ["backbone_norm: eps 1e-05 -> eps 0, as in the weights"]


def test_weights_that_are_nowhere_are_told_by_a_look_ahead():
    given = replace(RECIPES["finetune"](), weights="none.pth")
    with pytest.raises(ValueError, match=r"none.pth: no such file"):
        effective_config(given)
    config, (line,) = config_or_given(given)
    assert config == given and "none.pth: no such file" in line and "\n" not in line


def test_backbone_weights_beside_weights_are_told_to_be_idle(source, tmp_path):
    jaxdet.save(filled(tiny_config()), tmp_path / "stored")
    given = TrainConfig(
        model=tiny_config(), train=source, steps=1, weights=str(tmp_path / "stored"), backbone_weights="resnet50_v1"
    )
    assert effective_config(given)[1] == [
        "backbone_weights: resnet50_v1 is not used, because weights also fill the backbone"
    ]


CLASSIFIER = model_config(
    "mobilenet_v1", width=0.25, num_classes=5, negative_slope=0.25, norm=NormConfig("frozen", eps=1e-3),
    transform=ClassifierTransform(32, 32, (0.5, 0.5, 0.5), (0.5, 0.5, 0.5)),
)  # fmt: skip


def test_a_backbones_constants_follow_and_its_normalisation_unless_it_was_chosen():
    config = tiny_config()
    followed = follow_classifier(config, CLASSIFIER, described=True)
    assert followed.backbone.negative_slope == 0.25 and followed.backbone.norm == NormConfig("batch", eps=1e-3)
    assert followed.transform.image_mean == (0.5, 0.5, 0.5) and followed.backbone.num_classes is None
    assert follow_classifier(followed, CLASSIFIER, described=True) == followed
    chosen = tiny_config(image_mean=(0.25, 0.25, 0.25))
    followed = follow_classifier(chosen, CLASSIFIER, described=True)
    assert followed.transform == chosen.transform and followed.backbone.negative_slope == 0.25
    assert follow_classifier(config, CLASSIFIER, described=False) == config  # nothing is known of it


def test_a_run_and_create_model_tell_what_follows_backbone_weights(source, tmp_path, caplog):
    jaxdet.save(filled(CLASSIFIER), tmp_path / "classifier")
    given = TrainConfig(
        model=tiny_config(), train=source, steps=1, batch_size=2, backbone_weights=str(tmp_path / "classifier")
    )
    config, lines = effective_config(given)
    told = []
    model = first_model(given, ("__background__", "a", "b", "c"), told.append)
    assert model.config == replace(config.model, names=model.config.names)
    assert told[0].startswith("backbone: filled from") and told[1:] == lines
    assert "image_mean: 0.485, 0.456, 0.406 -> 0.5, 0.5, 0.5, as in the weights" in lines
    model = jaxdet.create_model(
        "fasterrcnn_mobilenet_v1_fpn", backbone_width=0.25, backbone_negative_slope=0.1, image_std=(1.0, 1.0, 1.0),
        backbone_weights=tmp_path / "classifier", **SMALL,
    )  # fmt: skip
    assert model.config.backbone.negative_slope == model.backbone.stem.act.negative_slope == 0.1
    assert model.config.transform.image_std == (1.0, 1.0, 1.0)
    assert "image_std" not in caplog.text and "backbone_norm: eps 1e-05 -> eps 0.001, as in the weights" in caplog.text


def test_a_run_on_a_backbone_of_its_own_starts_from_weights(source, tmp_path):
    def backbone(*, numerics, rngs):
        return jaxdet.MobileNetV1(tiny_config().backbone, numerics=numerics, rngs=rngs)

    config = replace(tiny_config(), backbone=None)
    stored = filled(tiny_config())
    stored.config = config
    jaxdet.save(stored, tmp_path / "stored")
    run = TrainConfig(model=config, train=source, steps=1, backbone=backbone, weights=str(tmp_path / "stored"))
    told = []
    model = first_model(run, ("__background__", "a", "b", "c"), told.append)
    np.testing.assert_array_equal(model.backbone.stem.conv.kernel[...], stored.backbone.stem.conv.kernel[...])
    assert told == ["predictor: kept, for the same number of classes"] and effective_config(run) == (run, [])


def test_detectors_of_other_kinds_are_refused():
    with pytest.raises(ValueError, match="has a ResNet backbone, but the run trains a MobileNetV1"):
        follow_weights(tiny_config(), detector_config("fasterrcnn_resnet50_fpn"))
    with pytest.raises(ValueError, match="holds a classifier"):
        follow_weights(tiny_config(), CLASSIFIER)
