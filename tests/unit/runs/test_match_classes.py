"""Classes of a model and of a dataset: equal lists match by position, others by name, and never by guess."""

from collections import namedtuple
from types import SimpleNamespace

import numpy as np
import pytest
from flax import nnx
from PIL import Image

from jaxdet.data import ClassFolder, DetectionDataset, Record, ground_truth
from jaxdet.detect.run import find_label
from jaxdet.evaluation import CocoEvaluator
from jaxdet.nn import Numerics
from jaxdet.runs import evaluate_classifier
from jaxdet.runs.classes import category_ids_of, labels_of, match_classes

BG = "__background__"


def _dataset(*names, ids=None, labels=()):
    boxes = np.float32([[10 * n, 0, 10 * n + 8, 8] for n in range(len(labels))]).reshape(-1, 4)
    record = Record(image_id=1, path="a.png", size=(100, 100), boxes=boxes, labels=np.array(labels, np.int32))
    return DetectionDataset([record], (BG, *names), (-1, *(ids or range(1, len(names) + 1))))


def _model(*names, num_classes=None):
    return SimpleNamespace(config=SimpleNamespace(names=names, num_classes=num_classes or len(names)))


def test_names_that_differ_in_order_match_by_name():
    assert match_classes((BG, "cat", "dog", "cow"), _dataset("dog", "cat", ids=(3, 7))) == (-1, 7, 3, -1)
    with pytest.raises(ValueError, match="classes that the model does not have: dog; the model has cat, cow"):
        match_classes((BG, "cat", "cow"), _dataset("dog", "cat"))


@pytest.mark.parametrize("label", [1, 2, 3])
def test_equal_lists_match_by_position(label):
    """Perfect detections score 1, whichever of the two fish is annotated."""
    dataset = _dataset("fish", "cat", "fish", ids=(3, 5, 7), labels=[label])
    ids = match_classes((BG, "fish", "cat", "fish"), dataset)
    assert ids == (-1, 3, 5, 7) == category_ids_of(_model(*dataset.names), dataset)
    evaluator = CocoEvaluator(ground_truth(dataset), category_ids=ids)
    record = dataset.records[0]
    evaluator.add(1, record.boxes, np.ones(1), record.labels)
    numbers = evaluator.evaluate()
    assert numbers["AP"] == pytest.approx(1.0)
    assert [name for name in numbers if name.startswith("AP/")] == ["AP/fish (id 3)", "AP/cat", "AP/fish (id 7)"]
    assert [one.boxes for one in evaluator.classes] == [int(label == number) for number in (1, 2, 3)]


@pytest.mark.parametrize(
    ("names", "dataset", "message"),
    [
        ((BG, "fish", "fish", "cat"), ("fish", "cat"), "the model has 2 classes named 'fish', with the labels 1 and 2"),
        ((BG, "fish", "cat"), ("fish", "cat", "fish"), "the dataset has 2 classes named 'fish', with the ids 1 and 3"),
        ((BG, "fish", "cat", "fish"), ("cat", "fish", "fish"), "the dataset has 2 .*'fish', with the ids 2 and 3"),
    ],
)
def test_shared_names_in_other_lists_are_refused_with_both_ids(names, dataset, message):
    with pytest.raises(ValueError, match=message):
        match_classes(names, _dataset(*dataset))


def test_shared_names_of_a_model_that_the_data_lacks_do_no_harm():
    assert match_classes((BG, "N/A", "cat", "N/A"), _dataset("cat", ids=(17,))) == (-1, -1, 17, -1)


def test_models_without_names_need_as_many_classes():
    assert category_ids_of(_model(num_classes=3), _dataset("a", "b", ids=(5, 9))) == (-1, 5, 9)
    with pytest.raises(ValueError, match="the model has 4 classes, but the dataset has 3"):
        category_ids_of(_model(num_classes=4), _dataset("a", "b"))


def test_the_class_to_write_is_unambiguous():
    model = _model(BG, "fish", "cat", "fish")
    with pytest.raises(ValueError, match="2 classes named 'fish', with the labels 1 and 3: give a label"):
        find_label(model, "fish")
    assert find_label(model, "cat") == 2 and find_label(model, "3") == 3 == find_label(model, 3)
    assert find_label(_model(BG, "3", "2"), "2") == 2 and find_label(_model(BG, "3", "2"), "3") == 1  # names come first


Transform = namedtuple("Transform", "resize crop image_mean image_std")  # of hashable modules
Config = namedtuple("Config", "names num_classes transform")


class _Colours(nnx.Module):
    """Takes the strongest channel for the class."""

    def __init__(self, *names, num_classes=3):
        self.config = Config(names, num_classes, Transform(8, 8, (0.0,) * 3, (1.0,) * 3))
        self.numerics = Numerics()

    def __call__(self, pixels):
        return 100 * pixels.mean((1, 2))


def test_a_classifier_is_judged_by_names_too(tmp_path):
    """Folders are sorted, and the model's classes need not be."""
    for number, name in enumerate(("red", "green", "blue")):
        (tmp_path / name).mkdir()
        pixels = np.zeros((8, 8, 3), np.uint8)
        pixels[..., number] = 255
        Image.fromarray(pixels).save(tmp_path / name / "a.png")
    dataset = ClassFolder(str(tmp_path)).open()
    assert dataset.names == ("blue", "green", "red")
    model = _Colours("red", "green", "blue")
    assert labels_of(model, dataset) == (2, 1, 0)
    numbers = evaluate_classifier(model, dataset, batch_size=4, progress=False)  # one row has no image
    assert numbers["top1"] == 1.0 and numbers["loss"] == pytest.approx(0.0, abs=1e-6)
    with pytest.raises(ValueError, match="classes that the model does not have: blue"):
        evaluate_classifier(_Colours("red", "green"), dataset, progress=False)
    with pytest.raises(ValueError, match="the model has 1000 unnamed classes, but the dataset has 3"):
        evaluate_classifier(_Colours(num_classes=1000), dataset, progress=False)
