"""Detections of the dense detectors against torchvision's, from the image to the last box.

`compare` states the bounds.
"""

from __future__ import annotations

from functools import partial
from types import SimpleNamespace

import jax.numpy as jnp
import numpy as np
import pytest

from jaxdet import predict
from jaxdet.cli.__main__ import main
from jaxdet.ops import BoxCoder
from jaxdet_convert import compare
from jaxdet_convert.parity.dense import sigmoid
from jaxdet_convert.parity.match import Boxes, match
from jaxdet_convert.parity.selections import decode, decode_distances, dense_selection
from torchvision_cpu import torchvision_or_skip

torchvision_or_skip()
import torch  # noqa: E402
from sweep import check_sweep  # noqa: E402
from weights import changed, pair, resized, slim_pair, smooth_image  # noqa: E402

FIRST, SECOND, FCOS = "retinanet_resnet50_fpn", "retinanet_resnet50_fpn_v2", "fcos_resnet50_fpn"
IMAGE = 253, 331


@pytest.fixture(scope="module")
def slim():
    return slim_pair(SECOND, 0, False, num_classes=5, **resized(256))


def test_the_first_version():
    report = compare(*pair(FIRST, 0, True, **resized(256)), [smooth_image(7, *IMAGE)])
    assert report.ok, report.text()
    assert report.detections.theirs > 50 and report.proposals is None
    levels = ["layer2", "layer3", "layer4", "p6", "p7"]
    assert [stage.name for stage in report.stages] == [
        "transformed image", *(f"backbone {level}" for level in levels[:3]), *(f"pyramid {level}" for level in levels),
        *(f"class logits {level}" for level in levels), *(f"box deltas {level}" for level in levels), "anchors",
    ]  # fmt: skip


def test_predict_agrees(slim):
    """What a user calls, without any of the comparison's own machinery. Scores this close may change places."""
    module, model = slim
    image = smooth_image(7, *IMAGE)
    with torch.no_grad():
        theirs = module([torch.from_numpy(image).permute(2, 0, 1).float() / 255])[0]
    (ours,) = predict(model, [image])
    found = [Boxes(*(np.asarray(side[key]) for key in ("boxes", "scores", "labels"))) for side in (theirs, ours)]
    assert len(match(*found)) == len(theirs["scores"]) == len(ours["scores"]) > 50


def test_the_second_version_on_a_small_backbone(slim):
    report = compare(*slim, [smooth_image(7, *IMAGE)])
    assert report.ok, report.text()
    assert report.detections.theirs > 50


def test_fcos_on_a_small_backbone():
    module, model = slim_pair(FCOS, 0, True, num_classes=5, **resized(256))
    report = compare(module, model, [smooth_image(7, *IMAGE)])
    assert report.ok, report.text()
    assert report.detections.theirs > 50
    assert [stage.name for stage in report.stages][-6:] == [
        *(f"centerness {level}" for level in ("layer2", "layer3", "layer4", "p6", "p7")), "anchors",
    ]  # fmt: skip
    wrong = changed(model, "head.regression.centerness.bias", lambda x: x + jnp.float32(0.01))
    report = compare(module, wrong, [smooth_image(7, *IMAGE)])
    failed = [stage.name for stage in report.stages if not stage.ok]
    assert not report.ok and failed and all(name.startswith("centerness") for name in failed)


def test_a_wrong_weight_shows_where_it_is(slim):
    module, model = slim
    wrong = changed(model, "head.classification.tower.2.norm.scale", lambda x: x * jnp.float32(1.001))
    report = compare(module, wrong, [smooth_image(7, *IMAGE)])
    assert not report.ok
    failed = [stage.name for stage in report.stages if not stage.ok]
    assert failed and all(name.startswith("class logits") for name in failed)


@pytest.mark.parametrize(("option", "value"), [("nms_thresh", 0.3), ("topk_candidates", 40), ("score_thresh", 0.2)])
def test_another_decision_is_not_excused(slim, monkeypatch, option, value):
    """All numbers agree, the decisions do not, and no near-tie explains it."""
    module, model = slim
    monkeypatch.setattr(module, option, value)
    report = compare(module, model, [smooth_image(7, *IMAGE)])
    assert all(stage.ok for stage in report.stages)
    assert report.detections.share < 0.995
    assert any(not one.near_tie for one in report.detections.unmatched)
    assert not report.ok


def test_a_selection_finds_what_was_kept():
    """Worked by hand: two levels of three and one anchors, two classes, the best two pairs of a level; keys count
    pairs of anchor and class."""
    config = SimpleNamespace(
        num_classes=2, topk_candidates=2, score_thresh=0.05, nms_thresh=0.5, detections_per_img=9
    )  # fmt: skip
    anchors = np.asarray([[0, 0, 10, 10], [20, 0, 30, 10], [40, 0, 50, 10], [0, 0, 40, 40]], np.float32)
    logits = [np.asarray([[[[-9, 2.0]], [[3.0, -2.0]], [[1.0, -9]]]]), np.asarray([[[[-9, 0.0]]]])]
    deltas = [np.zeros((1, 3, 1, 4)), np.zeros((1, 1, 1, 4))]
    deltas[0][0, 1, 0, 0] = 0.1
    scores = 1 / (1 + np.exp(-np.asarray([3.0, 2.0, 1.0, 0.0, -2.0])))
    kept = np.asarray([[21, 0, 31, 10], [0, 0, 10, 10], [0, 0, 40, 40]], np.float32)
    found = dense_selection(
        [sigmoid(level) for level in logits], deltas, anchors, (100, 100),
        (kept, scores[[0, 1, 3]], np.asarray([0, 1, 1])), config, decode=partial(decode, coder=BoxCoder()),
    )  # fmt: skip
    assert found.keys.tolist() == [2, 1, 4, 7, 3]
    assert found.groups.tolist() == [0, 1, 0, 1, 1]
    assert found.kept.tolist() == [True, True, False, True, False]
    np.testing.assert_allclose(found.scores, scores)
    np.testing.assert_allclose(found.cuts, [scores[1], scores[1], scores[1], 0.05, scores[1]])
    np.testing.assert_allclose(found.boxes[0], [21, 0, 31, 10])


def test_distances_are_decoded():
    """By hand: an anchor of 8x8 around (12, 14), clipped to an image of 40 columns and 20 rows."""
    anchors, distances = np.asarray([[8, 10, 16, 18]]), np.asarray([[1.0, 0.5, 2.0, 1.0]])
    assert decode_distances(distances, anchors, (20, 40)).tolist() == [[4, 10, 28, 20]]


@pytest.mark.verify
@pytest.mark.parametrize("name", [FIRST, SECOND, FCOS])
def test_sweep(name, capsys):
    check_sweep(name, capsys, at_least=20)


@pytest.mark.verify
def test_the_command(capsys):
    assert main(["parity", SECOND, "--min-size", "128", "--limit", "2"]) == 0
    printed = capsys.readouterr().out
    assert "class logits p7" in printed and "verdict: the same numbers" in printed
