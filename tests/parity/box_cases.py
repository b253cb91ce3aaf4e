"""Operators on boxes and logits, with random, degenerate and extreme inputs, for `operator_check`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from itertools import product
from types import ModuleType

import jax.numpy as jnp
import numpy as np
import torch
from operator_check import Arrays, Case

import jaxdet.ops as ops

SPECIAL = [
    [0, 0, 10, 10], [0, 0, 10, 20], [2, 3, 7, 8],  # inside each other
    [10, 0, 20, 10], [10, 10, 20, 20], [30, 30, 40, 45],  # touching at an edge, at a corner, not at all
    [5, 5, 5, 5], [0, 0, 0, 0], [5, 2, 5, 8], [2, 5, 8, 5], [10, 10, 10, 30],  # points and lines
    [10, 0, 0, 10], [0, 10, 10, 0], [10, 10, 0, 0],  # inverted in x, in y, in both
    [-1e6, -1e6, 1e6, 1e6], [0, 0, 1e6, 1e6], [999990, 999990, 1e6, 1e6], [1e6, 1e6, 1e6, 1e6],
    [0, 0, 1e-3, 1e-3], [-7, -9, -1, -2],
]  # fmt: skip


def pairs(dtype: np.dtype) -> Arrays:
    """Every pair of special boxes and 200 random ones, twice [P, 4]."""
    rng = np.random.default_rng(0)
    corner = rng.uniform(-50, 50, (2, 200, 2))
    random = np.concatenate([corner, corner + rng.uniform(0, 80, (2, 200, 2))], axis=-1)
    special = np.array(list(product(SPECIAL, SPECIAL)), float).transpose(1, 0, 2)
    first, second = np.concatenate([random, special], axis=1)
    return first.astype(dtype), second.astype(dtype)


def sizes(dtype: np.dtype) -> Arrays:
    """Boxes whose last two numbers may be sizes: not inverted, as those have an area of 0 here and a negative there."""
    first, _ = pairs(dtype)
    return (first[(first[:, 2:] > 0).all(axis=1)],)


def each_alone(dtype: np.dtype) -> Arrays:
    """The same as matrices of one pair, so that a gradient that is NaN there hides no other."""
    first, second = pairs(dtype)
    return first[:, None], second[:, None]


def logits_and_targets(dtype: np.dtype) -> Arrays:
    rng = np.random.default_rng(1)
    logits = np.concatenate([rng.normal(0, 4, 500), np.tile([0, 1e-9, 20, -20, 90, -90, 1e6, -1e6], 3)])
    targets = np.concatenate([rng.integers(0, 2, 400), rng.uniform(size=100), np.repeat([0, 1, 0.25], 8)])
    return logits.astype(dtype), targets.astype(dtype)


def rotated(dtype: np.dtype) -> Arrays:
    rng = np.random.default_rng(2)
    boxes = np.concatenate([rng.uniform(-50, 50, (100, 2)), rng.uniform(0, 60, (100, 2))], axis=1)
    boxes = np.concatenate([boxes, rng.uniform(-400, 400, (100, 1))], axis=1)
    boxes[:6, 4] = [0, 90, 30, -90, 45, 360]
    boxes[6, 2:4], boxes[7, 2], boxes[8, 3] = 0, 0, 0
    return (boxes.astype(dtype),)


def through_all(convert: Callable, concatenate: Callable, formats: Sequence[str]) -> Callable:
    """Boxes from the first format to each, and from there to each: every conversion of the formats."""

    def run(boxes):
        first = {fmt: convert(boxes, formats[0], fmt) for fmt in formats}
        return concatenate([convert(first[a], a, b) for a, b in product(formats, formats)], -1)

    return run


def of_each(function: Callable, options: Sequence[dict], stack: Callable) -> Callable:
    return lambda *inputs: stack([function(*inputs, **each) for each in options], -1)


def both(loss: Callable, stack: Callable) -> Callable:
    return of_each(loss, [{"reduction": "sum"}, {"reduction": "mean"}], stack)


def cases(torchvision: ModuleType) -> list[Case]:
    theirs = torchvision.ops
    found = []
    for fmt, name, inputs, count in (("cxcywh", "box_iou", each_alone, 2), ("xywh", "box_area", sizes, 1)):
        ours, their = (partial(getattr(module, name), fmt=fmt) for module in (ops, theirs))
        found.append(Case(f"{name}, {fmt}", inputs, ours, their, count))
    for name in ("box_iou", "generalized_box_iou", "distance_box_iou", "complete_box_iou"):
        # Angles of float32 boxes of a million pixels, and the steep ones of thin boxes, are known to some digits.
        bounds = (2e-6, 2e-5) if name != "complete_box_iou" else (4e-6, 1e-4)
        found.append(Case(name, each_alone, getattr(ops, name), getattr(theirs, name), 2, bounds))
    for name in ("generalized_box_iou_loss", "distance_box_iou_loss", "complete_box_iou_loss"):
        ours, their = getattr(ops, name), getattr(theirs, name)
        found.append(Case(name, pairs, ours, their, 2, (4e-6, 1e-4)))
        ours, their = partial(ours, eps=0.5), partial(their, eps=0.5)
        found.append(Case(f"{name}, reduced", plain_pairs, both(ours, jnp.stack), both(their, torch.stack), 2))
    options = [
        {"alpha": alpha, "gamma": gamma} for alpha, gamma in [(0.25, 2), (-1, 2), (0.9, 0), (0, 0.5), (0.25, 2.5)]
    ]
    ours, their = (
        of_each(module.sigmoid_focal_loss, options, stack)
        for module, stack in ((ops, jnp.stack), (theirs, torch.stack))
    )
    found.append(Case("sigmoid_focal_loss", logits_and_targets, ours, their))
    ours, their = both(ops.sigmoid_focal_loss, jnp.stack), both(theirs.sigmoid_focal_loss, torch.stack)
    found.append(Case("sigmoid_focal_loss, reduced", logits_and_targets, ours, their))
    for formats, inputs, bounds in (
        (("xyxy", "xywh", "cxcywh"), lambda dtype: pairs(dtype)[:1], (1e-6, 1e-6)),
        (("cxcywhr", "xywhr", "xyxyxyxy"), rotated, (3e-5, 3e-5)),  # sums of coordinates of some hundred pixels
    ):
        ours, their = (
            through_all(convert, join, formats)
            for convert, join in ((ops.box_convert, jnp.concatenate), (theirs.box_convert, torch.cat))
        )
        found.append(Case(f"box_convert, {formats[0]}", inputs, ours, their, 1, bounds))
    found.append(
        Case(
            "clip_boxes_to_image",
            lambda dtype: pairs(dtype)[:1],
            partial(ops.clip_boxes_to_image, size=(20, 10)),
            partial(theirs.clip_boxes_to_image, size=(20, 10)),
        )
    )
    return found


def plain_pairs(dtype: np.dtype) -> Arrays:
    """The random ones alone: reduced, a NaN or 1e7 hides everything."""
    first, second = pairs(dtype)
    return first[:200], second[:200]
