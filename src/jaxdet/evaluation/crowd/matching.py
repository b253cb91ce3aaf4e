"""Matching of an image's detections to its heads and ignored regions.

Boxes are xyxy in pixels. Axes: G heads, I ignored regions, D detections of one image.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

_TAKEN = -1  # replaces the IoUs with a head that is already matched


@dataclass(frozen=True, eq=False)
class ScoredImage:
    """The heads and the detections of one image. Every array may be empty.

    boxes: [G, 4] ground-truth heads.
    detections: [D, 4].
    scores: [D].
    ignored: [I, 4] regions and heads that count neither as found nor as missed.

    Raises:
        ValueError: the shapes do not match, or a number is not finite.
    """

    boxes: np.ndarray
    detections: np.ndarray
    scores: np.ndarray
    ignored: np.ndarray = field(default_factory=lambda: np.zeros((0, 4)))

    def __post_init__(self) -> None:
        for name in ("boxes", "detections", "scores", "ignored"):
            array = np.asarray(getattr(self, name), np.float64)
            if array.size == 0:
                array = array.reshape(0) if name == "scores" else array.reshape(0, 4)
            wanted = (len(self.detections),) if name == "scores" else (len(array), 4)
            if array.shape != wanted:
                raise ValueError(f"expected {name} of shape {list(wanted)}, got {list(array.shape)}")
            if not np.isfinite(array).all():
                raise ValueError(f"{name}: a number is not finite; leave out padding")
            object.__setattr__(self, name, array)

    def above(self, score: float) -> ScoredImage:
        """The image with the detections that have at least this score."""
        keep = self.scores >= score
        return ScoredImage(self.boxes, self.detections[keep], self.scores[keep], self.ignored)

    def best(self, limit: int) -> ScoredImage:
        """The image with its ``limit`` highest-scoring detections; ties are broken by coordinates."""
        first = np.lexsort((*self.detections.T[::-1], -self.scores))[:limit]
        return ScoredImage(self.boxes, self.detections[first], self.scores[first], self.ignored)


@dataclass(frozen=True, eq=False)
class HeadMatches:
    """The outcome of an image's detections. The arrays are in the order of matching, not of the image.

    scores: [D].
    overlaps: [D] intersection over union with the matched head, 0 without one.
    absorbed: [D] whether a detection matched no head and lies in an ignored region.
    heads: the number of ground-truth heads.
    """

    scores: np.ndarray
    overlaps: np.ndarray
    absorbed: np.ndarray
    heads: int

    @property
    def hits(self) -> np.ndarray:
        """[D] whether a detection matched a head."""
        return self.overlaps > 0

    @property
    def false(self) -> np.ndarray:
        """[D] whether a detection is a false positive."""
        return ~self.hits & ~self.absorbed

    @property
    def missed(self) -> int:
        """The number of heads without a detection."""
        return self.heads - int(self.hits.sum())


def match_by_score(image: ScoredImage, threshold: float) -> HeadMatches:
    """The matching for precision-recall and miss-rate curves: by decreasing score, each head at most once.

    The rule is that of Caltech's benchmark (Dollar et al., PAMI 2012; ``evalRes`` of Piotr's toolbox). A detection
    matches the free head of largest intersection over union, if that reaches ``threshold``. A detection without a match
    is absorbed if its intersection with one ignored region, divided by its own area, reaches ``threshold``; a region
    absorbs any number of detections. All others are false positives, including a head's second detection.

    The result does not depend on the order of boxes: detections of equal score are matched by decreasing overlap with
    any head, then by coordinates.
    """
    boxes = image.boxes[np.lexsort(image.boxes.T[::-1])]
    ious = box_ious(image.detections, boxes)  # [D, G]
    nearest = ious.max(axis=1, initial=0.0)
    order = np.lexsort((*image.detections.T[::-1], -nearest, -image.scores))
    ious, overlaps = ious[order], np.zeros(len(order))
    # Only detections that reach some head are looped over; most reach none.
    for row in np.flatnonzero(nearest[order] >= threshold):
        head = int(ious[row].argmax())
        if ious[row, head] >= threshold:
            overlaps[row] = ious[row, head]
            ious[:, head] = _TAKEN
    return _matches(image, order, overlaps, threshold)


def match_by_overlap(image: ScoredImage, threshold: float) -> HeadMatches:
    """The matching for the CLEAR metrics: the one-to-one assignment with the largest sum of overlaps.

    Scores are not used. As in Kasturi et al. (PAMI 2009) and MOT17Det, pairs below ``threshold`` do not match. Ignored
    regions absorb detections without a match as in `match_by_score`.
    """
    ious = box_ious(image.detections, image.boxes)
    ious = np.where(ious >= threshold, ious, 0.0)
    from scipy.optimize import linear_sum_assignment  # imported here because the import takes a third of a second

    rows, columns = linear_sum_assignment(ious, maximize=True)
    overlaps = np.zeros(len(ious))
    overlaps[rows] = ious[rows, columns]
    return _matches(image, np.arange(len(ious)), overlaps, threshold)


def box_ious(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """[N, M] intersection over union of boxes [N, 4] and [M, 4]; 0 if both have no area."""
    shared = _intersections(first, second)
    return _divided(shared, _areas(first)[:, None] + _areas(second)[None] - shared)


def box_coverage(boxes: np.ndarray, regions: np.ndarray) -> np.ndarray:
    """[N, M] the fraction of each box's area [N, 4] inside each region [M, 4]; 0 for a box without area."""
    return _divided(_intersections(boxes, regions), np.broadcast_to(_areas(boxes)[:, None], (len(boxes), len(regions))))


def _matches(image: ScoredImage, order: np.ndarray, overlaps: np.ndarray, threshold: float) -> HeadMatches:
    covered = box_coverage(image.detections[order], image.ignored).max(axis=1, initial=0.0) >= threshold
    return HeadMatches(image.scores[order], overlaps, covered & (overlaps == 0), len(image.boxes))


def _areas(boxes: np.ndarray) -> np.ndarray:
    return np.clip(boxes[:, 2:] - boxes[:, :2], 0, None).prod(axis=1)


def _intersections(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    low = np.maximum(first[:, None, :2], second[None, :, :2])
    high = np.minimum(first[:, None, 2:], second[None, :, 2:])
    return np.clip(high - low, 0, None).prod(axis=2)


def _divided(above: np.ndarray, below: np.ndarray) -> np.ndarray:
    return np.divide(above, below, out=np.zeros_like(above), where=below > 0)
