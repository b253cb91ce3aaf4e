"""What the training tests train: torchvision's modules and twins, and images with boxes or classes."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from training_job import Arrays, Job, state_of
from weights import smooth_image

from jaxdet.training import OptimizerConfig

CLASSES = 5  # with the background
COUNTS = (3, 0), (1, 2)  # of boxes, by batch and image
CALM = 0.2  # of what the box predictor is given, and of what it gives
SGD = OptimizerConfig(learning_rate=1e-3, momentum=0.9, weight_decay=1e-4, schedule="constant", warmup_steps=0)


def detector_case(
    make: Callable[..., Any], name: str, frozen: bool, size: tuple[int, int], proposals: int, *,
    counts: Sequence[Sequence[int]] = COUNTS, **job: Any,
) -> tuple[Any, Job]:  # fmt: skip
    """A module that ``make`` gives, and what both sides do with it; one image of four has no box."""
    slots = max(map(max, counts))
    module, model = make(name, 0, frozen, **detector_options(*size, proposals, slots))
    module = calm(module)
    batches = [detector_batch(seed, *size, boxes, slots) for seed, boxes in enumerate(counts)]
    return module, Job(model.config, state_of(module), batches, SGD, **job)


def calm(module: Any) -> Any:
    """A copy that this learning rate trains.

    The weights are made for detections that differ: the predictor's inputs have a squared norm of some hundreds, and
    steps of SGD with momentum then overshoot. The loss rises, and each step multiplies whatever difference there is,
    of torchvision with itself, too, until nothing can be compared.
    """
    import torch

    module = copy.deepcopy(module)
    if not hasattr(module, "roi_heads"):
        return calm_dense(module)
    with torch.no_grad():
        last = [layer for layer in module.roi_heads.box_head.modules() if isinstance(layer, torch.nn.Linear)][-1]
        predictor = module.roi_heads.box_predictor
        for layer in (last, predictor.cls_score, predictor.bbox_pred):
            layer.weight.mul_(CALM)
            layer.bias.mul_(CALM)
    return module


def calm_dense(module: Any) -> Any:
    """The same of a detector whose head sees every location."""
    import torch

    with torch.no_grad():
        for part in (module.head.classification_head, module.head.regression_head):
            for name in ("cls_logits", "bbox_reg", "bbox_ctrness"):
                if (layer := getattr(part, name, None)) is not None:
                    layer.weight.mul_(CALM)
    return module


def dense_case(
    make: Callable[..., Any], name: str, frozen: bool, size: tuple[int, int], *,
    counts: Sequence[Sequence[int]] = COUNTS, **job: Any,
) -> tuple[Any, Job]:  # fmt: skip
    """As `detector_case`, of a detector that draws nothing."""
    slots = max(map(max, counts))
    options = {"num_classes": CLASSES, "min_size": size[0], "max_size": 10 * size[1]}
    module, model = make(name, 0, frozen, **options)
    module = calm(module)
    batches = [detector_batch(seed, *size, boxes, slots) for seed, boxes in enumerate(counts)]
    return module, Job(model.config, state_of(module), batches, SGD, **job)


def detector_options(height: int, width: int, proposals: int, slots: int) -> dict[str, Any]:
    """torchvision's options under which nothing is resized, and nothing drawn: every candidate is a sample."""
    anchors = 3 * sum(-(-height // stride) * -(-width // stride) for stride in (4, 8, 16, 32, 64))
    return {
        "num_classes": CLASSES,
        "min_size": height,
        "max_size": 10 * width,
        "rpn_pre_nms_top_n_train": 4 * proposals,
        "rpn_post_nms_top_n_train": proposals,
        "rpn_batch_size_per_image": anchors,
        "rpn_positive_fraction": 1.0,
        "box_batch_size_per_image": proposals + slots,
        "box_positive_fraction": 1.0,
    }


def detector_batch(seed: int, height: int, width: int, counts: Sequence[int], slots: int) -> Arrays:
    """Images with so many boxes each, in so many slots, on a canvas of multiples of 32.

    The images differ in width within their last 32 pixels: torchvision then computes each as if it were alone, on the
    same padded size. Were they to differ by more, it would pad some further, and its result would depend on that.
    """
    rng = np.random.default_rng(seed)
    images = np.zeros((len(counts), height, width, 3), np.uint8)
    sizes = np.array([(height, width - 9 * row) for row in range(len(counts))])
    boxes, valid = np.zeros((len(counts), slots, 4)), np.zeros((len(counts), slots), bool)
    for row, count in enumerate(counts):
        own = sizes[row]
        images[row, :, : own[1]] = smooth_image(100 * seed + row, *own)
        corner = rng.uniform(0, 0.5, (count, 2)) * own[::-1]
        boxes[row, :count] = np.concatenate([corner, corner + rng.uniform(0.2, 0.5, (count, 2)) * own[::-1]], axis=1)
        valid[row, :count] = True
    boxes[0] = np.round(boxes[0])  # whole pixels, where overlaps tie
    labels = rng.integers(1, CLASSES, valid.shape)
    return {"pictures": images, "sizes": sizes, "boxes": boxes, "labels": labels, "valid": valid}


def classifier_batch(seed: int, side: int, count: int, num_classes: int) -> Arrays:
    """Square images, each of a class."""
    images = np.stack([smooth_image(100 * seed + row, side, side) for row in range(count)])
    return {"pictures": images, "labels": np.random.default_rng(seed).integers(0, num_classes, count)}
