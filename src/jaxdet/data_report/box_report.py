"""Statistics of a dataset at a detector's input: counts, box sizes, canvases and anchor recall.

Axes: N images, G boxes of all images. Boxes are xyxy in pixels of the model's input.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from jaxdet.data import BatchPlan, DetectionDataset, EvalPlan
from jaxdet.data.batching.sizing import ShortestSide, Sizing
from jaxdet.data_report.anchor_recall import AnchorRecall, best_anchor_ious, recall_of
from jaxdet.models import DetectorConfig
from jaxdet.nn.masking import SIZE_DIVISIBLE
from jaxdet.ops.resize import resized_size

QUANTILES = (0.0, 0.01, 0.1, 0.5, 0.9, 0.99, 1.0)
SIZE_EDGES = (0, 8, 16, 32, 64, 128, 256, 512, 1024)
HALF = 0.5  # the lowest IoU threshold of COCO's evaluation

Quantiles = tuple[tuple[float, float], ...]  # (quantile, value), by quantile


@dataclass(frozen=True)
class CanvasUse:
    """The images of an epoch on one canvas."""

    height: int
    width: int
    images: int
    padding: float  # the fraction of the canvas, 0..1, that is empty with each image at its largest size


@dataclass(frozen=True)
class BoxReport:
    """The boxes of a dataset. A size is the square root of a box's area, an aspect ratio its height / width.

    below_stride: number of boxes smaller than ``finest_stride``, the stride of the highest-resolution level.
    thresholds: the IoUs of the recalls in ``anchors`` (all boxes), ``anchors_by_class`` and ``anchors_by_size``. All
        four are empty or None for a detector without anchors.
    """

    boxes: int
    ignored: int
    without_boxes: int
    median_per_image: float
    most_per_image: int
    sizes: Quantiles
    aspect_ratios: Quantiles
    finest_stride: int
    below_stride: int
    thresholds: tuple[float, ...]
    anchors: AnchorRecall | None
    anchors_by_class: tuple[AnchorRecall, ...]
    anchors_by_size: tuple[AnchorRecall, ...]


def box_report(dataset: DetectionDataset, config: DetectorConfig, strides: Sequence[int]) -> BoxReport:
    """Counts and statistics at the scale of the model's transform.

    Args:
        strides: the strides of the feature maps, highest resolution first.
    """
    records = dataset.records
    counts = np.array([len(record.labels) for record in records], np.int64)
    labels = np.concatenate([np.zeros(0, np.int32), *(record.labels for record in records)])
    boxes, extents = _at_input(dataset, counts, config)
    widths, heights = (boxes[:, 2:] - boxes[:, :2]).T
    sizes = np.sqrt(widths * heights)
    thresholds: tuple[float, ...] = ()
    found: AnchorRecall | None = None
    by_class: list[AnchorRecall] = []
    by_size: list[AnchorRecall] = []
    trained = config.anchors()
    if trained is not None:
        thresholds = (HALF, trained.fg_iou_thresh)
        ious = best_anchor_ious(boxes, extents, trained.generator, strides)
        bins = np.digitize(sizes, SIZE_EDGES) - 1
        found = recall_of("all", ious, thresholds)
        by_class = [recall_of(name, ious[labels == label], thresholds) for label, name in enumerate(dataset.names)][1:]
        by_size = [
            recall_of(_bin_name(number), ious[bins == number], thresholds) for number in np.unique(bins).tolist()
        ]
    return BoxReport(
        boxes=len(boxes),
        ignored=sum(len(record.ignored) for record in records),
        without_boxes=int((counts == 0).sum()),
        median_per_image=float(np.median(counts)) if len(counts) else 0.0,
        most_per_image=dataset.max_boxes,
        sizes=_quantiles(sizes),
        aspect_ratios=_quantiles(heights / widths),
        finest_stride=min(strides),
        below_stride=int((sizes < min(strides)).sum()),
        thresholds=thresholds,
        anchors=found,
        anchors_by_class=tuple(by_class),
        anchors_by_size=tuple(by_size),
    )


def canvas_use(plan: BatchPlan | EvalPlan, sizes: np.ndarray) -> tuple[CanvasUse, ...]:
    """The use of each canvas in the plan's first epoch. ``sizes [N, 2]`` are the image sizes the plan was made for."""
    images: defaultdict[tuple[int, int], int] = defaultdict(int)
    filled: defaultdict[tuple[int, int], int] = defaultdict(int)
    areas = _areas(plan.sizing, sizes)
    for step in range(plan.steps_per_epoch):
        batch = plan.batch(step)
        shown = batch.indices[batch.indices >= 0]
        images[batch.canvas] += len(shown)
        filled[batch.canvas] += int(areas[shown].sum())
    return tuple(
        CanvasUse(*canvas, count, 1 - filled[canvas] / (count * canvas[0] * canvas[1]))
        for canvas, count in sorted(images.items(), key=lambda item: item[0][0] * item[0][1])
    )


def _at_input(dataset: DetectionDataset, counts: np.ndarray, config: DetectorConfig) -> tuple[np.ndarray, np.ndarray]:
    """All boxes [G, 4] in pixels of the model's input, and the extents [G, 2] of their images."""
    transform = config.transform
    distinct, inverse = np.unique(dataset.sizes, axis=0, return_inverse=True)
    resized = [
        resized_size(h, w, transform.min_size, transform.max_size, enlarge=transform.enlarge)
        for h, w in distinct.tolist()
    ]
    # Images resized to zero pixels are reported as faults by `jaxdet.data_report.check`.
    inputs = np.maximum(np.array(resized, np.int64).reshape(-1, 2), 1)[inverse.reshape(-1)]  # [N, 2]
    image_of_box = np.repeat(np.arange(len(counts)), counts)  # [G]
    ratios = (inputs / dataset.sizes)[image_of_box][:, [1, 0, 1, 0]]
    boxes = np.concatenate([np.zeros((0, 4), np.float32), *(record.boxes for record in dataset.records)])
    extents = -(-inputs // SIZE_DIVISIBLE) * SIZE_DIVISIBLE
    return boxes.astype(np.float64) * ratios, extents[image_of_box]


def _areas(sizing: Sizing, sizes: np.ndarray) -> np.ndarray:
    """[N] pixels of each image on its canvas: at its largest scale, or at scale 1 with scale jitter."""
    distinct, inverse = np.unique(sizes, axis=0, return_inverse=True)
    areas = []
    for height, width in distinct.tolist():
        largest = sizing.largest(height, width)
        if not isinstance(sizing, ShortestSide):
            ratio = min(largest[0] / height, largest[1] / width)
            largest = round(height * ratio), round(width * ratio)
        areas.append(largest[0] * largest[1])
    return np.array(areas, np.int64)[inverse.reshape(-1)]


def _quantiles(values: np.ndarray) -> Quantiles:
    if not len(values):
        return ()
    return tuple(zip(QUANTILES, np.quantile(values, QUANTILES).tolist(), strict=True))


def _bin_name(number: int) -> str:
    if number == len(SIZE_EDGES) - 1:
        return f"from {SIZE_EDGES[number]} px"
    return f"{SIZE_EDGES[number]} to {SIZE_EDGES[number + 1]} px"
