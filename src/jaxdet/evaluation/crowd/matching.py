"""Which detections of an image are heads, which are false, and which lie where nothing counts.

Boxes are xyxy in pixels, continuous. Axes: G heads, I ignored regions, D detections of one image.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

_NO_BOX = -1


@dataclass(frozen=True, eq=False)
class ScoredImage:
    """One image's heads and what a detector found there; every part may be empty.

    boxes: [G, 4] of the heads.
    detections: [D, 4]; scores: [D].
    ignored: [I, 4] regions and heads that count neither as found nor as missed.

    Raises:
        ValueError: shapes do not belong together, or a number is not finite.
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
                raise ValueError(f"{name}: a number is not finite; leave padded slots out")
            object.__setattr__(self, name, array)

    def above(self, score: float) -> ScoredImage:
        """The image with the detections of at least this score."""
        keep = self.scores >= score
        return ScoredImage(self.boxes, self.detections[keep], self.scores[keep], self.ignored)

    def best(self, limit: int) -> ScoredImage:
        """The image with its ``limit`` detections of the highest scores; of equal ones by their coordinates."""
        first = np.lexsort((*self.detections.T[::-1], -self.scores))[:limit]
        return ScoredImage(self.boxes, self.detections[first], self.scores[first], self.ignored)


@dataclass(frozen=True, eq=False)
class HeadMatches:
    """What became of an image's detections.

    scores: [D]; the order of all three arrays is that of the matching, not of the image.
    overlaps: [D] intersection over union with the head that was found, 0 where none was.
    absorbed: [D] whether a detection found no head and lies in an ignored region.
    heads: how many there were to find.
    """

    scores: np.ndarray
    overlaps: np.ndarray
    absorbed: np.ndarray
    heads: int

    @property
    def hits(self) -> np.ndarray:
        """[D] whether a head was found."""
        return self.overlaps > 0

    @property
    def false(self) -> np.ndarray:
        """[D] whether it is a false alarm."""
        return ~self.hits & ~self.absorbed

    @property
    def missed(self) -> int:
        """Heads that were not found."""
        return self.heads - int(self.hits.sum())


def match_by_score(image: ScoredImage, threshold: float) -> HeadMatches:
    """The matching of precision-recall and miss-rate curves: by decreasing score, each head at most once.

    The rule of Caltech's benchmark (Dollar et al., PAMI 2012; ``evalRes`` of Piotr's toolbox). A detection takes, of
    the heads that are still free, the one of the largest intersection over union, if that reaches ``threshold``. One
    that finds none is absorbed if its intersection with one ignored region, over its own area, reaches ``threshold``; a
    region absorbs any number. Everything else is false, a head's second detection, too.

    Nothing depends on the order in which boxes are given: detections of equal score take their turn by decreasing
    overlap with any head, then by coordinates.
    """
    boxes = image.boxes[np.lexsort(image.boxes.T[::-1])]
    ious = box_ious(image.detections, boxes)  # [D, G]
    nearest = ious.max(axis=1, initial=0.0)
    order = np.lexsort((*image.detections.T[::-1], -nearest, -image.scores))
    ious, overlaps = ious[order], np.zeros(len(order))
    # Most candidates reach no head at all, so that only the others need their turn.
    for row in np.flatnonzero(nearest[order] >= threshold):
        head = int(ious[row].argmax())
        if ious[row, head] >= threshold:
            overlaps[row] = ious[row, head]
            ious[:, head] = _NO_BOX
    return _matches(image, order, overlaps, threshold)


def match_by_overlap(image: ScoredImage, threshold: float) -> HeadMatches:
    """The matching of the CLEAR measures: the one-to-one mapping of the largest sum of overlaps, whatever the scores.

    As Kasturi et al. (PAMI 2009) and MOT17Det define it; pairs below ``threshold`` do not match. What matches nothing
    is absorbed by ignored regions as in `match_by_score`.
    """
    ious = box_ious(image.detections, image.boxes)
    ious = np.where(ious >= threshold, ious, 0.0)
    from scipy.optimize import linear_sum_assignment  # a third of a second that nobody else need wait for

    rows, columns = linear_sum_assignment(ious, maximize=True)
    overlaps = np.zeros(len(ious))
    overlaps[rows] = ious[rows, columns]
    return _matches(image, np.arange(len(ious)), overlaps, threshold)


def box_ious(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """[N, M] intersection over union of boxes [N, 4] and [M, 4]; 0 where both are without area."""
    shared = _intersections(first, second)
    return _divided(shared, _areas(first)[:, None] + _areas(second)[None] - shared)


def box_coverage(boxes: np.ndarray, regions: np.ndarray) -> np.ndarray:
    """[N, M] the part of each box [N, 4] that lies in each region [M, 4]; 0 for a box without area."""
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
