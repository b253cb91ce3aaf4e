"""RetinaNet's parts against torchvision's: heads, target assignment with both losses, post-processing.

In float32 here and in float64 in a process of its own.
"""

from __future__ import annotations

import os
import subprocess
import sys
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from jaxdet.heads.dense_head import DenseHead, DenseOutputs
from jaxdet.models.retinanet.losses import box_regression_loss, classification_loss
from jaxdet.models.retinanet.postprocess import postprocess
from jaxdet.models.retinanet.targets import assign_targets
from jaxdet.nn import NormConfig, Numerics
from jaxdet.types import Targets
from torchvision_cpu import torchvision_or_skip

torchvision_or_skip()
import torch  # noqa: E402
from closeness import close, tensor  # noqa: E402
from torchvision.models.detection import _utils  # noqa: E402
from torchvision.models.detection.retinanet import RetinaNet, RetinaNetHead  # noqa: E402
from torchvision.ops import box_iou  # noqa: E402

CHANNELS, ANCHORS, CLASSES = 64, 3, 5
MAPS = ((9, 13), (5, 7), (3, 4))
SIZES = ((100, 90), (70, 120))  # of the images
VERSIONS = ("l1", "giou")  # the box losses of torchvision's v1 and v2


def head_pair(version, dtype):
    """torchvision's head and our two halves, with the same random parameters."""
    torch.manual_seed(0)
    norm = partial(torch.nn.GroupNorm, 32) if version == "giou" else None
    theirs = RetinaNetHead(CHANNELS, ANCHORS, CLASSES, norm_layer=norm).to(getattr(torch, dtype))
    with torch.no_grad():
        for name, parameter in theirs.named_parameters():
            parameter.add_(torch.randn_like(parameter) * (0.05 if parameter.ndim > 1 else 0.3), alpha=1)
            assert parameter.dtype == getattr(torch, dtype), name
    config = NormConfig("group") if norm else None
    halves = []
    for half, output, count in (
        (theirs.classification_head, "cls_logits", CLASSES), (theirs.regression_head, "bbox_reg", 4),
    ):  # fmt: skip
        ours = DenseHead(CHANNELS, ANCHORS, count, norm=config, numerics=Numerics(dtype, dtype), rngs=nnx.Rngs(0))
        convs = [(conv.conv, block[0]) for conv, block in zip(ours.tower, half.conv, strict=True)]
        for conv, source in [*convs, (ours.output, getattr(half, output))]:
            conv.kernel[...] = jnp.asarray(source.weight.detach().numpy().transpose(2, 3, 1, 0))
            assert (conv.bias is None) == (source.bias is None)
            if source.bias is not None:
                conv.bias[...] = jnp.asarray(source.bias.detach().numpy())
        for conv, block in zip(ours.tower, half.conv, strict=True):
            if norm is not None:
                conv.norm.scale[...] = jnp.asarray(block[1].weight.detach().numpy())
                conv.norm.bias[...] = jnp.asarray(block[1].bias.detach().numpy())
        halves.append(ours)
    return theirs, halves


def check_heads(version, dtype):
    theirs, halves = head_pair(version, dtype)
    rng = np.random.default_rng(0)
    maps = [rng.normal(size=(2, *size, CHANNELS)).astype(dtype) for size in MAPS]
    expected = theirs([tensor(x.transpose(0, 3, 1, 2)) for x in maps])
    named = {str(level): jnp.asarray(x) for level, x in enumerate(maps)}
    for ours, output in zip(halves, expected.values(), strict=True):
        found = jax.jit(lambda maps, ours=ours: ours(maps))(named)
        assert [x.shape[1] for x in found] == [ANCHORS * height * width for height, width in MAPS]
        close(jnp.concatenate(found, axis=1), output, dtype)


def anchors_of(dtype, counts, seed=1):
    """Anchors of an image, level by level, whole pixels as a generator's."""
    rng = np.random.default_rng(seed)
    levels = []
    for level, count in enumerate(counts):
        corner = rng.integers(-10, 80, (count, 2))
        levels.append(np.concatenate([corner, corner + rng.integers(8, 24, (count, 2)) * 2**level], 1).astype(dtype))
    return levels


# An image with objects, among them one that no anchor is near, and one equal to an anchor; one without; one whose
# object overlaps nothing, so that every anchor that overlaps nothing is matched to it.
def ground_truths(anchors):
    far = [900, 900, 950, 940]
    return [
        ([[10, 10, 42, 50], [30, 20, 90, 80], [3, 4, 9, 9], anchors[7]], [1, 4, 2, 3]),
        (np.zeros((0, 4)), []),
        ([far, [10, 10, 42, 50]], [2, 1]),
    ]


def check_losses(version, dtype):
    """Padding holds NaN on our side, and a fourth slot of the batch holds no image."""
    rng = np.random.default_rng(2)
    known = np.concatenate(anchors_of(dtype, (300, 100, 30)))
    count, batch = len(known), 3
    truths = ground_truths(known)
    logits = rng.normal(-2, 2, (batch, count, CLASSES)).astype(dtype)
    deltas = rng.normal(0, 1, (batch, count, 4)).astype(dtype)
    deltas[:, ::3] = 0  # what a new model predicts where its tower is dead
    deltas[:, 1::7, 2:] += 5  # beyond the bound of the coder
    predicted = {"cls_logits": tensor(logits).requires_grad_(), "bbox_regression": tensor(deltas).requires_grad_()}
    head = RetinaNetHead(CHANNELS, ANCHORS, CLASSES)
    head.regression_head._loss_type = version
    theirs = SimpleNamespace(head=head, proposal_matcher=_utils.Matcher(0.5, 0.4, allow_low_quality_matches=True))
    targets = [
        {"boxes": tensor(np.asarray(boxes, dtype)), "labels": torch.tensor(labels, dtype=torch.int64)}
        for boxes, labels in truths
    ]
    expected = RetinaNet.compute_loss(theirs, targets, predicted, [tensor(known)] * batch)
    (2 * expected["classification"] + 3 * expected["bbox_regression"]).backward()

    pad = lambda x, value=np.nan: np.pad(x, [(0, 1), (0, 9), (0, 0)][: x.ndim], constant_values=value)
    slots = 6
    boxes, labels = np.full((batch + 1, slots, 4), np.nan, dtype), np.full((batch + 1, slots), 77, np.int32)
    for row, (image_boxes, image_labels) in enumerate(truths):
        boxes[row, : len(image_labels)], labels[row, : len(image_labels)] = image_boxes, image_labels
    valid = pad(np.ones((batch, count), bool), False)
    all_targets = Targets(jnp.asarray(boxes), jnp.asarray(labels), jnp.asarray(labels != 77))
    all_anchors = pad(np.broadcast_to(known, (batch, *known.shape)))

    @jax.jit
    def run(predicted, anchors, valid, targets):
        def losses(predicted):
            assigned = jax.vmap(assign_targets)(anchors, valid, targets)
            present = valid.any(axis=1)
            values = (
                classification_loss(jnp.split(predicted[0], (300, 400), axis=1), assigned, present),
                box_regression_loss(predicted[1], anchors, assigned, present, version),
            )
            return 2 * values[0] + 3 * values[1], (values, assigned)

        return jax.value_and_grad(losses, has_aux=True)(predicted)

    (_, (values, assigned)), gradients = run((pad(logits), pad(deltas)), all_anchors, valid, all_targets)
    for row in (0, 2):
        matched = theirs.proposal_matcher(box_iou(targets[row]["boxes"], tensor(known))).numpy()
        np.testing.assert_array_equal(assigned.positive[row, :count], matched >= 0)
        np.testing.assert_array_equal(assigned.negative[row, :count], matched == -1)
    assert assigned.negative[1, :count].all() and assigned.positive[2].sum() > 200
    assert not assigned.positive[:, count:].any() and not assigned.negative[:, count:].any()
    for value, name in zip(values, ("classification", "bbox_regression"), strict=True):
        close(value, expected[name], dtype)
        assert float(value) > 0.1
    for gradient, name in zip(gradients, predicted, strict=True):
        close(gradient[:batch, :count], predicted[name].grad, dtype)
        assert not np.asarray(gradient)[batch:].any() and not np.asarray(gradient)[:, count:].any()


def check_postprocess(topk, limit, dtype):
    """Two images of two sizes; three levels, of which the last has fewer pairs above the threshold than are taken."""
    rng = np.random.default_rng(3)
    counts = (120, 40, 6)
    logits = [rng.normal(-3, 2, (2, count, CLASSES)).astype(dtype) for count in counts]
    deltas = [rng.normal(0, 0.5, (2, count, 4)).astype(dtype) for count in counts]
    anchors = [np.stack([level, level[::-1]]) for level in anchors_of(dtype, counts)]
    coder = _utils.BoxCoder(weights=(1.0, 1.0, 1.0, 1.0))
    theirs = SimpleNamespace(
        score_thresh=0.05, nms_thresh=0.5, detections_per_img=limit, topk_candidates=topk, box_coder=coder
    )
    outputs = {"cls_logits": [*map(tensor, logits)], "bbox_regression": [*map(tensor, deltas)]}
    own = [[tensor(level[image]) for level in anchors] for image in range(2)]
    expected = RetinaNet.postprocess_detections(theirs, outputs, own, SIZES)

    fill = lambda x: jnp.asarray(np.pad(x, [(0, 0), (0, 4), (0, 0)], constant_values=np.nan))
    valid = tuple(jnp.tile(jnp.arange(count + 4)[None] < count, (2, 1)) for count in counts)
    padded = DenseOutputs(*(tuple(map(fill, part)) for part in (logits, deltas, anchors)), valid)
    found = jax.jit(
        lambda *args: postprocess(*args, detections_per_img=limit, topk_candidates=topk)
    )(padded, jnp.asarray(SIZES))  # fmt: skip
    seen = set()
    for row, theirs in enumerate(expected):
        keep = np.asarray(found.valid[row])
        assert keep.sum() == len(theirs["labels"]) > 10 and keep[: keep.sum()].all()
        assert found.labels[row][keep].tolist() == theirs["labels"].tolist()
        close(found.scores[row][keep], theirs["scores"], dtype)
        close(found.boxes[row][keep], theirs["boxes"], dtype)
        assert not np.asarray(found.boxes[row])[~keep].any() and not np.asarray(found.scores[row])[~keep].any()
        seen |= set(theirs["labels"].tolist())
    assert seen == set(range(CLASSES))  # column 0 is a class as any other


POSTPROCESS = [(1000, 300), (25, 30)]


@pytest.mark.parametrize("version", VERSIONS)
def test_heads(version):
    check_heads(version, "float32")


@pytest.mark.parametrize("version", VERSIONS)
def test_losses_and_their_gradients(version):
    check_losses(version, "float32")


@pytest.mark.parametrize("topk, limit", POSTPROCESS)
def test_detections(topk, limit):
    check_postprocess(topk, limit, "float32")


def test_in_float64():
    """All of it by this file as a program: ``jax_enable_x64`` holds for a whole process."""
    environment = os.environ | {
        "JAX_ENABLE_X64": "1",
        "JAX_NUMPY_RANK_PROMOTION": "raise",
        "JAX_COMPILATION_CACHE_DIR": jax.config.jax_compilation_cache_dir,
        "PYTHONPATH": os.pathsep.join([str(Path(__file__).parent), *sys.path]),
    }
    command = [sys.executable, "-W", "error", __file__]
    run = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr


if __name__ == "__main__":
    for box_loss in VERSIONS:
        check_heads(box_loss, "float64")
        check_losses(box_loss, "float64")
    for options in POSTPROCESS:
        check_postprocess(*options, "float64")
