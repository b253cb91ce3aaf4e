"""MOTChallenge text: what is written is read back, by us and by others, with its sequences and frame numbers."""

from __future__ import annotations

import numpy as np
import pytest

from jaxdet.data.dataset import DataError
from jaxdet.evaluation.mot import Frame, FrameDetections, frames_of, read_mot, write_mot


@pytest.fixture
def found():
    """Two sequences; a frame of the first and the whole of the second are without detections."""
    generator = np.random.default_rng(0)
    made = {}
    for number in (3, 1, 12):
        corners = generator.uniform(0, 500, (number, 2)).astype(np.float32)
        boxes = np.concatenate([corners, corners + generator.uniform(5, 50, (number, 2)).astype(np.float32)], 1)
        made[Frame("HT21-01", number)] = FrameDetections(boxes, np.sort(generator.random(number))[::-1])
    none = FrameDetections(np.zeros((0, 4)), np.zeros(0))
    return made | {Frame("HT21-01", 2): none, Frame("HT21-02", 1): none}


def test_the_format_by_hand(tmp_path):
    boxes, scores = np.array([[0, 0, 10.5, 20], [3.25, 4, 5, 6]]), np.array([0.25, 0.75])
    (file,) = write_mot(tmp_path / "new", {Frame("A", 7): FrameDetections(boxes, scores)})
    assert file == tmp_path / "new" / "A.txt"
    assert file.read_text() == (
        "7,-1,4.250,5.000,1.750,2.000,0.750000,-1,-1,-1\n7,-1,1.000,1.000,10.500,20.000,0.250000,-1,-1,-1\n"
    )
    (file,) = write_mot(tmp_path, {Frame("A", 7): FrameDetections(boxes[:1], scores[:1])}, origin=0)
    assert file.read_text() == "7,-1,0.000,0.000,10.500,20.000,0.250000,-1,-1,-1\n"


@pytest.mark.parametrize("origin", [0, 1])
def test_what_is_written_is_read_back(found, tmp_path, origin):
    files = write_mot(tmp_path, found, origin=origin)
    assert [file.name for file in files] == ["HT21-01.txt", "HT21-02.txt"] and files[1].read_text() == ""
    again = read_mot(files[0], origin=origin)
    assert list(again) == [1, 3, 12] and read_mot(files[1]) == {}
    for number, one in again.items():
        np.testing.assert_allclose(one.boxes, found[Frame("HT21-01", number)].boxes, atol=1.1e-3)
        np.testing.assert_allclose(one.scores, found[Frame("HT21-01", number)].scores, atol=6e-7)


def test_an_independent_reader_gives_the_same_boxes_and_frames(found, tmp_path):
    """motmetrics, which takes 1 from the coordinates as its own comment on MOTChallenge says."""
    motmetrics = pytest.importorskip("motmetrics", reason="pip install jaxdet[test]")
    table = motmetrics.io.loadtxt(write_mot(tmp_path, found)[0], fmt="mot15-2D")
    for number in (1, 3, 12):
        rows, one = table.xs(number, level="FrameId"), found[Frame("HT21-01", number)]
        boxes = np.concatenate([one.boxes[:, :2], one.boxes[:, 2:] - one.boxes[:, :2]], 1)
        np.testing.assert_allclose(rows[["X", "Y", "Width", "Height"]].to_numpy(), boxes, atol=1e-3)
        np.testing.assert_allclose(rows["Confidence"], one.scores, atol=1e-6)
    assert sorted(set(table.index.get_level_values("FrameId"))) == [1, 3, 12]
    plain = np.loadtxt(tmp_path / "HT21-01.txt", delimiter=",", ndmin=2)
    assert plain.shape == (16, 10) and (plain[:, 1] == -1).all() and (plain[:, 7:] == -1).all()


def test_sequences_and_frames_come_from_paths(tmp_path, monkeypatch):
    files = ["HT21/train/HT21-01/img1/000001.jpg", "HT21/train/HT21-01/img1/000012.jpg", "MOT1904/img/000003.png"]
    assert frames_of(files) == [Frame("HT21-01", 1), Frame("HT21-01", 12), Frame("MOT1904", 3)]
    assert frames_of(["street/frame_0007.jpg", "street/frame_0008.jpg"]) == [Frame("street", 7), Frame("street", 8)]
    (tmp_path / "walk" / "img1").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "walk" / "img1")
    assert frames_of(["000000.jpg"]) == [Frame("walk", 0)]


@pytest.mark.parametrize(
    "files, says",
    [
        (["a/000001.jpg", "a/cat.jpg"], "a/cat.jpg: the name must end in a frame number"),
        (["a/s/000001.jpg", "b/s/000001.jpg"], "both be frame 1 of sequence s"),
        (["s/1.jpg", "s/000001.jpg"], "both be frame 1 of sequence s"),
    ],
)
def test_what_would_mix_frames_is_refused(files, says):
    with pytest.raises(DataError, match=says):
        frames_of(files)


@pytest.mark.parametrize("line", ["1,-1,2,3,4", "one,-1,2,3,4,5,6", "1.5,-1,2,3,4,5,6", "1,-1,2,3,4,5,nan", "1 2 3"])
def test_a_line_that_is_none_is_named(tmp_path, line):
    (tmp_path / "s.txt").write_text(f"1,-1,2,3,4,5,0.5,-1,-1,-1\n\n{line}\n")
    with pytest.raises(DataError, match=r"s\.txt, line 3"):
        read_mot(tmp_path / "s.txt")
    with pytest.raises(DataError, match=r"none\.txt: no such file"):
        read_mot(tmp_path / "none.txt")
