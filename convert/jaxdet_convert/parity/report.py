"""The results of a comparison: errors per stage, and matched and unmatched detections."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field

import numpy as np

RELATIVE_BOUND = 1e-5  # maximum error of a stage, relative to its maximum value
BOX_BOUND = 0.02  # pixels of the image as given
SCORE_BOUND = 1e-4
TIE_BOUND = 1e-4  # scores and IoUs this close to the deciding value are near-ties
SHARE_BOUND = 0.995  # minimum fraction of matched detections


@dataclass(frozen=True)
class Stage:
    """The maximum absolute and relative error of one stage over all images."""

    name: str
    absolute: float  # maximum |error|
    relative: float  # maximum |error| / maximum |value|
    largest: float  # maximum |value| in PyTorch
    bound: float = RELATIVE_BOUND

    @property
    def ok(self) -> bool:
        return self.relative <= self.bound  # False for NaN

    def worst(self, other: Stage) -> Stage:
        """The worse of both results. NaN is worse than any number."""
        return Stage(
            self.name,
            _larger(self.absolute, other.absolute),
            _larger(self.relative, other.relative),
            _larger(self.largest, other.largest),
            self.bound,
        )


def stage(name: str, theirs: np.ndarray, ours: np.ndarray, **options: float) -> Stage:
    """Compares the outputs of one stage.

    Raises:
        ValueError: the shapes differ.
    """
    if theirs.shape != ours.shape:
        raise ValueError(
            f"{name}: the shape is {theirs.shape} in PyTorch, but {ours.shape} in jaxdet: the models differ"
        )
    theirs, ours = theirs.astype(np.float64), ours.astype(np.float64)
    error = float(np.abs(theirs - ours).max(initial=0))
    largest = float(np.abs(theirs).max(initial=0))
    return Stage(name, error, error / largest if largest else error, largest, **options)


def _larger(a: float, b: float) -> float:
    return a if a != a or a > b else b


@dataclass(frozen=True)
class Unmatched:
    """A detection that only one side has.

    Proposals have label 0, the logit as score, and boxes in pixels of the model's input.
    """

    image: int
    side: str  # "PyTorch" or "jaxdet": the side that has it
    label: int
    score: float
    box: tuple[float, ...]  # xyxy in the image's pixels
    reason: str
    near_tie: bool

    def text(self) -> str:
        box = ", ".join(f"{value:.2f}" for value in self.box)
        kind = "near-tie" if self.near_tie else "UNEXPLAINED"
        return (
            f"{kind}: image {self.image}, only {self.side} has label {self.label}, score {self.score:.6f}, "
            f"box ({box}): {self.reason}"
        )


@dataclass(frozen=True)
class Matching:
    """Numbers of detections of all images, and maximum errors of the matched ones. Boxes are in pixels as given."""

    theirs: int = 0
    ours: int = 0
    matched: int = 0
    box_error: float = 0.0
    score_error: float = 0.0
    unmatched: tuple[Unmatched, ...] = ()

    @property
    def share(self) -> float:
        total = max(self.theirs, self.ours)
        return self.matched / total if total else 1.0

    @property
    def ok(self) -> bool:
        return self.share >= SHARE_BOUND and all(one.near_tie for one in self.unmatched)

    def __add__(self, other: Matching) -> Matching:
        return Matching(
            self.theirs + other.theirs,
            self.ours + other.ours,
            self.matched + other.matched,
            max(self.box_error, other.box_error),
            max(self.score_error, other.score_error),
            self.unmatched + other.unmatched,
        )


@dataclass(frozen=True)
class Compared:
    """The comparison of one image. Detections or proposals are None for models without them."""

    stages: tuple[Stage, ...]
    detections: Matching | None = None
    proposals: Matching | None = None


@dataclass(frozen=True)
class Report:
    """The result of a comparison.

    ok: whether the relative error of every stage is within its bound, at least 99.5% of the detections are matched
        (same label, coordinates within 0.02 pixels of the image as given, score within 1e-4), and all others are
        near-ties, which the report explains with their values. Classifiers have no detections.
    """

    model: str
    environment: dict[str, str]
    images: tuple[tuple[int, int], ...]  # (height, width)
    stages: tuple[Stage, ...]
    detections: Matching | None = None
    proposals: Matching | None = None  # no effect on `ok`: differences matter only if they change detections
    notes: tuple[str, ...] = field(default=())

    @property
    def ok(self) -> bool:
        return all(stage.ok for stage in self.stages) and (self.detections is None or self.detections.ok)

    def json(self) -> str:
        """The report as one line of JSON."""
        content = asdict(self) | {"ok": self.ok}
        for entry, stage in zip(content["stages"], self.stages, strict=True):
            entry["ok"] = stage.ok
        if self.detections is not None:
            content["detections"]["share"] = self.detections.share
        return json.dumps(content)

    def text(self) -> str:
        """The report as text."""
        sizes = ", ".join(f"{height}x{width}" for height, width in self.images)
        lines = [
            f"{self.model} in jaxdet and in PyTorch, same weights, same images",
            "; ".join(f"{key} {value}" for key, value in self.environment.items()),
            f"{len(self.images)} image{'s' * (len(self.images) != 1)} (height x width): {sizes}",
            *self.notes,
            "",
            f"{'stage':<28}{'max |error|':>13}{'max |value|':>13}{'relative':>11}{'bound':>9}",
        ]
        for stage in self.stages:
            lines.append(
                f"{stage.name:<28}{stage.absolute:>13.3g}{stage.largest:>13.4g}{stage.relative:>11.2g}"
                f"{stage.bound:>9.0g}{'' if stage.ok else '  EXCEEDED'}"
            )
        lines.append("")
        if self.proposals is not None:
            lines.append(_matched("proposals", self.proposals, "px of the model's input"))
            lines += _summary(self.proposals.unmatched)
        if self.detections is not None:
            found = self.detections
            lines += [
                _matched("detections", found, "px of the image") + f", maximum score error {found.score_error:.2g}",
                f"  a match: same label, coordinates within {BOX_BOUND:g} px of the image as given, "
                f"score within {SCORE_BOUND:g}; at least {SHARE_BOUND:.1%} have to be matched",
                *(f"  {one.text()}" for one in found.unmatched),
            ]
            if not found.unmatched:
                lines.append("  all are matched")
        lines += ["", f"verdict: {'the same numbers' if self.ok else 'BEYOND THE BOUND'}"]
        return "\n".join(lines)


def _summary(unmatched: tuple[Unmatched, ...]) -> list[str]:
    """The numbers of explained and unexplained differences, and the first of each: flat image areas cause many."""
    kinds = {True: "near-ties", False: "UNEXPLAINED"}
    lines = []
    for near_tie, kind in kinds.items():
        some = [one for one in unmatched if one.near_tie is near_tie]
        if some:
            lines.append(
                f"  {len(some)} that only one side has are {kind}; the first is {some[0].side}'s: {some[0].reason}"
            )
    return lines


def _matched(what: str, found: Matching, unit: str) -> str:
    return (
        f"{what}: PyTorch {found.theirs}, jaxdet {found.ours}, matched {found.matched} ({found.share:.2%}); "
        f"maximum box error {found.box_error:.2g} {unit}"
    )
