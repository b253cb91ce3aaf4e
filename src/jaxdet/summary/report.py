"""Summaries of whole models, as text and JSON."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

import jax
import jax.numpy as jnp

from jaxdet.backbones.base import Classifier
from jaxdet.models import Task
from jaxdet.summary.rows import Row, Shape, parameters, trace
from jaxdet.summary.stages import Stage, detector_stages

BYTES = 4  # per value, whatever the model's dtype, as in torchsummary
MEGABYTE = 1024**2
NAME, SHAPE = 24, 26  # widths of the columns
RULE = NAME + SHAPE + 36


@dataclass(frozen=True)
class Summary:
    """The summary of a model for images of ``height x width``.

    batch: images per batch; None: one image, and shapes are printed with a batch size of -1.
    rows: the layers, in calling order.
    stages: the stages of a detector, in calling order; empty for a classifier.
    trainable, frozen: numbers of parameters. As in torchsummary, frozen ones are the weight and bias of frozen batch
        norms; running means and variances are not parameters.
    """

    height: int
    width: int
    batch: int | None
    rows: tuple[Row, ...]
    stages: tuple[Stage, ...]
    trainable: int
    frozen: int

    @property
    def parameters(self) -> int:
        return self.trainable + self.frozen

    @property
    def macs(self) -> int:
        return sum(row.macs for row in self.rows)

    def megabytes(self) -> dict[str, float]:
        """torchsummary's memory estimate for a classifier: all outputs in float32, for forward and backward pass."""
        images = self.batch or 1
        counts = {
            "Input size": 3 * self.height * self.width * images,
            "Forward/backward pass size": 2 * sum(math.prod(row.shape) for row in self.rows) * images,
            "Params size": self.parameters,
        }
        sizes = {name: count * BYTES / MEGABYTE for name, count in counts.items()}
        return {**sizes, "Estimated Total Size": sum(sizes.values())}


def summarize(model: Any, height: int, width: int, *, batch: int | None = None) -> Summary:
    """Summarises a model, which may be abstract (`jaxdet.models.abstract`). The model is not changed.

    Args:
        height, width: the size of the image: a classifier's input, or a detector's image before resizing.
        batch: images per batch, by default 1.

    Raises:
        ValueError: the batch or a side of the image is below 1, or the image has no pixels after resizing.
    """
    if min(height, width) < 1:
        raise ValueError(f"an image's height and width must be at least 1 pixel each, got {height} and {width}")
    if batch is not None and batch < 1:
        raise ValueError(f"batch must be at least 1 image, got {batch}")
    stages: tuple[Stage, ...] = ()
    if model.config.task is Task.DETECTION:
        rows, stages = detector_stages(model, height, width, batch or 1)
    else:
        rows, _ = trace(model, _classify, jax.ShapeDtypeStruct((batch or 1, height, width, 3), jnp.float32))
    return Summary(height, width, batch, rows, stages, *parameters(model))


def _classify(model: Classifier, x: jax.Array) -> Any:
    return model.features(x) if model.fc is None else model(x)


def to_dict(summary: Summary) -> dict[str, Any]:
    """A summary as JSON values, with totals; ``megabytes`` is empty for detectors."""
    totals = {"parameters": summary.parameters, "macs": summary.macs}
    return {**asdict(summary), **totals, "megabytes": {} if summary.stages else summary.megabytes()}


def to_text(summary: Summary) -> str:
    """A summary in the format of ``jaxdet summary``: torchsummary's table with MACs, or the stages of a detector."""
    lines = _stage_lines(summary) if summary.stages else _row_lines(summary)
    lines += [
        "=" * RULE,
        f"Total params: {summary.parameters:,}",
        f"Trainable params: {summary.trainable:,}",
        f"Non-trainable params: {summary.frozen:,}",
        f"Total MACs: {summary.macs:,} ({summary.macs / 1e9:.1f} G)",
        "-" * RULE,
    ]
    if not summary.stages:
        lines += [f"{name} (MB): {size:.2f}" for name, size in summary.megabytes().items()] + ["-" * RULE]
    return "\n".join(lines)


def _header(first: str) -> list[str]:
    return ["-" * RULE, f"{first:<{NAME}}{'Output Shape':>{SHAPE}}{'Param #':>16}{'MACs':>20}", "=" * RULE]


def _shape(summary: Summary, shape: Shape) -> str:
    return str([summary.batch or -1, *shape])


def _row_lines(summary: Summary) -> list[str]:
    lines = _header("Layer (type)")
    for row in summary.rows:
        name, shape = f"{row.kind}-{row.number}", _shape(summary, row.shape)
        lines.append(f"{name:<{NAME}}{shape:>{SHAPE}}{row.parameters:>16,}{row.macs:>20,}")
    return lines


def _stage_lines(summary: Summary) -> list[str]:
    lines = _header("Stage")
    for number, stage in enumerate(summary.stages, 1):
        lines.append(f"{f'{number}. {stage.name}':<{NAME + SHAPE}}{stage.parameters:>16,}{stage.macs:>20,}")
        lines.append(f"    {stage.detail}")
        for output in stage.outputs:
            shape = _shape(summary, output.shape)
            lines.append(f"    {output.name:<{NAME - 4}}{shape:>{SHAPE}}  {output.note}".rstrip())
    return lines
