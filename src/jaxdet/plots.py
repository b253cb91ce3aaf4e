"""Plots of losses over steps, precision over recall, and miss rate over false positives."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from jaxdet.evaluation import ClassResult, CocoEvaluator, Evaluator, HeadResult
from jaxdet.evaluation.crowd.curves import LAMR_POINTS, miss_rates
from jaxdet.paths import PathLike, write_whole
from jaxdet.visualize import class_colour

_CURVES_SHOWN = 10  # the number of classes with a curve
_LOWEST_MISS_RATE = 0.02  # the lower limit of the axis, unless the curve is lower
_FPPI_SHOWN = (0.003, 10.0)  # the limits of the axis


def plot_losses(rows: Sequence[Mapping[str, float]], path: PathLike, *, title: str = "") -> None:
    """Plots the losses of a training run as a PNG, with (and, faintly, without) smoothing.

    Args:
        rows: one mapping per logged step. All keys that start with ``loss`` are plotted over ``step`` (or the index of
            the row). Rows may lack keys, and values that are not finite leave a gap.
        path: the PNG file, which is written atomically.

    Raises:
        ValueError: no row has a loss.
    """
    keys = sorted({key for row in rows for key in row if key.startswith("loss")}, key=lambda key: (key != "loss", key))
    if not keys:
        raise ValueError(f"none of the {len(rows)} rows has a key that starts with 'loss'")
    figure = Figure(figsize=(8, 4.5), dpi=130, layout="constrained")
    axes = figure.add_subplot()
    lowest = np.inf
    for number, key in enumerate(keys):
        points = [(row.get("step", i), row[key]) for i, row in enumerate(rows) if key in row]
        steps, values = np.array(points, float).T
        colour = "#222222" if key == "loss" else tuple(v / 255 for v in class_colour(number + (keys[0] != "loss")))
        smooth = _smooth(values)
        axes.plot(steps, values, color=colour, alpha=0.2, linewidth=0.8)
        name = "total" if key == "loss" else key.removeprefix("loss").lstrip("_/").replace("_", " ")
        axes.plot(
            steps,
            smooth,
            color=colour,
            linewidth=2.2 if key == "loss" else 1.5,
            label=name,
            marker="o" if len(values) == 1 else None,
        )
        finite = values[np.isfinite(values)]
        lowest = min(lowest, finite.min()) if len(finite) else lowest
    axes.set_xlabel("step")
    axes.set_ylabel("loss")
    axes.set_title(title)
    _style(axes)
    if lowest >= 0:
        axes.set_ylim(bottom=0)
    axes.legend(frameon=False)
    _write(figure, path)


def plot_evaluation(evaluator: Evaluator, path: PathLike) -> None:
    """Plots the curves of an evaluator's last evaluation with `plot_precision_recall` or `plot_head_curves`.

    Raises:
        ValueError: nothing was evaluated, or there is no ground truth.
    """
    if isinstance(evaluator, CocoEvaluator):
        plot_precision_recall(evaluator.classes, path)
    elif evaluator.result is None:
        raise ValueError("nothing was evaluated, so there is no curve to plot")
    else:
        plot_head_curves(evaluator.result, path)


def plot_precision_recall(classes: Sequence[ClassResult], path: PathLike, *, threshold: float = 0.5) -> None:
    """Plots precision over recall at one IoU threshold as a PNG.

    There is a curve for each of the ten classes with the most boxes, and the mean over all classes, if several.

    Args:
        classes: from `jaxdet.evaluation.CocoEvaluator.classes`; those without ground truth are left out.
        path: the PNG file, which is written atomically.

    Raises:
        ValueError: no class has ground truth.
    """
    known = [one for one in classes if one.boxes and (one.curves[threshold] > -1).all()]
    if not known:
        raise ValueError("no class has ground truth, so there is no curve to plot")
    recall = np.linspace(0, 1, len(known[0].curves[threshold]))
    figure = Figure(figsize=(6.5, 5), dpi=130, layout="constrained")
    axes = figure.add_subplot()
    shown = {one.name for one in sorted(known, key=lambda one: -one.boxes)[:_CURVES_SHOWN]}
    for number, one in enumerate((one for one in known if one.name in shown), start=1):
        colour = tuple(value / 255 for value in class_colour(number))  # not by label: the first ten are distinct
        name = f"{one.name} {one.curves[threshold].mean():.3f}"
        axes.plot(recall, one.curves[threshold], color=colour, linewidth=1.3, label=name)
    mean = np.mean([one.curves[threshold] for one in known], axis=0)
    if len(known) > 1:
        name = f"mean of {len(known)} classes {mean.mean():.3f}"
        axes.plot(recall, mean, color="#222222", linewidth=2.6, label=name)
    axes.set_xlabel("recall")
    axes.set_ylabel("precision")
    axes.set_title(f"IoU {threshold:.2f}; average precision beside {'each class' if len(known) > 1 else 'the class'}")
    axes.set_xlim(0, 1)
    axes.set_ylim(0, 1.02)
    _style(axes)
    axes.legend(frameon=False, loc="lower left")
    _write(figure, path)


def plot_head_curves(result: HeadResult, path: PathLike) -> None:
    """Plots precision over recall, and miss rate over false positives per image (both logarithmic), as one PNG.

    The best F1 and the nine points of LAMR are marked.

    Args:
        result: from `jaxdet.evaluation.evaluate_heads`.
        path: the PNG file, which is written atomically.

    Raises:
        ValueError: the data has no head.
    """
    if not result.heads:
        raise ValueError("the data has no head, so there is no curve to plot")
    curve = result.curve
    figure = Figure(figsize=(11, 4.8), dpi=130, layout="constrained")
    left, right = figure.subplots(1, 2)
    colour = tuple(value / 255 for value in class_colour(2))
    left.plot(curve.recall, curve.precision, color=colour, linewidth=2, label=f"AP {result.ap:.3f}")
    if result.f1 > 0:
        best = int(curve.f1.argmax())
        name = f"F1 {result.f1:.3f} at score {result.f1_threshold:.2f}"
        left.plot(curve.recall[best], curve.precision[best], "o", color="#222222", label=name)
    left.set(xlabel="recall", ylabel="precision", xlim=(0, 1), ylim=(0, 1.02))

    # A step function, from miss rate 1 at the left edge to the last miss rate at the right edge.
    fppi = np.concatenate([[0], curve.fppi, [np.inf]]).clip(*_FPPI_SHOWN)
    missed = np.concatenate([[1], curve.miss_rate, curve.miss_rate[-1:] if len(curve.fppi) else [1]])
    lowest = min(_LOWEST_MISS_RATE, *missed[missed > 0])
    right.step(fppi, missed.clip(lowest), where="post", color=colour, linewidth=2, label=f"LAMR {result.lamr:.3f}")
    points = miss_rates(curve).clip(lowest)
    right.plot(LAMR_POINTS, points, "o", color="#222222", markersize=4, label="its nine points")
    right.set(xlabel="false positives per image", ylabel="miss rate", xscale="log", yscale="log")
    right.set(xlim=_FPPI_SHOWN, ylim=(lowest, 1.1))
    for axes in (left, right):
        axes.set_title(f"IoU {result.threshold:.2f}")
        _style(axes)
        axes.legend(frameon=False, loc="lower left")
    _write(figure, path)


def _style(axes: Any) -> None:
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)


def _write(figure: Figure, path: PathLike) -> None:
    content = io.BytesIO()
    FigureCanvasAgg(figure).print_png(content)
    write_whole(path, content.getvalue())


def _smooth(values: np.ndarray) -> np.ndarray:
    """The running mean of the finite values over about a twentieth of the curve; NaN if a window has none."""
    half = len(values) // 40
    finite = np.isfinite(values)
    totals = np.concatenate([[0.0], np.cumsum(np.where(finite, values, 0.0))])
    counts = np.concatenate([[0], np.cumsum(finite)])
    start = np.maximum(np.arange(len(values)) - half, 0)
    stop = np.minimum(np.arange(len(values)) + half + 1, len(values))
    found = counts[stop] - counts[start]
    return np.where(found > 0, (totals[stop] - totals[start]) / np.maximum(found, 1), np.nan)
