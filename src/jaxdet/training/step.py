"""The compiled train step: pure functions of pure state, partitioned over a mesh."""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
import optax
from flax import nnx
from jax import Array
from jax.sharding import Mesh

from jaxdet.parallel import batch_sharding, data_mesh, replicated
from jaxdet.training.losses import Losses, losses
from jaxdet.training.state import TrainState, trainable
from jaxdet.types import Images, Targets

TrainStep = Callable[[TrainState, Images, Targets, Array], tuple[TrainState, Losses]]


def image_keys(key: Array, step: Array, batch: int) -> Array:
    """One random key an image, ``[batch]``: of the run's key, the step and the image's row in the global batch."""
    key = jax.random.fold_in(key, step)
    return jax.vmap(lambda row: jax.random.fold_in(key, row))(jnp.arange(batch))


def make_train_step(
    graphdef: nnx.GraphDef,
    optimizer: optax.GradientTransformation,
    *,
    frozen: tuple[str, ...] = (),
    mesh: Mesh | None = None,
) -> TrainStep:
    """A jit-compiled ``step(state, images, targets, key) -> (state, losses)``.

    The state is donated: use the returned one. Images and targets are split over the mesh's data axis, which must
    divide the batch; ``losses`` has the four terms and their sum under ``"loss"``. It compiles once a canvas.

    Args:
        graphdef, frozen: as given to and returned by `init_state`.
        mesh: of `data_mesh`; by default one device.
    """
    mesh = data_mesh(jax.devices()[:1]) if mesh is None else mesh
    wanted = trainable(frozen)

    def step(state: TrainState, images: Images, targets: Targets, key: Array) -> tuple[TrainState, Losses]:
        keys = image_keys(key, state.step, images.pixels.shape[0])

        def total(params: nnx.State) -> tuple[Array, tuple[Losses, nnx.State]]:
            model = nnx.merge(graphdef, params, state.rest, copy=True)  # its statistics move within this trace
            values = losses(model, images, targets, keys, mesh=mesh)
            rest = nnx.state(model, nnx.Not(wanted))  # batch statistics have moved
            return sum(values.values(), jnp.zeros(())), (values, rest)

        (loss, (values, rest)), gradient = jax.value_and_grad(total, has_aux=True)(state.params)
        updates, opt_state = optimizer.update(gradient, state.opt_state, state.params)
        params = optax.apply_updates(state.params, updates)
        return TrainState(state.step + 1, params, rest, opt_state), {"loss": loss, **values}

    everywhere, split = replicated(mesh), batch_sharding(mesh)
    return jax.jit(
        step,
        in_shardings=(everywhere, split, split, everywhere),
        out_shardings=(everywhere, everywhere),
        donate_argnums=0,
    )
