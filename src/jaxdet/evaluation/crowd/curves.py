"""Precision-recall and miss-rate curves over score thresholds, and their summary metrics."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from jaxdet.evaluation.crowd.matching import HeadMatches

LAMR_POINTS = np.logspace(-2, 0, 9)  # false positives per image
_FLOOR = 1e-10  # of miss rates before the logarithm, as in Caltech's benchmark


@dataclass(frozen=True, eq=False)
class HeadCurve:
    """Cumulative counts of hits and false positives at each distinct score. N points, by decreasing score.

    Detections of equal score form one point, so that their order does not matter. Absorbed detections are left out.

    scores: [N].
    hits, false: [N] counts of the hits and false positives with at least that score.
    heads: the number of ground-truth heads.
    images: the number of images, including those without heads or detections.
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
    """The curve over images matched by score (`jaxdet.evaluation.crowd.matching.match_by_score`)."""
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

    In 0..1; NaN without a head. Unlike in COCO's and VOC's metrics, a precision is not raised to the largest one at a
    higher recall.
    """
    return float((np.diff(curve.recall, prepend=0.0) * curve.precision).sum()) if curve.heads else np.nan


def miss_rates(curve: HeadCurve, *, interpolation: Literal["step", "linear"] = "step") -> np.ndarray:
    """[9] the miss rates at `LAMR_POINTS`; see `log_average_miss_rate`. NaN without a head."""
    fppi, missed = curve.fppi, curve.miss_rate
    if not curve.heads or not len(fppi):
        return np.full(len(LAMR_POINTS), 1.0 if curve.heads else np.nan)
    if interpolation == "linear":
        return np.interp(LAMR_POINTS, fppi, missed, left=1.0)
    return np.append(1.0, missed)[np.searchsorted(fppi, LAMR_POINTS, side="right")]


def log_average_miss_rate(curve: HeadCurve, *, interpolation: Literal["step", "linear"] = "step") -> float:
    """The geometric mean of the miss rates at nine log-spaced points from 0.01 to 1 false positives per image (FPPI).

    As in Dollar et al. (PAMI 2012), the miss rate at a point is that of the lowest score threshold whose FPPI does not
    exceed the point: 1 if every threshold exceeds it, and the last miss rate beyond the end of the curve. A miss rate
    of 0 counts as 1e-10. NaN without a head.

    Args:
        interpolation: ``"linear"`` interpolates between the curve's points, as brambox and with it the original
            HeadHunter do. Brambox lets the curve fall to 0 at its end; here it keeps its last miss rate in both modes.
    """
    rates = miss_rates(curve, interpolation=interpolation)
    return float(np.exp(np.log(np.maximum(rates, _FLOOR)).mean()))


def best_f1(curve: HeadCurve) -> tuple[float, float]:
    """The largest F1 and its score threshold, the highest one of several.

    Both are NaN without a head. Without a detection F1 is 0 and the threshold NaN.
    """
    if not curve.heads:
        return np.nan, np.nan
    if not len(curve.scores):
        return 0.0, np.nan
    best = int(curve.f1.argmax())
    return float(curve.f1[best]), float(curve.scores[best])
