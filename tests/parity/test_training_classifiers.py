"""Twenty steps of classifiers against PyTorch, in float64: Darknet-53's twin and torchvision's ResNet-50."""

from __future__ import annotations

import pytest
from training_cases import SGD, classifier_batch
from training_job import Job, check_float64, run_in_float64, state_of

from jaxdet_convert import from_torch
from parity.twins.darknet53 import Darknet53
from parity.twins.weights import randomise
from torchvision_cpu import torchvision_or_skip

torchvision = torchvision_or_skip()
import torch_training  # noqa: E402


def darknet():
    return randomise(Darknet53(num_classes=18), size=64)


def resnet():
    return randomise(torchvision.models.resnet50(num_classes=10), size=64, last=("bn3",))


def check(*settings):
    """Settings: module, the images' side, label smoothing."""
    jobs = []
    for module, side, smoothing in settings:
        config = from_torch(module).config
        batches = [classifier_batch(seed, side, 4, config.num_classes) for seed in (0, 1)]
        jobs.append(Job(config, state_of(module), batches, SGD, 20, label_smoothing=smoothing))
    theirs = [
        torch_training.run(module, job, torch_training.SGD) for (module, *_), job in zip(settings, jobs, strict=True)
    ]
    for ours, expected in zip(run_in_float64(jobs), theirs, strict=True):
        check_float64(ours, expected)


def test_small_images():
    check((darknet(), 64, 0.1))


@pytest.mark.verify
def test_the_other_sizes():
    check((darknet(), 256, 0.0), (resnet(), 64, 0.0))
