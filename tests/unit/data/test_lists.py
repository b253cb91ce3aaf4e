"""Head datasets with the faults that the real ones have, as lists and counts."""

import argparse
import json

import pytest
from PIL import Image

from jaxdet.cli import lists
from jaxdet.data import DataError, HeadList
from jaxdet.data.formats.lists import convert_crohd, convert_crowd_human, convert_scut_head

WIDTH, HEIGHT = 60, 40


def draw(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (WIDTH, HEIGHT)).save(path)


@pytest.fixture
def scut_head(tmp_path):
    """Two parts. Each object of an xml stands on a line of its own, from line 2."""
    root = tmp_path / "SCUT_HEAD"

    names = ("xmin", "ymin", "xmax", "ymax")

    def write(part, name, *objects, image=True, text=None):
        if image:
            draw(root / part / "JPEGImages" / f"{name}.jpg")
        lines = []
        for kind, *box in objects:
            corners = "".join(f"<{tag}>{value}</{tag}>" for tag, value in zip(names, box, strict=False))
            lines.append(f"<object><name>{kind}</name><bndbox>{corners}</bndbox></object>")
        file = root / part / "Annotations" / f"{name}.xml"
        file.parent.mkdir(parents=True, exist_ok=True)
        # The size is wrong, as some are: the image's own counts.
        body = "\n".join(["<annotation><size><width>0</width><height>0</height></size>", *lines, "</annotation>"])
        file.write_text(body if text is None else text)
        return file

    write("Part_A", "1", ("head", 1, 2, 11, 12), ("person", 20, 2, 30, 12), ("haed", 40, 2, 50, 12))
    write("Part_A", "2")  # without an object
    write("Part_A", "3", ("head", 5, 5, 5, 9), ("head", 50, 30, 70, 50), ("head", 70, 5, 80, 9), ("bag", 1, 1, 9, 9))
    write("Part_B", "4", ("head", 1, 2, 11, 12), image=False)
    write("Part_B", "5", text="<annotation>\n<object>\n")
    write("Part_B", "6", ("Head ", 1, 2, 11, "x"), ("head", 2, 3, 4), ("head", 1, 2, 11, 12))
    for part, names in (("Part_A", "1\n3\n"), ("Part_B", "6\n\n7\n")):
        (root / part / "ImageSets" / "Main").mkdir(parents=True)
        (root / part / "ImageSets" / "Main" / "train.txt").write_text(names)
    return root


def places(conversion, root):
    return [(str(f.kind), f.file.removeprefix(f"{root}/"), f.line) for f in conversion.faults]


def test_scut_head(scut_head, tmp_path):
    found = convert_scut_head(scut_head)
    found.write(tmp_path / "heads.txt")
    assert (tmp_path / "heads.txt").read_text().splitlines() == [
        "# Part_A/JPEGImages/1.jpg", "1 2 11 12 0", "20 2 30 12 0", "40 2 50 12 0",
        "# Part_A/JPEGImages/2.jpg",
        "# Part_A/JPEGImages/3.jpg", "50 30 60 40 0", "1 1 9 9 -1",
        "# Part_B/JPEGImages/6.jpg", "1 2 11 12 0",
    ]  # fmt: skip
    assert places(found, scut_head) == [
        ("misspelt-class", "Part_A/Annotations/1.xml", 4),
        ("empty-annotation", "Part_A/Annotations/2.xml", None),
        ("degenerate-box", "Part_A/Annotations/3.xml", 2),
        ("outside-box", "Part_A/Annotations/3.xml", 4),
        ("misspelt-class", "Part_A/Annotations/3.xml", 5),
        ("missing-image", "Part_B/Annotations/4.xml", None),
        ("unreadable-annotation", "Part_B/Annotations/5.xml", 3),
        ("misspelt-class", "Part_B/Annotations/6.xml", 2),
        ("malformed-box", "Part_B/Annotations/6.xml", 2),
        ("malformed-box", "Part_B/Annotations/6.xml", 3),
    ]
    assert "is a 'haed', which is read as 'head'" in str(found.faults[0])
    assert list(found.report())[:5] == [
        "images      4, 1 of them without a box",
        "heads       5",
        "ignored     1 boxes with flag -1",
        "clipped     1 boxes that exceeded their images",
        "left out    4 boxes, 2 other entries",
    ]
    dataset = HeadList(str(tmp_path / "heads.txt"), str(scut_head)).open()
    assert dataset.faults == () and [len(record.truth.boxes) for record in dataset.records] == [3, 0, 1, 1]


def test_a_split_of_scut_head(scut_head):
    found = convert_scut_head(scut_head, "train", base=scut_head.parent)
    assert [image.path for image in found.images] == [
        f"SCUT_HEAD/Part_{name}.jpg" for name in ("A/JPEGImages/1", "A/JPEGImages/3", "B/JPEGImages/6")
    ]
    assert ("missing-annotation", "Part_B/ImageSets/Main/train.txt", 3) in places(found, scut_head)
    assert len(convert_scut_head(scut_head / "Part_A", "train").images) == 2  # a part by itself
    with pytest.raises(DataError, match=r"no ImageSets/Main/gone.txt in .*Part_A, .*Part_B"):
        convert_scut_head(scut_head, "gone")
    with pytest.raises(DataError, match="neither it nor a folder in it has 'Annotations'"):
        convert_scut_head(scut_head.parent / "gone")


def test_scut_head_reads_xml_as_voc_does(scut_head):
    """Any letter case and image, names with blanks in lists, a declared encoding, no AppleDouble files."""
    part = scut_head / "Part_C"
    (part / "annotations").mkdir(parents=True)
    draw(part / "jpegimages" / "x 1.BMP")
    box = "<bndbox><xmin>1</xmin><ymin>2</ymin><xmax>11</xmax><ymax>12</ymax></bndbox>"
    text = f"<?xml version='1.0' encoding='gbk'?><a>\u4e2d<object><name>head</name>{box}</object></a>"
    (part / "annotations" / "x 1.XML").write_bytes(text.encode("gbk"))
    (part / "annotations" / "._x 1.xml").write_bytes(b"\0\5\x16\7")
    (part / "ImageSets" / "Main").mkdir(parents=True)
    (part / "ImageSets" / "Main" / "train.txt").write_text("x 1\n")
    (part / "__MACOSX" / "Annotations").mkdir(parents=True)
    (part / "__MACOSX" / "Annotations" / "y.xml").write_text("<a/>")
    for split in (None, "train"):
        found = convert_scut_head(part, split)
        assert found.faults == [] and found.images[0].path == "jpegimages/x 1.BMP"
        assert [box.box for box in found.images[0].boxes] == [(1, 2, 11, 12)]  # as they stand


def person(hbox, *, tag="person", **fields):
    fields = {"head_attr": {"ignore": 0, "occ": 0, "unsure": 0}, "extra": {"box_id": 0, "occ": 0}, **fields}
    return {"tag": tag, "hbox": hbox, "fbox": [0, 0, 30, 40], "vbox": [0, 0, 30, 40], **fields}


@pytest.fixture
def crowd_human(tmp_path):
    images = tmp_path / "Images"
    for name in ("a,1", "b", "c"):
        draw(images / f"{name}.jpg")
    entries = [
        {"ID": "a,1", "gtboxes": [
            person([1, 2, 10, 12]),
            person([20, 2, 10, 12], head_attr={"ignore": 1}),
            person([30, 2, 10, 12], extra={"ignore": 1}),
            person([40, 2, 10, 12], head_attr={}),
            person([2, 2, 3, 3], tag="mask", head_attr={}, extra={"ignore": 1}),  # of which the whole counts
            person([50, -5, 20, 12]),  # reaches out
        ]},
        {"ID": "b", "gtboxes": [person([5, 5, 0, 9]), person([90, 5, 9, 9]), person([5, "x", 9, 9]), person(None), 7]},
        {"ID": "c", "gtboxes": []},
        {"ID": "b", "gtboxes": []},
        {"ID": "gone", "gtboxes": [person([1, 2, 10, 12])]},
        {"gtboxes": []},
    ]  # fmt: skip
    file = tmp_path / "annotation_train.odgt"
    file.write_text("\n".join([*map(json.dumps, entries[:3]), "", *map(json.dumps, entries[3:]), '{"ID": "d",']))
    return file, images


def test_crowd_human(crowd_human, tmp_path):
    file, images = crowd_human
    found = convert_crowd_human(file, images)
    found.write(tmp_path / "new" / "heads.txt")
    assert (tmp_path / "new" / "heads.txt").read_text().splitlines() == [
        "# a,1.jpg", "1 2 11 14 0", "20 2 30 14 -1", "30 2 40 14 -1", "40 2 50 14 -1", "0 0 30 40 -1", "50 0 60 7 0",
        "# b.jpg",
        "# c.jpg",
    ]  # fmt: skip
    assert [(str(f.kind), f.line, f.annotation) for f in found.faults] == [
        ("degenerate-box", 2, "gtboxes[0]"), ("outside-box", 2, "gtboxes[1]"), ("malformed-box", 2, "gtboxes[2]"),
        ("malformed-box", 2, "gtboxes[3]"), ("malformed-box", 2, "gtboxes[4]"), ("duplicate-image", 5, ""),
        ("missing-image", 6, ""), ("malformed-entry", 7, ""), ("unreadable-annotation", 8, ""),
    ]  # fmt: skip
    assert list(found.report())[:5] == [
        "images      3, 2 of them without a box",
        "heads       2",
        "ignored     4 boxes with flag -1",
        "clipped     1 boxes that exceeded their images",
        "left out    5 boxes, 4 other entries",
    ]
    assert len(HeadList(str(tmp_path / "new" / "heads.txt"), str(images)).open().records[0].truth.ignored) == 4


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"extra": None, "head_attr": {"ignore": None}}, 0),
        ({"extra": {"ignore": True}}, -1),
        ({"extra": {"ignore": False}, "head_attr": {"ignore": 1.0}}, -1),
        ({"extra": {"ignore": "1"}}, "malformed-box"),
        ({"extra": {"ignore": 2}}, "malformed-box"),
        ({"extra": "ignore"}, "malformed-box"),
        ({"head_attr": [1]}, "malformed-box"),
        ({"hbox": [1, 2, 10, float("nan")]}, "non-finite-box"),
        ({"hbox": [1, 2, 10, 10**400]}, "malformed-box"),
    ],
)
def test_fields_of_crowd_human_are_checked(tmp_path, fields, expected):
    """A fault: the box is left out, and told; it becomes no head by mistake."""
    draw(tmp_path / "a.jpg")
    file = tmp_path / "a.odgt"
    file.write_text(json.dumps({"ID": "a", "gtboxes": [{**person([1, 2, 10, 12]), **fields}]}))
    found = convert_crowd_human(file, tmp_path)
    left_out = isinstance(expected, str)
    assert [box.flag for box in found.images[0].boxes] == ([] if left_out else [expected])
    assert [(str(fault.kind), fault.line) for fault in found.faults] == ([(expected, 1)] if left_out else [])


@pytest.mark.parametrize("name", [None, True, 1.5, ["a"], ""])
def test_a_crowd_human_image_needs_a_name(tmp_path, name):
    (tmp_path / "a.odgt").write_text(json.dumps({"ID": name, "gtboxes": []}))
    (fault,) = convert_crowd_human(tmp_path / "a.odgt", tmp_path).faults
    assert fault.kind == "malformed-entry" and "has 'ID' = " in fault.problem


@pytest.fixture
def crohd(tmp_path):
    root = tmp_path / "train"
    for name, rows in (
        ("HT21-02", [
            "1,1,1,2,10,12,1,1,1.0",
            "1,2,20,2,10,12,0,1,1.0",  # not counted
            "1,3,30,2,10,12,1,4,1.0",  # another class
            "1,4,40,2,10,12,1,1,0.0",  # not visible
            "1,5,50,2,20,12,1,1,0.2",
            "",
            "3,1,1,2,0,12,1,1,1.0",
            "3,2,-30,2,10,12,1,1,1.0",
            "9,3,1,2,10,12,1,1,1.0",
            "3,4,1,2,ten,12,1,1,1.0",
            "2.5,4,1,2,10,12,1,1,1.0",
            "3,5,1.5,2,10,12",
        ]),
        ("HT21-01", ["1,1,1,2,10,12,1,1,1.0"]),
    ):  # fmt: skip
        for frame in (1, 2, 3):
            draw(root / name / "img1" / f"{frame:06d}.jpg")
        (root / name / "gt").mkdir()
        (root / name / "gt" / "gt.txt").write_text("\n".join(rows))
        info = f"[Sequence]\nname={name}\nimDir=img1\nframeRate=25\nseqLength=3\nimWidth=60\nimHeight=40\nimExt=.jpg\n"
        (root / name / "seqinfo.ini").write_text(info)
    return root


def test_crohd(crohd, tmp_path):
    (crohd / "HT21-01" / "img1" / "000002.jpg").unlink()
    found = convert_crohd(crohd)
    found.write(tmp_path / "heads.txt")
    assert (tmp_path / "heads.txt").read_text().splitlines() == [
        "# HT21-01/img1/000001.jpg", "0 1 10 13 0",
        "# HT21-01/img1/000003.jpg",
        "# HT21-02/img1/000001.jpg", "0 1 10 13 0", "19 1 29 13 -1", "29 1 39 13 -1", "39 1 49 13 -1", "49 1 60 13 0",
        "# HT21-02/img1/000002.jpg",
        "# HT21-02/img1/000003.jpg", "0.5 1 10.5 13 0",
    ]  # fmt: skip
    assert places(found, crohd) == [
        ("missing-image", "HT21-01/seqinfo.ini", None),
        ("unknown-image", "HT21-02/gt/gt.txt", 9),
        ("malformed-box", "HT21-02/gt/gt.txt", 10),
        ("malformed-box", "HT21-02/gt/gt.txt", 11),
        ("degenerate-box", "HT21-02/gt/gt.txt", 7),
        ("outside-box", "HT21-02/gt/gt.txt", 8),
    ]
    assert list(found.report())[:5] == [
        "images      5, 2 of them without a box",
        "heads       4",
        "ignored     3 boxes with flag -1",
        "clipped     1 boxes that exceeded their images",
        "left out    4 boxes, 2 other entries",
    ]
    hidden = convert_crohd(crohd / "HT21-02", visibility=0.3, origin=0)  # one sequence, paths from its own folder
    assert hidden.images[0].boxes[0].box == (1, 2, 11, 14)
    assert [box.flag for box in hidden.images[0].boxes] == [0, -1, -1, -1, -1]
    assert hidden.images[0].path == "img1/000001.jpg"


def test_broken_sequences(crohd):
    info = crohd / "HT21-01" / "seqinfo.ini"
    for text, message in (
        ("[Sequence]\n", "seqLength is missing"),
        ("[Sequence]\nseqLength=1000000000000\n", "not from 1 to 10000000"),
        ("name=1\n", "cannot be read"),
        (None, "cannot be"),
    ):
        info.unlink() if text is None else info.write_text(text)
        with pytest.raises(DataError, match=message) as caught:
            convert_crohd(crohd)
        assert str(caught.value).startswith(str(info)) and "\n" not in str(caught.value)
    with pytest.raises(DataError, match="neither it nor a folder in it has 'gt/gt"):
        convert_crohd(crohd / "HT21-02" / "img1")


@pytest.fixture
def command():
    def run(*arguments):
        parser = argparse.ArgumentParser()
        lists.add_arguments(parser)
        return lists.run(parser.parse_args([str(argument) for argument in arguments]))

    return run


def test_the_command_prints_counts_and_faults(command, crowd_human, crohd, scut_head, tmp_path, capsys):
    file, images = crowd_human
    out = tmp_path / "list.txt"
    assert command("crowdhuman", file, "--images", images, "--out", out, "--base", tmp_path) == 0
    printed = capsys.readouterr().out.splitlines()
    assert printed[0] == "images      3, 2 of them without a box"
    assert printed[-1] == f"list        {out}, paths relative to {tmp_path}"
    fault = f"left out: degenerate-box: {file}:2: image b.jpg, annotation gtboxes[0]: box from (5, 5) to (5, 14) has"
    assert any(line.startswith(fault) for line in printed)
    assert out.read_text().startswith("# Images/a,1.jpg\n")
    assert command("crohd", crohd, "--visibility", "0.3", "--out", out) == 0
    assert command("scuthead", scut_head, "--split", "train", "--out", out) == 0
    assert "warning: misspelt-class" in capsys.readouterr().out
    before = out.read_text()
    with pytest.raises(ValueError, match="--split is an option of scuthead, not of crohd"):
        command("crohd", crohd, "--split", "train", "--out", out)
    with pytest.raises(ValueError, match="give it with --images"):
        command("crowdhuman", file, "--out", out)
    with pytest.raises(DataError, match="no images to write"):
        command("crowdhuman", file, "--images", tmp_path / "gone", "--out", out)
    assert out.read_text() == before  # what was there stays
