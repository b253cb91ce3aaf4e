"""torchvision's operators: forward and gradient, in float32 here and in float64 in a process of its own."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from float64 import float64_environment
from torchvision_cpu import torchvision_or_skip

torchvision = torchvision_or_skip()

from box_cases import cases as box_cases  # noqa: E402
from layer_cases import cases as layer_cases  # noqa: E402
from operator_check import check  # noqa: E402
from pooling_cases import cases as pooling_cases  # noqa: E402

CASES = {case.name: case for cases in (box_cases, layer_cases, pooling_cases) for case in cases(torchvision)}


@pytest.mark.parametrize("name", CASES)
def test_in_float32(name):
    check(CASES[name], "float32")


def test_in_float64():
    """All cases by this file as a program: ``jax_enable_x64`` holds for a whole process."""
    environment = float64_environment(Path(__file__).parent)
    command = [sys.executable, "-W", "error", __file__]
    run = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr


if __name__ == "__main__":
    failures = []
    for case in CASES.values():
        try:
            check(case, "float64")
        except AssertionError as failure:
            failures.append(str(failure))
    raise SystemExit("\n".join(failures) or None)
