"""Losses, gradients, running statistics and twenty steps of both Faster R-CNNs against torchvision, in float64.

Both sides sample every anchor and proposal there is, so that nothing is drawn.
"""

from __future__ import annotations

import pytest
from training_cases import detector_case
from training_job import check_float64, run_in_float64
from weights import DETECTORS, pair, slim_pair

from torchvision_cpu import torchvision_or_skip

torchvision_or_skip()
import torch_training  # noqa: E402


def check(*cases):
    theirs = [torch_training.run(module, job, torch_training.SGD) for module, job in cases]
    for ours, expected in zip(run_in_float64([job for _, job in cases]), theirs, strict=True):
        check_float64(ours, expected)


def test_slim_detectors():
    """The first with a body of constant norms, the second with all norms training."""
    settings = zip(DETECTORS, (True, False), strict=True)
    check(*(detector_case(slim_pair, name, frozen, (64, 96), 32, steps=20) for name, frozen in settings))


@pytest.mark.verify
@pytest.mark.parametrize("frozen", [True, False])
@pytest.mark.parametrize("name", DETECTORS)
def test_detectors(name, frozen):
    check(detector_case(pair, name, frozen, (160, 192), 48, steps=20))
