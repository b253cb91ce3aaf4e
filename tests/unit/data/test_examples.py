"""Examples that a program has already: sequences of mappings."""

import pickle

import grain
import numpy as np
import pytest
from PIL import Image

from jaxdet.data import DataError, DataSource, Examples, ground_truth

NAMES = ("cat", "dog")


def _example(height=20, width=30, boxes=((1, 2, 3, 4),), labels=(1,), **more):
    image = np.random.default_rng(height).integers(0, 256, (height, width, 3), np.uint8)
    return {"image": image, "boxes": np.array(boxes, np.float32), "labels": np.array(labels), **more}


class Lazy(dict):
    """A mapping whose image must not be asked for."""

    def __getitem__(self, key):
        assert key != "image"
        return super().__getitem__(key)


@pytest.fixture
def entries(tmp_path):
    Image.new("RGB", (9, 7)).save(tmp_path / "a.png")
    return [
        _example(ignored=[[5, 5, 99, 9]], image_id=40),
        {"image": tmp_path / "a.png", "boxes": [], "labels": []},
        _example(8, 8, [[0, 0, 8, 8], [1, 1, 2, 2]], [2, 1]),
    ]


@pytest.mark.parametrize("wrap", [list, tuple, grain.MapDataset.source])
def test_sequences_of_several_kinds(entries, wrap):
    dataset = Examples(wrap(entries), NAMES).open()
    assert dataset.names == ("__background__", *NAMES) and dataset.category_ids == (-1, 1, 2)
    assert dataset.image_ids == (40, 2, 3)
    np.testing.assert_array_equal(dataset.sizes, [[20, 30], [7, 9], [8, 8]])
    np.testing.assert_array_equal(dataset[0].image, entries[0]["image"])
    assert dataset[0].ignored.tolist() == [[5, 5, 30, 9]]
    assert dataset[1].image.shape == (7, 9, 3) and dataset[1].boxes.shape == (0, 4)
    assert dataset[1].path == str(entries[1]["image"])
    assert dataset[2].labels.tolist() == [2, 1] and dataset[2].path == "example 2"
    truth = [
        (entry["image_id"], entry["category_id"], entry["iscrowd"]) for entry in ground_truth(dataset)["annotations"]
    ]
    # The ignored region has no class: it is a crowd of each.
    assert truth == [(40, 1, 0), (40, 1, 1), (40, 2, 1), (3, 2, 0), (3, 1, 0)]
    assert [dataset.inspect(index) for index in range(3)] == [[], [], []]


def test_a_dataset_pickles_where_its_sequence_does(entries):
    dataset = pickle.loads(pickle.dumps(Examples(entries, NAMES).open()))
    np.testing.assert_array_equal(dataset[2].image, entries[2]["image"])


def test_given_sizes_leave_the_images_alone():
    dataset = Examples([Lazy(_example())], NAMES, sizes=np.array([[20, 30]])).open()
    assert dataset.sizes.tolist() == [[20, 30]]
    with pytest.raises(DataError, match=r"expected sizes \[1, 2\], integers, one per image .*, got int64 \[2, 2\]"):
        Examples([Lazy(_example())], NAMES, sizes=[[20, 30], [1, 1]]).open()
    for sizes in ([["20", "30"]], [[20.5, 30]], [[None, 30]], [[20, float("nan")]], [20]):
        with pytest.raises(DataError, match=r"expected sizes \[1, 2\], integers"):
            Examples([Lazy(_example())], NAMES, sizes=sizes).open()
    with pytest.raises(DataError, match=r"example 0 has size \[0, 30\]; expected"):
        Examples([Lazy(_example())], NAMES, sizes=[[0, 30]]).open()
    assert Examples([Lazy(_example())], NAMES, sizes=[[20.0, 30.0]]).open().records[0].size == (20, 30)


def test_an_image_of_another_size_than_before_is_an_error():
    dataset = Examples([_example()], NAMES, sizes=[[20, 31]]).open()
    with pytest.raises(DataError, match=r"example 0: its image is \(20, 30\), but was \(20, 31\)"):
        dataset[0]
    assert [problem.kind for problem in dataset.inspect(0)] == ["image-size"]


def test_faulty_boxes_are_named_and_skipped():
    boxes = [[1, 2, 1, 4], [1, 2, 3, 4], [np.nan, 2, 3, 4], [1, 2, 90, 4]]
    source = Examples([_example(boxes=boxes, labels=[1, 1, 2, 1], ignored=[[3, 3, 3, 3]])], NAMES)
    with pytest.raises(DataError, match="3 faulty boxes") as caught:
        source.open()
    assert [(fault.kind, fault.file, fault.annotation) for fault in caught.value.faults] == [
        ("degenerate-box", "example 0", "box 0"),
        ("non-finite-box", "example 0", "box 2"),
        ("outside-box", "example 0", "box 3"),
        ("empty-region", "example 0", "ignored region 0"),
    ]
    dataset = source.open(skip_faulty=True)
    assert dataset.skipped == 3 and dataset[0].boxes.tolist() == [[1, 2, 3, 4]] and dataset[0].ignored.shape == (0, 4)


@pytest.mark.parametrize(
    ("entry", "kind", "message"),
    [
        (None, "malformed-entry", "is a NoneType; expected a mapping"),
        ({"image": 1, "labels": 2}, "malformed-entry", r"is \['image', 'labels'\]; expected a mapping"),
        (
            _example() | {"image": np.zeros((4, 4, 3))},
            "malformed-entry",
            r"of float64 \[4, 4, 3\]; expected uint8",
        ),
        (_example() | {"image": "no.png"}, "missing-image", r"no\.png: no such image file"),
        (_example(boxes=[1, 2, 3, 4]), "malformed-entry", r"'boxes' of shape \[4\]; expected \[G, 4\]"),
        (_example() | {"boxes": [["x"] * 4]}, "malformed-entry", "'boxes' that are not numbers"),
        (_example(labels=[1, 2]), "malformed-entry", r"has 1 boxes and labels int64 \[2\]"),
        (_example(labels=[0.5]), "malformed-entry", r"has 1 boxes and labels float64 \[1\]"),
        (_example(labels=[3]), "unknown-category", r"box 0: has label 3, which is not in 1\.\.2"),
        (_example(labels=[0]), "unknown-category", "has label 0"),
        (_example(image_id=7), "duplicate-image", "has image_id 7, as example 0 has"),
        (_example(image_id="7"), "malformed-entry", "has image_id '7'; it must be an integer"),
    ],
)
def test_entries_that_are_wrong_are_named_by_their_position(entry, kind, message):
    with pytest.raises(DataError, match=f"example 1: .*{message}" if kind != "unknown-category" else message) as caught:
        Examples([_example(image_id=7), entry], NAMES).open(skip_faulty=True)
    assert [(fault.kind, fault.file) for fault in caught.value.faults] == [(kind, "example 1")]


def test_a_class_of_ones_own_is_a_source():
    class Own:
        def open(self, *, skip_faulty=False):
            return Examples([_example()], NAMES).open(skip_faulty=skip_faulty)

    assert isinstance(Own(), DataSource) and isinstance(Examples([], NAMES), DataSource)
    assert not isinstance(3, DataSource)
    assert len({Examples([], NAMES), Examples([], NAMES)}) == 2  # a configuration is hashable, whatever it holds
