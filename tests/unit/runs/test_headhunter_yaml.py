"""HeadHunter's YAML files as configurations, and the report of what the original ignored or swapped."""

import argparse

import numpy as np
import pytest
from PIL import Image

from headhunter_yaml import FINE_TUNING, SCUT_HEAD, write_yaml
from jaxdet.cli import evaluate
from jaxdet.data import BrightnessContrast, HeadList, RGBShift
from jaxdet.heads import AnchorGenerator
from jaxdet.runs import read_config
from jaxdet.runs.headhunter import read_headhunter
from jaxdet.runs.headhunter_yaml import SECTIONS
from jaxdet.training import Epochs

IMAGES = 24


@pytest.fixture
def folder(tmp_path):
    """Two lists; the first two of the training images are there."""
    lines = [f"# {number}.png\n1 1 5 5 0\n" for number in range(IMAGES)]
    (tmp_path / "train.txt").write_text("".join(lines))
    (tmp_path / "val.txt").write_text(lines[0])
    for number, colour in enumerate(((51, 102, 153), (153, 102, 51))):
        Image.new("RGB", (10, 8), colour).save(tmp_path / f"{number}.png")
    return tmp_path


def read(folder, **changes):
    return read_headhunter(write_yaml(folder / "config.yaml", folder, **changes))


def notes_of(run, key):
    """The lines of the report about one key, without place and key."""
    return [note.split(f": {key}: ")[1] for note in run.notes if f": {key}: " in note]


def test_the_pre_training_file(folder):
    config = read(folder).config
    assert config.train == HeadList(f"{folder}/train.txt", str(folder))
    assert config.val == HeadList(f"{folder}/val.txt", str(folder))
    assert (config.epochs, config.eval_every, config.batch_size, config.metrics) == (50, Epochs(5), 1, "crowd")
    optimizer = config.optimizer
    assert (optimizer.kind, optimizer.learning_rate, optimizer.momentum) == ("sgd", 0.01, 0.9)
    assert (optimizer.weight_decay, optimizer.milestones, optimizer.gamma) == (
        0.0005,
        (Epochs(10), Epochs(25), Epochs(40)),
        0.1,
    )
    assert (optimizer.warmup_steps, optimizer.warmup_factor) == (IMAGES - 1, 1e-3)
    assert config.augment.flip == 0.5 and config.augment.extra == (RGBShift(), BrightnessContrast())
    assert (config.weights, config.backbone_weights) == (None, "resnet50_v1")
    model = config.model
    assert (model.context.kind, model.context.default_filter, model.upscale_rpn) == ("cpm", False, True)
    assert model.rpn.anchor_generator == AnchorGenerator((12, 32, 64, 112), (0.5, 1.0, 1.5))
    assert (model.transform.min_size, model.transform.max_size, model.transform.enlarge) == (800, 1400, False)
    np.testing.assert_allclose(model.transform.image_mean, np.array([117, 110, 105]) / 255)
    np.testing.assert_allclose(model.transform.image_std, np.array([67.10, 65.45, 66.23]) / 255)
    assert (model.box.detections_per_img, model.box.score_thresh, model.box.ohem) == (300, 0.05, None)
    assert model.fpn.levels == ("layer1", "layer2", "layer3", "layer4") and model.num_classes == 2


def test_fine_tuning_and_scut_head(folder):
    tuned = read(folder, **FINE_TUNING).config
    assert (tuned.weights, tuned.backbone_weights, tuned.model.upscale_rpn) == ("pretrained", None, False)
    assert (tuned.optimizer.learning_rate, tuned.optimizer.gamma, tuned.epochs) == (0.001, 0.5, 40)
    scut = read(folder, **SCUT_HEAD).config
    assert scut.model.rpn.anchor_generator.sizes == ((18,), (36,), (72,), (128,))
    assert (scut.batch_size, scut.optimizer.warmup_steps) == (2, IMAGES // 2 - 1)


def test_every_line_of_the_report(folder):
    file = folder / "config.yaml"
    run = read(folder, only_backbone=False)
    line = {text.split(":")[0].strip(): number for number, text in enumerate(file.read_text().splitlines(), start=1)}
    assert [note.split(": ")[:2] for note in run.notes] == [
        [f"{file}:{line[key]}", key]
        for key in (
            "ohem", "mean_std", "pretrained_model", "momentum", "start_epoch", "save_dir", "batch_size", "train",
            "train", "train", "train", "eval_every",
        )
    ]  # fmt: skip
    assert not any("\n" in note for note in run.notes)
    assert notes_of(run, "momentum") == [
        "is 0.9; the original uses learning_rate, 0.01, as momentum, so that its steps are 9.9 times shorter; --set "
        "optimizer_momentum=0.01 does the same"
    ]
    (text,) = notes_of(run, "start_epoch")
    assert "warms up only in an epoch 0" in text and f"over the first {IMAGES - 1} steps" in text
    assert "ImageNet's values instead" in notes_of(run, "mean_std")[0]
    assert "keeps all proposals" in notes_of(run, "ohem")[0]
    assert "--set train_negatives=background" in notes_of(run, "train")[0]
    assert "evaluates before an epoch" in notes_of(run, "eval_every")[0]


def test_nothing_is_said_of_what_the_original_did_alike(folder):
    run = read(folder, momentum=0.01, start_epoch=0, ohem=False, exp_name=..., save_dir=None, log_dir=..., valid=None)
    assert {note.split(": ")[1] for note in run.notes} == {"mean_std", "pretrained_model", "batch_size", "train"}
    assert run.config.epochs == 51 and run.config.optimizer.warmup_steps == IMAGES - 1 and run.config.val is None


def test_what_the_original_ignored(folder):
    run = read(folder, backbone="mobilenet0.25", use_deform=True, median_anchors=False, context="SSH")
    assert "trains a ResNet-50" in notes_of(run, "backbone")[0] and "deform_ssh" in notes_of(run, "use_deform")[0]
    assert "torchvision's sizes" in notes_of(run, "benchmark")[0]
    model = run.config.model
    assert model.rpn.anchor_generator.sizes == ((32,), (64,), (128,)) and model.context.kind == "ssh"
    assert type(model.backbone).__name__ == "MobileNetV1Config" and run.config.backbone_weights is None


def test_pretrained_models(folder):
    placeholder = read(folder, pretrained_model="<Path to a file>")
    assert placeholder.config.weights is None and placeholder.config.backbone_weights == "resnet50_v1"
    assert len(notes_of(placeholder, "pretrained_model")) == 2
    body = read(folder, pretrained_model="retina.pth", only_backbone=True).config
    assert (body.weights, body.backbone_weights) == (None, "retina.pth")
    assert "these weights do not load" in notes_of(read(folder, **FINE_TUNING), "upscale_rpn")[0]


def test_a_later_start_goes_on_with_the_schedule(folder):
    run = read(folder, start_epoch=26)
    optimizer = run.config.optimizer
    assert (run.config.epochs, optimizer.milestones, optimizer.warmup_steps) == (25, (Epochs(15),), 0)
    np.testing.assert_allclose(optimizer.learning_rate, 0.01 * 0.1**2)
    assert "after 2 milestones, with learning rate 0.0001" in notes_of(run, "start_epoch")[0]


def test_numbers_as_yaml_gives_them(folder):
    file = write_yaml(folder / "config.yaml", folder)
    file.write_text(file.read_text().replace("learning_rate: 0.01", "learning_rate: 1e-2"))  # a text, to YAML
    assert read_headhunter(file).config.optimizer.learning_rate == 0.01
    several = read(folder, min_size=[600, 700, 800], ohem=128).config
    assert several.augment.min_sizes == (600, 700, 800) and several.model.transform.min_size == 800
    assert several.model.box.ohem == 128


def test_an_empty_mean_std_is_computed(folder):
    (folder / "train.txt").write_text("# 0.png\n# 1.png\n1 1 5 5 0\n")
    run = read(folder, mean_std=None)
    np.testing.assert_allclose(run.config.model.transform.image_mean, (0.4, 0.4, 0.4))
    np.testing.assert_allclose(run.config.model.transform.image_std, 0.0, atol=1e-12)  # each image is of one colour
    assert "[[102.00, 102.00, 102.00], [0.00, 0.00, 0.00]]" in notes_of(run, "mean_std")[0]
    (folder / "train.txt").write_text("# gone.png\n")
    with pytest.raises(ValueError, match=r"mean_std is empty, and it cannot be computed: .*gone\.png"):
        read(folder, mean_std=None)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"train": "gone.txt"}, r":\d+: train is gone.txt, but .*gone.txt does not exist; correct it, or base_path"),
        ({"base_path": "<where the lists are>"}, r":\d+: base_path is still '<where the lists are>'; replace it"),
        ({"base_path": "/gone"}, r":\d+: base_path is /gone, which does not exist"),
        ({"gamma": ...}, r":\d+: HYPER_PARAM has no gamma; add it: a number of at least 0"),
        ({"gamma": "low"}, r":\d+: gamma is 'low'; expected a number"),
        ({"ohem": "yes, please"}, r":\d+: ohem is 'yes, please'; expected True, False or a number"),
        ({"milestones": [20, 10]}, r":\d+: milestones is \[20, 10\]; expected an ascending list"),
        ({"mean_std": [117, 110, 105]}, r":\d+: mean_std is .*; expected \[\[r, g, b\]"),
        ({"batch_size": 0}, r":\d+: batch_size is 0; expected a whole number above 0"),
        ({"benchmark": "ScutHeads"}, r":\d+: benchmark is 'ScutHeads'; .*did you mean 'ScutHead'"),
        ({"context": "cpn"}, r":\d+: context is 'cpn'; expected .*did you mean 'cpm'"),
        ({"backbone": "resnet51"}, r":\d+: backbone is 'resnet51'; .*did you mean 'resnet50'"),
        ({"start_epoch": 60}, r":\d+: start_epoch is 60, which is after max_epoch 50"),
    ],
)
def test_wrong_values_have_their_lines(folder, changes, message):
    with pytest.raises(ValueError, match=message) as caught:
        read(folder, **changes)
    assert str(caught.value).startswith(f"{folder / 'config.yaml'}:") and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("  gamma:", "  gama:", ":24: HYPER_PARAM has an unknown key 'gama'; did you mean 'gamma'?"),
        ("NETWORK:", "NETWORKS:", "the file has an unknown key 'NETWORKS'; did you mean 'NETWORK'?"),
        ("  gamma:", "  momentum:", ":24: momentum is also on line 22; keep one of them"),
        ("DATASET:", "DATASET: 1\nOTHER:", "the file has an unknown key 'OTHER'"),
        ("HYPER_PARAM:", "HYPER_PARAM: [", "not YAML"),
    ],
)
def test_files_that_are_none(folder, old, new, message):
    file = write_yaml(folder / "config.yaml", folder)
    text = file.read_text()
    assert old in text
    file.write_text(text.replace(old, new))
    with pytest.raises(ValueError) as caught:
        read_headhunter(file)
    assert message in str(caught.value) and "\n" not in str(caught.value)


def test_no_file_and_missing_sections(folder):
    for text, message in ((None, "no such file"), ("", "is empty"), ("DATASET: 3", "has no keys")):
        file = folder / "none.yaml"
        if text is not None:
            file.write_text(text)
        with pytest.raises(ValueError, match=message):
            read_headhunter(file)
    (folder / "none.yaml").write_text("NETWORK: {}")
    with pytest.raises(ValueError, match="no section DATASET"):
        read_headhunter(folder / "none.yaml")
    keys = [key for section in SECTIONS.values() for key in section]
    assert len(set(keys)) == len(keys) == 29


def test_a_configuration_everywhere(folder):
    """By its suffix or as asked for, with options and the report told once."""
    file = write_yaml(folder / "config.yaml", folder)
    told = []
    config = read_config(file, {"optimizer_momentum": 0.01, "train_negatives": "background"}, tell=told.append)
    assert config.optimizer.momentum == 0.01 and config.train.negatives == "background" and len(told) == 12
    (folder / "config.txt").write_text(file.read_text())
    assert read_config(folder / "config.txt", headhunter=True).batch_size == 1


def test_evaluate_takes_lists_and_these_files(folder):
    """Faulty boxes are left out where the run leaves them out."""
    file = write_yaml(folder / "config.yaml", folder)
    parser = argparse.ArgumentParser()
    evaluate.add_arguments(parser)
    val = f"{folder}/val.txt"
    for arguments, skip_faulty in (([val, str(folder)], False), (["--config", str(file)], True)):
        source = evaluate._source(parser.parse_args(["model", *arguments]))
        assert source == (HeadList(val, str(folder)), skip_faulty)
