"""Rows of a summary: one per call of a layer or block, recorded while the model is traced with shapes.

The rows and their order (that in which calls return) are those of the ``torchsummary`` package for the same model in
PyTorch.
"""

from __future__ import annotations

import functools
import math
import types
from collections.abc import Callable
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

import jax
from flax import nnx

from jaxdet.backbones.darknet import DarkStage
from jaxdet.nn import (
    Activation,
    BatchNorm,
    Conv,
    ConvNormAct,
    DeformConv,
    FrozenBatchNorm,
    GlobalAvgPool,
    GroupNorm,
    MaxPool,
    Upscale,
)

Shape = tuple[int, ...]

TRANSPARENT = (ConvNormAct, DarkStage)  # without own rows, as nn.Sequential in PyTorch; their layers have rows
KINDS = (
    (nnx.Conv, "Conv2d"), (nnx.Linear, "Linear"), (BatchNorm, "BatchNorm2d"), (FrozenBatchNorm, "FrozenBatchNorm2d"),
    (GroupNorm, "GroupNorm"), (MaxPool, "MaxPool2d"), (GlobalAvgPool, "AdaptiveAvgPool2d"),
)  # fmt: skip
ACTIVATIONS = {
    "relu": "ReLU", "relu6": "ReLU6", "leaky_relu": "LeakyReLU", "sigmoid": "Sigmoid", "hard_sigmoid": "Hardsigmoid",
    "hard_swish": "Hardswish",
}  # fmt: skip


@dataclass(frozen=True)
class Window:
    """Kernel, stride and padding per side of a convolution or pooling, each along height and width."""

    kernel: tuple[int, int]
    stride: tuple[int, int]
    padding: tuple[int, int]


@dataclass(frozen=True)
class Row:
    """One call of a layer or block.

    number: the position, from 1.
    kind: PyTorch's name of a layer, or the class name of a block.
    path: the path of the module in the model.
    input_shape, shape: the shapes of input and output in PyTorch's order, without the batch.
    parameters: the number of parameters (weight and bias, trainable or not), without those of submodules.
    macs: the multiply-accumulates of a convolution or linear layer for the whole batch; 0 for other modules.
    window: the window of a convolution or pooling.
    elements: the total size of input, kernel and output for the whole batch; 0 for modules without macs.
    """

    number: int
    kind: str
    path: str
    input_shape: Shape
    shape: Shape
    parameters: int
    macs: int
    window: Window | None
    elements: int


def parameters(model: nnx.Module) -> tuple[int, int]:
    """The number of trainable parameters, and of weights and biases of frozen batch norms."""
    trainable = sum(leaf.size for leaf in jax.tree.leaves(nnx.state(model, nnx.Param)))
    norms = (module for _, module in nnx.iter_modules(model) if isinstance(module, FrozenBatchNorm))
    return trainable, sum(norm.scale.size + norm.bias.size for norm in norms)


# Recording: during tracing, each module of a copy of the model gets a subclass whose __call__ reports to the recorder
# of this context. The model and its classes do not change.

_recorder: ContextVar[Callable[[nnx.Module, Any, Any], None]] = ContextVar("recorder")


@functools.cache
def _recording(cls: type[nnx.Module]) -> type[nnx.Module]:
    def call(self: Any, *args: Any, **kwargs: Any) -> Any:
        output = cls.__call__(self, *args, **kwargs)  # type: ignore[operator]
        _recorder.get()(self, next(iter((*args, *kwargs.values())), None), output)
        return output

    return types.new_class(cls.__name__, (cls,), exec_body=lambda body: body.update(__call__=call))


def trace(model: nnx.Module, forward: Callable[..., Any], *inputs: Any) -> tuple[tuple[Row, ...], Any]:
    """The rows of ``forward(model, *inputs)``, and the shapes of what it returns."""
    graphdef, state = nnx.split(model)
    rows: list[Row] = []

    def run(state: nnx.State, *inputs: Any) -> Any:
        copy = nnx.merge(graphdef, state)
        paths = {}
        for path, module in nnx.iter_modules(copy):
            if path and callable(module) and not isinstance(module, TRANSPARENT):
                paths[id(module)] = ".".join(str(part) for part in path)
                object.__setattr__(module, "__class__", _recording(type(module)))

        def record(module: nnx.Module, x: Any, output: Any) -> None:
            if hasattr(x, "shape") and hasattr(output, "shape"):  # not for modules with dicts of feature maps
                rows.append(_row(len(rows) + 1, module, paths[id(module)], x.shape, output.shape))

        token = _recorder.set(record)
        try:
            return forward(copy, *inputs)
        finally:
            _recorder.reset(token)

    outputs = jax.eval_shape(run, state, *inputs)
    return tuple(rows), outputs


def _row(number: int, module: nnx.Module, path: str, before: Shape, after: Shape) -> Row:
    macs = 0
    if isinstance(module, (nnx.Conv, nnx.Linear, DeformConv)):
        macs = math.prod(after[:-1]) * module.kernel[...].size  # the kernel is applied at each location of the output
    elif isinstance(module, Upscale):
        macs = (
            math.prod(before[:-1]) * module.kernel[...].size
        )  # transposed: the kernel is applied at each location of the input
    elements = math.prod(before) + math.prod(after) + module.kernel[...].size if macs else 0  # type: ignore[attr-defined]
    own = sum(
        value[...].size
        for name, value in vars(module).items()
        if isinstance(value, nnx.Param) or (isinstance(module, FrozenBatchNorm) and name in ("scale", "bias"))
    )
    before, after = torch_order(before[1:]), torch_order(after[1:])
    return Row(number, _kind(module), path, before, after, own, macs, _window(module), elements)


def _kind(module: nnx.Module) -> str:
    if isinstance(module, Activation):
        return ACTIVATIONS[module.kind]
    return next((kind for cls, kind in KINDS if isinstance(module, cls)), type(module).__name__)


def _window(module: Any) -> Window | None:
    if isinstance(module, MaxPool):
        return Window((module.kernel_size,) * 2, (module.stride,) * 2, (module.padding,) * 2)
    if not isinstance(module, Conv):
        return None
    conv: Any = module  # Flax's types are wider than the values of this class
    (top, _), (left, _) = conv.padding
    return Window(tuple(conv.kernel_size), (conv.strides,) * 2, (top, left))


def torch_order(shape: Shape) -> Shape:
    """The shape ``[..., H, W, C]`` as ``[..., C, H, W]``; shapes with fewer than three axes are unchanged."""
    return (*shape[:-3], shape[-1], *shape[-3:-1]) if len(shape) >= 3 else shape
