"""How a plan is put together, with a compiler that says what it is told to."""

from __future__ import annotations

import sys
from dataclasses import replace
from types import SimpleNamespace

import jax
import pytest
from tiny_job import tiny_job

from jaxdet.planning import DoesNotFit, compile_traced, make_plan, parse_topology
from jaxdet.planning.compiler import Compiled
from jaxdet.planning.programs import Work

TEXT = """
ENTRY %main (x: f32[64,256]) -> f32[64,256] {
  %x = f32[64,256]{1,0} parameter(0)
  ROOT %y = f32[64,256]{1,0} negate(%x)
}
"""
GB = 10**9


@pytest.fixture
def plan_of(monkeypatch):
    """A function that plans a job whose train step needs 1 GB, and 1 GB an image."""
    module = sys.modules["jaxdet.planning.plan"]

    def compiled(job):
        return Compiled((job.batch + 1) * GB, 0, 0, 0, flops=1.0, bytes=7.0, text=TEXT, seconds=1.0)

    monkeypatch.setattr(module, "pod_mesh", lambda topology: None)
    monkeypatch.setattr(module, "STEPS", {"train": lambda job, mesh: job, "infer": None})
    monkeypatch.setattr(module, "step_work", lambda job: (Work(197 * 10**9, 5), Work(1, 1)))
    monkeypatch.setattr(module, "compile_traced", compiled)

    def plan(**fields):
        job = tiny_job(batch=4)
        job = replace(job, config=replace(job.config, **fields))
        (step,) = make_plan(job, parse_topology("v5e:2x2"), steps=("train",)).steps
        return step

    return plan


@pytest.mark.parametrize(
    "fields, passes",
    [
        ({"dtype": "float32", "precision": "highest"}, 6),
        ({"dtype": "float32", "precision": "high"}, 3),
        ({"dtype": "bfloat16"}, 1),
    ],
)
def test_a_step_is_bounded_by_its_layers_type_and_traffic(plan_of, fields, passes):
    figures = plan_of(**fields).figures
    assert figures.bounds.compute == pytest.approx(passes * 2 * 197e9 / 197e12)
    assert figures.bounds.bandwidth == pytest.approx(2 * 64 * 256 * 4 / 819e9)  # read off the text, not the 7 bytes
    assert figures.work.macs == 197 * 10**9 and figures.compiled.text == ""


def test_the_largest_batch_leaves_the_compiler_its_share(plan_of):
    """17.18 GB, of which 96% are 16.49: the sixteenth image would need 17."""
    largest = plan_of(dtype="bfloat16").largest
    assert largest.batch == 15 and largest.next_needs == 17 * GB


def _refused(message):
    """What a compiler's error becomes."""

    def compile_():
        raise jax.errors.JaxRuntimeError(message)

    with pytest.raises(DoesNotFit) as found:
        compile_traced(SimpleNamespace(lower=lambda: SimpleNamespace(compile=compile_)))
    return found.value


def test_memory_is_read_with_its_units():
    problem = _refused("RESOURCE_EXHAUSTED: Ran out of memory. Used 20.5G of 512.00M hbm. Exceeded")
    assert (problem.needed, problem.limit) == (20.5 * 2**30, 512 * 2**20)
    assert "it needs 22.01 GB, but 0.54 GB are available" in str(problem)
    assert _refused("RESOURCE_EXHAUSTED: something else\nat length").needed is None
    with pytest.raises(jax.errors.JaxRuntimeError, match="INTERNAL"):
        _refused("INTERNAL: something else")
