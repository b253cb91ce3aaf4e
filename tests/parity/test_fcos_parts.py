"""FCOS's parts against torchvision's: coder, head, target assignment with the three losses, post-processing.

In float32 here and in float64 in a process of its own.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from float64 import float64_environment
from jaxdet.models.fcos.losses import fcos_losses
from jaxdet.models.fcos.model import FCOSHead
from jaxdet.models.fcos.outputs import FCOSOutputs
from jaxdet.models.fcos.postprocess import postprocess
from jaxdet.models.fcos.targets import assign_targets
from jaxdet.nn import NormConfig, Numerics
from jaxdet.ops.linear_box_coder import BoxLinearCoder
from jaxdet.types import Targets
from torchvision_cpu import torchvision_or_skip

torchvision_or_skip()
import torch  # noqa: E402
from closeness import close, tensor  # noqa: E402
from torchvision.models.detection import _utils, fcos  # noqa: E402

CHANNELS, CLASSES = 64, 5
MAPS = ((12, 16), (6, 8), (3, 4))
STRIDES = (8, 16, 32)
COUNTS = tuple(height * width for height, width in MAPS)
SIZES = ((96, 128), (90, 101))  # of the images


def anchors_of(dtype):
    """Per level ``[N, 4]``, as torchvision places them: centred at the corner of each cell."""
    levels = []
    for (height, width), stride in zip(MAPS, STRIDES, strict=True):
        y, x = np.mgrid[:height, :width] * stride
        centre = np.stack([x, y, x, y], axis=-1).reshape(-1, 4)
        levels.append((centre + np.array([-1, -1, 1, 1]) * stride / 2).astype(dtype))
    return levels


def check_coder(dtype):
    rng = np.random.default_rng(0)
    corner = rng.uniform(-5, 60, (40, 2))
    boxes = np.concatenate([corner, corner + rng.uniform(2, 40, (40, 2))], axis=1).astype(dtype)
    anchors, codes = np.concatenate(anchors_of(dtype))[:40], rng.uniform(0, 5, (40, 4)).astype(dtype)
    for normalize in (True, False):
        theirs, ours = _utils.BoxLinearCoder(normalize), BoxLinearCoder(normalize)
        close(jax.jit(ours.encode)(anchors, boxes), theirs.encode(tensor(anchors), tensor(boxes)), dtype)
        close(jax.jit(ours.decode)(codes, anchors), theirs.decode(tensor(codes), tensor(anchors)), dtype)


def check_head(dtype):
    torch.manual_seed(0)
    theirs = fcos.FCOSHead(CHANNELS, 1, CLASSES).to(getattr(torch, dtype))
    with torch.no_grad():
        for parameter in theirs.parameters():
            parameter.add_(torch.randn_like(parameter) * (0.05 if parameter.ndim > 1 else 0.3))
    ours = FCOSHead(
        CHANNELS, 1, CLASSES, norm=NormConfig("group"), numerics=Numerics(dtype, dtype), rngs=nnx.Rngs(0)
    )  # fmt: skip
    pairs = []
    for half, source in ((ours.classification, theirs.classification_head), (ours.regression, theirs.regression_head)):
        for index, block in enumerate(half.tower):
            pairs += [(block.conv, source.conv[3 * index])]
            block.norm.scale[...], block.norm.bias[...] = (
                jnp.asarray(parameter.detach().numpy()) for parameter in source.conv[3 * index + 1].parameters()
            )
    pairs += [
        (ours.classification.output, theirs.classification_head.cls_logits),
        (ours.regression.output, theirs.regression_head.bbox_reg),
        (ours.regression.centerness, theirs.regression_head.bbox_ctrness),
    ]
    for conv, source in pairs:
        conv.kernel[...] = jnp.asarray(source.weight.detach().numpy().transpose(2, 3, 1, 0))
        conv.bias[...] = jnp.asarray(source.bias.detach().numpy())
    rng = np.random.default_rng(1)
    maps = [rng.normal(size=(2, *size, CHANNELS)).astype(dtype) for size in MAPS]
    expected = theirs([tensor(x.transpose(0, 3, 1, 2)) for x in maps])
    named = {str(level): jnp.asarray(x) for level, x in enumerate(maps)}
    logits, deltas, centerness = jax.jit(lambda maps: ours(maps, dict.fromkeys(maps)))(named)
    assert [x.shape[1] for x in logits] == list(COUNTS)
    close(jnp.concatenate(logits, axis=1), expected["cls_logits"], dtype)
    close(jnp.concatenate(deltas, axis=1), expected["bbox_regression"], dtype)
    close(jnp.concatenate(centerness, axis=1)[..., None], expected["bbox_ctrness"], dtype)
    assert 0.2 < float((jnp.concatenate(deltas, axis=1) == 0).mean()) < 0.8  # both sides of the ReLU


# An image with boxes of several sizes, two of them nested, and two around one centre with almost the same area (1e8
# minus the area is equal in float32); one without boxes; one with a box too large to match anything.
TRUTHS = (
    ([[10, 10, 42, 50], [12, 12, 30, 34], [40, 9, 80, 49], [40, 9.05, 80, 48.95], [5, 60, 125, 94]], [1, 4, 2, 3, 1]),
    (np.zeros((0, 4)), []),
    ([[-20000, -20000, 20000, 20000], [20, 20, 60, 52]], [2, 1]),
)


def check_losses(dtype):
    """Padding contains NaN in ours, and a fourth slot of the batch has no image."""
    rng = np.random.default_rng(2)
    levels, batch, count = anchors_of(dtype), 3, sum(COUNTS)
    known = np.concatenate(levels)
    logits = rng.normal(-2, 2, (batch, count, CLASSES)).astype(dtype)
    deltas = np.maximum(rng.normal(1, 1.5, (batch, count, 4)), 0).astype(dtype)
    centerness = rng.normal(0, 1, (batch, count, 1)).astype(dtype)
    arrays = {"cls_logits": logits, "bbox_regression": deltas, "bbox_ctrness": centerness}
    predicted = {name: tensor(array).requires_grad_() for name, array in arrays.items()}
    matches = []
    head = fcos.FCOSHead(CHANNELS, 1, CLASSES)
    compute_loss = head.compute_loss
    head.compute_loss = lambda *args: (matches.append(args[-1]), compute_loss(*args))[1]
    targets = [
        {"boxes": tensor(np.asarray(boxes, dtype)), "labels": torch.tensor(labels, dtype=torch.int64)}
        for boxes, labels in TRUTHS
    ]
    theirs = SimpleNamespace(head=head, center_sampling_radius=1.5)
    expected = fcos.FCOS.compute_loss(theirs, targets, predicted, [tensor(known)] * batch, list(COUNTS))
    sum(weight * value for weight, value in zip((2, 3, 5), expected.values(), strict=True)).backward()

    def pad(x, value=np.nan):
        return np.pad(x, [(0, 1), (0, 7), *[(0, 0)] * (x.ndim - 2)], constant_values=value)

    def split(x):
        """Padding is at the end of every level."""
        parts = np.split(x, np.cumsum(COUNTS)[:-1], axis=1)
        return tuple(jnp.asarray(pad(part, False if part.dtype == bool else np.nan)) for part in parts)

    valid = split(np.ones((batch, count), bool))
    anchors = split(np.broadcast_to(known, (batch, *known.shape)))
    slots = 6
    boxes, labels = np.full((batch + 1, slots, 4), np.nan, dtype), np.full((batch + 1, slots), 77, np.int32)
    for row, (image_boxes, image_labels) in enumerate(TRUTHS):
        boxes[row, : len(image_labels)], labels[row, : len(image_labels)] = image_boxes, image_labels
    truth = Targets(jnp.asarray(boxes), jnp.asarray(labels), jnp.asarray(labels != 77))
    sizes = tuple(level.shape[1] for level in anchors)

    @jax.jit
    def run(predicted):
        joined = jnp.concatenate(anchors, axis=1)

        def total(predicted):
            assign = lambda *args: assign_targets(*args, counts=sizes)
            assigned = jax.vmap(assign)(joined, jnp.concatenate(valid, axis=1), truth)
            values = fcos_losses(
                FCOSOutputs(predicted[0], predicted[1], anchors, valid, predicted[2]), joined, assigned
            )
            weights = {"classification": 2, "bbox_regression": 3, "bbox_ctrness": 5}
            return sum(weights[name] * value for name, value in values.items()), (values, assigned)

        return jax.value_and_grad(total, has_aux=True)(predicted)

    (_, (values, assigned)), gradients = run((split(logits), split(deltas), split(centerness[..., 0])))

    def joined(levels, row=slice(None)):
        parts = [np.asarray(level)[row, :own] for level, own in zip(levels, COUNTS, strict=True)]
        return np.concatenate(parts, axis=-1 if np.asarray(levels[0]).ndim == 2 else 1)

    def own(x):
        """Of an array ``[B, all padded anchors, ...]`` the anchors that are not padding."""
        starts = np.cumsum((0, *sizes))[:-1]
        return np.concatenate([np.asarray(x)[:, s : s + n] for s, n in zip(starts, COUNTS, strict=True)], axis=1)

    for row, matched in enumerate(matches[0]):
        matched = matched.numpy()
        np.testing.assert_array_equal(own(assigned.positive)[row], matched >= 0)
        np.testing.assert_array_equal(own(assigned.negative)[row], matched < 0)
        wanted = np.asarray(TRUTHS[row][1] + [0])[np.where(matched < 0, -1, matched)] if len(TRUTHS[row][1]) else 0
        np.testing.assert_array_equal(own(assigned.labels)[row], wanted)
    # Areas of 1600 and 1596 are equal in float32, and the first one is taken.
    smallest = 2 if dtype == "float32" else 3
    assert set(matches[0][0].tolist()) == {-1, 0, 1, smallest, 4} and set(matches[0][2].tolist()) == {-1, 1}
    assert not np.asarray(assigned.positive)[3].any() and not np.asarray(assigned.negative)[3].any()
    for name, value in expected.items():
        close(values[name], value, dtype)
        assert float(values[name]) > 0.1
    for gradient, (name, parameter) in zip(gradients, predicted.items(), strict=True):
        found = np.concatenate([np.asarray(x)[:batch, :n] for x, n in zip(gradient, COUNTS, strict=True)], axis=1)
        close(found.reshape(parameter.shape), parameter.grad, dtype), name
        for x, n in zip(gradient, COUNTS, strict=True):
            assert not np.asarray(x)[batch:].any() and not np.asarray(x)[:, n:].any()


def check_postprocess(topk, limit, dtype):
    """Two images of two sizes. Padding contains NaN."""
    rng = np.random.default_rng(3)
    logits = [rng.normal(-2, 2, (2, count, CLASSES)).astype(dtype) for count in COUNTS]
    deltas = [np.maximum(rng.normal(2, 1, (2, count, 4)), 0).astype(dtype) for count in COUNTS]
    centerness = [rng.normal(0, 1, (2, count, 1)).astype(dtype) for count in COUNTS]
    anchors = [np.stack([level, level]) for level in anchors_of(dtype)]
    theirs = SimpleNamespace(
        score_thresh=0.2, nms_thresh=0.6, detections_per_img=limit, topk_candidates=topk,
        box_coder=_utils.BoxLinearCoder(normalize_by_size=True),
    )  # fmt: skip
    outputs = {"cls_logits": logits, "bbox_regression": deltas, "bbox_ctrness": centerness}
    outputs = {name: [*map(tensor, levels)] for name, levels in outputs.items()}
    placed = [[tensor(level[image]) for level in anchors] for image in range(2)]
    expected = fcos.FCOS.postprocess_detections(theirs, outputs, placed, SIZES)

    def fill(levels):
        pads = [[(0, 0), (0, 4), *[(0, 0)] * (x.ndim - 2)] for x in levels]
        return tuple(jnp.asarray(np.pad(x, p, constant_values=np.nan)) for x, p in zip(levels, pads, strict=True))

    valid = tuple(jnp.tile(jnp.arange(count + 4)[None] < count, (2, 1)) for count in COUNTS)
    padded = FCOSOutputs(fill(logits), fill(deltas), fill(anchors), valid, fill([x[..., 0] for x in centerness]))
    found = jax.jit(
        lambda *args: postprocess(*args, detections_per_img=limit, topk_candidates=topk)
    )(padded, jnp.asarray(SIZES))  # fmt: skip
    for row, one in enumerate(expected):
        keep = np.asarray(found.valid[row])
        assert keep.sum() == len(one["labels"]) > 10 and keep[: keep.sum()].all()
        assert found.labels[row][keep].tolist() == one["labels"].tolist()
        close(found.scores[row][keep], one["scores"], dtype)
        close(found.boxes[row][keep], one["boxes"], dtype)


POSTPROCESS = [(1000, 100), (25, 12), (1000, 2000)]  # the last has all above the threshold


def test_coder():
    check_coder("float32")


def test_head():
    check_head("float32")


def test_targets_losses_and_their_gradients():
    check_losses("float32")


@pytest.mark.parametrize("topk, limit", POSTPROCESS)
def test_detections(topk, limit):
    check_postprocess(topk, limit, "float32")


def test_in_float64():
    """All of it by this file as a program: ``jax_enable_x64`` holds for a whole process."""
    command = [sys.executable, "-W", "error", __file__]
    run = subprocess.run(command, env=float64_environment(Path(__file__).parent), capture_output=True, text=True)
    assert run.returncode == 0, run.stderr


if __name__ == "__main__":
    check_coder("float64")
    check_head("float64")
    check_losses("float64")
    check_postprocess(*POSTPROCESS[0], "float64")
