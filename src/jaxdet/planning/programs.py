"""The train and infer steps of a configuration, traced with shapes instead of arrays."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jax.sharding import Mesh, NamedSharding

from jaxdet.data.batching.canvas import Size
from jaxdet.inference import infer_step, logits_step
from jaxdet.models import Task
from jaxdet.parallel import batch_sharding, replicated
from jaxdet.runs import TrainConfig
from jaxdet.runs.config import run_length
from jaxdet.runs.start import first_state, fresh
from jaxdet.summary.rows import Row, trace
from jaxdet.training import Objective, losses
from jaxdet.training.state import under
from jaxdet.types import Images, Targets

BOX_SLOTS = 96  # enough for all training images of COCO
_STEPS_PER_EPOCH = 1000  # the dataset is not opened; the number only affects the learning rate


@dataclass(frozen=True)
class Job:
    """A run to plan.

    config: the configuration; its data need not exist.
    canvas: (height, width) of the images.
    batch: images per chip.
    names: class names, with the background in a detector; by default the classes of the configuration's model.
    box_slots: ground truths per image, including padding.
    """

    config: TrainConfig
    canvas: Size
    batch: int
    names: tuple[str, ...] = ()
    box_slots: int = BOX_SLOTS

    @property
    def detects(self) -> bool:
        """Whether the model is a detector."""
        return self.config.model.task is Task.DETECTION

    @property
    def objective(self) -> Objective:
        """The objective of the train step."""
        return losses if self.detects else partial(losses, label_smoothing=self.config.label_smoothing)

    def model(self) -> Any:
        """The initialised model; call it in `jax.eval_shape`, which does not allocate it."""
        model = self.config.model
        return fresh(self.config, self.names or model.names or ("",) * (model.num_classes or 0))

    def data(self, devices: int) -> tuple[Images, Any]:
        """The shapes of the images and targets of a global batch."""
        batch, slots = self.batch * devices, self.box_slots
        pixels, sizes = _array((batch, *self.canvas, 3)), _array((batch, 2), jnp.int32)
        images = Images(pixels, sizes)
        if not self.detects:
            return images, _array((batch,), jnp.int32)
        boxes, labels = _array((batch, slots, 4)), _array((batch, slots), jnp.int32)
        valid = _array((batch, slots), jnp.bool_)
        return images, Targets(boxes, labels, valid, valid)

    def with_batch(self, batch: int) -> Job:
        return replace(self, batch=batch)


def train_step(job: Job, mesh: Mesh) -> Any:
    """The train step of ``jaxdet train``, traced for the devices of a mesh; ``.lower().compile()`` compiles it."""
    config = job.config
    length = run_length(config, _STEPS_PER_EPOCH)
    (_, step), state = _split(
        lambda: first_state(job.model(), config, length.optimizer, length.steps, job.objective, mesh)
    )
    return step.trace(state, *job.data(mesh.size), _key())  # type: ignore[attr-defined]


def evaluation_step(job: Job, mesh: Mesh) -> Any:
    """The inference step of ``jaxdet evaluate`` and `jaxdet.predict`, traced like `train_step`."""
    graphdef, state = _split(lambda: nnx.split(job.model()))
    images, _ = job.data(mesh.size)
    state, images = _placed(state, replicated(mesh)), _placed(images, batch_sharding(mesh))
    if job.detects:
        return infer_step.trace(graphdef, state, images, mesh=mesh)
    return logits_step.trace(graphdef, state, images.pixels)


@dataclass(frozen=True)
class Work:
    """The convolutions and matrix products of a step on one chip, counted from the layers.

    macs: multiply-accumulates.
    elements: total size of the operands and results.
    """

    macs: int
    elements: int

    def bytes(self, dtype: str) -> int:
        """The memory traffic of reading each operand and writing each result once.

        This is no lower bound: an array that stays in the core's memory between two products causes no traffic.
        """
        return self.elements * jnp.dtype(dtype).itemsize


def step_work(job: Job) -> tuple[Work, Work]:
    """The work of the train step and of the infer step.

    The backward pass of a trainable layer costs twice its forward pass: once for its kernel, once for its input.
    """
    model = nnx.eval_shape(job.model)
    images, targets = job.data(1)
    keys = jax.eval_shape(lambda: jax.random.split(jax.random.key(0), job.batch))
    forwards, _ = trace(model, lambda model, *data: model.losses(*data), images, targets, keys)
    inputs = images if job.detects else images.pixels
    infers, _ = trace(model, lambda model, inputs: model(inputs), inputs)
    infer = Work(sum(row.macs for row in infers), sum(row.elements for row in infers))
    return _train_work(forwards, job.config.frozen), infer


def _train_work(rows: tuple[Row, ...], frozen: tuple[str, ...]) -> Work:
    macs, elements = 0, 0
    flowing = False  # whether an earlier layer is trainable, so that a row needs the gradient of its input
    for row in rows:
        trainable = not under(row.path, frozen)
        macs += row.macs * (1 + trainable + flowing)
        elements += row.elements * (1 + trainable + flowing)
        flowing |= trainable and row.macs > 0
    return Work(macs, elements)


def _array(shape: tuple[int, ...], dtype: Any = jnp.float32) -> Any:
    return jax.ShapeDtypeStruct(shape, dtype)


def _key() -> Any:
    return jax.eval_shape(lambda: jax.random.key(0))


def _split(make: Callable[[], tuple[Any, Any]]) -> tuple[Any, Any]:
    """The results of ``make`` without allocating arrays: the first, which has none, and the shapes of the second."""
    structure = []

    def arrays() -> Any:
        first, state = make()
        structure.append(first)
        return state

    state = jax.eval_shape(arrays)
    return structure[0], state


def _placed(tree: Any, sharding: NamedSharding) -> Any:
    return jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding), tree)
