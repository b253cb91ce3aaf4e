"""COCO's numbers: worked out by hand, and those of a public example."""

import json
from types import SimpleNamespace

import numpy as np
import pytest
from pycocotools.cocoeval import COCOeval

from jaxdet.data.dataset import DataError
from jaxdet.evaluation import METRICS, CocoEvaluator, limit_notes, make_evaluator

TRUTH = "golden/coco_eval/instances_val2014_100.json"
RESULTS = "golden/coco_eval/instances_val2014_fakebbox100_results.json"
EXPECTED = {
    "AP": 0.504581, "AP50": 0.696973, "AP75": 0.572982, "APs": 0.585626, "APm": 0.519400, "APl": 0.501398,
    "AR1": 0.386813, "AR10": 0.593680, "AR100": 0.595353, "ARs": 0.639811, "ARm": 0.566421, "ARl": 0.564291,
}  # fmt: skip


def _truth():
    """Two images; category 5 has a 50 x 50 box on each, category 9 a 200 x 200 box on the first."""
    return {
        "images": [{"id": 1, "file_name": "a"}, {"id": 2, "file_name": "b"}],
        "categories": [{"id": 9, "name": "nine"}, {"id": 5, "name": "five"}],
        "annotations": [
            {"id": 0, "image_id": 1, "category_id": 5, "bbox": [10, 10, 50, 50]},
            {"id": 1, "image_id": 2, "category_id": 5, "bbox": [10, 10, 50, 50]},
            {"id": 2, "image_id": 1, "category_id": 9, "bbox": [0, 0, 200, 200]},
        ],
    }


def test_perfect_detections_score_one_and_print_nothing(capsys):
    evaluator = CocoEvaluator(_truth())
    evaluator.add(1, np.array([[10, 10, 60, 60], [0, 0, 200, 200]]), np.array([0.9, 0.8]), np.array([1, 2]))
    evaluator.add(2, np.array([[10, 10, 60, 60]]), np.array([0.7]), np.array([1]))
    numbers = evaluator.evaluate()
    assert tuple(numbers) == (*METRICS, "AP/five", "AP/nine")
    assert capsys.readouterr() == ("", "")
    for name in ("AP", "AP50", "AP75", "APm", "APl", "AR1", "AR100", "AP/five", "AP/nine"):
        assert numbers[name] == pytest.approx(1.0, abs=1e-9), name
    assert numbers["APs"] == -1.0 == numbers["ARs"]  # no small object in the ground truth


def test_an_image_without_detections_counts():
    evaluator = CocoEvaluator(_truth())
    evaluator.add(1, np.array([[10, 10, 60, 60]]), np.array([0.9]), np.array([1]))
    numbers = evaluator.evaluate()
    # Precision 1 up to recall 0.5, that is at 51 of the 101 recall points; the other class is missed.
    assert numbers["AP/five"] == pytest.approx(51 / 101) and numbers["AP/nine"] == 0.0
    assert numbers["AP"] == pytest.approx(51 / 202) and numbers["AR100"] == pytest.approx(0.25)


def test_overlap_decides_at_each_threshold():
    evaluator = CocoEvaluator(_truth())
    shifted = np.array([[20, 10, 70, 60]])  # IoU 40 / 60 = 0.667: enough for 0.50, 0.55, 0.60 and 0.65
    for image_id in (1, 2):
        evaluator.add(image_id, shifted, np.array([0.9]), np.array([1]))
    numbers = evaluator.evaluate()
    assert numbers["AP/five"] == pytest.approx(0.4) and numbers["AP50"] == pytest.approx(0.5)
    assert numbers["AP75"] == 0.0


def test_results_are_coco_records_and_padding_is_left_out(tmp_path):
    evaluator = CocoEvaluator(_truth(), category_ids=(-1, 9, 5))
    boxes = np.float32([[1, 2, 4, 8], [np.nan] * 4])
    evaluator.add(2, boxes, np.float32([0.5, np.nan]), np.int32([2, 77]), valid=np.array([True, False]))
    assert evaluator.results == [{"image_id": 2, "category_id": 5, "bbox": [1.0, 2.0, 3.0, 6.0], "score": 0.5}]
    evaluator.write(tmp_path / "results.json")
    other = CocoEvaluator(_truth())
    other.add_results(json.loads((tmp_path / "results.json").read_text()))
    assert other.results == evaluator.results


def test_no_detections_give_zeros():
    evaluator = CocoEvaluator(_truth())
    evaluator.add(1, np.zeros((0, 4)), np.zeros(0), np.zeros(0, int))
    numbers = evaluator.evaluate()
    assert {numbers[name] for name in ("AP", "AP50", "APm", "APl", "AR100", "AP/five")} == {0.0}


def test_no_ground_truth_at_all_is_not_an_error():
    evaluator = CocoEvaluator({**_truth(), "annotations": []})
    evaluator.add(1, np.array([[10, 10, 60, 60]]), np.array([0.9]), np.array([1]))
    assert evaluator.evaluate()["AP"] == -1.0


def test_evaluating_twice_gives_the_same():
    evaluator = CocoEvaluator(_truth())
    evaluator.add(1, np.array([[10, 10, 60, 60]]), np.array([0.9]), np.array([1]))
    assert evaluator.evaluate() == evaluator.evaluate()


def test_mistakes_are_refused():
    evaluator = CocoEvaluator(_truth())
    box, score, label = np.array([[10, 10, 60, 60]]), np.array([0.9]), np.array([1])
    with pytest.raises(DataError, match="image 3 is not in the ground truth, which has 2 images"):
        evaluator.add(3, box, score, label)
    with pytest.raises(DataError, match=r"image 1: label 3 is not in 1\.\.2"):
        evaluator.add(1, box, score, label + 2)
    with pytest.raises(DataError, match=r"image 1: label 0 is not in 1\.\.2"):  # the background
        evaluator.add(1, box, score, label - 1)
    with pytest.raises(ValueError, match="not finite; mask padding"):
        evaluator.add(1, box * np.nan, score, label)
    with pytest.raises(ValueError, match=r"expected boxes \[D, 4\]"):
        evaluator.add(1, box, np.array([0.9, 0.8]), label)
    with pytest.raises(DataError, match="the ground truth: no list 'images'"):
        CocoEvaluator({})
    assert evaluator.results == []


def test_classes_have_counts_and_curves():
    truth = _truth()
    truth["annotations"].append({"id": 3, "image_id": 2, "category_id": 5, "bbox": [90, 90, 9, 9], "iscrowd": 1})
    truth["categories"].append({"id": 7, "name": "seven"})
    evaluator = CocoEvaluator(truth)
    evaluator.add(1, np.array([[20, 10, 70, 60]]), np.array([0.9]), np.array([1]))  # IoU 0.667
    numbers = evaluator.evaluate()
    five, seven, nine = evaluator.classes
    assert [(one.name, one.boxes) for one in evaluator.classes] == [("five", 2), ("seven", 0), ("nine", 1)]
    # One of two found, and nothing false: precision 1 up to recall 0.5, at the lower threshold alone.
    np.testing.assert_allclose(five.curves[0.5], np.arange(101) <= 50, rtol=1e-12)
    np.testing.assert_array_equal(five.curves[0.75], np.zeros(101))
    assert (five.ap50, five.ap75) == (pytest.approx(51 / 101), 0.0)
    assert five.ap == numbers["AP/five"] == pytest.approx(0.4 * 51 / 101)
    assert (seven.ap, seven.ap50, seven.ap75) == (-1.0,) * 3 and (seven.curves[0.5] == -1).all()
    assert nine.ap == nine.ap50 == 0.0
    assert numbers["AP50"] == pytest.approx((five.ap50 + nine.ap50) / 2)
    assert [line.split() for line in evaluator.table().splitlines()] == [
        ["class", "AP", "AP50", "AP75", "boxes"],
        ["five", "0.202", "0.505", "0.000", "2"],
        ["seven", "-", "-", "-", "0"],
        ["nine", "0.000", "0.000", "0.000", "1"],
    ]
    assert len({len(line) for line in evaluator.table().splitlines()}) == 1  # columns are aligned


def test_the_public_example(shared, monkeypatch):
    """All 100 images count, also the one without detections: without it AP would be 0.506985."""
    runs, accumulate = [], COCOeval.accumulate
    monkeypatch.setattr(COCOeval, "accumulate", lambda self: (runs.append(self), accumulate(self))[1])
    evaluator = CocoEvaluator(shared / TRUTH)
    evaluator.add_results(json.loads((shared / RESULTS).read_text()))
    numbers = evaluator.evaluate()
    assert {name: round(numbers[name], 6) for name in METRICS} == EXPECTED
    assert len(runs) == 1  # classes and curves come from the same count
    known = [one for one in evaluator.classes if one.boxes]
    for name, number in (("ap", "AP"), ("ap50", "AP50"), ("ap75", "AP75")):
        assert np.mean([getattr(one, name) for one in known]) == pytest.approx(numbers[number], abs=1e-12)
    assert sum(one.boxes for one in evaluator.classes) == sum(
        not entry["iscrowd"] for entry in json.loads((shared / TRUTH).read_text())["annotations"]
    )


def test_the_public_example_through_boxes_and_labels(shared):
    truth = json.loads((shared / TRUTH).read_text())
    records = json.loads((shared / RESULTS).read_text())
    evaluator = CocoEvaluator(truth, category_ids=range(91))
    for image in truth["images"]:
        found = [record for record in records if record["image_id"] == image["id"]]
        boxes = np.array([record["bbox"] for record in found], float).reshape(-1, 4)
        boxes[:, 2:] += boxes[:, :2]
        scores, labels = (np.array([record[key] for record in found]) for key in ("score", "category_id"))
        evaluator.add(image["id"], boxes, scores, labels.astype(int))
    numbers = evaluator.evaluate()
    assert {name: round(numbers[name], 6) for name in METRICS} == EXPECTED


def test_the_numbers_are_those_that_pycocotools_prints(shared, monkeypatch):
    """Of the public example without an image's detections, and with its small objects alone."""
    runs, accumulate = [], COCOeval.accumulate
    monkeypatch.setattr(COCOeval, "accumulate", lambda self: (runs.append(self), accumulate(self))[1])
    truth, records = (json.loads((shared / name).read_text()) for name in (TRUTH, RESULTS))
    small = {**truth, "annotations": [entry for entry in truth["annotations"] if entry["area"] < 32**2]}
    for content, found in ((truth, records[50:]), (small, records)):
        evaluator = CocoEvaluator(content)
        evaluator.add_results(found)
        numbers = evaluator.evaluate()
        runs[-1].summarize()
        assert [numbers[name] for name in METRICS] == pytest.approx(runs[-1].stats.tolist(), abs=1e-12)
    assert numbers["APl"] == -1


def _crowded(count, *, classes=1):
    """An image with so many objects, by turns of each class, and as many perfect detections."""
    corners = np.stack(np.divmod(np.arange(count), 20), -1)[:, ::-1] * 50.0
    boxes = np.concatenate([corners, corners + 40], axis=1)
    labels = np.arange(count) % classes + 1
    truth = {
        "images": [{"id": 1, "file_name": "a"}],
        "categories": [{"id": number, "name": str(number)} for number in range(1, classes + 1)],
        "annotations": [
            {"id": n, "image_id": 1, "category_id": int(label), "bbox": [*corner, 40, 40]}
            for n, (corner, label) in enumerate(zip(corners.tolist(), labels, strict=True), start=1)
        ],
    }
    return truth, boxes, labels


@pytest.mark.parametrize(("max_dets", "counted"), [(100, 100), (300, 300), (250, 250), (10, 10), (5, 5), (1, 1)])
def test_a_limit_for_detections_of_an_image(max_dets, counted):
    truth, boxes, labels = _crowded(300)
    evaluator = CocoEvaluator(truth, max_dets=max_dets)
    evaluator.add(1, boxes, np.linspace(1, 0.5, 300), labels)
    numbers = evaluator.evaluate()
    # Precision 1 up to the recall of what counts, at that many of the 101 points.
    assert numbers["AP"] == numbers["AP/1"] == pytest.approx((np.linspace(0, 1, 101) <= counted / 300).mean())
    assert numbers[f"AR{max_dets}"] == pytest.approx(counted / 300)
    limits = [name for name in numbers if name.startswith("AR") and name[2:].isdigit()]
    assert limits == [f"AR{limit}" for limit in (1, 10) if limit < max_dets] + [f"AR{max_dets}"]
    with pytest.raises(ValueError, match="max_dets must be at least 1, not 0"):
        CocoEvaluator(truth, max_dets=0)


class Crowded:
    """A dataset of images with so many objects each, by class."""

    def __init__(self, *counts):
        self.records = [SimpleNamespace(truth=SimpleNamespace(labels=np.repeat([1, 2], count))) for count in counts]


def test_images_with_more_objects_than_count_are_told():
    assert limit_notes(Crowded((100, 3), (0, 0)), 200) == []
    few = Crowded((101, 0), (3, 300), (60, 60))
    counted, given = limit_notes(few, 100)
    assert counted.startswith("2 images have more than 100 objects of a class (up to 300)") and "--max-dets" in counted
    assert given.startswith("3 images have more than 100 objects (up to 303), but the model returns at most")
    (only,) = limit_notes(few, 303, max_dets=299)
    assert only.startswith("1 image has more than 299 objects of a class (up to 300)")
    assert limit_notes(few, 303, max_dets=300) == [] == limit_notes(few, 303, metrics="crowd")


def test_the_limit_belongs_to_cocos_metrics():
    with pytest.raises(ValueError, match="max_dets is an option of COCO's metrics; the crowd metrics count all"):
        make_evaluator("crowd", Crowded(), max_dets=300)
    with pytest.raises(ValueError, match="max_dets must be at least 1, not 0"):
        make_evaluator("coco", Crowded(), max_dets=0)
