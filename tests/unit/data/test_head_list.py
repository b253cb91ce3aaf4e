"""HeadHunter's lists: what flags mean for training and for evaluation, and what is said about lines that are wrong."""

import numpy as np
import pytest
from PIL import Image

from jaxdet.data import DataError, HeadList, find_sources, ground_truth
from jaxdet.data.augment.augmentation import Augmentation
from jaxdet.data.batching.detection_rows import DetectionRows, box_slots
from jaxdet.data.batching.sizing import ShortestSide
from jaxdet.data.formats.head_list import ListBox, ListImage, read_head_list, write_head_list
from jaxdet.evaluation import HeadEvaluator


@pytest.fixture
def write_list(tmp_path):
    """A function that writes images of 40 x 30 (width x height) and a list of the given lines."""

    def write(*lines, images=("a", "b")):
        (tmp_path / "images").mkdir(exist_ok=True)
        for name in images:
            Image.new("RGB", (40, 30), (90, 80, 70)).save(tmp_path / "images" / f"{name}.png")
        (tmp_path / "train.txt").write_text("\n".join([*lines, ""]))
        return HeadList(str(tmp_path / "train.txt"))

    return write


FLAGS = ("# images/a.png", "1 2 5 8 0", "10 2 14 8 1", "20 2 24 8 -1", "30.5 2 34 8.25 0", "# images/b.png")


def test_flags_in_training_and_in_evaluation(write_list):
    dataset = write_list(*FLAGS).open()
    first, second = dataset.records
    assert (
        first.boxes.tolist() == [[1, 2, 5, 8], [10, 2, 14, 8], [30.5, 2, 34, 8.25]] and first.labels.tolist() == [1] * 3
    )
    assert first.ignored.tolist() == [[20, 2, 24, 8]]
    assert first.truth.boxes.tolist() == [[1, 2, 5, 8], [30.5, 2, 34, 8.25]] and first.truth.labels.tolist() == [1, 1]
    assert sorted(first.truth.ignored.tolist()) == [[10, 2, 14, 8], [20, 2, 24, 8]]
    assert second.boxes.shape == second.ignored.shape == (0, 4) and second.judged is None
    assert dataset.names == ("__background__", "head") and dataset.image_ids == (1, 2) and dataset.faults == ()
    assert dataset.places([1, 0]) == [(str(dataset.file), 6), (str(dataset.file), 1)]
    crowds = [(entry["iscrowd"], entry["bbox"]) for entry in ground_truth(dataset)["annotations"]]
    assert sorted(crowds) == [(0, [1, 2, 4, 6]), (0, [30.5, 2, 3.5, 6.25]), (1, [10, 2, 4, 6]), (1, [20, 2, 4, 6])]


def test_the_metrics_take_the_flags(write_list):
    """Every box is found; those of flags other than 0 are neither missed nor false, nor is their loss one."""
    evaluator = HeadEvaluator(write_list(*FLAGS).open())
    boxes = np.array([[1, 2, 5, 8], [10, 2, 14, 8], [20, 2, 24, 8]], np.float32)
    evaluator.add(1, boxes, np.array([0.9, 0.8, 0.7]), np.ones(3, int))
    metrics = evaluator.evaluate()
    assert metrics["recall"] == 0.5 and metrics["AP"] == 0.5  # one of two, and no false one
    assert evaluator.result.heads == 2 and evaluator.result.ignored == 2


def test_negative_boxes_as_background_as_in_the_original(write_list):
    source = write_list(*FLAGS)
    record = HeadList(source.file, negatives="background").open().records[0]
    assert record.ignored.shape == (0, 4) and len(record.boxes) == 3
    assert sorted(record.truth.ignored.tolist()) == [
        [10, 2, 14, 8],
        [20, 2, 24, 8],
    ]  # in evaluation ignored all the same


def test_flags_of_one_alone_count(write_list):
    """As SCUT-HEAD's script writes them; beside flags of 0 they are ignored, and either can be asked for."""
    source = write_list("# images/a.png", "1 2 5 8 1", "10 2 14 8 1", "20 2 24 8 -1")
    dataset = source.open()
    assert len(dataset.records[0].truth.boxes) == 2 and dataset.records[0].truth.ignored.tolist() == [[20, 2, 24, 8]]
    assert [fault.kind for fault in dataset.faults] == ["flag-one"] and dataset.faults[0].severity == "warning"
    asked = HeadList(source.file, ones="ignored").open()
    assert len(asked.records[0].truth.boxes) == 0 and len(asked.records[0].truth.ignored) == 3 and not asked.faults
    mixed = HeadList(write_list(*FLAGS).file, ones="counted").open()
    assert len(mixed.records[0].truth.boxes) == 3 and not mixed.faults


def test_as_the_instructions_of_the_original_describe_it(write_list):
    """Commas, and a path without a mark; spaces about as they come."""
    dataset = write_list("images/a.png", "1, 2, 5, 8, 0", "", "#images/b.png", " 1  2 5 8.0 0.0 ").open()
    assert [record.boxes.tolist() for record in dataset.records] == [[[1, 2, 5, 8]]] * 2


def test_boxes_that_reach_out_are_clipped_and_told_once(write_list):
    lines = ("# images/a.png", "-9 2 5 8 0", "35 25 60 50 0", "-5 -5 50 40 -1", "1 1 2 2 0")
    dataset = write_list(*lines).open()
    assert dataset.records[0].boxes.tolist() == [[0, 2, 5, 8], [35, 25, 40, 30], [1, 1, 2, 2]]
    assert dataset.records[0].ignored.tolist() == [[0, 0, 40, 30]]
    (told,) = dataset.faults
    assert (told.kind, told.severity, told.line) == ("clipped-boxes", "warning", 2)
    assert told.problem.endswith("are clipped, of which this is the first")


def test_faults_have_their_lines(write_list, tmp_path):
    lines = (
        "1 2 3 4 0", "# images/a.png", "5 5 5 9 0", "1 2 3 x 0", "1 2 3 4", "50 5 60 9 0", "nan 1 5 5 0", "1 1 2 2 0.5",
        "# images/gone.png", "1 2 3 4 0", "# images/a.png", "3 3 3 3 -1",
    )  # fmt: skip
    source = write_list(*lines)
    with pytest.raises(DataError) as caught:
        source.open()
    assert [(fault.kind, fault.line) for fault in caught.value.faults] == [
        ("malformed-entry", 1), ("malformed-box", 4), ("malformed-box", 5), ("malformed-box", 8), ("degenerate-box", 3),
        ("outside-box", 6), ("non-finite-box", 7), ("missing-image", 9), ("shared-image", 11), ("empty-region", 12),
    ]  # fmt: skip
    assert f"{tmp_path / 'train.txt'}:5: image a.png: '1 2 3 4' is not 'x1 y1 x2 y2 flag'" in str(caught.value)
    write_list(*lines[1:8])
    dataset = source.open(skip_faulty=True)
    assert dataset.skipped == 6 and len(dataset.records[0].boxes) == 0


@pytest.mark.parametrize(
    ("text", "message"),
    [(None, "no such list"), ("\n", "no images"), (b"\xff\xfe\x00", "cannot be read as text")],
)
def test_no_list(tmp_path, text, message):
    path = tmp_path / "list.txt"
    if text is not None:
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(DataError, match=message):
        HeadList(str(path)).open()
    with pytest.raises(ValueError, match="negatives of a head list must be one of ignored, background, not 'gone'"):
        HeadList(str(path), negatives="gone").open()


def test_written_lists_read_back(tmp_path):
    images = [
        ListImage("a b/1.jpg", 1, [ListBox(2, (0.1, 2.0, 1 / 3, 1e7), 0), ListBox(3, (1.0, 2.0, 3.0, 4.0), -1)]),
        ListImage("2.jpg", 4),
    ]
    write_head_list(tmp_path / "list.txt", images)
    assert read_head_list(tmp_path / "list.txt") == (images, [])
    assert (tmp_path / "list.txt").read_text().splitlines()[2] == "1 2 3 4 -1"
    assert [path.name for path in tmp_path.iterdir()] == ["list.txt"]


def test_a_image_without_heads_is_a_row_without_boxes(write_list):
    """No placeholder: the row has the image, and no slot is valid or ignored."""
    dataset = write_list(*FLAGS).open()
    sizing = ShortestSide((30,), 40)
    rows = DetectionRows(dataset, sizing, Augmentation(flip=0.0), box_slots(dataset), (0.0,) * 3, (1.0,) * 3)
    images, targets = rows.allocate((32, 64), 2)
    for row in range(2):
        rows.fill(images, targets, row, row, np.random.default_rng(0))
    assert targets.valid.sum(1).tolist() == [3, 0] and targets.ignored.sum(1).tolist() == [1, 0]
    assert images.sizes.tolist() == [[30, 40]] * 2 and (images.pixels[1, :30, :40] > 0).all()


def test_a_folder_with_lists_is_found(write_list, tmp_path):
    source = write_list(*FLAGS)
    assert find_sources(tmp_path) == (source, None)
    (tmp_path / "val.txt").write_text("# images/b.png\n")
    assert find_sources(tmp_path)[1] == HeadList(str(tmp_path / "val.txt"))
