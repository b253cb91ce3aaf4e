"""A net under all readers: a valid file of each format is damaged, and either opens or is refused by its documented
error with its name. Nothing else escapes, nothing hangs, nothing is written, no warning is given, memory is bounded.

A failure prints the mutations that led to it; `Trial.run` with them replays it. ``JAXDET_DAMAGE_SEED`` sets the seed of
the long sweep, which prints the one that it used.
"""

from __future__ import annotations

import os
import time

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from robustness.attempt import Escaped, Format, Trial, bounded_memory
from robustness.damage import LIMIT, MOST, Mutation
from robustness.formats import FORMATS
from robustness.formats_runs import SAVED

FEW, MANY = 200, 20_000
_KINDS_SHOWN = 20

_numbers = st.integers(0, LIMIT - 1)
_mutations = st.lists(st.tuples(_numbers, _numbers, _numbers), min_size=1, max_size=MOST)
every_format = pytest.mark.parametrize("form", FORMATS, ids=lambda form: form.name)


@every_format
def test_the_valid_file_opens(form: Format, tmp_path):
    assert Trial(form, tmp_path).run([])


@every_format
def test_damaged_files_open_or_are_refused(form: Format, tmp_path):
    trial = Trial(form, tmp_path)

    @settings(max_examples=FEW, deadline=None, database=None, derandomize=True, suppress_health_check=list(HealthCheck))
    @given(_mutations)
    def check(mutations: list[Mutation]) -> None:
        trial.run(mutations)

    with bounded_memory():
        check()


@pytest.mark.verify
@every_format
def test_many_damaged_files(form: Format, tmp_path, capsys):
    seed = int(os.environ.get("JAXDET_DAMAGE_SEED", time.time_ns() % 2**32))
    with bounded_memory():
        opened, faults = sweep(Trial(form, tmp_path), MANY, seed)
    with capsys.disabled():
        print(f"\n{form.name}: seed {seed}, {MANY} mutations, {opened} opened, {MANY - opened} refused")
    assert not faults, "\n\n".join(faults.values())


@pytest.mark.verify
def test_damaged_models_load_or_are_refused(tmp_path):
    opened, faults = sweep(Trial(SAVED, tmp_path), FEW, 0)
    assert opened and not faults, "\n\n".join(faults.values())


def sweep(trial: Trial, count: int, seed: int) -> tuple[int, dict[str, str]]:
    """How many of so many damaged files open, and the faults by their kinds, the first of each."""
    generator = np.random.Generator(np.random.PCG64(seed))
    opened, faults = 0, {}
    for _ in range(count):
        mutations = generator.integers(0, LIMIT, (generator.integers(1, MOST + 1), 3)).tolist()
        try:
            opened += trial.run(mutations)
        except Escaped as escaped:
            if escaped.kind not in faults and len(faults) < _KINDS_SHOWN:
                fewer = _fewest(trial, mutations, escaped.kind)
                faults[escaped.kind] = f"{trial.form.name}, seed {seed}, mutations {fewer}: {escaped}"
    return opened, faults


def _fewest(trial: Trial, mutations: list[Mutation], kind: str) -> list[Mutation]:
    """Without the mutations that the fault does not need."""
    for number in range(len(mutations)):
        fewer = mutations[:number] + mutations[number + 1 :]
        try:
            if fewer:
                trial.run(fewer)
        except Escaped as escaped:
            if escaped.kind == kind:
                return _fewest(trial, fewer, kind)
    return mutations
