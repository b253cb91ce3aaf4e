"""The train and infer steps of a configuration, with shapes in place of arrays: what a run would compile."""

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

BOX_SLOTS = 96  # as COCO's fullest training image needs
_STEPS_PER_EPOCH = 1000  # of a dataset that is not opened; it enters the learning rate alone


@dataclass(frozen=True)
class Job:
    """What is planned.

    config: of the run; its data need not be there.
    canvas: (height, width) of a step.
    batch: images a chip.
    names: of the classes, a detector's with the background; by default as many as the configuration's model has.
    box_slots: for ground truths, an image.
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
        """What the train step minimises."""
        return losses if self.detects else partial(losses, label_smoothing=self.config.label_smoothing)

    def model(self) -> Any:
        """With new parameters; call it where they are not made (`jax.eval_shape`)."""
        model = self.config.model
        return fresh(self.config, self.names or model.names or ("",) * (model.num_classes or 0))

    def data(self, devices: int) -> tuple[Images, Any]:
        """Images and targets of a global batch."""
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
    """The train step that ``jaxdet train`` runs, traced for the devices of a mesh: ``.lower().compile()`` compiles."""
    config = job.config
    length = run_length(config, _STEPS_PER_EPOCH)
    (_, step), state = _split(
        lambda: first_state(job.model(), config, length.optimizer, length.steps, job.objective, mesh)
    )
    return step.trace(state, *job.data(mesh.size), _key())  # type: ignore[attr-defined]


def evaluation_step(job: Job, mesh: Mesh) -> Any:
    """The step of ``jaxdet evaluate`` and `jaxdet.predict`, a detector's or a classifier's; traced likewise."""
    graphdef, state = _split(lambda: nnx.split(job.model()))
    images, _ = job.data(mesh.size)
    state, images = _placed(state, replicated(mesh)), _placed(images, batch_sharding(mesh))
    if job.detects:
        return infer_step.trace(graphdef, state, images, mesh=mesh)
    return logits_step.trace(graphdef, state, images.pixels)


@dataclass(frozen=True)
class Work:
    """A chip's convolutions and matrix products in a step, counted from the layers.

    macs: multiply-adds.
    elements: numbers in the operands and the result of each product.
    """

    macs: int
    elements: int

    def bytes(self, dtype: str) -> int:
        """What a chip's memory would move if it read each operand and wrote each result once, and did nothing else.

        No bound: an array that stays in the core's memory from one product to the next moves nothing.
        """
        return self.elements * jnp.dtype(dtype).itemsize


def step_work(job: Job) -> tuple[Work, Work]:
    """The work of the train step and of the infer step.

    Backward, each layer that trains costs its forward pass twice more: once for its kernel, once for its input.
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
    macs, elements, flowing = 0, 0, False  # whether something before a row trains, so that a gradient flows through it
    for row in rows:
        trains = not under(row.path, frozen)
        macs += row.macs * (1 + trains + flowing)
        elements += row.elements * (1 + trains + flowing)
        flowing |= trains and row.macs > 0
    return Work(macs, elements)


def _array(shape: tuple[int, ...], dtype: Any = jnp.float32) -> Any:
    return jax.ShapeDtypeStruct(shape, dtype)


def _key() -> Any:
    return jax.eval_shape(lambda: jax.random.key(0))


def _split(make: Callable[[], tuple[Any, Any]]) -> tuple[Any, Any]:
    """What ``make`` gives first, which holds no arrays, and the shapes of the arrays that it gives second."""
    structure = []

    def arrays() -> Any:
        first, state = make()
        structure.append(first)
        return state

    state = jax.eval_shape(arrays)
    return structure[0], state


def _placed(tree: Any, sharding: NamedSharding) -> Any:
    return jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding), tree)
