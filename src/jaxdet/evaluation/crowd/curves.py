"""The curve of a detector over its score thresholds, and the numbers that sum it up."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from jaxdet.evaluation.crowd.matching import HeadMatches

LAMR_POINTS = np.logspace(-2, 0, 9)  # false positives per image
_FLOOR = 1e-10  # of a miss rate, whose logarithm is taken; as in Caltech's benchmark


@dataclass(frozen=True, eq=False)
class HeadCurve:
    """Counts of what is found and what is false at each distinct score or above. N points, by decreasing score.

    Detections of one score are one point, so that their order cannot matter. Absorbed ones are none.

    scores: [N]; hits, false: [N] counts of the detections of at least that score.
    heads: that were there to find; images: all that were looked at, those without a head or a detection, too.
    """

    scores: np.ndarray
    hits: np.ndarray
    false: np.ndarray
    heads: int
    images: int

    @property
    def precision(self) -> np.ndarray:
        """[N]."""
        return self.hits / (self.hits + self.false)

    @property
    def recall(self) -> np.ndarray:
        """[N]; NaN without a head."""
        return self.hits / self.heads if self.heads else np.full(len(self.hits), np.nan)

    @property
    def miss_rate(self) -> np.ndarray:
        """[N]; NaN without a head."""
        return 1 - self.recall

    @property
    def fppi(self) -> np.ndarray:
        """[N] false positives per image."""
        return self.false / self.images

    @property
    def f1(self) -> np.ndarray:
        """[N] harmonic means of precision and recall."""
        return 2 * self.hits / (self.hits + self.false + self.heads)


def head_curve(images: Sequence[HeadMatches]) -> HeadCurve:
    """The curve of images matched by score (`jaxdet.evaluation.crowd.matching.match_by_score`)."""
    counted = [~one.absorbed for one in images]
    scores = np.concatenate([np.zeros(0), *(one.scores[keep] for one, keep in zip(images, counted, strict=True))])
    hits = np.concatenate([np.zeros(0, bool), *(one.hits[keep] for one, keep in zip(images, counted, strict=True))])
    order = np.argsort(-scores, kind="stable")
    scores, hits = scores[order], hits[order]
    last = np.flatnonzero(np.append(scores[1:] != scores[:-1], True)) if len(scores) else np.zeros(0, int)
    heads = sum(one.heads for one in images)
    return HeadCurve(scores[last], np.cumsum(hits)[last], np.cumsum(~hits)[last], heads, len(images))


def average_precision(curve: HeadCurve) -> float:
    """``sum((R[n] - R[n-1]) * P[n])``, without interpolation, as brambox and scikit-learn define it.

    0..1, NaN without a head. COCO's and VOC's raise precisions to the best one at any larger recall; this does not.
    """
    return float((np.diff(curve.recall, prepend=0.0) * curve.precision).sum()) if curve.heads else np.nan


def miss_rates(curve: HeadCurve, *, interpolation: Literal["step", "linear"] = "step") -> np.ndarray:
    """[9] the miss rate at each of `LAMR_POINTS`; see `log_average_miss_rate`. NaN without a head."""
    fppi, missed = curve.fppi, curve.miss_rate
    if not curve.heads or not len(fppi):
        return np.full(len(LAMR_POINTS), 1.0 if curve.heads else np.nan)
    if interpolation == "linear":
        return np.interp(LAMR_POINTS, fppi, missed, left=1.0)
    return np.append(1.0, missed)[np.searchsorted(fppi, LAMR_POINTS, side="right")]


def log_average_miss_rate(curve: HeadCurve, *, interpolation: Literal["step", "linear"] = "step") -> float:
    """The geometric mean of the miss rate at nine points, 0.01 to 1 false positives per image evenly in logarithms.

    Dollar et al. (PAMI 2012): at each point the miss rate of the lowest threshold that stays within that many false
    positives, so 1 where already the highest exceeds them, and beyond the end of the curve its last miss rate. A miss
    rate of 0 counts as 1e-10. NaN without a head.

    Args:
        interpolation: ``"linear"`` draws lines between the curve's points, as brambox does (and with it the original
            HeadHunter), which lets the curve fall to 0 at its end; here it keeps its last miss rate in both.
    """
    rates = miss_rates(curve, interpolation=interpolation)
    return float(np.exp(np.log(np.maximum(rates, _FLOOR)).mean()))


def best_f1(curve: HeadCurve) -> tuple[float, float]:
    """The largest F1 and the score threshold that gives it, of several the highest; NaN where there is none to tell.

    Without a head neither is told; without a detection F1 is 0 at no threshold.
    """
    if not curve.heads:
        return np.nan, np.nan
    if not len(curve.scores):
        return 0.0, np.nan
    best = int(curve.f1.argmax())
    return float(curve.f1[best]), float(curve.scores[best])
