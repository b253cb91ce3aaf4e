"""A run of a classifier on eight images of noise, with one program that compiles in seconds."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from PIL import Image

from jaxdet.backbones.base import ClassifierTransform
from jaxdet.data import ClassAugmentation, ClassFolder
from jaxdet.models import model_config
from jaxdet.runs import Run, TrainConfig, open_task
from jaxdet.runs.start import fresh
from jaxdet.training import OptimizerConfig


def write_images(folder, classes=("a", "b"), count=4, seed=0):
    """Writes images of noise to ``folder/<class>/<number>.png`` and returns the folder."""
    rng = np.random.default_rng(seed)
    for name in classes:
        (folder / name).mkdir(parents=True)
        for number in range(count):
            Image.fromarray(rng.integers(0, 256, (36, 36, 3), np.uint8)).save(folder / name / f"{number}.png")
    return folder


def small_config(images, **fields):
    """The configuration of a run of four steps of two images.

    ``fields`` replace its fields; those that begin with ``optimizer_`` replace fields of its optimizer.
    """
    optimizer = {name: fields.pop(name) for name in list(fields) if name.startswith("optimizer_")}
    values = {
        "model": model_config("mobilenet_v1", width=0.25, transform=ClassifierTransform(resize=32, crop=32)),
        "train": ClassFolder(str(images)),
        "augment": ClassAugmentation(),
        "steps": 4,
        "batch_size": 2,
        "optimizer": OptimizerConfig(kind="adamw", learning_rate=1e-3, schedule="constant", warmup_steps=0),
        "ema_decay": 0.9,
        "log_every": 1,
        "checkpoint_every": 2,
    }
    config = TrainConfig(**values | fields)
    changed = {name.removeprefix("optimizer_"): value for name, value in optimizer.items()}
    return replace(config, optimizer=replace(config.optimizer, **changed))


@cache
def _model(model, frozen_norms, names):
    config = TrainConfig(model=model, train=ClassFolder("unopened"), steps=1, freeze_norms=frozen_norms)
    return nnx.split(fresh(config, names))


def start(config, out, **options):
    """The run of a configuration, before training."""
    task = open_task(config)
    graphdef, state = _model(config.model, config.freeze_norms, task.names)
    model = nnx.merge(graphdef, jax.tree.map(jnp.copy, state))  # a run donates its arrays
    return Run(task, model, out, **{"progress": False, **options})
