"""The fields of COCO files: null is missing, and a wrong type or range is a fault with its line, not a crash later."""

import json

import numpy as np
import pytest

from jaxdet.data import CocoDataset, DataError, ground_truth
from jaxdet.evaluation import CocoEvaluator, HeadEvaluator

BOX = {"id": 100, "bbox": [1, 2, 10, 8], "category_id": 3}
NAN, INF = float("nan"), float("inf")


def _write(write_coco, annotation=None, image=None, **fields):
    def edit(content):
        content["annotations"] = [] if annotation is None else [{**BOX, "image_id": 10, **annotation}]
        content["images"][0].update(image or {})
        content.update(fields)

    file, folder = write_coco({"a.png": (20, 30, [])}, edit=edit)
    file.write_text(json.dumps(json.loads(file.read_text()), indent=1))
    return file, folder


def _perfect(dataset):
    evaluator = CocoEvaluator(ground_truth(dataset), category_ids=dataset.category_ids)
    for record in dataset.records:
        evaluator.add(record.image_id, record.boxes, np.ones(len(record.boxes)), record.labels)
    return evaluator.evaluate()


@pytest.mark.parametrize(
    ("section", "key", "value"),
    [
        *(("annotations", "iscrowd", value) for value in ("0", "false", "", 2, -1, 0.5, NAN, [], {})),
        *(("annotations", "area", value) for value in ("1200", "", -1, -0.5, NAN, INF, 10**11, 10**400, True, [80])),
        *(("images", "width", value) for value in ("30", 0, -30, 30.5, NAN, INF, 10**12, True, [30])),
        ("images", "height", "20"),
        *(("images", "id", value) for value in (2**63, "1", 1.0, True, [1], {})),
    ],
)
def test_a_wrong_type_or_range_is_a_fault_with_its_line(write_coco, section, key, value):
    annotation = {} if key != "id" else None
    file, folder = _write(write_coco, **{"annotation": annotation, section[:-1]: {key: value}})
    for skip_faulty in (False, True):
        with pytest.raises(DataError, match=rf"has '{key}' = .*; it must ") as caught:
            CocoDataset(file, folder, skip_faulty=skip_faulty)
        (fault,) = caught.value.faults
        assert fault.kind == "malformed-entry" and fault.file == str(file)
        lines = file.read_text().splitlines()
        assert lines.index(f' "{section}": [') + 1 == fault.line - 1 and lines[fault.line - 1] == "  {"
    if section == "annotations":  # what opening refuses, evaluation refuses alike
        with pytest.raises(DataError, match=rf"has '{key}' = "):
            CocoEvaluator(file)


@pytest.mark.parametrize(
    "annotation",
    [
        {},
        {"iscrowd": None, "area": None},
        {"iscrowd": False, "area": 0},
        {"iscrowd": 0.0, "area": 80.0},
        {"iscrowd": 0, "area": 10**10},
        {"segmentation": "none", "score": None, "ignore": None},
    ],
)
def test_what_is_accepted_is_trained_on_and_evaluates(write_coco, annotation):
    dataset = CocoDataset(*_write(write_coco, annotation, {"height": None, "width": 30.0}))
    assert (
        dataset.faults == () and dataset[0].boxes.tolist() == [[1, 2, 11, 10]] and dataset.records[0].size == (20, 30)
    )
    assert type(dataset.records[0].size[1]) is int
    assert _perfect(dataset)["AP"] == pytest.approx(1.0)


def test_a_missing_area_is_the_boxs(write_coco):
    dataset = CocoDataset(*_write(write_coco, {"area": None}))
    numbers = _perfect(dataset)
    assert numbers["APs"] == pytest.approx(1.0) and numbers["APm"] == -1  # 80 square pixels
    dataset = CocoDataset(*_write(write_coco, {"area": 5000}))
    assert _perfect(dataset)["APm"] == pytest.approx(1.0)


@pytest.mark.parametrize("value", [1, 1.0, True])
def test_crowds_are_ignored_regions(write_coco, value):
    dataset = CocoDataset(*_write(write_coco, {"iscrowd": value}))
    assert dataset[0].boxes.shape == (0, 4) and dataset[0].ignored.tolist() == [[1, 2, 11, 10]]
    assert _perfect(dataset)["AP"] == -1
    assert HeadEvaluator(CocoDataset(*_write(write_coco, {"iscrowd": value}, categories=[{"id": 3, "name": "a"}])))


@pytest.mark.parametrize(
    ("category", "message"),
    [
        ({"id": 3}, "has no 'name'; add it"),
        ({"id": 3, "name": None}, "has 'name' = None; it must be a string or an integer"),
        ({"id": 3, "name": ["dog"]}, r"has 'name' = \['dog'\]; it must be a string or an integer"),
        ({"id": 3, "name": True}, "has 'name' = True; it must be a string or an integer"),
    ],
)
def test_a_category_without_a_valid_name_is_the_one_fault(write_coco, category, message):
    """Not a KeyError where an annotation is of that category."""
    categories = [{"id": 7, "name": "cat"}, category]
    with pytest.raises(DataError, match=f"category 3 {message}") as caught:
        CocoDataset(*_write(write_coco, {}, categories=categories))
    assert [fault.kind for fault in caught.value.faults] == ["malformed-entry"]
    assert caught.value.dataset.names == ("__background__", "cat")


def test_integer_names_are_names(write_coco):
    dataset = CocoDataset(*_write(write_coco, {}, categories=[{"id": 3, "name": 0}, {"id": 4, "name": "0"}]))
    assert dataset.names == ("__background__", "0", "0")
    assert [fault.kind for fault in dataset.faults] == ["shared-name"]  # 0 and "0" are one name
    dataset = CocoDataset(*_write(write_coco, {}, categories=[{"id": 3, "name": 17}]))
    assert dataset.names == ("__background__", "17") and dataset.faults == ()
    assert _perfect(dataset)["AP/17"] == pytest.approx(1.0)


def test_evaluation_names_an_annotation_whose_box_is_not_four_finite_numbers(write_coco):
    for bbox in ([1, 2, 3], [1, 2, 3, "4"], [1, 2, 3, NAN], [1, 2, 3, 10**400], [1, 2, 3, True], [1, 2, -3, 4]):
        file, _ = _write(write_coco, {"bbox": bbox})
        message = (
            r"annotation 100 of image 10 has bbox .*; it must be four finite numbers, the width and height not neg"
        )
        with pytest.raises(DataError, match=f"{file}: {message}"):
            CocoEvaluator(file)
        with pytest.raises(DataError, match=f"the ground truth: {message}"):
            CocoEvaluator(json.loads(file.read_text()))
    file, folder = _write(write_coco, {"bbox": [1, 2, -3, 4], "iscrowd": 1})  # a warning when the set is opened
    assert [fault.kind for fault in CocoDataset(file, folder).faults] == ["empty-region"]
    CocoEvaluator(file)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"image_id": "10"}, "result 1 has 'image_id' = '10'; it must be an integer"),
        ({"category_id": "3"}, "result 1 has 'category_id' = '3'"),
        ({"category_id": None}, "result 1 has 'category_id' = None"),
        ({"bbox": [1, 2, 3]}, r"result 1 has 'bbox' = \[1, 2, 3\]; it must be four finite numbers"),
        ({"bbox": [1, 2, 3, "4"]}, "it must be four finite numbers"),
        ({"bbox": [1, 2, 3, INF]}, "it must be four finite numbers"),
        ({"score": "0.5"}, "has 'score' = '0.5'; it must be a finite number"),
        ({"score": NAN}, "has 'score' = nan; it must be a finite number"),
        ({"image_id": 11}, "image 11 is not in the ground truth"),
    ],
)
def test_results_that_are_not_in_the_format_are_refused(write_coco, change, message):
    evaluator = CocoEvaluator(_write(write_coco, {})[0])
    good = {"image_id": 10, "category_id": 3, "bbox": [1, 2, 10, 8], "score": 0.5}
    with pytest.raises(DataError, match=message):
        evaluator.add_results([good, {**good, **change}])
    (key,) = change
    with pytest.raises(DataError, match=f"result 1 has no '{key}'"):
        evaluator.add_results([good, {name: value for name, value in good.items() if name != key}])
    with pytest.raises(DataError, match="result 0 must be a JSON object, not 3"):
        evaluator.add_results([3])
    assert evaluator.results == []
    evaluator.add_results([good])
    assert evaluator.evaluate()["AP"] == pytest.approx(1.0)
