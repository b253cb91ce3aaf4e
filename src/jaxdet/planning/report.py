"""Plans as text and JSON."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

from jaxdet.planning.bounds import bfloat16_passes
from jaxdet.planning.fit import Largest
from jaxdet.planning.hlo import Program
from jaxdet.planning.plan import Figures, Plan, StepPlan
from jaxdet.planning.scaling import scaling_text, weak_scaling

LARGE = 1 << 20  # bytes; smaller collectives are summed up
NAME, VALUE = 26, 24  # widths of the columns
_LEGEND = """\
Bounds: a step at the chip's peak rate, or at its memory's bandwidth; a real step takes longer. The collective time does
not overlap with computation. The compiler's FLOPs and bytes count a loop's body once and the costliest branch of a
conditional; its bytes include the core's own memory. Cycles (also the compiler's) and the traffic of the chip's memory
count all known iterations of loops; cycles do not include gathers and scatters of rows. Products only: each operand and
result of the layers once; the traffic can be lower, because arrays may stay in the core between two products."""


def to_dict(plan: Plan) -> dict[str, Any]:
    """A plan as JSON values: bytes, seconds, operations and images, per chip unless the key says otherwise."""
    job, topology = plan.job, plan.topology
    return {
        "topology": topology.name,
        "chips": topology.chips,
        "hosts": topology.hosts,
        "chip": asdict(topology.chip),
        "canvas": list(job.canvas),
        "images_a_chip": job.batch,
        "dtype": job.config.dtype,
        "steps": {step.name: _step_dict(step, plan) for step in plan.steps},
    }


def to_text(plan: Plan) -> str:
    """A plan in the format of ``jaxdet plan``, with one column per step."""
    job, topology = plan.job, plan.topology
    chip, (height, width) = topology.chip, job.canvas
    lines = [
        f"{topology.name}: {topology.chips} chips on {topology.hosts} hosts; per chip {chip.hbm / 1e9:.1f} GB, "
        f"{chip.flops / 1e12:.0f} TFLOP/s, {chip.bandwidth / 1e9:.0f} GB/s",
        f"{job.batch} images of {height}x{width} per chip, {job.batch * topology.chips} per step, {_dtype(plan)}",
        "",
        f"{'per chip':<{NAME}}" + "".join(f"{f'{step.name} step':>{VALUE}}" for step in plan.steps),
        "-" * (NAME + VALUE * len(plan.steps)),
    ]
    for name, value in _ROWS:
        cells = [value(step.figures, plan) if step.figures is not None else "-" for step in plan.steps]
        if any(cells):
            lines.append(f"{name:<{NAME}}" + "".join(f"{cell:>{VALUE}}" for cell in cells))
    lines.append(
        f"{'largest batch':<{NAME}}" + "".join(f"{_largest_cell(step.largest):>{VALUE}}" for step in plan.steps)
    )
    lines.append("")
    for step in plan.steps:
        if step.problem is not None:
            lines.append(f"{step.name} step: {job.batch} images per chip do not fit: {step.problem}")
        if step.figures is not None:
            lines += [f"{step.name} step: {line}" for line in _notes(step.figures.program)]
        if step.largest is not None:
            lines.append(f"{step.name} step: {_search_line(step.largest)}")
    for step in plan.steps:
        if step.name == "train" and step.figures is not None:
            rows = weak_scaling(step.figures.bounds, step.figures.program.collectives, job.batch, chip)
            lines += ["", f"train step, {job.batch} images per chip, by number of chips:", scaling_text(rows), ""]
    return "\n".join([*lines, _LEGEND])


def _dtype(plan: Plan) -> str:
    config = plan.job.config
    passes = bfloat16_passes(config.dtype, config.precision)
    return config.dtype if passes == 1 else f"{config.dtype}, with {passes} bfloat16 passes per product"


_Cell = Callable[[Figures, Plan], str]


def _memory(attribute: str) -> _Cell:
    return lambda step, plan: _gigabytes(getattr(step.compiled, attribute))


def _milliseconds(attribute: str) -> _Cell:
    return lambda step, plan: f"{getattr(step.bounds, attribute) * 1e3:.1f} ms"


def _rate(step: Figures, plan: Plan) -> float:
    """Images per second and chip, at best."""
    return plan.job.batch / (step.bounds.step + step.bounds.collectives)


def _layer_traffic(step: Figures, plan: Plan) -> int:
    return step.work.bytes(plan.job.config.dtype)


_ROWS: tuple[tuple[str, _Cell], ...] = (
    ("memory needed", lambda step, plan: f"{_gigabytes(step.compiled.needed)} of {_gigabytes(plan.topology.chip.hbm)}"),
    ("  arguments", _memory("arguments")),
    ("  temporaries", _memory("temporaries")),
    ("  outputs", _memory("outputs")),
    ("  reused by outputs", lambda step, plan: f"-{_gigabytes(step.compiled.aliased)}"),
    ("FLOPs (layers)", lambda step, plan: f"{2 * step.work.macs / 1e12:.2f} TFLOP"),
    ("FLOPs (compiler)", lambda step, plan: f"{step.compiled.flops / 1e12:.2f} TFLOP"),
    ("bytes accessed (compiler)", _memory("bytes")),
    ("memory traffic", lambda step, plan: _gigabytes(step.program.traffic)),
    ("  products only", lambda step, plan: _gigabytes(_layer_traffic(step, plan))),
    ("cycles (compiler)", lambda step, plan: f"{step.program.cycles / 1e9:.2f} G"),
    ("collectives", lambda step, plan: _bytes(sum(one.bytes for one in step.program.collectives))),
    ("compute bound", _milliseconds("compute")),
    ("bandwidth bound", _milliseconds("bandwidth")),
    ("collective time", _milliseconds("collectives")),
    ("images per second", lambda step, plan: f"{_rate(step, plan):.0f}"),
    ("  all chips", lambda step, plan: f"{_rate(step, plan) * plan.topology.chips:,.0f}"),
)


def _notes(program: Program) -> list[str]:
    """Lines about the collectives and the loops of a program."""
    by_kind: dict[str, list[int]] = defaultdict(list)
    for one in program.collectives:
        by_kind[f"{one.kind}{' in a loop' if one.in_loop else ''}"].append(one.bytes)
    parts = []
    for kind, sizes in by_kind.items():
        large = sorted((size for size in sizes if size >= LARGE), reverse=True)
        small = [size for size in sizes if size < LARGE]
        words = [_bytes(size) for size in large]
        if small:
            words.append(f"{len(small)} smaller, {_bytes(sum(small))} in total")
        parts.append(f"{kind}: {', '.join(words)}")
    known = [loop.trips for loop in program.loops if loop.trips is not None]
    unknown = len(program.loops) - len(known)
    counts = f"{', '.join(map(str, known))} iterations" if known else ""
    rest = f"{unknown} with an unknown number" if unknown else ""
    loops = f"{len(program.loops)} loops: {'; '.join(filter(None, (counts, rest)))}" if program.loops else "no loops"
    return ["; ".join(parts) or "no collectives", loops]


def _largest_cell(largest: Largest | None) -> str:
    return "not searched" if largest is None else f"{largest.batch} images"


def _search_line(largest: Largest) -> str:
    tried = ", ".join(
        f"{batch} {'does not fit' if need is None else _gigabytes(need)}"
        for batch, need in sorted(largest.compiled.items())
    )
    more = ""
    if largest.next_needs is not None:
        more = f"; {largest.batch + 1} not compiled, {_gigabytes(largest.next_needs)} by extrapolation"
    return f"compiled images per chip: {tried}{more}"


def _step_dict(step: StepPlan, plan: Plan) -> dict[str, Any]:
    result: dict[str, Any] = {"problem": step.problem}
    if step.largest is not None:
        result["largest"] = asdict(step.largest)
    return result if step.figures is None else result | _figures_dict(step.figures, plan)


def _figures_dict(step: Figures, plan: Plan) -> dict[str, Any]:
    return {
        "macs": step.work.macs,
        "needed": step.compiled.needed,
        "memory": {name: getattr(step.compiled, name) for name in ("arguments", "temporaries", "outputs", "aliased")},
        "flops": step.compiled.flops,
        "bytes": step.compiled.bytes,
        "cycles": step.program.cycles,
        "traffic": step.program.traffic,
        "layer_traffic": _layer_traffic(step, plan),
        "compile_seconds": step.compiled.seconds,
        "collectives": [
            {"kind": one.kind, "bytes": one.bytes, "arrays": len(one.arrays), "in_loop": one.in_loop}
            for one in step.program.collectives
        ],
        "loops": [loop.trips for loop in step.program.loops],
        "bounds": asdict(step.bounds),
        "scaling": [
            {
                "topology": row.topology.name,
                "chips": row.topology.chips,
                "collectives": row.collectives,
                "efficiency": row.efficiency,
                "images_a_second": row.images,
                "images_a_second_of_a_host": row.images_per_host,
            }
            for row in weak_scaling(step.bounds, step.program.collectives, plan.job.batch, plan.topology.chip)
        ],
        "images_a_second": _rate(step, plan),
    }


def _gigabytes(size: float) -> str:
    return f"{size / 1e9:.2f} GB"


def _bytes(size: float) -> str:
    for unit, factor in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if size >= factor:
            return f"{size / factor:.1f} {unit}"
    return f"{size:.0f} B"
