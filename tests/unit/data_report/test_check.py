"""The check of a run's data: each planted fault is found, and the statistics are those computed by hand."""

import json

import numpy as np
import pytest
from PIL import Image

from jaxdet.data import ClassFolder, CocoFiles, DataError, Examples, PackedFolder
from jaxdet.data_report import inspection
from jaxdet.data_report.check import check
from jaxdet.data_report.pack import pack
from jaxdet.data_report.text import to_text
from jaxdet.heads import AnchorGenerator
from jaxdet.models import detector_config, model_config
from jaxdet.runs import TrainConfig, open_task

MODEL = detector_config(
    "fasterrcnn_mobilenet_v1_fpn",
    min_size=64,
    max_size=96,
    backbone_width=0.25,
    fpn_out_channels=8,
    box_representation_size=8,
    rpn_anchor_generator=AnchorGenerator(((16,), (32,), (32,), (32,)), (1.0,)),
)


@pytest.fixture
def write_set(tmp_path):
    """A function that writes NAME.json, an entry a line, and NAME/ from {file: (height, width, boxes xywh)}."""

    def write(name, images, edit=None):
        (tmp_path / name).mkdir()
        content = {
            "images": [],
            "annotations": [],
            "categories": [{"id": 1, "name": "cat"}, {"id": 2, "name": "dog"}],
        }
        for number, (file, (height, width, boxes)) in enumerate(images.items(), start=1):
            Image.new("RGB", (width, height)).save(tmp_path / name / file)
            content["images"].append({"id": number, "file_name": file, "height": height, "width": width})
            for box in boxes:
                entry = {"id": len(content["annotations"]) + 1, "image_id": number, "category_id": 1, "bbox": box}
                content["annotations"].append(entry)
        if edit is not None:
            edit(content)
        sections = (
            f'"{key}": [\n' + ",\n".join(json.dumps(entry) for entry in entries) + "\n]"
            for key, entries in content.items()
        )
        (tmp_path / f"{name}.json").write_text("{" + ",\n".join(sections) + "}")
        return CocoFiles(str(tmp_path / f"{name}.json"), str(tmp_path / name))

    return write


def _config(train, val=None, **options):
    return TrainConfig(model=MODEL, train=train, val=val, steps=1, **{"batch_size": 1, **options})


def _check(train, val=None, **options):
    return check(_config(train, val, **options), progress=False)


def test_statistics_by_hand(write_set):
    def edit(content):
        content["annotations"][1]["category_id"] = 2
        content["annotations"].append({"id": 9, "image_id": 1, "category_id": 1, "bbox": [0, 0, 9, 9], "iscrowd": 1})

    # Twice as large for the model: 64 x 96, 64 x 64; and 30 x 40 becomes 64 x 85.
    images = {
        "a.png": (32, 48, [[0, 0, 8, 8], [2, 0, 8, 8], [0, 4, 16, 8]]),
        "b.png": (32, 32, []),
        "c.png": (30, 40, [[1, 1, 1.5, 3.75]]),
    }
    report = _check(write_set("train", images, edit))
    (train,) = report.sets
    assert report.errors == report.warnings == () and report.decoded
    assert [(entry.name, entry.images, entry.boxes) for entry in train.classes] == [("cat", 2, 3), ("dog", 1, 1)]
    boxes = train.boxes
    assert (train.images, boxes.boxes, boxes.ignored, boxes.without_boxes) == (3, 4, 1, 1)
    assert (boxes.median_per_image, boxes.most_per_image) == (1, 3)
    tall = (1.5 * 85 / 40, 3.75 * 64 / 30)  # 3.1875 wide, 8 high
    sizes = sorted([16, 16, np.sqrt(32 * 16), np.sqrt(tall[0] * tall[1])])
    found = dict(boxes.sizes)
    np.testing.assert_allclose([found[0.0], found[0.5], found[1.0]], [sizes[0], 16, sizes[3]])
    ratios = dict(boxes.aspect_ratios)
    np.testing.assert_allclose([ratios[0.0], ratios[0.5], ratios[1.0]], [0.5, 1, tall[1] / tall[0]])
    assert (boxes.finest_stride, boxes.below_stride) == (8, 1)
    assert [(use.height, use.width, use.images) for use in train.canvases] == [(64, 64, 1), (64, 96, 2)]
    np.testing.assert_allclose([use.padding for use in train.canvases], [0, (96 - 85) / (2 * 96)])
    # IoU 1, 0.6, 0.5 and little: see test_anchor_recall.
    assert boxes.thresholds == (0.5, 0.7)
    assert boxes.anchors.boxes == 4 and boxes.anchors.recalls == (0.75, 0.25)
    assert [(entry.name, entry.boxes, entry.recalls) for entry in boxes.anchors_by_class] == [
        ("cat", 3, (2 / 3, 1 / 3)),
        ("dog", 1, (1.0, 0.0)),
    ]
    assert [(entry.name, entry.boxes, entry.recalls) for entry in boxes.anchors_by_size] == [
        ("0 to 8 px", 1, (0.0, 0.0)),
        ("16 to 32 px", 3, (1.0, 1 / 3)),
    ]
    text = to_text(report)
    assert "train: 3 images, 4 boxes, 1 ignored region, 1 image without boxes" in text
    assert "canvas 64 x 96: 2 images, 5.7% padding" in text and "1 box smaller than the finest stride, 8 px" in text
    assert text.endswith("0 errors, 0 warnings")


def test_every_planted_fault_is_found_with_its_line(write_set, tmp_path):
    def edit(content):
        content["images"][4]["width"] = 31
        content["images"] += [{"id": 20, "file_name": "gone.png", "height": 9, "width": 9}, content["images"][0]]
        content["annotations"][0]["bbox"][2] = float("nan")
        content["annotations"] += [
            {"id": 30, "image_id": 1, "category_id": 3, "bbox": [0, 0, 9, 9]},
            {"id": 30, "image_id": 99, "category_id": 1, "bbox": [0, 0, 9, 9]},
        ]
        content["categories"].append({"id": 2, "name": "cow"})

    boxes = [[0, 0, 9, 9], [3, 3, 0, 5], [20, 20, 40, 9], [1, 1, 2]]
    names = ("good", "truncated", "grey", "turned", "size", "thin")
    images = {f"{name}.png": (32, 32, boxes if name == "good" else []) for name in names}
    images["thin.png"] = (2, 900, [])
    source = write_set("train", images, edit)
    folder = tmp_path / "train"
    (folder / "truncated.png").write_bytes((folder / "truncated.png").read_bytes()[:60])
    Image.new("L", (32, 32)).save(folder / "grey.png")
    exif = Image.Exif()
    exif[0x0112] = 3
    Image.new("RGB", (32, 32)).save(folder / "turned.png", exif=exif)
    report = _check(source)
    file = tmp_path / "train.json"
    lines = file.read_text().splitlines()
    found = [fault for fault in report.faults if fault.kind != "no-boxes"]  # the only box is faulty
    assert all(fault.file == str(file) for fault in found)
    assert sorted((fault.kind, lines[fault.line - 1].split(", ")[0].strip('{"')) for fault in found) == [
        ("colour-mode", 'id": 3'),
        ("degenerate-box", 'id": 2'),
        ("duplicate-annotation", 'id": 30'),
        ("duplicate-category", 'id": 2'),
        ("duplicate-image", 'id": 1'),
        ("exif-rotation", 'id": 4'),
        ("image-size", 'id": 5'),
        ("image-size", 'id": 6'),
        ("malformed-box", 'id": 4'),
        ("missing-image", 'id": 20'),
        ("non-finite-box", 'id": 1'),
        ("outside-box", 'id": 3'),
        ("unknown-category", 'id": 30'),
        ("unknown-image", 'id": 30'),
        ("unreadable-image", 'id": 2'),
    ]
    assert {str(fault.kind) for fault in report.warnings} == {
        "colour-mode",
        "exif-rotation",
        "duplicate-annotation",
        "no-boxes",
    }
    assert len(report.errors) == 12 and report.sets[0].images == 6 and report.sets[0].boxes.boxes == 0
    text = to_text(report)
    assert text.endswith("12 errors, 4 warnings") and text.count("\nerror ") == 12
    assert f"error unreadable-image: {file}:3: {folder / 'truncated.png'}: cannot be decoded" in text
    assert "900 x 2 would be resized" in text


def test_boxes_that_the_run_leaves_out_are_no_errors(write_set):
    source = write_set("train", {"a.png": (32, 32, [[0, 0, 9, 9], [3, 3, 0, 5]])})
    report = _check(source, skip_faulty=True)
    assert report.errors == () and [fault.kind for fault in report.left_out] == ["degenerate-box"]
    assert to_text(report).endswith("0 errors, 0 warnings, 1 box left out (skip_faulty)")
    assert json.loads(report.json())["sets"][0]["faults"][0]["severity"] == "error"


def test_what_training_would_refuse_of_the_sets_as_a_whole(write_set, tmp_path):
    def rename(content):
        content["categories"][1]["name"] = "cow"

    images = {"a.png": (32, 32, [[0, 0, 9, 9]]), "b.png": (32, 32, [])}
    train, val = write_set("train", images), write_set("val", images, rename)
    report = _check(train, val)
    assert [(fault.kind, fault.file) for fault in report.errors] == [("unusable-set", "val")]
    assert "classes that the model does not have: cow" in report.errors[0].problem
    report = _check(train, batch_size=5, max_boxes=8)
    assert [fault.file for fault in report.errors] == ["train"] and "do not fill a batch of 5" in str(report.errors[0])
    assert report.sets[0].canvases == () and report.sets[0].boxes.boxes == 1
    many = write_set("many", {"a.png": (32, 32, [[0, 0, 9, 9]] * 9)})
    assert "9 boxes, more than max_boxes=8" in str(_check(many, max_boxes=8).errors[0])
    report = _check(CocoFiles(str(tmp_path / "no.json"), "no"), train)
    assert "no.json: no such annotation file" in str(report.errors[0]) and report.sets[1].images == 2
    (tmp_path / "classes" / "cat").mkdir(parents=True)
    Image.new("RGB", (8, 8)).save(tmp_path / "classes" / "cat" / "a.png")
    report = _check(ClassFolder(str(tmp_path / "classes")))
    assert "has class labels, but the model is a detector" in str(report.errors[0])
    assert "has no usable images" in str(_check(Examples([], ("cat",))).errors[0])


def test_a_set_without_any_box_is_told(write_set):
    def crowd(content):
        content["annotations"][0]["iscrowd"] = 1

    source = write_set("train", {"a.png": (32, 32, [[0, 0, 9, 9]])}, crowd)
    report = _check(source, source)
    assert report.errors == ()
    assert [(fault.kind, fault.file) for fault in report.warnings if fault.kind == "no-boxes"] == [
        ("no-boxes", "train"),
        ("no-boxes", "val"),
    ]
    assert "warning no-boxes: train: no image of the set has a box (1 images): a detector would learn" in to_text(
        report
    )
    notes = [line for line in open_task(_config(source, source)).summary() if line.startswith("note")]
    assert len(notes) == 2 and "train: no image of the set has a box" in notes[0] and "AP is undefined" in notes[1]


def test_what_evaluation_would_refuse_is_refused_before_training(write_set, tmp_path):
    """Here the ground truth of a packed set, damaged after it was packed."""
    source = write_set("train", {"a.png": (32, 32, [[0, 0, 9, 9]])})
    pack(source.open(), tmp_path / "packed", progress=False)
    packed = PackedFolder(str(tmp_path / "packed"))
    assert _check(packed, packed).errors == ()
    truth = tmp_path / "packed" / "ground_truth.json"
    content = json.loads(truth.read_text())
    for text, message in (
        (json.dumps(content).replace('"bbox"', '"area": -1, "bbox"'), "'area' = -1"),
        ("{", "not JSON"),
    ):
        truth.write_text(text)
        with pytest.raises(DataError, match=message):
            open_task(_config(packed, packed))
        assert message in str(_check(packed, packed).errors[0])


def test_classes_of_one_name_are_counted_apart(write_set):
    def rename(content):
        content["categories"][1]["name"] = "cat"
        content["annotations"][0]["category_id"] = 2

    images = {"a.png": (32, 32, [[0, 0, 9, 9]]), "b.png": (32, 32, [[0, 0, 9, 9]]), "c.png": (32, 32, [[0, 0, 9, 9]])}
    source = write_set("train", images, rename)
    report = _check(source, source)
    assert report.errors == ()
    assert [(entry.name, entry.images, entry.boxes) for entry in report.sets[0].classes] == [
        ("cat", 2, 2),
        ("cat", 1, 1),
    ]
    rows = [line.split()[:3] for line in to_text(report).splitlines() if line.startswith("    cat ")]
    assert rows == [["cat", "2", "2"], ["cat", "1", "1"]] * 2


def test_images_in_both_sets_are_told(write_set, tmp_path):
    train = write_set("train", {"a.png": (32, 32, [[0, 0, 9, 9]]), "b.png": (32, 32, [])})
    report = _check(train, CocoFiles(str(tmp_path / "train.json"), str(tmp_path / "train")))
    assert report.errors == ()
    assert [(fault.kind, fault.line) for fault in report.warnings] == [("shared-image", 2), ("shared-image", 3)]


def test_many_warnings_of_a_kind_are_cut_short(write_set, tmp_path):
    source = write_set("train", {f"{number:02d}.png": (32, 32, [[0, 0, 9, 9]]) for number in range(23)})
    for path in (tmp_path / "train").iterdir():
        Image.new("L", (32, 32)).save(path)
    report = _check(source)
    text = to_text(report)
    assert len(report.warnings) == 23 and text.count("\nwarning colour-mode") == 20
    assert "... and 3 more warnings colour-mode; --json FILE has them all" in text


def test_class_folders_are_counted(tmp_path):
    for name in ("ant/a.png", "ant/b.png", "bee/c.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        Image.new("RGB", (9, 8)).save(tmp_path / name)
    (tmp_path / "ant" / "b.png").write_bytes(b"")
    (tmp_path / "cow").mkdir()
    model = model_config("mobilenet_v1", num_classes=3)
    source = ClassFolder(str(tmp_path))
    report = check(TrainConfig(model=model, train=source, val=source, steps=1, batch_size=2), progress=False)
    assert [(entry.name, entry.images) for entry in report.sets[0].classes] == [("ant", 2), ("bee", 1), ("cow", 0)]
    broken = str(tmp_path / "ant" / "b.png")
    assert [(fault.kind, fault.file) for fault in report.errors] == [("unreadable-image", broken)] * 2
    assert [str(fault.kind) for fault in report.warnings] == ["empty-class", "empty-class", *["shared-image"] * 3]
    assert "train: 3 images\n    class  images\n    ant         2\n" in to_text(report)


def test_processes_find_the_same(write_set, tmp_path, monkeypatch):
    source = write_set("train", {f"{number}.png": (8, 8, []) for number in range(5)})
    for number in (1, 3):
        (tmp_path / "train" / f"{number}.png").write_bytes(b"")
    dataset = source.open()
    here = inspection.image_faults(dataset, workers=0, progress=False)
    monkeypatch.setattr(inspection, "IMAGES_PER_PROCESS", 5)
    assert inspection.image_faults(dataset, workers=4, progress=False) == here
    assert [fault.line for fault in here] == [3, 5]
