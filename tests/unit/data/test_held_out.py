"""A validation set cut from a training set: which images, and that both parts are whole datasets."""

import argparse
import json
import pickle
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from jaxdet.cli import evaluate as evaluate_command
from jaxdet.cli.train import add_config_arguments, config_of
from jaxdet.config import override
from jaxdet.data import (
    ClassFolder,
    CocoFiles,
    DataError,
    SplitPart,
    VocFolder,
    YoloFolder,
    ground_truth,
    split_source,
)
from jaxdet.data.held_out import held_out
from jaxdet.data_report.check import check
from jaxdet.runs import open_task, read_config
from jaxdet.runs.record import make_record


def test_the_choice_is_a_function_of_seed_and_ids():
    ids = list(range(10, 60))
    chosen = held_out(ids, 0.2, 0)
    assert chosen.sum() == 10
    np.testing.assert_array_equal(chosen, held_out(ids, 0.2, 0))
    order = np.random.default_rng(0).permutation(50)
    np.testing.assert_array_equal(chosen[order], held_out([ids[i] for i in order], 0.2, 0))  # not of their order
    assert (chosen != held_out(ids, 0.2, 1)).any()
    assert not (chosen & ~held_out(ids, 0.3, 0)).any()  # of a larger fraction the smaller is a part
    # By sha256sum of "0:1" to "0:10": a run that goes on with another version holds out the same images.
    assert np.flatnonzero(held_out(range(1, 11), 0.3, 0)).tolist() == [3, 6, 8]


def test_either_side_has_an_image():
    assert [held_out(range(5), fraction, 0).sum() for fraction in (0.01, 0.5, 0.99)] == [1, 2, 4]
    with pytest.raises(DataError, match="a set of 1 images cannot be split"):
        held_out([1], 0.5, 0)
    for fraction in (0, 1, -0.2, 20, float("nan")):
        with pytest.raises(ValueError, match="between 0 and 1"):
            held_out(range(5), fraction, 0)
        with pytest.raises(ValueError, match="between 0 and 1"):
            split_source(ClassFolder("x"), fraction)


@pytest.fixture
def coco(write_coco):
    boxes = [{"bbox": [1, 2, 3, 4], "category_id": 3}, {"bbox": [0, 0, 9, 9], "category_id": 7, "iscrowd": 1}]
    file, folder = write_coco({f"{number}.png": (20, 30 + number, boxes) for number in range(10)})
    return CocoFiles(str(file), str(folder))


def test_the_parts_are_the_set(coco):
    whole = coco.open()
    train, val = (part.open() for part in split_source(coco, 0.3, seed=5))
    assert len(train) == 7 and len(val) == 3 and sorted(train.image_ids + val.image_ids) == sorted(whole.image_ids)
    assert train.names == val.names == whole.names and val.category_ids == whole.category_ids
    for part in (train, val):
        for index, image_id in enumerate(part.image_ids):
            own = whole.image_ids.index(image_id)
            np.testing.assert_array_equal(part[index].image, whole[own].image)
            assert part.encoded(index) == whole.encoded(own) and part.places([index]) == whole.places([own])
            assert part[index].boxes.tolist() == [[1, 2, 4, 6]] and part.inspect(index) == []
    content = ground_truth(val)  # with its crowds
    assert {entry["id"] for entry in content["images"]} == set(val.image_ids)
    assert [entry["iscrowd"] for entry in content["annotations"]] == [0, 1] * 3
    assert pickle.loads(pickle.dumps(val)).image_ids == val.image_ids


def test_every_layout_has_parts(write_voc, tmp_path):
    root = write_voc({name: (20, 30, [("dog", (1, 2, 3, 4))]) for name in "abcd"})
    (root / "data.yaml").write_text("names: [dog]\ntrain: JPEGImages\n")
    (root / "JPEGImages" / "a.txt").write_text("0 .5 .5 .5 .5")
    for source in (VocFolder(str(root)), VocFolder(str(root), "train"), YoloFolder(str(root), "train")):
        train, val = (part.open() for part in split_source(source, 0.25))
        assert (len(train), len(val)) == (3, 1) and ground_truth(val)["images"][0]["id"] == val.image_ids[0]
    for number in range(4):
        (tmp_path / "classes" / "ab"[number % 2]).mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 8)).save(tmp_path / "classes" / "ab"[number % 2] / f"{number}.png")
    train, val = (part.open() for part in split_source(ClassFolder(str(tmp_path / "classes")), 0.5))
    assert {record.path for record in (*train.records, *val.records)} == {
        str(tmp_path / "classes" / "ab"[number % 2] / f"{number}.png") for number in range(4)
    }
    assert len(train) == len(val) == 2 and train.names == val.names == ("a", "b")
    assert val[0].label == val.records[0].label and val.encoded(0) and val.places([0]) == [(val.records[0].path, None)]


def test_faults_refuse_either_part_and_are_told_once(coco):
    content = json.loads(Path(coco.annotations).read_text())
    content["annotations"][0]["bbox"] = [1, 2, 0, 4]
    Path(coco.annotations).write_text(json.dumps(content))
    train, val = split_source(coco, 0.3)
    for part in (train, val):
        with pytest.raises(DataError, match="0 wide") as caught:
            part.open()
        assert len(caught.value.dataset) == (7 if part is train else 3)
        assert len(part.open(skip_faulty=True)) == len(caught.value.dataset)
    report = check(_config(train=train, val=val), progress=False, decode=False)
    assert [(found.name, found.images, len(found.faults)) for found in report.sets] == [
        ("train", 7, 1),
        ("val", 3, 0),
    ]


def _config(**fields):
    return replace(read_config("finetune"), **{"val": None, "weights": None, "batch_size": 1, **fields})


def test_the_option_splits_the_training_set_and_is_recorded(coco, tmp_path):
    (tmp_path / "train.json").write_text(Path(coco.annotations).read_text())
    (tmp_path / "images").rename(tmp_path / "train")
    parser = argparse.ArgumentParser()
    add_config_arguments(parser)
    line = ["finetune", "--data", str(tmp_path), "--val-fraction", "0.3", "--val-seed", "5", "--set", "batch_size=1"]
    config = config_of(parser.parse_args(line))
    source = CocoFiles(str(tmp_path / "train.json"), str(tmp_path / "train"))
    assert (config.train, config.val) == split_source(source, 0.3, seed=5)
    task = open_task(config)
    assert len(task.train) == 7 and len(task.val) == 3
    assert make_record(task)["config"]["train"] == {
        "type": "SplitPart",
        "source": {"type": "CocoFiles", "annotations": source.annotations, "images": source.images},
        "part": "train",
        "fraction": 0.3,
        "seed": 5,
    }
    assert config_of(parser.parse_args(line[:3])).val is None
    (tmp_path / "val.json").write_text((tmp_path / "train.json").read_text())
    (tmp_path / "val").mkdir()
    with pytest.raises(ValueError, match=r"there is a validation set, CocoFiles.*: leave out --val-fraction"):
        config_of(parser.parse_args(line))


@pytest.mark.parametrize("by_name", [False, True])
def test_evaluate_takes_what_training_held_out(coco, tmp_path, by_name):
    (tmp_path / "train.json").write_text(Path(coco.annotations).read_text())
    (tmp_path / "train").mkdir()
    parser = argparse.ArgumentParser()
    evaluate_command.add_arguments(parser)
    where = [coco.annotations, coco.images] if by_name else ["--data", str(tmp_path)]
    source = coco if by_name else CocoFiles(str(tmp_path / "train.json"), str(tmp_path / "train"))
    args = parser.parse_args(["model", *where, "--val-fraction", "0.3", "--val-seed", "5"])
    assert evaluate_command._source(args) == (SplitPart(source, "val", 0.3, 5), False)


def test_corners_from_zero_on_the_command_line(tmp_path):
    parser = argparse.ArgumentParser()
    evaluate_command.add_arguments(parser)
    line = ["model", "val", str(tmp_path), "--voc"]
    assert evaluate_command._source(parser.parse_args(line))[0] == VocFolder(str(tmp_path), "val")
    source = evaluate_command._source(parser.parse_args([*line, "--zero-based"]))[0]
    assert source == VocFolder(str(tmp_path), "val", one_based=False)
    with pytest.raises(ValueError, match="--zero-based is an option of --voc"):
        evaluate_command._source(parser.parse_args(["model", "a.json", "images", "--zero-based"]))


@pytest.mark.parametrize(
    ("line", "says"),
    [
        (["a.json", "images", "--val-seed", "5"], "--val-seed selects the images that --val-fraction holds out"),
        (["--data", "set", "--voc"], "--voc needs a split and a folder"),
        (["a.json", "images", "--data", "set"], "or --data DIR, not both"),
    ],
)
def test_arguments_that_would_have_no_effect_are_refused(line, says):
    parser = argparse.ArgumentParser()
    evaluate_command.add_arguments(parser)
    with pytest.raises(ValueError, match=says):
        evaluate_command._source(parser.parse_args(["model", *line]))


def test_options_reach_the_source_of_a_part():
    config = _config(train=SplitPart(VocFolder("x"), "train"))
    options = {"train_one_based": False, "train_fraction": 0.5}
    assert override(config, options).train == SplitPart(VocFolder("x", one_based=False), "train", 0.5)
