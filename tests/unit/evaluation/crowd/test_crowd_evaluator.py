"""Crowd metrics on datasets: boxes, crowds and classes reach them, and curves are drawn."""

from __future__ import annotations

import json

import numpy as np
import pytest
from PIL import Image

from jaxdet.data import CocoDataset, Examples
from jaxdet.data.dataset import DataError
from jaxdet.data.formats.head_list import HeadListDataset
from jaxdet.evaluation import CocoEvaluator, HeadEvaluator, ScoredImage, evaluate_heads, make_evaluator
from jaxdet.plots import plot_evaluation, plot_head_curves


@pytest.fixture
def dataset(tmp_path):
    """Two images of one class, whose category id is 7: a head beside a crowd region, and nothing."""
    for name in "ab":
        Image.new("RGB", (100, 80)).save(tmp_path / f"{name}.png")
    entries = [
        {"id": 1, "image_id": 10, "category_id": 7, "bbox": [10, 10, 20, 20]},
        {"id": 2, "image_id": 10, "category_id": 7, "bbox": [50, 0, 50, 80], "iscrowd": 1},
    ]
    images = [{"id": 10 + i, "file_name": f"{name}.png", "width": 100, "height": 80} for i, name in enumerate("ab")]
    content = {"images": images, "annotations": entries, "categories": [{"id": 7, "name": "head"}]}
    (tmp_path / "data.json").write_text(json.dumps(content))
    return CocoDataset(tmp_path / "data.json", tmp_path)


def test_crowds_are_ignored_regions_and_every_image_counts(dataset):
    evaluator = HeadEvaluator(dataset)
    boxes = np.array([[10, 10, 30, 30], [60, 20, 80, 40], [np.nan] * 4])
    evaluator.add(10, boxes, np.array([0.8, 0.9, np.nan]), np.ones(3, int), valid=np.array([True, True, False]))
    metrics = evaluator.evaluate()
    assert metrics["AP"] == metrics["MODA"] == metrics["recall_300"] == 1.0
    result = evaluator.result
    assert (result.images, result.heads, result.ignored, result.detections) == (2, 1, 1, 2)
    assert evaluator.table() == "1 boxes and 1 ignored regions on 2 images, 2 detections"
    evaluator.add(11, np.array([[0, 0, 9, 9]]), np.array([0.95]), np.array([1]))
    assert evaluator.evaluate()["AP"] == 0.5 and evaluator.result.curve.fppi.tolist() == [0.5, 0.5]


def test_results_of_another_host_and_of_other_classes(dataset):
    evaluator = HeadEvaluator(dataset, category_ids=(-1, -1, 7))  # of a model whose first class the data lacks
    evaluator.add(10, np.array([[10, 10, 30, 30]] * 2), np.array([0.9, 0.8]), np.array([1, 2]))
    other = HeadEvaluator(dataset)
    other.add_results(evaluator.results)
    assert evaluator.evaluate() == other.evaluate() and other.result.detections == 1 and other.result.ap == 1.0


def test_evaluators_by_name(dataset):
    assert isinstance(make_evaluator("crowd", dataset), HeadEvaluator)
    assert isinstance(make_evaluator("heads", dataset), HeadEvaluator)  # the name of earlier versions
    assert isinstance(make_evaluator("coco", dataset), CocoEvaluator)
    with pytest.raises(ValueError, match="metrics must be one of coco, crowd, not 'voc'"):
        make_evaluator("voc", dataset)


def test_several_classes_are_refused():
    two = Examples([], names=("cat", "dog"), sizes=np.zeros((0, 2), int)).open()
    with pytest.raises(DataError, match=r"one class, and it has 2 \(cat, dog\)"):
        HeadEvaluator(two)


def test_curves_are_drawn(dataset, tmp_path):
    evaluator = HeadEvaluator(dataset)
    with pytest.raises(ValueError, match="nothing was evaluated"):
        plot_evaluation(evaluator, tmp_path / "none.png")
    evaluator.evaluate()  # no detections: a curve without points
    plot_evaluation(evaluator, tmp_path / "empty.png")
    evaluator.add(10, np.array([[10, 10, 30, 30]]), np.array([0.8]), np.array([1]))
    evaluator.evaluate()
    plot_evaluation(evaluator, tmp_path / "found.png")
    drawn = [np.asarray(Image.open(tmp_path / f"{name}.png").convert("RGB"), int) for name in ("empty", "found")]
    assert drawn[0].shape[1] > 1000 and np.abs(drawn[0] - drawn[1]).max() > 100
    with pytest.raises(ValueError, match="no head"):
        plot_head_curves(evaluate_heads([ScoredImage([], [], [])]), tmp_path / "none.png")
    assert not (tmp_path / "none.png").exists()


def test_flags_of_a_head_list_are_ignored_in_evaluation(dataset, tmp_path):
    """Also those above 0, which are trained on."""
    (tmp_path / "list.txt").write_text("# a.png\n10 10 30 30 0\n40 10 60 30 1\n70 10 90 30 -1\n# b.png\n")
    heads = HeadListDataset(tmp_path / "list.txt")
    assert len(heads.records[0].boxes) == 2
    evaluator = HeadEvaluator(heads)
    found = np.array([[10, 10, 30, 30], [40, 10, 60, 30], [70, 10, 90, 30]])
    evaluator.add(heads.image_ids[0], found, np.array([0.7, 0.8, 0.9]), np.ones(3, int))
    assert evaluator.evaluate()["AP"] == 1.0 and evaluator.result.heads == 1 and evaluator.result.ignored == 2
