"""How a plan is printed."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

from jaxdet.planning.bounds import passes_of
from jaxdet.planning.fit import Largest
from jaxdet.planning.hlo import Program
from jaxdet.planning.plan import Figures, Plan, StepPlan
from jaxdet.planning.scaling import scaling_text, weak_scaling

LARGE = 1 << 20  # bytes of a collective that is named by itself
NAME, VALUE = 26, 24  # columns
_LEGEND = """\
bounds: a step at the chip's peak, or at its memory's rate; a real one takes longer. Collectives are counted as if
nothing hid them. FLOPs and bytes by the compiler count a loop's body once, of branches the costlier, and its bytes
those of the core's own memory, too. Cycles, also its own, and traffic of the chip's memory count every turn that is
known of; cycles leave out gathers and scatters of rows. Of products alone: the layers' operands and results once
each; what stays in the core from one product to the next can undercut it."""


def to_dict(plan: Plan) -> dict[str, Any]:
    """A plan as plain JSON values: bytes, seconds, operations and images, of one chip unless they say otherwise."""
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
    """A plan as ``jaxdet plan`` prints it: a column a step."""
    job, topology = plan.job, plan.topology
    chip, (height, width) = topology.chip, job.canvas
    lines = [
        f"{topology.name}: {topology.chips} chips on {topology.hosts} hosts; a chip has {chip.hbm / 1e9:.1f} GB, "
        f"{chip.flops / 1e12:.0f} TFLOP/s, {chip.bandwidth / 1e9:.0f} GB/s",
        f"{job.batch} images of {height}x{width} a chip, {job.batch * topology.chips} a step, {_dtype(plan)}",
        "",
        f"{'a chip':<{NAME}}" + "".join(f"{f'{step.name} step':>{VALUE}}" for step in plan.steps),
        "-" * (NAME + VALUE * len(plan.steps)),
    ]
    for name, value in _ROWS:
        cells = [value(step.figures, plan) if step.figures is not None else "-" for step in plan.steps]
        if any(cells):
            lines.append(f"{name:<{NAME}}" + "".join(f"{cell:>{VALUE}}" for cell in cells))
    lines.append(
        f"{'largest batch':<{NAME}}" + "".join(f"{_largest_words(step.largest):>{VALUE}}" for step in plan.steps)
    )
    lines.append("")
    for step in plan.steps:
        if step.problem is not None:
            lines.append(f"{step.name} step: {job.batch} images a chip do not fit: {step.problem}")
        if step.figures is not None:
            lines += [f"{step.name} step: {line}" for line in _notes(step.figures.program)]
        if step.largest is not None:
            lines.append(f"{step.name} step: {_search_words(step.largest)}")
    for step in plan.steps:
        if step.name == "train" and step.figures is not None:
            rows = weak_scaling(step.figures.bounds, step.figures.program.collectives, job.batch, chip)
            lines += ["", f"train step, {job.batch} images a chip on more and more of them:", scaling_text(rows), ""]
    return "\n".join([*lines, _LEGEND])


def _dtype(plan: Plan) -> str:
    config = plan.job.config
    passes = passes_of(config.dtype, config.precision)
    return config.dtype if passes == 1 else f"{config.dtype}, which takes {passes} passes of bfloat16 a product"


_Cell = Callable[[Figures, Plan], str]


def _of_memory(attribute: str) -> _Cell:
    return lambda step, plan: _gigabytes(getattr(step.compiled, attribute))


def _milliseconds(attribute: str) -> _Cell:
    return lambda step, plan: f"{getattr(step.bounds, attribute) * 1e3:.1f} ms"


def _rate(step: Figures, plan: Plan) -> float:
    """Images a second and chip, at best."""
    return plan.job.batch / (step.bounds.step + step.bounds.collectives)


def _layer_traffic(step: Figures, plan: Plan) -> int:
    return step.work.bytes(plan.job.config.dtype)


_ROWS: tuple[tuple[str, _Cell], ...] = (
    ("memory needed", lambda step, plan: f"{_gigabytes(step.compiled.needed)} of {_gigabytes(plan.topology.chip.hbm)}"),
    ("  arguments", _of_memory("arguments")),
    ("  temporaries", _of_memory("temporaries")),
    ("  outputs", _of_memory("outputs")),
    ("  outputs in arguments", lambda step, plan: f"-{_gigabytes(step.compiled.aliased)}"),
    ("FLOPs of the layers", lambda step, plan: f"{2 * step.work.macs / 1e12:.2f} TFLOP"),
    ("FLOPs by the compiler", lambda step, plan: f"{step.compiled.flops / 1e12:.2f} TFLOP"),
    ("bytes by the compiler", _of_memory("bytes")),
    ("memory traffic", lambda step, plan: _gigabytes(step.program.traffic)),
    ("  of products alone", lambda step, plan: _gigabytes(_layer_traffic(step, plan))),
    ("cycles by the compiler", lambda step, plan: f"{step.program.cycles / 1e9:.2f} G"),
    ("collectives", lambda step, plan: _bytes(sum(one.bytes for one in step.program.collectives))),
    ("compute bound", _milliseconds("compute")),
    ("bandwidth bound", _milliseconds("bandwidth")),
    ("time of collectives", _milliseconds("collectives")),
    ("images a second", lambda step, plan: f"{_rate(step, plan):.0f}"),
    ("  of all chips", lambda step, plan: f"{_rate(step, plan) * plan.topology.chips:,.0f}"),
)


def _notes(program: Program) -> list[str]:
    """What travels, and what the compiler's counts leave out."""
    by_kind: dict[str, list[int]] = defaultdict(list)
    for one in program.collectives:
        by_kind[f"{one.kind}{' in a loop' if one.in_loop else ''}"].append(one.bytes)
    parts = []
    for kind, sizes in by_kind.items():
        large = sorted((size for size in sizes if size >= LARGE), reverse=True)
        small = [size for size in sizes if size < LARGE]
        words = [_bytes(size) for size in large] + ([f"{len(small)} of {_bytes(sum(small))} in all"] if small else [])
        parts.append(f"{kind}: {', '.join(words)}")
    known = [loop.trips for loop in program.loops if loop.trips is not None]
    unknown = len(program.loops) - len(known)
    turns = f"of {', '.join(map(str, known))} turns" if known else ""
    rest = f"{unknown} until done" if unknown else ""
    loops = f"{len(program.loops)} loops: {'; '.join(filter(None, (turns, rest)))}" if program.loops else "no loops"
    return ["; ".join(parts) or "nothing travels between chips", loops]


def _largest_words(largest: Largest | None) -> str:
    return "not looked for" if largest is None else f"{largest.batch} images"


def _search_words(largest: Largest) -> str:
    tried = ", ".join(
        f"{batch} {'does not fit' if need is None else _gigabytes(need)}"
        for batch, need in sorted(largest.compiled.items())
    )
    more = ""
    if largest.next_needs is not None:
        more = f"; {largest.batch + 1} not compiled, by extrapolation {_gigabytes(largest.next_needs)}"
    return f"images a chip compiled: {tried}{more}"


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
                "images_a_second_of_a_host": row.images_a_host,
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
