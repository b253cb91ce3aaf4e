"""Losses, gradients, running statistics and twenty steps of dense detectors against torchvision, in float64."""

from __future__ import annotations

import pytest
from training_cases import dense_case
from training_job import check_float64, run_in_float64
from weights import pair, slim_pair

from torchvision_cpu import torchvision_or_skip

torchvision_or_skip()
import torch_training  # noqa: E402

NAMES = ("retinanet_resnet50_fpn", "retinanet_resnet50_fpn_v2", "fcos_resnet50_fpn")


def check(*cases):
    theirs = [torch_training.run(module, job, torch_training.SGD) for module, job in cases]
    for ours, expected in zip(run_in_float64([job for _, job in cases]), theirs, strict=True):
        check_float64(ours, expected)


def test_slim_detectors():
    """The first and the last on a backbone of constant norms, the second with all norms training."""
    settings = zip(NAMES, (True, False, True), strict=True)
    check(*(dense_case(slim_pair, name, frozen, (64, 96), steps=20) for name, frozen in settings))


@pytest.mark.verify
@pytest.mark.parametrize("frozen", [True, False])
@pytest.mark.parametrize("name", NAMES)
def test_detectors(name, frozen):
    check(dense_case(pair, name, frozen, (160, 192), steps=20))
