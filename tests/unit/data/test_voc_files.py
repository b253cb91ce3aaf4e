"""Pascal VOC folders as they are met: encodings, namespaces, lists, image kinds, and sets without lists."""

import shutil
from pathlib import Path

import pytest
from PIL import Image

from jaxdet.data import DataError, VocDataset, VocFolder, find_sources


def _declare(file, encoding, text=None):
    text = f"<?xml version='1.0' encoding='{encoding}'?>\n" + (file.read_text() if text is None else text)
    file.write_bytes(text.encode(encoding if encoding != "klingon" else "utf-8"))


@pytest.mark.parametrize("encoding", ["gbk", "GB2312", "gb18030", "big5", "shift_jis", "euc-kr", "utf-8", "latin-1"])
def test_declared_encodings_are_read(write_voc, encoding):
    name = "caf\u00e9" if encoding == "latin-1" else "\ubb3c" if encoding == "euc-kr" else "\u4e2d"
    root = write_voc({"a": (20, 30, [("dog", (1, 2, 3, 4)), ("dog", (9, 9, 5, 5))])})
    file = root / "Annotations" / "a.xml"
    _declare(file, encoding, file.read_text().replace("dog", name))
    dataset = VocDataset(root, "train", skip_faulty=True)
    assert dataset.names == ("__background__", name)
    assert [fault.line for fault in dataset.faults] == [5]  # lines are those of the file


def test_a_file_that_declares_gb2312_may_hold_later_characters(write_voc):
    root = write_voc({"a": (20, 30, [("\u9555", (1, 2, 3, 4))])})  # in GBK alone
    file = root / "Annotations" / "a.xml"
    file.write_bytes(("<?xml version='1.0' encoding='gb2312'?>" + file.read_text()).encode("gbk"))
    assert VocDataset(root, "train").names == ("__background__", "\u9555")


@pytest.mark.parametrize(
    ("encoding", "content", "message"),
    [
        ("klingon", None, "unknown encoding: klingon"),
        ("zlib", b"x", "'zlib' is not a text encoding"),
        ("gbk", b"<a>\xff\xff</a>", "can't decode byte"),
        ("utf-8", b"<a>\xd6\xd0</a>", "not well-formed"),
    ],
)
def test_encodings_that_cannot_be_read(write_voc, encoding, content, message):
    root = write_voc({"a": (20, 30, [("dog", (1, 2, 3, 4))])})
    file = root / "Annotations" / "a.xml"
    file.write_bytes(f"<?xml version='1.0' encoding='{encoding}'?>\n".encode() + (content or file.read_bytes()))
    for class_names in (("dog",), None):
        with pytest.raises(DataError, match=rf"a\.xml.*: is not XML .*{message}.*; replace the file") as caught:
            VocDataset(root, "train", class_names=class_names)
        assert [fault.kind for fault in caught.value.faults] == ["unreadable-annotation"]


def test_if_every_file_is_broken_alike_that_is_what_is_said(write_voc):
    root = write_voc({stem: (20, 30, [("dog", (1, 2, 3, 4))]) for stem in "ab"})
    for stem in "ab":
        (root / "Annotations" / f"{stem}.xml").write_text("<annotation>\n<folder>cats & dogs</folder></annotation>")
    with pytest.raises(DataError, match="2 faults; correct them") as caught:
        VocDataset(root, "train")
    assert [(fault.kind, fault.line) for fault in caught.value.faults] == [("unreadable-annotation", 2)] * 2
    (root / "Annotations" / "a.xml").write_text("<annotation/>")
    (root / "Annotations" / "b.xml").write_text("<annotation/>")
    with pytest.raises(DataError, match="no xml file with a named object"):
        VocDataset(root, "train")


def test_namespaces_do_not_matter(write_voc):
    root = write_voc(
        {"a": (20, 30, [("dog", (1, 2, 3, 4))]), "b": (20, 30, [("cat", (1, 2, 3, 4)), ("cat", (9, 1, 2, 3))])}
    )
    a, b = (root / "Annotations" / f"{stem}.xml" for stem in "ab")
    a.write_text(a.read_text().replace("<annotation>", "<annotation xmlns='http://example.org/voc'>"))
    text = b.read_text().replace("<annotation>", "<v:annotation xmlns:v='http://example.org/voc'>")
    for tag in ("object", "name", "bndbox", "xmin"):
        text = text.replace(f"<{tag}>", f"<v:{tag}>").replace(f"</{tag}>", f"</v:{tag}>")
    b.write_text(text.replace("</annotation>", "</v:annotation>"))
    dataset = VocDataset(root, "train", skip_faulty=True)
    assert dataset.names == ("__background__", "cat", "dog")
    assert [record.boxes.tolist() for record in dataset.records] == [[[0, 1, 3, 4]]] * 2
    assert [fault.line for fault in dataset.faults] == [4]


@pytest.mark.parametrize(
    "line",
    ["pic 1 (2)", "pic 1 (2).jpg", "pic 1 (2).XML", "pic 1 (2)  1", "pic 1 (2) -1", "PIC 1 (2)", "pic 1 (2)\t"],
)
def test_names_in_lists_may_have_blanks(write_voc, line):
    root = write_voc({"pic 1 (2)": (20, 30, [("dog", (1, 2, 3, 4))]), "pic": (9, 9, [])})
    (root / "ImageSets" / "Main" / "train.txt").write_text(f"\n{line}\n")
    (record,) = VocDataset(root, "train").records
    assert record.path == str(root / "JPEGImages" / "pic 1 (2).jpg") and record.size == (20, 30)


def test_a_whole_line_is_a_name_before_its_flag_is(write_voc):
    images = {name: (20, 30, [("dog", (1, 2, 3, 4))]) for name in ("pic", "pic 1", "other")}
    root = write_voc(images)
    (root / "ImageSets" / "Main" / "train.txt").write_text("pic 1\nother  1\npic -1\ngone 1")
    with pytest.raises(DataError, match=r"train\.txt:4: image gone: there is no annotation file .*gone\.xml") as caught:
        VocDataset(root, "train")
    assert [Path(record.path).stem for record in caught.value.dataset.records] == ["pic 1", "other", "pic"]


@pytest.mark.parametrize("name", ["a.JPG", "a.jpeg", "a.Bmp", "a.webp", "a.tif", "A.png", "deep/a.jpg"])
def test_images_of_any_kind_and_letter_case(write_voc, name):
    root = write_voc({"a": (20, 30, [("dog", (1, 2, 3, 4))])})
    stem = "deep/a" if name.startswith("deep") else "a"
    (root / "JPEGImages" / "a.jpg").unlink()
    (root / "JPEGImages" / name).parent.mkdir(exist_ok=True)
    Image.new("RGB", (30, 20)).save(root / "JPEGImages" / name)
    (root / "Annotations" / "a.xml").rename(root / "Annotations" / "a.XML")
    if stem != "a":
        (root / "Annotations" / "deep").mkdir()
        (root / "Annotations" / "a.XML").rename(root / "Annotations" / "deep" / "a.XML")
        (root / "ImageSets" / "Main" / "train.txt").write_text(stem)
    (root / "Annotations" / "._a.xml").write_bytes(b"\0\5\x16\7")  # AppleDouble
    dataset = VocDataset(root, "train")
    assert dataset.records[0].path == str(root / "JPEGImages" / name) and dataset[0].image.shape == (20, 30, 3)


def _name_file(root, stem, filename):
    file = root / "Annotations" / f"{stem}.xml"
    file.write_text(file.read_text().replace("<annotation>", f"<annotation><filename>{filename}</filename>"))


def test_the_annotations_own_name_decides_before_the_filename_in_it(write_voc):
    root = write_voc({stem: (20, 30, [("dog", (1, 2, 3, 4))]) for stem in "abc"})
    Image.new("RGB", (30, 20)).save(root / "JPEGImages" / "a.png")
    (root / "JPEGImages" / "c.jpg").rename(root / "JPEGImages" / "see.jpg")
    _name_file(root, "b", "a.jpg")  # another existing image
    _name_file(root, "c", r"C:\data\see.JPG")
    assert [Path(record.path).name for record in VocDataset(root, "train").records] == ["a.jpg", "b.jpg", "see.jpg"]
    _name_file(root, "a", "a.png")  # of two images of the name, the one that is named
    assert Path(VocDataset(root, "train").records[0].path).name == "a.png"


@pytest.mark.parametrize(
    ("annotations", "images"),
    [
        ("annotations", "images"),
        ("Annotations", "JPEGImages"),
        ("ANNOTATIONS", "Images"),
        ("annotations", "jpegimages"),
        ("", ""),
    ],
)
def test_a_set_without_lists(write_voc, annotations, images):
    objects = [("dog", (1, 2, 3, 4))]
    root = write_voc(dict.fromkeys(("a", "b", "c"), (20, 30, objects)))
    shutil.rmtree(root / "ImageSets")
    for old, new in (("Annotations", annotations), ("JPEGImages", images)):
        files = {file.name: file.read_bytes() for file in (root / old).iterdir()}
        shutil.rmtree(root / old)
        (root / new).mkdir(exist_ok=True)
        for name, content in files.items():
            (root / new / name).write_bytes(content)
    (root / annotations / "c.xml").unlink()
    (root / images / "._a.jpg").write_bytes(b"")
    train, val = find_sources(root)
    assert (train, val) == (VocFolder(str(root)), None)
    dataset = train.open()
    assert [Path(record.path).name for record in dataset.records] == ["a.jpg", "b.jpg"]
    assert dataset[0].boxes.tolist() == [[0, 1, 3, 4]]
    told = {str(fault.kind): fault.problem for fault in dataset.faults}
    assert told == {
        "skipped-files": "hidden and system files are left out: 1 (._a.jpg)",
        "unannotated": "images without an annotation are left out: 1 (c.jpg)",
    }
    (root / images / "b.jpg").unlink()
    with pytest.raises(DataError, match=r"b\.xml: image b: .*the image of annotation b\.xml is missing"):
        train.open()
    with pytest.raises(DataError, match=r"no such split; known: none; split=None reads all annotations"):
        VocDataset(root, "train")


def test_lists_in_any_letter_case_are_lists(write_voc):
    """Not a set without lists, of which the training set would be all images."""
    root = write_voc({stem: (20, 30, [("dog", (1, 2, 3, 4))]) for stem in "abc"})
    lists = root / "ImageSets" / "Main"
    (lists / "train.txt").unlink()
    (lists / "Train.TXT").write_text("a\nb")
    (lists / "VAL.txt").write_text("c")
    train, val = find_sources(root)
    assert (train, val) == (VocFolder(str(root), "train"), VocFolder(str(root), "val"))
    assert [Path(record.path).stem for record in (*train.open().records, *val.open().records)] == ["a", "b", "c"]


def test_lists_of_other_names_are_told(write_voc):
    """All images are read then, those of a validation list too."""
    root = write_voc({stem: (20, 30, [("dog", (1, 2, 3, 4))]) for stem in "abc"}, split="training")
    (root / "ImageSets" / "Main" / "validation.txt").write_text("c")
    train, val = find_sources(root)
    assert (train, val) == (VocFolder(str(root)), None)
    dataset = train.open()
    (fault,) = dataset.faults
    assert len(dataset) == 3 and fault.severity == "warning" and fault.file == str(root / "ImageSets" / "Main")
    assert "not used, as all annotations are read: 2 (training, validation); give split=NAME" in fault.problem
    assert VocFolder(str(root), "training").open().faults == ()


def test_xml_files_beside_images_in_train_and_valid(write_voc):
    root = write_voc({stem: (20, 30, [("dog", (1, 2, 3, 4))]) for stem in ("a", "b")})
    for split, stem in (("train", "a"), ("valid", "b")):
        (root / split).mkdir()
        (root / "Annotations" / f"{stem}.xml").rename(root / split / f"{stem}.xml")
        (root / "JPEGImages" / f"{stem}.jpg").rename(root / split / f"{stem}.jpg")
    for folder in ("Annotations", "JPEGImages", "ImageSets"):
        shutil.rmtree(root / folder)
    train, val = find_sources(root)
    assert (train, val) == (VocFolder(str(root / "train")), VocFolder(str(root / "valid")))
    assert len(train.open()) == len(val.open()) == 1
