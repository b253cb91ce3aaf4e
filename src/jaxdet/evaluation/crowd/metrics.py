"""The crowd metrics: AP, log-average miss rate, F1, recall, MODA and MODP, with ignored regions."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from jaxdet.evaluation.crowd.curves import (
    HeadCurve,
    average_precision,
    best_f1,
    head_curve,
    log_average_miss_rate,
)
from jaxdet.evaluation.crowd.matching import HeadMatches, ScoredImage, match_by_overlap, match_by_score

RECALL_LIMIT = 300  # detections per image, HeadHunter's limit


@dataclass(frozen=True)
class HeadResult:
    """The crowd metrics of `evaluate_heads`. A metric without any data is NaN.

    ap: average precision.
    lamr: log-average miss rate; lower is better.
    f1, f1_threshold: the best F1 and its score threshold.
    recall: the recall of all detections; recall_300: of the 300 highest-scoring detections per image.
    moda, modp: CLEAR's detection accuracy and precision, from counts and overlaps summed over all images. Accuracy is
        1 - (missed + false) / heads, at most 1 and possibly negative. Precision is the mean overlap of the hits.
    moda_image, modp_image: the same as in the original HeadHunter: computed per image, then averaged over the images
        with a head (accuracy) or a hit (precision).
    images, heads, ignored, detections: counts.
    threshold: the overlap threshold of AP, LAMR, F1 and recall.
    curve: the curve that AP, LAMR and F1 are computed from.
    """

    ap: float
    lamr: float
    f1: float
    f1_threshold: float
    recall: float
    recall_300: float
    moda: float
    modp: float
    moda_image: float
    modp_image: float
    images: int
    heads: int
    ignored: int
    detections: int
    threshold: float
    curve: HeadCurve

    def metrics(self) -> dict[str, float]:
        """The metrics by the names that are printed and logged, without those that are NaN.

        ``AP`` is always included; without heads it is -1, as in COCO's metrics.
        """
        named = {
            "AP": self.ap if self.heads else -1.0,
            "LAMR": self.lamr,
            "F1": self.f1,
            "F1_threshold": self.f1_threshold,
            "recall": self.recall,
            "recall_300": self.recall_300,
            "MODA": self.moda,
            "MODP": self.modp,
            "MODA_image": self.moda_image,
            "MODP_image": self.modp_image,
        }
        return {name: value for name, value in named.items() if not math.isnan(value)}


def evaluate_heads(
    images: Iterable[ScoredImage],
    *,
    threshold: float = 0.5,
    clear_threshold: float = 0.2,
    score_threshold: float = 0.3,
) -> HeadResult:
    """The crowd metrics over images. Images without heads or detections count as well.

    Args:
        images: the images with all their detections, down to the lowest score.
        threshold: overlap of AP, LAMR, F1 and recall; see `jaxdet.evaluation.crowd.matching.match_by_score`.
        clear_threshold: overlap of MODA and MODP, by default HeadHunter's.
        score_threshold: lowest score of the detections for MODA and MODP, which unlike the others are metrics of a
            single operating point; by default that of HeadHunter's evaluation.

    Raises:
        ValueError: an overlap threshold is not in (0, 1].
    """
    images = list(images)
    for name, value in (("threshold", threshold), ("clear_threshold", clear_threshold)):
        if not 0 < value <= 1:
            raise ValueError(f"{name} must be above 0 and at most 1, not {value:g}")
    matches = [match_by_score(image, threshold) for image in images]
    curve = head_curve(matches)
    limited = [
        match if len(image.scores) <= RECALL_LIMIT else match_by_score(image.best(RECALL_LIMIT), threshold)
        for image, match in zip(images, matches, strict=True)
    ]
    confident = [image.above(score_threshold) for image in images]
    moda, modp = pooled_clear([match_by_overlap(image, clear_threshold) for image in confident])
    moda_image, modp_image = mean_clear([match_by_score(image, clear_threshold) for image in confident])
    f1, f1_threshold = best_f1(curve)
    return HeadResult(
        ap=average_precision(curve),
        lamr=log_average_miss_rate(curve),
        f1=f1,
        f1_threshold=f1_threshold,
        recall=_recall(matches),
        recall_300=_recall(limited),
        moda=moda,
        modp=modp,
        moda_image=moda_image,
        modp_image=modp_image,
        images=len(images),
        heads=curve.heads,
        ignored=sum(len(image.ignored) for image in images),
        detections=sum(len(image.scores) for image in images),
        threshold=threshold,
        curve=curve,
    )


def pooled_clear(images: Sequence[HeadMatches]) -> tuple[float, float]:
    """MODA and MODP of images matched by overlap, from counts and overlaps summed over all images.

    As MOT17Det reports them (Kasturi et al., PAMI 2009, with both costs 1). MODA is NaN without a head, MODP without a
    hit.
    """
    heads = sum(one.heads for one in images)
    wrong = sum(one.missed + int(one.false.sum()) for one in images)
    overlaps = np.concatenate([np.zeros(0), *(one.overlaps[one.hits] for one in images)])
    return 1 - wrong / heads if heads else math.nan, _mean(overlaps)


def mean_clear(images: Sequence[HeadMatches]) -> tuple[float, float]:
    """MODA and MODP as in the original HeadHunter: computed per image, matched by score, then averaged over images.

    MODA is averaged over the images with a head, MODP over those with a hit; each is NaN without such an image. False
    positives on images without heads have no effect.
    """
    accuracies = [1 - (one.missed + int(one.false.sum())) / one.heads for one in images if one.heads]
    return _mean(accuracies), _mean([float(one.overlaps[one.hits].mean()) for one in images if one.hits.any()])


def _recall(images: Sequence[HeadMatches]) -> float:
    heads = sum(one.heads for one in images)
    return sum(int(one.hits.sum()) for one in images) / heads if heads else math.nan


def _mean(values: Sequence[float] | np.ndarray) -> float:
    return float(np.mean(values)) if len(values) else math.nan
