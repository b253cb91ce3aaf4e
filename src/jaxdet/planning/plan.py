"""Compiling the steps of a run for a pod, with the compiler's figures."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from jax.sharding import Mesh

from jaxdet.planning.bounds import Bounds, bfloat16_passes, bounds
from jaxdet.planning.chips import Topology
from jaxdet.planning.compiler import Compiled, DoesNotFit, compile_traced, pod_mesh
from jaxdet.planning.fit import Largest, largest_batch
from jaxdet.planning.hlo import Program, read_program
from jaxdet.planning.programs import Job, Work, evaluation_step, step_work, train_step

STEPS: dict[str, Callable[[Job, Mesh], Any]] = {"train": train_step, "infer": evaluation_step}
Say = Callable[[str], None]
_USABLE = 0.96  # fraction of a chip's memory for the search; the compiler reserves some and decides what fits


@dataclass(frozen=True)
class Figures:
    """The figures of a step that fits, for one chip."""

    compiled: Compiled
    program: Program
    bounds: Bounds
    work: Work


@dataclass(frozen=True)
class StepPlan:
    """One step of a plan.

    figures: None if the step does not fit; ``problem`` is then the reason.
    largest: None if it was not searched for.
    """

    name: str
    figures: Figures | None
    problem: str | None
    largest: Largest | None


@dataclass(frozen=True)
class Plan:
    """The result of `make_plan`."""

    job: Job
    topology: Topology
    steps: tuple[StepPlan, ...]


def make_plan(
    job: Job, topology: Topology, *, steps: Sequence[str] = tuple(STEPS), search: bool = True, say: Say = lambda _: None
) -> Plan:
    """Compiles a job's steps for a pod; each compilation takes minutes.

    Args:
        steps: names in `STEPS`.
        search: also search for the largest batch of each step, with a few more compilations.
        say: called with a line when a compilation starts or ends.

    Raises:
        ValueError: libtpu is not installed, or does not support the topology.
    """
    mesh = pod_mesh(topology)
    work = dict(zip(STEPS, step_work(job), strict=True))
    return Plan(job, topology, tuple(_plan_step(name, job, topology, mesh, work[name], search, say) for name in steps))


def _plan_step(name: str, job: Job, topology: Topology, mesh: Mesh, work: Work, search: bool, say: Say) -> StepPlan:
    done: dict[int, Compiled | DoesNotFit] = {}

    def compile_batch(batch: int) -> Compiled | DoesNotFit:
        if batch not in done:
            say(f"{name} step, {batch} images per chip: compiling for {topology.name}")
            try:
                done[batch] = compile_traced(STEPS[name](job.with_batch(batch), mesh))
            except DoesNotFit as problem:
                done[batch] = problem
            say(f"{name} step, {batch} images per chip: {_outcome(done[batch])}")
        return done[batch]

    def needs(batch: int) -> float | None:
        result = compile_batch(batch)
        return None if isinstance(result, DoesNotFit) else result.needed

    result = compile_batch(job.batch)
    largest = largest_batch(needs, job.batch, _USABLE * topology.chip.hbm) if search else None
    if isinstance(result, DoesNotFit):
        return StepPlan(name, None, str(result), largest)
    program = read_program(result.text)
    result = replace(result, text="")  # megabytes that are not needed any more
    passes = bfloat16_passes(job.config.dtype, job.config.precision)
    figures = Figures(result, program, bounds(result, program, work.macs, topology, passes=passes), work)
    return StepPlan(name, figures, None, largest)


def _outcome(result: Compiled | DoesNotFit) -> str:
    if isinstance(result, DoesNotFit):
        return str(result)
    return f"{result.needed / 1e9:.2f} GB, compiled in {result.seconds:.0f} s"
