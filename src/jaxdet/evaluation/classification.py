"""Top-k accuracy of classifiers."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


class Accuracy:
    """Counts how often the label is among the k highest scores, over batches.

    Args:
        top: the values of k. With fewer than k classes, every label counts as a hit.
    """

    def __init__(self, top: Sequence[int] = (1, 5)) -> None:
        self.top = tuple(top)
        self._hits = dict.fromkeys(self.top, 0)
        self._count = 0

    def add(self, scores: np.ndarray, labels: np.ndarray) -> None:
        """Counts a batch.

        Args:
            scores: [B, K]; ties are broken by the lower class.
            labels: [B] integers; -1 marks a padding row.
        """
        scores, labels = np.asarray(scores, np.float64), np.asarray(labels)
        if scores.ndim != 2 or labels.shape != scores.shape[:1]:
            raise ValueError(f"expected scores [B, K] and labels [B], got {scores.shape} and {labels.shape}")
        known = labels >= 0
        order = np.argsort(-scores[known], axis=1, kind="stable")  # [B, K]
        for k in self.top:
            self._hits[k] += int((order[:, :k] == labels[known, None]).any(axis=1).sum())
        self._count += int(known.sum())

    @property
    def counts(self) -> list[int]:
        """The hits for each k, then the number of images."""
        return [*self._hits.values(), self._count]

    def merge(self, counts: Sequence[Sequence[int]]) -> None:
        """Replaces the counts by the sum of several `counts`, such as those of all processes."""
        *hits, self._count = (sum(column) for column in zip(*counts, strict=True))
        self._hits = dict(zip(self.top, hits, strict=True))

    def result(self) -> dict[str, float]:
        """``{"top1": 0..1, "top5": 0..1}``; -1 if no image was counted."""
        return {f"top{k}": self._hits[k] / self._count if self._count else -1.0 for k in self.top}
