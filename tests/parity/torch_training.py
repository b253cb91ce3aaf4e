"""PyTorch's side of a training job."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn
from training_job import Arrays, Job


@dataclass(frozen=True)
class Recipe:
    """How PyTorch's users would write an optimizer configuration.

    optimizer: of a module.
    schedulers: of the optimizer; each is a learning rate scheduler, and the count of steps after which it moves.
    """

    optimizer: Callable[[nn.Module], torch.optim.Optimizer]
    schedulers: Callable[[torch.optim.Optimizer], list[tuple[Any, Callable[[int], bool]]]] = lambda optimizer: []
    clip_norm: float | None = None


SGD = Recipe(lambda module: torch.optim.SGD(module.parameters(), lr=1e-3, momentum=0.9, weight_decay=1e-4))


def run(
    module: nn.Module, job: Job, recipe: Recipe, *, memory_format: torch.memory_format = torch.contiguous_format
) -> Arrays:
    """The outcome; the module stays as it is. In one thread: tests run a process a core."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        return _run(module, job, recipe, memory_format)
    finally:
        torch.set_num_threads(threads)


def _run(module: nn.Module, job: Job, recipe: Recipe, memory_format: torch.memory_format) -> Arrays:
    module = copy.deepcopy(module).to(getattr(torch, job.dtype)).to(memory_format=memory_format).train()
    detector = hasattr(module, "transform")
    if hasattr(module, "rpn"):
        _keep_precision(module)
    optimizer = recipe.optimizer(module)
    schedulers = recipe.schedulers(optimizer)
    share = job.optimizer.accumulate  # an update is of the mean over so many steps
    outcome: Arrays = {}
    history = []
    for number in range(job.steps):
        batch = job.batches[number % len(job.batches)]
        values = (_detector_losses if detector else _classifier_losses)(module, batch, job)
        (sum(values.values()) / share).backward()
        history.append({name: value.item() for name, value in values.items()})
        if number == 0:
            outcome |= _named("gradients", {name: p.grad * share for name, p in module.named_parameters()})
        if (number + 1) % share == 0:
            if recipe.clip_norm is not None:
                nn.utils.clip_grad_norm_(module.parameters(), recipe.clip_norm)
            optimizer.step()
            optimizer.zero_grad()
        for scheduler, moves in schedulers:
            if moves(number + 1):
                scheduler.step()
        if number == 0:
            parameters = dict(module.named_parameters())
            outcome |= _named("first", {k: v for k, v in module.state_dict().items() if k not in parameters})
    outcome |= _named("last", module.state_dict())
    return outcome | {f"losses/{name}": np.array([values[name] for values in history]) for name in history[0]}


def _named(what: str, tensors: dict[str, torch.Tensor]) -> Arrays:
    return {f"{what}/{name}": tensor.numpy().copy() for name, tensor in tensors.items()}


def _keep_precision(module: Any) -> None:
    """torchvision makes the RPN's labels float32, and PyTorch then computes the objectness loss in float32."""
    assign, dtype = module.rpn.assign_targets_to_anchors, module.rpn.head.cls_logits.weight.dtype

    def assign_in_precision(*args: Any) -> Any:
        labels, boxes = assign(*args)
        return [label.to(dtype) for label in labels], boxes

    module.rpn.assign_targets_to_anchors = assign_in_precision


def _images(batch: Arrays, job: Job) -> list[torch.Tensor]:
    """Images ``[3, H, W]`` in 0..1, as torchvision's detectors take them."""
    sizes = batch.get("sizes", np.tile(batch["pictures"].shape[1:3], (len(batch["pictures"]), 1)))
    return [
        torch.from_numpy(image[:height, :width].transpose(2, 0, 1).astype(job.dtype)) / 255
        for image, (height, width) in zip(batch["pictures"], sizes, strict=True)
    ]


def _detector_losses(module: nn.Module, batch: Arrays, job: Job) -> dict[str, torch.Tensor]:
    targets = [
        {"boxes": torch.from_numpy(boxes[valid].astype(job.dtype)), "labels": torch.from_numpy(labels[valid])}
        for boxes, labels, valid in zip(batch["boxes"], batch["labels"], batch["valid"], strict=True)
    ]
    return module(_images(batch, job), targets)


def _classifier_losses(module: nn.Module, batch: Arrays, job: Job) -> dict[str, torch.Tensor]:
    x = torch.stack(_images(batch, job))
    mean, std = (torch.tensor(values, dtype=x.dtype)[:, None, None] for values in _statistics(job))
    loss = nn.CrossEntropyLoss(label_smoothing=job.label_smoothing)
    return {"loss_cross_entropy": loss(module((x - mean) / std), torch.from_numpy(batch["labels"]))}


def _statistics(job: Job) -> tuple[Any, Any]:
    return job.config.transform.image_mean, job.config.transform.image_std
