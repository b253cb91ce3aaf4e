"""Detections of torchvision's detectors and jaxdet's over many pairs of weights and sizes."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
from weights import pair, resized, smooth_image

from jaxdet import predict
from jaxdet.ops import box_iou
from jaxdet_convert import compare
from jaxdet_convert.parity.report import SHARE_BOUND, Matching, Unmatched

# (height, width) of the image, min_size of the model, seed of the weights, frozen norms
SWEEP = [
    (600, 816, 800, 0, False),  # canvas 800x1088: 13 rows in P6 and 7 in P7, whose strides are 61 and 114
    (800, 1088, 800, 1, True),  # not resized
    (480, 640, 800, 2, False),  # height 800 again, width 1066
    (640, 480, 800, 0, True),  # upright
    (333, 417, 480, 1, False),  # odd sizes
    (30, 640, 480, 2, False),  # thin: 37 rows, two of them in P5 and one in P7
    (61, 83, 320, 0, False),  # small, enlarged five times
    (1000, 747, 320, 1, True),  # shrunk three times
    (256, 320, 256, 3, False),
    (320, 500, 320, 4, False),
    (417, 333, 417, 5, False),
]


def check_sweep(name: str, capsys: Any, *, at_least: int) -> None:
    """Prints a line per pair, and asserts that all stages agree and at least 99.5% of the detections match.

    Each exception must be a near-tie, or a score that PyTorch's own rounding changes by more than it differs.

    Args:
        at_least: number of detections per image.
    """
    total, worst = Matching(), 0.0
    for height, width, min_size, seed, frozen in SWEEP:
        module, model = pair(name, seed, frozen, **resized(min_size))
        image = smooth_image(100 + seed, height, width)
        report = compare(module, model, [image])
        found, relative = report.detections, max(stage.relative for stage in report.stages)
        lines = [
            f"\n{name} {height}x{width} at {min_size}, seed {seed}: {found.theirs} detections, {found.matched} "
            f"matched, box {found.box_error:.2g} px, score {found.score_error:.2g}, worst stage {relative:.2g}"
        ]
        explained = True
        for one in found.unmatched:
            cause = one.text() if one.near_tie else explain_by_rounding(one, module, model, image)
            lines.append(cause or one.text())
            explained &= cause is not None
        with capsys.disabled():
            print("\n  ".join(lines))
        assert all(stage.ok for stage in report.stages) and explained, report.text()
        assert found.theirs > at_least, report.text()
        total += found
        worst = max(worst, relative)
        pair.cache_clear()
    with capsys.disabled():
        print(
            f"\n{name}: {len(SWEEP)} pairs, {total.theirs} detections of torchvision, {total.ours} of jaxdet, "
            f"{total.share:.3%} matched, worst box {total.box_error:.2g} px, worst score {total.score_error:.2g}, "
            f"{len(total.unmatched)} exceptions, worst stage {worst:.2g}"
        )
    # One image in ten may contain the exception, so the share is that of all images.
    assert total.share >= SHARE_BOUND


def explain_by_rounding(one: Unmatched, module: Any, model: Any, image: np.ndarray) -> str | None:
    """The scores of a detection in jaxdet, in PyTorch, and in PyTorch in float64, as a line.

    None if one of them lacks it, or if PyTorch's score in float32 is closer to its score in float64 than to jaxdet's.
    """
    ours = score_of(one, predict(model, [image])[0])
    theirs, exact = (score_of(one, run(network, image)) for network in (module, copy.deepcopy(module).double()))
    if ours is None or theirs is None or exact is None or abs(ours - theirs) > abs(theirs - exact):
        return None
    return (
        f"rounding: label {one.label}, only {one.side}'s: score {ours:.6f} in jaxdet, {theirs:.6f} in PyTorch, "
        f"{exact:.6f} in PyTorch in float64"
    )


def run(module: Any, image: np.ndarray) -> dict[str, np.ndarray]:
    """PyTorch's detections."""
    import torch

    dtype = next(module.parameters()).dtype
    with torch.no_grad():
        (found,) = module([torch.from_numpy(np.array(image)).permute(2, 0, 1).to(dtype) / 255])
    return {name: value.numpy() for name, value in found.items()}


def score_of(one: Unmatched, found: Any) -> float | None:
    """The score of the detection with the same label that overlaps most, by at least 0.9."""
    same = np.flatnonzero(np.asarray(found["labels"]) == one.label)
    overlaps = np.asarray(box_iou(np.asarray([one.box], np.float32), np.asarray(found["boxes"], np.float32)[same]))[0]
    if not len(same) or overlaps.max() < 0.9:
        return None
    return float(np.asarray(found["scores"])[same[overlaps.argmax()]])
