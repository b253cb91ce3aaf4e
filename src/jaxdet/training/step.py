"""The compiled train step, partitioned over a mesh."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import jax
import jax.numpy as jnp
import optax
from flax import nnx
from jax import Array
from jax.sharding import Mesh

from jaxdet.base import Losses
from jaxdet.parallel import batch_sharding, data_mesh, replicated
from jaxdet.training.state import TrainState, moving_average, trainable
from jaxdet.types import Images

TrainStep = Callable[[TrainState, Images, Any, Array], tuple[TrainState, Losses]]


class Objective(Protocol):
    """A function that returns the loss terms; training minimises their sum. By default `losses`."""

    def __call__(
        self, model: Any, images: Images, targets: Any, keys: Array, *, train: bool = True, mesh: Mesh | None = None
    ) -> Losses: ...


def losses(
    model: Any,
    images: Images,
    targets: Any,
    keys: Array,
    *,
    train: bool = True,
    mesh: Mesh | None = None,
    **options: Any,
) -> Losses:
    """``model.losses`` (see `jaxdet.models.Model.losses`) of a batch; ``options`` are passed on."""
    return model.losses(images, targets, keys, train=train, mesh=mesh, **options)


def image_keys(key: Array, step: Array, batch: int) -> Array:
    """Random keys ``[batch]``, one per image, from the run's key, the step and the row in the global batch."""
    key = jax.random.fold_in(key, step)
    return jax.vmap(lambda row: jax.random.fold_in(key, row))(jnp.arange(batch))


def make_train_step(
    graphdef: nnx.GraphDef,
    optimizer: optax.GradientTransformation,
    *,
    objective: Objective = losses,
    frozen: tuple[str, ...] = (),
    mesh: Mesh | None = None,
    ema_decay: float | None = None,
    accumulate: int = 1,
) -> TrainStep:
    """A jit-compiled ``step(state, images, targets, key) -> (state, losses)``.

    The state is donated: use the returned one. Images and targets are split over the data axis of the mesh, which must
    divide the batch. ``losses`` contains the objective's terms, their sum ``"loss"`` and the norm of its gradient,
    ``"gradient_norm"``. The step compiles once per canvas, provided that the first state is placed like later ones
    (``jax.device_put(state, replicated(mesh))``); otherwise the second step compiles again. A step with a loss or
    gradient that is not finite only sets ``state.healthy`` to False, and later steps change nothing.

    Args:
        graphdef, frozen: as returned by and given to `init_state`.
        mesh: from `data_mesh`; by default one device.
        ema_decay: decay of the moving averages, for a state with ``ema=True``.
        accumulate: number of steps per update (see `OptimizerConfig`), after which the averages are updated, too.
    """
    mesh = data_mesh(jax.devices()[:1]) if mesh is None else mesh
    wanted = trainable(frozen)

    def step(state: TrainState, images: Images, targets: Any, key: Array) -> tuple[TrainState, Losses]:
        keys = image_keys(key, state.step, images.pixels.shape[0])

        def total(params: nnx.State) -> tuple[Array, tuple[Losses, nnx.State]]:
            model = nnx.merge(graphdef, params, state.rest, copy=True)  # a copy, whose statistics this trace updates
            values = objective(model, images, targets, keys, mesh=mesh)
            rest = nnx.state(model, nnx.Not(wanted))  # with updated batch statistics
            return sum(values.values(), jnp.zeros(())), (values, rest)

        (loss, (values, rest)), gradient = jax.value_and_grad(total, has_aux=True)(state.params)
        updates, opt_state = optimizer.update(gradient, state.opt_state, state.params)
        params = optax.apply_updates(state.params, updates)
        norm = jnp.sqrt(sum(jnp.square(leaf).sum() for leaf in jax.tree.leaves(gradient)))
        done = state.step + 1
        averages = state.ema
        if averages is not None and ema_decay is not None:
            moved = moving_average(averages, (params, rest), ema_decay, done // accumulate)
            averages = _choose(done % accumulate == 0, moved, averages)
        healthy = state.healthy & jnp.isfinite(loss) & jnp.isfinite(norm)
        new = TrainState(done, healthy, params, rest, opt_state, averages)
        kept = _choose(healthy, new, state)
        kept = TrainState(kept.step, healthy, kept.params, kept.rest, kept.opt_state, kept.ema)
        return kept, {"loss": loss, **values, "gradient_norm": norm}

    everywhere, split = replicated(mesh), batch_sharding(mesh)
    return jax.jit(
        step,
        in_shardings=(everywhere, split, split, everywhere),
        out_shardings=(everywhere, everywhere),
        donate_argnums=0,
    )


def _choose(condition: Array, yes: Any, no: Any) -> Any:
    return jax.tree.map(lambda a, b: jnp.where(condition, a, b), yes, no)
