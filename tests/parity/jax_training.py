"""jaxdet's side of a training job, through the train step that users run.

As a program: does the jobs in the files it is given and puts the outcomes in their place.
"""

from __future__ import annotations

import sys
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from small import TABLE, SmallConfig, SmallNet
from training_job import Arrays, Job

from jaxdet.data import preprocess
from jaxdet.models import Task
from jaxdet.nn import Numerics
from jaxdet.parallel import data_mesh, replicated
from jaxdet.saving.model import fill, flatten
from jaxdet.training import init_state, losses, make_optimizer, make_train_step, to_model
from jaxdet.types import Images, Targets
from jaxdet_convert.apply import to_jax, to_torch
from jaxdet_convert.fill import fill_strictly
from jaxdet_convert.load import recognise_weights
from jaxdet_convert.read.weights import read_weights
from jaxdet_convert.rules import Table
from jaxdet_convert.sources.registry import model_table


def run(job: Job) -> tuple[Arrays, Any]:
    """The outcome, and the model that came out of it."""
    model, table = _model(job)
    detector = getattr(job.config, "task", None) is Task.DETECTION
    objective = losses if detector else partial(losses, label_smoothing=job.label_smoothing)
    optimizer = optax.chain(_remembering(), make_optimizer(job.optimizer, job.steps))
    graphdef, state = init_state(model, optimizer)
    state = jax.device_put(state, replicated(data_mesh(jax.devices()[:1])))
    step = make_train_step(graphdef, optimizer, objective=objective, accumulate=job.optimizer.accumulate)
    batches = [(_detector_batch if detector else _classifier_batch)(batch, job) for batch in job.batches]
    outcome: Arrays = {}
    history = []
    for number in range(job.steps):
        state, values = step(state, *batches[number % len(batches)], jax.random.key(0))
        history.append(jax.device_get(values))
        if number == 0:
            outcome |= _named("gradients", state.opt_state[0], table) | _named("first", state.rest, table)
    outcome |= _named("last", state.params, table) | _named("last", state.rest, table)
    terms = history[0].keys() - {"loss", "gradient_norm"}
    outcome |= {f"losses/{name}": np.array([values[name] for values in history]) for name in terms}
    return outcome, to_model(graphdef, state)


def _remembering() -> optax.GradientTransformation:
    """Changes nothing; its state is the gradient it saw last."""
    return optax.GradientTransformation(
        lambda params: jax.tree.map(jnp.zeros_like, params), lambda gradient, state, params=None: (gradient, gradient)
    )


def _model(job: Job) -> tuple[Any, Table]:
    numerics = Numerics(job.dtype, job.dtype)
    if isinstance(job.config, SmallConfig):
        model = nnx.eval_shape(lambda: SmallNet(job.config, numerics=numerics, rngs=nnx.Rngs(0)))
        return fill(model, to_jax(job.weights, TABLE, flatten(nnx.state(model))).arrays), TABLE
    weights = read_weights(dict(job.weights))
    model, _ = fill_strictly(weights, recognise_weights(weights), job.config, numerics)
    return model, model_table(job.config, model.origin)


def _named(what: str, state: nnx.State, table: Table) -> Arrays:
    values = {path: np.asarray(variable[...]) for path, variable in flatten(state).items()}
    return {f"{what}/{name}": array for name, array in to_torch(values, table).items()}


def _detector_batch(batch: Arrays, job: Job) -> tuple[Images, Targets]:
    """Padding holds NaN."""
    pixels = np.full(batch["pictures"].shape, np.nan, job.dtype)
    for row, image, (height, width) in zip(pixels, batch["pictures"], batch["sizes"], strict=True):
        row[:height, :width] = _pixels(image[:height, :width], job)
    boxes = np.where(batch["valid"][..., None], batch["boxes"], np.nan).astype(job.dtype)
    images, labels = Images(pixels, batch["sizes"].astype(np.int32)), batch["labels"].astype(np.int32)
    return images, Targets(boxes, labels, batch["valid"])


def _classifier_batch(batch: Arrays, job: Job) -> tuple[Images, np.ndarray]:
    pixels = np.stack([_pixels(image, job) for image in batch["pictures"]])
    sizes = np.tile(np.int32(pixels.shape[1:3]), (len(pixels), 1))
    return Images(pixels, sizes), batch["labels"].astype(np.int32)


def _pixels(image: np.ndarray, job: Job) -> np.ndarray:
    """An image of the size that the model wants, normalised in the job's precision."""
    transform = job.config.transform
    mean, std = transform.image_mean, transform.image_std
    if job.dtype == "float64":  # `preprocess` gives float32
        return (image / 255 - np.array(mean)) / np.array(std)
    return preprocess(image, min(image.shape[:2]), max(image.shape[:2]), mean=mean, std=std)


if __name__ == "__main__":
    for argument in sys.argv[1:]:
        np.savez(argument, **run(Job.load(Path(argument)))[0])
