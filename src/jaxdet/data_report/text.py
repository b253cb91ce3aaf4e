"""The data report as text."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

from jaxdet.data_report.box_report import BoxReport, Quantiles
from jaxdet.data_report.check import DataReport, SetReport

_WARNINGS_SHOWN = 20  # of each kind


def to_text(report: DataReport) -> str:
    """The statistics of each set, every error, the first warnings of each kind, and the counts of both."""
    lines = [line for found in report.sets for line in _set(found)]
    lines += _faults(report)
    found = [_count(len(report.errors), "error"), _count(len(report.warnings), "warning")]
    if report.left_out:
        found.append(f"{_count(len(report.left_out), 'box', 'boxes')} left out (skip_faulty)")
    images = "" if report.decoded else "; the images were not decoded"
    lines.append(", ".join(found) + images)
    return "\n".join(lines)


def _set(report: SetReport) -> Iterator[str]:
    if not report.images:
        return
    boxes = report.boxes
    if boxes is None:
        yield f"{report.name}: {_count(report.images, 'image')}"
        yield from _table([("class", "images"), *((entry.name, str(entry.images)) for entry in report.classes)])
    else:
        yield (
            f"{report.name}: {_count(report.images, 'image')}, {_count(boxes.boxes, 'box', 'boxes')}, "
            f"{_count(boxes.ignored, 'ignored region')}, {_count(boxes.without_boxes, 'image')} without boxes"
        )
        yield from _boxes(report, boxes)
    yield ""


def _boxes(report: SetReport, boxes: BoxReport) -> Iterator[str]:
    yield f"  boxes per image: median {boxes.median_per_image:g}, at most {boxes.most_per_image}"
    for canvas in report.canvases:
        yield (
            f"  canvas {canvas.height} x {canvas.width}: {_count(canvas.images, 'image')}, {canvas.padding:.1%} padding"
        )
    left = report.images - sum(canvas.images for canvas in report.canvases)
    if report.canvases and left:
        yield f"  {_count(left, 'image')} (different ones each epoch) left over: too few for a batch on their canvas"
    if not boxes.boxes:
        return
    yield "  at the model's input:"
    yield f"    size (root of the area, px)  {_quantiles(boxes.sizes)}"
    yield f"    aspect ratio (height/width)  {_quantiles(boxes.aspect_ratios)}"
    yield f"    {_count(boxes.below_stride, 'box', 'boxes')} smaller than the finest stride, {boxes.finest_stride} px"
    if boxes.anchors is None:
        yield from _table([("class", "images"), *((entry.name, str(entry.images)) for entry in report.classes)])
        return
    yield "  anchors: fraction of boxes whose best anchor has an IoU of at least"
    recalls = [f"{threshold:g}" for threshold in boxes.thresholds]
    rows = [("", "boxes", "images", *recalls)]
    by_class = zip(boxes.anchors_by_class, report.classes, strict=True)  # by position: classes may share a name
    images = [(entry, str(counted.images)) for entry, counted in by_class]
    for entry, count in ((boxes.anchors, ""), *images, *((entry, "") for entry in boxes.anchors_by_size)):
        parts = [f"{recall:.1%}" if entry.boxes else "-" for recall in entry.recalls]
        rows.append((entry.name, str(entry.boxes), count, *parts))
    yield from _table(rows)


def _faults(report: DataReport) -> Iterator[str]:
    for word, faults in (("error", report.errors), ("left out", report.left_out)):
        yield from (f"{word} {fault.kind}: {fault}" for fault in faults)
    counts: Counter[str] = Counter()
    for fault in report.warnings:
        counts[fault.kind] += 1
        if counts[fault.kind] <= _WARNINGS_SHOWN:
            yield f"warning {fault.kind}: {fault}"
    for kind, count in counts.items():
        if count > _WARNINGS_SHOWN:
            yield f"... and {count - _WARNINGS_SHOWN} more warnings {kind}; --json FILE has them all"


def _quantiles(values: Quantiles) -> str:
    names = {0.0: "min", 0.5: "median", 1.0: "max"}
    return "  ".join(f"{names.get(quantile, f'{quantile:.0%}')} {value:.3g}" for quantile, value in values)


def _count(number: int, singular: str, plural: str = "") -> str:
    return f"{number} {singular if number == 1 else plural or singular + 's'}"


def _table(rows: Sequence[Sequence[str]]) -> Iterator[str]:
    widths = [max(len(cell) for cell in column) for column in zip(*rows, strict=True)]
    for first, *others in rows:
        cells = [cell.rjust(width) for cell, width in zip(others, widths[1:], strict=True)]
        yield "    " + "  ".join([first.ljust(widths[0]), *cells])
