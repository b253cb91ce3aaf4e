"""Exchanging classes and changing options of a model that is there: what does not fit is refused, nothing is lost."""

from __future__ import annotations

from dataclasses import replace

import jax
import numpy as np
import pytest
from flax import nnx

import jaxdet
from filled_model import filled
from jaxdet.heads import AnchorGenerator, FastRCNNPredictor
from jaxdet.inference import with_options
from jaxdet.models.registry import model_config
from jaxdet.nn import NormConfig
from jaxdet.nn.parameters import arrays
from jaxdet.saving.model import is_model
from small_detector import ONE_LEVEL, tiny_config

IMAGE = np.random.default_rng(0).integers(0, 256, (40, 60, 3), np.uint8)


@pytest.fixture(scope="module")
def stored():
    return filled(tiny_config(num_classes=4, names=("__background__", "a", "b", "c")))


def replaced(model, classes=3):
    """The way of torchvision's users."""
    copy = nnx.merge(*nnx.split(model))
    copy.box_predictor = FastRCNNPredictor(32, classes, rngs=nnx.Rngs(0))
    return copy


@pytest.mark.parametrize(
    "classes, names",
    [
        (["cat", "dog"], ("__background__", "cat", "dog")),
        (("background", "cat", "dog"), ("background", "cat", "dog")),
        (3, ()),
        (np.int64(3), ()),
    ],
)
def test_a_detector_gets_other_classes_and_keeps_the_rest(stored, classes, names):
    stored.origin = ("torchvision", "old")
    model = jaxdet.with_classes(stored, classes, rngs=nnx.Rngs(5))
    assert model.config == replace(stored.config, num_classes=3, names=names) and model.origin == stored.origin
    before, after = arrays(stored), arrays(model)
    kept = [name for name in before if not name.startswith("box_predictor.")]
    assert all(after[name] is before[name] for name in kept) and len(after) == len(before)
    same, other = (arrays(jaxdet.with_classes(stored, classes, rngs=nnx.Rngs(seed))) for seed in (5, 6))
    bound = 32**-0.5  # of PyTorch's initialisation of a linear layer with 32 inputs
    for name in after.keys() - set(kept):
        np.testing.assert_array_equal(after[name], same[name])
        assert after[name].shape == arrays(FastRCNNPredictor(32, 3, rngs=nnx.Rngs(0)))[name.split(".", 1)[1]].shape
        assert not np.array_equal(after[name], other[name])
        assert bound >= np.abs(after[name]).max() > 0.5 * bound
    assert stored.config.num_classes == 4 and before["box_predictor.cls_score.bias"].shape == (4,)


def test_a_detector_with_other_classes_detects_saves_and_loads(tmp_path):
    model = jaxdet.with_classes(filled(tiny_config(box_score_thresh=0.0, **ONE_LEVEL)), ["cat", "dog"])
    (found,) = jaxdet.predict(model, [IMAGE])
    assert len(found["names"]) and set(found["names"]) <= {"cat", "dog"}
    jaxdet.save(model, tmp_path / "model")
    again = jaxdet.load(tmp_path / "model")
    assert again.config == model.config
    jax.tree.map(np.testing.assert_array_equal, arrays(again), arrays(model))


def test_a_classifier_gets_other_classes():
    classifier, features = filled(model_config("mobilenet_v1", width=0.25, num_classes=5)), 256
    model = jaxdet.with_classes(classifier, ["x", "y"])
    assert (model.config.num_classes, model.config.names) == (2, ("x", "y"))
    assert model.fc.kernel[...].shape == (features, 2) and classifier.fc.kernel[...].shape == (features, 5)
    counted = jaxdet.with_classes(filled(model_config("mobilenet_v1", num_classes=None)), 1)  # a body alone
    assert counted.fc.kernel[...].shape == (features, 1) and counted.config.names == ()


@pytest.mark.parametrize(
    "classes, says",
    [
        (["a", "b", "a"], "duplicate class names: a"),
        ([], "at least one class"),
        (1, "expected at least one class besides the background, got 1"),
        ("cats", "a list of names or a count"),
        (True, "a list of names or a count"),
        (["a", " "], "non-empty strings, not ' '"),
        (["a", 2], "not 2"),
    ],
)
def test_classes_that_are_none_are_refused(stored, classes, says):
    with pytest.raises(ValueError, match=says):
        jaxdet.with_classes(stored, classes)


def test_a_predictor_that_the_configuration_does_not_know_is_refused(stored, tmp_path):
    model = replaced(stored)
    with pytest.raises(ValueError, match=r"predictor has 3 classes, but the model's configuration has 4.*with_classes"):
        jaxdet.predict(model, [IMAGE])
    with pytest.raises(ValueError, match=r"cls_score.kernel is 32x3 in the model and 32x4 by its conf") as found:
        jaxdet.save(model, tmp_path / "deep" / "model")
    assert "\n" not in str(found.value) and list(tmp_path.iterdir()) == []


def test_a_model_that_does_not_fit_leaves_the_one_that_is_there(stored, tmp_path):
    jaxdet.save(stored, tmp_path / "model")
    with pytest.raises(ValueError, match="does not fit"):
        jaxdet.save(replaced(stored), tmp_path / "model", overwrite=True)
    assert jaxdet.load(tmp_path / "model").config == stored.config


def test_a_changed_description_is_told_in_one_line(stored, tmp_path):
    jaxdet.save(stored, tmp_path / "model")
    description = tmp_path / "model" / "model.json"
    description.write_text(description.read_text().replace('"representation_size": 32', '"representation_size": 48'))
    with pytest.raises(ValueError, match=r"of different models: box_head.fc6.bias is 32 in its arrays and 48") as found:
        jaxdet.load(tmp_path / "model")
    assert "\n" not in str(found.value)


@pytest.mark.parametrize(
    "options, says",
    [
        ({"num_classes": 7}, r"num_classes is 4 .* jaxdet.with_classes"),
        ({"box_representation_size": 64}, "box_head.fc6"),
        ({"fpn_out_channels": 8}, "fpn.inner_blocks"),
        ({"backbone_width": 0.5}, "backbone.stage1"),
        ({"backbone_norm": NormConfig("frozen")}, "count is scalar in this model and absent by these options"),
        ({"rpn_anchor_generator": AnchorGenerator((16, 32, 48, 64), (0.5, 1.0))}, "rpn_head.bbox_pred"),
        ({"rpn_anchor_generator": AnchorGenerator((16, 32), (1.0,))}, "anchor sizes are given for 2 levels"),
        ({"names": ("a", "b")}, "2 class names for num_classes=4"),
        ({"min_sice": 3}, "did you mean 'min_size'"),
    ],
)
def test_options_that_shape_parameters_are_refused(stored, options, says):
    with pytest.raises(ValueError, match=says):
        with_options(stored, **options)


def test_options_that_shape_nothing_take_effect(stored):
    anchors = AnchorGenerator((8, 16, 24, 32), (1.0,))
    model = with_options(
        stored, min_size=80, rpn_anchor_generator=anchors, num_classes=4, backbone_norm=NormConfig(eps=0.5)
    )
    assert model.config.transform.min_size == 80 and model.config.rpn.anchor_generator == anchors
    assert model.backbone.stem.norm.eps == 0.5 and stored.backbone.stem.norm.eps == 1e-5
    assert all(array is arrays(stored)[name] for name, array in arrays(model).items())


def test_a_hand_made_part_stays_under_options_that_do_not_concern_it(stored):
    model = with_options(replaced(stored), box_score_thresh=0.7)
    assert model.config.box.score_thresh == 0.7 and model.box_predictor.cls_score.kernel[...].shape == (32, 3)


def test_saving_asks_before_it_replaces(stored, tmp_path):
    other = with_options(stored, min_size=80)
    jaxdet.save(stored, tmp_path / "model")
    with pytest.raises(ValueError, match="already has a model: overwrite=True"):
        jaxdet.save(other, tmp_path / "model")
    assert jaxdet.load(tmp_path / "model").config == stored.config
    jaxdet.save(other, tmp_path / "model", overwrite=True)
    assert jaxdet.load(tmp_path / "model").config == other.config
    (tmp_path / "empty").mkdir()
    jaxdet.save(stored, tmp_path / "empty")


@pytest.mark.parametrize("files", [["thesis.tex"], ["model.json"], ["model.json", "arrays/x"]])
def test_what_is_no_model_is_never_replaced(stored, tmp_path, files):
    place = tmp_path / "results"
    for name in files:
        (place / name).parent.mkdir(parents=True, exist_ok=True)
        (place / name).write_text('{"years": "of work"}')
    with pytest.raises(ValueError, match="is not a model"):
        jaxdet.save(stored, place, overwrite=True)
    assert all((place / name).read_text() == '{"years": "of work"}' for name in files)


def test_notes_beside_a_model_are_not_lost(stored, tmp_path):
    jaxdet.save(stored, tmp_path / "model")
    (tmp_path / "model" / "notes.txt").write_text("years of work")
    with pytest.raises(ValueError, match=r"other files beside its model, notes.txt"):
        jaxdet.save(stored, tmp_path / "model", overwrite=True)
    assert (tmp_path / "model" / "notes.txt").exists() and is_model(tmp_path / "model")


def test_the_version_is_the_packages():
    from importlib.metadata import version

    assert jaxdet.__version__ == version("jaxdet")
