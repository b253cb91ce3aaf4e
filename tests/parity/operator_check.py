"""One operator against torchvision's: values and gradients, under ``jit``, ``vmap`` and ``grad`` at once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np
import torch

Arrays = tuple[np.ndarray, ...]


@dataclass(frozen=True)
class Case:
    """``ours`` takes jax arrays and ``theirs`` tensors; both get ``inputs`` and give one array of the same shape.

    The first ``differentiable`` inputs have gradients. ``tolerance`` is for float32, of values and of gradients,
    relative to the largest number of the last axis (of a box, of a pixel), and at least to 1.
    """

    name: str
    inputs: Callable[[np.dtype], Arrays]
    ours: Callable[..., Any]
    theirs: Callable[..., torch.Tensor]
    differentiable: int = 1
    tolerance: tuple[float, float] = (2e-6, 2e-5)
    tolerance_float64: tuple[float, float] | None = None  # a billionth of that in float32


def check(case: Case, dtype: str) -> None:
    """Asserts equality to rounding where torchvision is finite, and that ours is finite everywhere."""
    kind = np.dtype(dtype)
    inputs = case.inputs(kind)
    # A second row, so that a vmapped operator cannot mix them up.
    rows = [inputs, tuple(np.ascontiguousarray(array[::-1]) if i == 0 else array for i, array in enumerate(inputs))]
    expected = [_theirs(case, row) for row in rows]
    stacked = [np.stack(arrays) for arrays in zip(*rows, strict=True)]
    cotangents = np.stack([_cotangent(value) for value, _ in expected])

    @jax.jit
    @jax.vmap
    def run(arrays: Sequence[Any], cotangent: Any) -> Any:
        varied, fixed = arrays[: case.differentiable], arrays[case.differentiable :]
        value, pull = jax.vjp(lambda *varied: case.ours(*varied, *fixed), *varied)
        return value, pull(cotangent.astype(value.dtype))

    values, gradients = run(stacked, cotangents)
    bounds = case.tolerance
    if kind == np.float64:
        bounds = case.tolerance_float64 or (1e-9 * bounds[0], 1e-9 * bounds[1])
    for row, (value, gradient) in enumerate(expected):
        assert values.dtype == value.dtype == kind, (case.name, values.dtype, value.dtype)
        _compare(f"{case.name}, value", values[row], value, bounds[0])
        for index, theirs in enumerate(gradient):
            _compare(f"{case.name}, gradient {index}", gradients[index][row], theirs, bounds[1])


def _cotangent(value: np.ndarray) -> np.ndarray:
    return np.random.default_rng(5).standard_normal(value.shape).astype(value.dtype)


def _theirs(case: Case, inputs: Arrays) -> tuple[np.ndarray, list[np.ndarray]]:
    tensors = [torch.from_numpy(np.array(array)) for array in inputs]
    for tensor in tensors[: case.differentiable]:
        tensor.requires_grad_()
    value = case.theirs(*tensors)
    result = value.detach().numpy()
    if case.differentiable:
        value.backward(torch.from_numpy(_cotangent(result)))
    gradients = [
        np.zeros_like(array) if tensor.grad is None else tensor.grad.numpy()
        for array, tensor in zip(inputs, tensors[: case.differentiable], strict=False)
    ]
    return result, gradients


def _compare(what: str, ours: Any, theirs: np.ndarray, tolerance: float) -> None:
    ours = np.asarray(ours)
    assert ours.shape == theirs.shape, f"{what}: {ours.shape} and {theirs.shape}"
    assert np.isfinite(ours).all(), f"{what}: not finite at {np.argwhere(~np.isfinite(ours))[:5].tolist()}"
    known = np.isfinite(theirs)
    finite = np.where(known, theirs, 0)
    scale = np.maximum(np.abs(finite).max(axis=-1, keepdims=True), 1) if theirs.ndim else max(abs(finite), 1)
    error = np.where(known, np.abs(ours - finite) / scale, 0)
    worst = np.unravel_index(np.argmax(error), error.shape) if error.size else ()
    assert not error.size or error[worst] <= tolerance, (
        f"{what}: {ours[worst]} and torchvision's {theirs[worst]} at {worst}, an error of {error[worst]:.1e}"
    )
