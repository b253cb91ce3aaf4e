"""The comparison itself: it says yes to the same numbers, and no, with the reason, to others."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace

import jax.numpy as jnp
import numpy as np
import pytest

from jaxdet.cli.__main__ import main
from jaxdet.models.registry import model_config
from jaxdet_convert.parity.compare import compare
from jaxdet_convert.parity.match import Boxes, match
from jaxdet_convert.parity.report import Matching, Report, Stage, Unmatched
from jaxdet_convert.parity.selections import rpn_selection
from jaxdet_convert.parity.ties import Selection, explain
from torchvision_cpu import torchvision_or_skip

torchvision_or_skip()
from weights import DETECTORS, changed, pair, resized, slim_pair, smooth_image  # noqa: E402


@pytest.fixture(scope="module")
def detector():
    return slim_pair(DETECTORS[0], 0, True, **resized(160), rpn_post_nms_top_n_test=300)


def test_a_wrong_weight_shows_where_it_is(detector):
    module, model = detector
    wrong = changed(model, "fpn.layer_blocks.2.conv.kernel", lambda x: x * jnp.float32(1.001))
    report = compare(module, wrong, [smooth_image(7, 153, 201)])
    assert not report.ok
    first = next(stage.name for stage in report.stages if not stage.ok)
    assert first == "pyramid layer3"
    assert {stage.name for stage in report.stages if stage.name.startswith("backbone")} <= {
        stage.name for stage in report.stages if stage.ok
    }
    assert "EXCEEDED" in report.text() and "BEYOND THE BOUND" in report.text()
    assert json.loads(report.json())["ok"] is False


def test_another_threshold_is_not_excused(detector, monkeypatch):
    """All numbers agree, the decisions do not, and no near-tie explains it."""
    module, model = detector
    monkeypatch.setattr(module.roi_heads, "nms_thresh", 0.3)
    report = compare(module, model, [smooth_image(7, 153, 201)])
    assert all(stage.ok for stage in report.stages)
    assert report.detections.share < 0.995
    assert any(not one.near_tie for one in report.detections.unmatched)
    assert not report.ok
    assert "UNEXPLAINED" in report.text()


def test_thin_images_confuse_torchvision(detector, monkeypatch):
    """What it inferred from a thin first image is named."""
    module, model = detector
    monkeypatch.setattr(module.roi_heads.box_roi_pool, "scales", [0.25, 0.25, 0.0625, 0.03125])
    report = compare(module, model, [smooth_image(7, 153, 201)])
    assert not report.ok
    assert "[4, 4, 16, 32], and they are [4, 8, 16, 32]" in report.text()


def test_the_module_is_left_as_it_was(detector):
    module, model = detector
    module.rpn.train()
    before = [layer.training for layer in module.modules()]
    hooks = sum(len(layer._forward_hooks) for layer in module.modules())
    report = compare(module, model, [smooth_image(7, 153, 201), smooth_image(8, 153, 201)])
    assert [layer.training for layer in module.modules()] == before
    assert sum(len(layer._forward_hooks) for layer in module.modules()) == hooks
    module.eval()
    assert report.ok, report.text()
    assert report.images == ((153, 201), (153, 201))
    numbers = json.loads(report.json())
    assert numbers["detections"]["share"] >= 0.995
    assert {"jax", "torch", "torchvision", "jaxdet on", "PyTorch on"} <= numbers["environment"].keys()


def test_classifier():
    module, model = pair("resnet50")
    report = compare(module, model, [smooth_image(0, 300, 260)])
    assert [stage.name for stage in report.stages] == ["layer1", "layer2", "layer3", "layer4", "logits"]
    assert report.ok, report.text()
    assert report.detections is None
    assert not compare(module, changed(model, "fc.bias", lambda x: x + 0.01), [smooth_image(0, 300, 260)]).ok


def test_no_images(detector):
    with pytest.raises(ValueError, match="at least one image"):
        compare(*detector, [])


def test_parity_command(tmp_path, capsys):
    numbers = tmp_path / "numbers.json"
    status = main(["parity", "resnet50", "--limit", "1", "--json", str(numbers)])
    printed = capsys.readouterr().out
    assert status == 0, printed
    assert "verdict: the same numbers" in printed and "layer4" in printed and "precision highest" in printed
    assert json.loads(numbers.read_text())["ok"] is True


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["darknet53"], "no common model 'darknet53'"),
        (["resnet50", "--images", "/nowhere"], "no such file or folder"),
        (["resnet50", "--weights", "/nowhere.pth"], "/nowhere.pth"),
        (["resnet50", "--min-size", "320"], "--min-size is only for detectors"),
    ],
)
def test_parity_command_refuses_in_a_line(arguments, message, capsys):
    assert main(["parity", *arguments]) == 1
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert message in line


def test_importing_it_imports_no_torch():
    code = "import sys, jaxdet_convert.parity.compare, jaxdet_convert.parity.weights; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_match_is_one_to_one():
    boxes = np.asarray([[0, 0, 10, 10], [0, 0, 10, 10.01], [50, 50, 60, 60]], np.float32)
    theirs = Boxes(boxes, np.asarray([0.9, 0.8, 0.7]), np.asarray([1, 1, 2]))
    assert match(theirs, theirs) == [(0, 0), (1, 1), (2, 2)]
    ours = Boxes(boxes[[0, 0, 2]], np.asarray([0.9, 0.9, 0.7]), np.asarray([1, 1, 3]))
    assert match(theirs, ours) == [(0, 0)]  # a partner serves once; 0.8 is not 0.9; 2 is not 3
    moved = Boxes(boxes + np.float32(0.03), theirs.scores, theirs.labels)
    assert match(theirs, moved) == []


def selection(boxes, scores, kept, *, threshold=0.05, limit=100):
    count = len(scores)
    return Selection(
        keys=np.arange(count), groups=np.zeros(count, int), boxes=np.asarray(boxes, float),
        scores=np.asarray(scores, float), cuts=np.full(count, threshold), kept=np.asarray(kept, bool),
        nms_thresh=0.5, limit=limit,
    )  # fmt: skip


FAR = [100, 100, 110, 110]
BASE = [0, 0, 10, 10]


def test_near_ties_and_what_is_none():
    half = [0, 0, 10, 5.0001]  # IoU 0.50001 with BASE
    both = [BASE, half]
    cause = explain(1, selection(both, [0.9, 0.8], [1, 1]), selection(both, [0.9, 0.8], [1, 0]))
    assert cause.near_tie and "IoU" in cause.text and "0.50001" in cause.text

    clear = [BASE, [0, 0, 10, 6]]
    cause = explain(1, selection(clear, [0.9, 0.8], [1, 1]), selection(clear, [0.9, 0.8], [1, 0]))
    assert not cause.near_tie

    cause = explain(0, selection([BASE], [0.05001], [1]), selection([BASE], [0.04999], [0]))
    assert cause.near_tie and "the minimum of candidates" in cause.text
    assert not explain(0, selection([BASE], [0.06], [1]), selection([BASE], [0.04], [0])).near_tie

    cause = explain(1, selection(clear, [0.80001, 0.80002], [0, 1]), selection(clear, [0.80002, 0.80001], [1, 0]))
    assert cause.near_tie and "first" in cause.text

    full = [BASE, FAR, [50, 50, 60, 60]]
    mine = selection(full, [0.9, 0.50000, 0.50001], [1, 0, 1], limit=2)
    cause = explain(2, mine, selection(full, [0.9, 0.50001, 0.50000], [1, 1, 0], limit=2))
    assert cause.near_tie and "the last of 2" in cause.text
    assert not explain(2, mine, selection(full, [0.9, 0.8, 0.5], [1, 1, 0], limit=2)).near_tie


def test_of_equal_scores_the_nearest_box_is_meant():
    """Scores that saturate at 1 are equal."""
    found = selection([BASE, FAR, [50, 50, 60, 60]], [1.0, 1.0, 0.9], [1, 1, 1])
    assert found.kept_key(0, 1.0, np.asarray([99, 100, 110, 110]), classes=1) == 1
    assert found.kept_key(0, 1.0, np.asarray([50, 50, 60, 60]), classes=1) in (0, 1)
    assert found.kept_key(0, 0.9, np.asarray(BASE), classes=1) == 2
    assert found.kept_key(1, 1.0, np.asarray(BASE), classes=2) == 1


def test_a_chain_is_followed_to_its_near_tie():
    """0 suppresses 1 on a hair's breadth there; here it does not, and so 1 suppresses 2."""
    boxes = [BASE, [0, 0, 10, 5.0001], [0, 1.5, 10, 5.0001]]  # the third: IoU 0.35 with the first, 0.70 with the second
    scores = [0.9, 0.8, 0.7]
    mine, theirs = selection(boxes, scores, [1, 0, 1]), selection(boxes, scores, [1, 1, 0])
    cause = explain(2, mine, theirs)
    assert cause.near_tie and "the other side does not have" in cause.text and "0.50001" in cause.text
    # the same chain from a decision that is no tie
    boxes[1] = [0, 0, 10, 6]
    assert not explain(2, selection(boxes, scores, [1, 0, 1]), selection(boxes, scores, [1, 1, 0])).near_tie


def test_pushed_out_by_a_near_tie():
    boxes = [BASE, [0, 0, 10, 5.0001], FAR]
    scores = [0.9, 0.8, 0.7]
    mine, theirs = selection(boxes, scores, [1, 0, 1], limit=2), selection(boxes, scores, [1, 1, 0], limit=2)
    cause = explain(2, mine, theirs)
    assert cause.near_tie and "not among the best 2" in cause.text


def test_rpn_selection_finds_what_was_kept():
    """A first stage worked by hand: two levels, the top two of each, keys count anchors."""
    config = model_config("fasterrcnn_resnet50_fpn", rpn_pre_nms_top_n_test=2)
    anchors = np.asarray([[0, 0, 10, 10], [20, 0, 30, 10], [40, 0, 50, 10], [0, 0, 40, 40]], np.float32)
    logits = [np.asarray([[[1.0], [3.0], [2.0]]]), np.asarray([[[0.5]]])]
    deltas = [np.zeros((1, 3, 1, 4)), np.zeros((1, 1, 1, 4))]
    found = rpn_selection(logits, deltas, anchors, (100, 100), anchors[[1, 2, 3]], config)
    assert found.keys.tolist() == [1, 2, 0, 3]
    assert found.kept.tolist() == [True, True, False, True]
    assert found.cuts.tolist() == [2, 2, 2, -np.inf]


def test_report_judges_the_share():
    stage = Stage("a", 1e-6, 1e-6, 1.0)
    tie = Unmatched(0, "PyTorch", 1, 0.5, (0, 0, 1, 1), "its IoU ...", True)
    report = Report("M", {}, ((1, 1),), (stage,), Matching(1000, 1000, 999, 0, 0, (tie,)))
    assert report.ok and "near-tie: image 0" in report.text()
    assert not replace(report, detections=Matching(1000, 1000, 994, 0, 0, (tie,) * 12)).ok
    assert not replace(report, detections=Matching(1000, 1000, 999, 0, 0, (replace(tie, near_tie=False),))).ok
    assert not replace(report, stages=(Stage("a", float("nan"), float("nan"), 1.0),)).ok
    assert np.isnan(Stage("a", float("nan"), 0, 1).worst(stage).absolute)
    assert np.isnan(stage.worst(Stage("a", float("nan"), 0, 1)).absolute)
