"""COCO files: what is read, and what is said about those that are wrong."""

import json

import numpy as np
import pytest
from PIL import Image

from jaxdet.data import CocoDataset, DataError, ground_truth, to_coco
from jaxdet.data.formats.json_lines import entry_lines

DOG, CAT = 1, 2  # categories 3 and 7, in the order of their ids


def test_boxes_become_xyxy_and_labels_contiguous(write_coco):
    file, folder = write_coco(
        {
            "a.png": (
                20,
                30,
                [{"bbox": [1, 2, 10, 5.5], "category_id": 7}, {"bbox": [0, 0, 30, 20], "category_id": 3}],
            ),
            "empty.png": (16, 8, []),
        }
    )
    dataset = CocoDataset(file, folder)
    assert dataset.names == ("__background__", "dog", "cat")
    assert dataset.category_ids == (-1, 3, 7)
    assert dataset.image_ids == (10, 11)
    np.testing.assert_array_equal(dataset.sizes, [[20, 30], [16, 8]])
    assert dataset.max_boxes == 2 and len(dataset) == 2 and dataset.skipped == 0
    example = dataset[0]
    np.testing.assert_array_equal(example.boxes, np.float32([[1, 2, 11, 7.5], [0, 0, 30, 20]]))
    np.testing.assert_array_equal(example.labels, [CAT, DOG])
    assert example.boxes.dtype == np.float32 and example.labels.dtype == np.int32
    assert example.image_id == 10 and example.path == str(folder / "a.png")
    np.testing.assert_array_equal(example.image, np.asarray(Image.open(folder / "a.png")))
    empty = dataset[1]
    assert empty.boxes.shape == (0, 4) and empty.labels.shape == (0,) and empty.image.shape == (16, 8, 3)


def test_crowds_are_ignored_regions_and_stay_for_evaluation(write_coco):
    crowds = [{"bbox": box, "category_id": 3, "iscrowd": 1} for box in ([0, 0, 0, 0], [5, 6, 7, 8], [20, -9, 90, 12])]
    file, folder = write_coco({"a.png": (20, 30, [*crowds, {"bbox": [1, 2, 3, 4], "category_id": 3}])})
    dataset = CocoDataset(file, folder)
    assert dataset[0].labels.tolist() == [DOG]
    assert dataset[0].ignored.tolist() == [[5, 6, 12, 14], [20, 0, 30, 3]]  # the last one clipped
    assert dataset[0].ignored.dtype == np.float32
    assert [(fault.kind, fault.annotation) for fault in dataset.faults] == [("empty-region", "100")]
    assert dataset.skipped == 0
    assert [entry["iscrowd"] for entry in ground_truth(dataset)["annotations"]] == [1, 1, 1, 0]


FAULTY = [
    {"bbox": [1, 2, 0, 5], "category_id": 3},  # 100: no width
    {"bbox": [1, 2, 5, -1], "category_id": 3},  # 101: negative height
    {"bbox": [1, 2, 5, 5], "category_id": 3},  # 102: fine
    {"bbox": [float("nan"), 2, 5, 5], "category_id": 3},  # 103
    {"bbox": [40, 2, 5, 5], "category_id": 7},  # 104: outside
    {"bbox": [1, 2, 5], "category_id": 7},  # 105: three numbers
    {"bbox": [28, 18, 2.9, 2.9], "category_id": 7},  # 106: sticks out by less than a pixel
]


def test_faults_are_listed_each_with_file_line_image_and_id(write_coco):
    file, folder = write_coco({"good.png": (8, 8, []), "bad.png": (20, 30, FAULTY)})
    file.write_text(json.dumps(json.loads(file.read_text()), indent=1))
    with pytest.raises(DataError, match=r"5 faulty boxes.*skip_faulty=True") as caught:
        CocoDataset(file, folder)
    text = file.read_text().splitlines()
    lines = str(caught.value).splitlines()[1:]
    assert len(lines) == 5 == len(caught.value.faults)
    for line, (number, kind, problem) in zip(
        lines,
        [
            (100, "degenerate-box", "0 wide"),
            (101, "degenerate-box", "-1 high"),
            (103, "non-finite-box", "not finite"),
            (104, "outside-box", "exceeds the 30 x 20 image by 15 px"),
            (105, "malformed-box", "not four numbers"),
        ],
        strict=True,
    ):
        fault = next(fault for fault in caught.value.faults if fault.annotation == str(number))
        assert fault.kind == kind and fault.severity == "error"
        assert f"{file}:{fault.line}: image bad.png (id 11), annotation {number}:" in line and problem in line
        # The entry begins there, and its id comes next.
        assert text[fault.line - 1].strip() == "{" and f'"id": {number}' in text[fault.line]


def test_skip_faulty_leaves_out_exactly_the_faults(write_coco):
    file, folder = write_coco({"bad.png": (20, 30, FAULTY)})
    dataset = CocoDataset(file, folder, skip_faulty=True)
    assert dataset.skipped == 5
    np.testing.assert_allclose(dataset[0].boxes, [[1, 2, 6, 7], [28, 18, 30, 20]])  # the second clipped
    assert [entry["id"] for entry in ground_truth(dataset)["annotations"]] == [102, 106]


def test_skip_faulty_leaves_out_no_other_with_the_same_id(write_coco):
    boxes = [{"id": 7, "bbox": [1, 2, width, 5], "category_id": 3} for width in (3, 0, 4)]
    file, folder = write_coco({"a.png": (20, 30, boxes)})
    dataset = CocoDataset(file, folder, skip_faulty=True)
    assert dataset.skipped == 1 and [fault.kind for fault in dataset.faults] == [
        "duplicate-annotation",
        "duplicate-annotation",
        "degenerate-box",
    ]
    assert [entry["bbox"][2] for entry in ground_truth(dataset)["annotations"]] == [3, 4]


def test_to_coco_gives_back_the_same_dataset(write_coco, tmp_path):
    file, folder = write_coco({"a.png": (20, 30, [{"bbox": [1, 2, 10, 5.5], "category_id": 7}]), "b.png": (9, 9, [])})
    dataset = CocoDataset(file, folder)
    content = to_coco(dataset)
    assert content["annotations"] == [
        {"id": 1, "image_id": 10, "category_id": 7, "bbox": [1.0, 2.0, 10.0, 5.5], "area": 55.0, "iscrowd": 0}
    ]
    again = tmp_path / "again.json"
    again.write_text(json.dumps(content))
    other = CocoDataset(again, folder)
    assert other.names == dataset.names and other.image_ids == dataset.image_ids
    np.testing.assert_array_equal(other.sizes, dataset.sizes)
    np.testing.assert_array_equal(other[0].boxes, dataset[0].boxes)


def _drop(section, key):
    return lambda content: content[section][0].pop(key)


def _again(section):
    return lambda content: content[section].append(content[section][0])


def _set(section, key, value):
    return lambda content: content[section][0].update({key: value})


@pytest.mark.parametrize(
    ("edit", "kind", "message"),
    [
        (
            _drop("annotations", "bbox"),
            "malformed-entry",
            r"a\.png \(id 10\), annotation 100: has no 'bbox'; add it",
        ),
        (_drop("images", "file_name"), "malformed-entry", r"image 10: has no 'file_name'"),
        (_set("annotations", "image_id", "ten"), "malformed-entry", "has 'image_id' = 'ten'; it must be an integer"),
        (_set("annotations", "image_id", True), "malformed-entry", "has 'image_id' = True; it must be an integer"),
        (lambda content: content["annotations"].append(3), "malformed-entry", "entry 1: has no 'image_id'"),
        (_set("annotations", "category_id", 5), "unknown-category", "category_id 5, which is not in 'categories'"),
        (
            _set("annotations", "image_id", 99),
            "unknown-image",
            "image_id 99, which is not in 'images'",
        ),
        (_again("images"), "duplicate-image", "has id 10, as entry 0 of 'images' has; give each its own"),
        (_again("categories"), "duplicate-category", "category 7 has id 7, as entry 0 of 'categories' has"),
        (_set("images", "file_name", "c.png"), "missing-image", "its file .*c.png is missing; check that"),
    ],
)
def test_what_is_wrong_with_a_file_is_said_in_one_line(write_coco, edit, kind, message):
    file, folder = write_coco({"a.png": (20, 30, [{"bbox": [1, 2, 3, 4], "category_id": 3}])}, edit=edit)
    for skip_faulty in (False, True):  # none of these is a box that could be left out
        with pytest.raises(DataError, match=message) as caught:
            CocoDataset(file, folder, skip_faulty=skip_faulty)
        assert "\n" not in str(caught.value) and f"{file}:1: " in str(caught.value)
        (fault,) = (fault for fault in caught.value.faults if fault.severity == "error")
        assert fault.kind == kind and fault.line == 1


def test_all_faults_are_found_at_once_and_the_rest_is_read(write_coco):
    def edit(content):
        content["images"] += [content["images"][1], {"id": 50, "file_name": "gone.png", "height": 5, "width": 5}]
        content["annotations"].append({"id": 200, "image_id": 50, "category_id": 3, "bbox": [1, 1, 2, 2]})
        content["annotations"].append({"id": 201, "image_id": 10, "category_id": 4, "bbox": [1, 1, 2, 2]})
        content["annotations"].append({"id": 201, "image_id": 77, "category_id": 3, "bbox": [1, 1, 2, 2]})

    file, folder = write_coco(
        {"a.png": (20, 30, [{"bbox": [1, 2, 0, 4], "category_id": 3}]), "b.png": (8, 8, [])}, edit=edit
    )
    with pytest.raises(DataError, match=r"5 faults; correct them \(1 of them") as caught:
        CocoDataset(file, folder)
    found = sorted((fault.kind, fault.image, fault.annotation) for fault in caught.value.faults)
    assert found == [
        ("degenerate-box", "a.png (id 10)", "100"),
        ("duplicate-annotation", "77", "201"),
        ("duplicate-image", "b.png (id 11)", ""),
        ("missing-image", "gone.png (id 50)", ""),
        ("unknown-category", "a.png (id 10)", "201"),
        ("unknown-image", "77", "201"),
    ]
    assert caught.value.dataset.image_ids == (10, 11)


def test_categories_may_share_a_name_which_is_told(write_coco):
    dataset = CocoDataset(*write_coco({"a.png": (9, 9, [])}, categories=((0, "cell"), (4, "cell"))))
    (fault,) = dataset.faults
    assert fault.kind == "shared-name" and fault.severity == "warning" and len(dataset.names) == 3


@pytest.mark.parametrize(("indent", "encoding"), [(None, "utf-8"), (2, "utf-8-sig"), (0, "utf-16")])
def test_the_lines_of_entries(tmp_path, indent, encoding):
    content = {"info": {"images": [1]}, "images": [{"id": 1, "x": "a\u00e9[{"}, [[]], 3], "empty": [], "last": [{}]}
    text = json.dumps(content, indent=indent, ensure_ascii=False)
    (tmp_path / "a.json").write_text(text, encoding=encoding)
    found = entry_lines(tmp_path / "a.json", {"images": {0, 2, 9}, "empty": {0}, "last": {0}})
    assert set(found) == {("images", 0), ("images", 2), ("last", 0)}
    lines = text.splitlines()
    if indent is None:
        assert set(found.values()) == {1}
    else:
        assert "{" in lines[found["images", 0] - 1] and '"id": 1' in lines[found["images", 0]]
        assert lines[found["images", 2] - 1].strip() == "3" and lines[found["last", 0] - 1].strip() == "{}"


def test_of_a_list_that_occurs_twice_the_last_one_counts(tmp_path):
    (tmp_path / "a.json").write_text('{"images": [1,\n2],\n"images": [3,\n4]}')
    assert entry_lines(tmp_path / "a.json", {"images": {1}}) == {("images", 1): 4}
    (tmp_path / "a.json").write_text('{"images": [1,\n2],\n"images": [3]}')
    assert entry_lines(tmp_path / "a.json", {"images": {0, 1}}) == {("images", 0): 3}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{not json", "not JSON"),
        ("[1, 2]", "contains a list, not an object"),
        ('{"images": [], "annotations": []}', "no list 'categories'"),
    ],
)
def test_files_of_another_kind(tmp_path, text, message):
    (tmp_path / "a.json").write_text(text)
    with pytest.raises(DataError, match=rf"a\.json: {message}"):
        CocoDataset(tmp_path / "a.json", tmp_path)
    with pytest.raises(DataError, match=r"b\.json: no such annotation file"):
        CocoDataset(tmp_path / "b.json", tmp_path)


def test_missing_sizes_are_read_from_the_image(write_coco):
    file, folder = write_coco({"a.png": (20, 30, [])}, edit=_drop("images", "height"))
    np.testing.assert_array_equal(CocoDataset(file, folder).sizes, [[20, 30]])


def test_images_that_contradict_the_annotation(write_coco):
    file, folder = write_coco({"a.png": (20, 30, [])}, edit=_set("images", "height", 25))
    with pytest.raises(DataError, match=r"a\.png: the image is 30 x 20 but its annotation says 30 x 25"):
        CocoDataset(file, folder)[0]
    (folder / "a.png").write_bytes(b"no image")
    with pytest.raises(DataError, match=r"a\.png: cannot be decoded as an image"):
        CocoDataset(file, folder)[0]
