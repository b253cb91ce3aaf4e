"""Optimizers and schedules against PyTorch's, in float64: sixteen steps of a small network in many ways."""

from __future__ import annotations

from functools import partial

import pytest
import small
from training_cases import classifier_batch
from training_job import Job, run_in_float64, state_of, worst, worst_loss

from jaxdet.training import OptimizerConfig
from torchvision_cpu import torchvision_or_skip

torchvision_or_skip()
import torch  # noqa: E402
import torch_training  # noqa: E402
from torch_training import Recipe  # noqa: E402

from parity.twins.small import SmallNet  # noqa: E402

BOUND = 1e-10
EPOCH = 4  # steps
constant = partial(OptimizerConfig, learning_rate=0.05, schedule="constant", warmup_steps=0)


def sgd(**options):
    return lambda module: torch.optim.SGD(module.parameters(), **({"lr": 0.05, "momentum": 0.9} | options))


def adamw(module):
    return torch.optim.AdamW(module.parameters(), lr=0.05, betas=(0.8, 0.95), eps=1e-4, weight_decay=0.1)


def grouped(module):
    """The body learns at a tenth of the rate, its norm at half of it and without weight decay."""
    groups = [
        {"params": module.body[0].parameters(), "lr": 0.005},
        {"params": module.body[1].parameters(), "lr": 0.025, "weight_decay": 0.0},
        {"params": module.fc.parameters()},
    ]
    return torch.optim.SGD(groups, lr=0.05, momentum=0.9, weight_decay=0.1)


def detection_reference(optimizer):
    """As torchvision's training script: a warm-up through the first epoch, and milestones in epochs."""
    warmup = torch.optim.lr_scheduler.LinearLR(optimizer, start_factor=1e-3, total_iters=EPOCH - 1)
    main = torch.optim.lr_scheduler.MultiStepLR(optimizer, milestones=[2, 3], gamma=0.1)
    return [(warmup, lambda step: step <= EPOCH), (main, lambda step: step % EPOCH == 0)]


def every_update(optimizer):
    """The same shape by updates of two steps each, as a script that accumulates moves its schedulers."""
    warmup = torch.optim.lr_scheduler.LinearLR(optimizer, start_factor=1e-3, total_iters=EPOCH // 2)
    main = torch.optim.lr_scheduler.MultiStepLR(optimizer, milestones=[EPOCH, 3 * EPOCH // 2], gamma=0.1)
    return [(warmup, lambda step: step % 2 == 0), (main, lambda step: step % 2 == 0)]


WAYS = {
    "sgd": (constant(momentum=0.0, weight_decay=0.0), Recipe(sgd(momentum=0.0))),
    "momentum, weight decay": (constant(weight_decay=0.1), Recipe(sgd(weight_decay=0.1))),
    "nesterov": (constant(weight_decay=0.1, nesterov=True), Recipe(sgd(weight_decay=0.1, nesterov=True))),
    "adamw": (constant(kind="adamw", betas=(0.8, 0.95), eps=1e-4, weight_decay=0.1), Recipe(adamw)),
    "clip": (constant(weight_decay=0.1, clip_norm=0.2), Recipe(sgd(weight_decay=0.1), clip_norm=0.2)),
    "groups": (
        constant(weight_decay=0.1, norm_weight_decay=0.0, lr_scales=(("body", 0.1), ("body.norm", 0.5))),
        Recipe(grouped),
    ),
    "warm-up, milestones": (
        OptimizerConfig(
            learning_rate=0.05, weight_decay=0.1, warmup_steps=EPOCH - 1, milestones=(2 * EPOCH, 3 * EPOCH)
        ),
        Recipe(sgd(weight_decay=0.1), detection_reference),
    ),
    "accumulation, warm-up, milestones": (
        OptimizerConfig(
            learning_rate=0.05, weight_decay=0.1, warmup_steps=EPOCH, milestones=(2 * EPOCH, 3 * EPOCH), accumulate=2
        ),
        Recipe(sgd(weight_decay=0.1), every_update),
    ),
    "accumulation": (constant(weight_decay=0.1, accumulate=2), Recipe(sgd(weight_decay=0.1))),
}


@pytest.fixture(scope="module")
def outcomes():
    """Ours and theirs of each way."""
    torch.manual_seed(0)
    module = SmallNet()
    batches = [classifier_batch(seed, 12, 4, small.SmallConfig().num_classes) for seed in range(EPOCH)]
    jobs = {
        way: Job(small.SmallConfig(), state_of(module), batches, config, 4 * EPOCH) for way, (config, _) in WAYS.items()
    }
    theirs = {way: torch_training.run(module, jobs[way], recipe) for way, (_, recipe) in WAYS.items()}
    ours = dict(zip(jobs, run_in_float64(list(jobs.values())), strict=True))
    return ours, theirs


@pytest.mark.parametrize("way", WAYS)
def test_sixteen_steps(outcomes, way):
    ours, theirs = (one[way] for one in outcomes)
    found = worst_loss(ours, theirs), worst(ours, theirs, "gradients"), worst(ours, theirs, "last")
    print(way, found)
    assert max(error for error, _ in found) <= BOUND, found


def test_the_ways_differ(outcomes):
    """Were an option ignored on both sides, the test above would not see it."""
    _, theirs = outcomes
    ends = [one["losses/loss_cross_entropy"][-1] for one in theirs.values()]
    assert len({round(float(loss), 6) for loss in ends}) == len(WAYS)
