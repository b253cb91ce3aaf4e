"""Images from 16 to 8000 pixels wide, with no box, one, or 500: one compilation a canvas, no NaN, nothing dropped."""

from __future__ import annotations

from dataclasses import replace

import jax
import numpy as np
import pytest

from jaxdet.data import Augmentation, DataError, Examples, canvases
from jaxdet.models import DetectorTransform
from jaxdet.runs import Run, TrainConfig, open_task
from jaxdet.runs.evaluation import _losses_step
from jaxdet.runs.start import fresh
from jaxdet.training import OptimizerConfig
from small_detector import SmallBackbone, small_config

MODEL = small_config(transform=DetectorTransform(64, 96))

# (height, width) and how many boxes; no squares: their canvas would take a third compilation of everything
IMAGES = (
    ((16, 24), 1), ((48, 16), 0), ((600, 8000), 1), ((90, 60), 500), ((64, 96), 0), ((3000, 2000), 3), ((20, 30), 1),
    ((60, 90), 500),
)  # fmt: skip


def _images():
    rng = np.random.default_rng(0)
    for (height, width), count in IMAGES:
        corner = rng.uniform(0, 0.5, (count, 2)) * (width, height)
        boxes = np.concatenate([corner, corner + rng.uniform(0.2, 0.5, (count, 2)) * (width, height)], 1)
        yield {
            "image": rng.integers(0, 256, (height, width, 3)).astype(np.uint8),
            "boxes": boxes.astype(np.float32),
            "labels": rng.integers(1, 4, count),
        }


@pytest.fixture(scope="module")
def source():
    return Examples(tuple(_images()), ("a", "b", "c"))


def _config(source, **fields):
    values = {
        "steps": 9, "batch_size": 2, "augment": Augmentation(flip=0.5), "log_every": 1, "eval_batch_size": 2,
        "optimizer": OptimizerConfig(learning_rate=1e-4, warmup_steps=0, clip_norm=1.0), "eval_losses": True,
    }  # fmt: skip
    return TrainConfig(model=MODEL, backbone=SmallBackbone, train=source, val=source, **values | fields)


def test_they_train_and_evaluate_with_one_compilation_a_canvas(source, tmp_path):
    config = _config(source)
    task = open_task(config)
    run = Run(task, fresh(config, task.names), tmp_path, progress=False)
    before = _losses_step._cache_size()
    metrics = run.train()
    used = {task.plan.batch(step).canvas for step in range(config.steps)}
    assert len(used) > 1 and run._step._cache_size() == len(used)
    assert _losses_step._cache_size() - before <= len(canvases(64, 96))
    assert 0 <= metrics["AP50"] <= 1 and np.isfinite(metrics["loss"]) and metrics["loss"] > 0
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(run.state.params))


def test_too_many_boxes_are_refused_and_not_dropped(source):
    task = open_task(_config(source, max_boxes=499))
    with pytest.raises(DataError, match="500 boxes, more than max_boxes=499; raise max_boxes to at least 500"):
        next(task.batches(0))


def test_data_that_does_not_fit_is_told(source):
    with pytest.raises(DataError, match="has no images"):
        open_task(_config(Examples((), ("a",))))
    other = Examples(source.sequence, ("a", "b", "zebra"))
    with pytest.raises(ValueError, match="classes that the model does not have: zebra"):
        open_task(replace(_config(source), val=other))
