"""Reading options from PyTorch modules, for parts that several families share.

The functions only access attributes and never compare classes, so that this file does not import torch.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from jaxdet.heads import AnchorGenerator
from jaxdet.nn import NormConfig
from jaxdet_convert.read.weights import without_wrappers
from jaxdet_convert.sources.base import UnsupportedModuleError

NORM_EPS = 1e-5  # PyTorch's default


def layers_of(module: Any) -> Iterator[tuple[str, Any]]:
    """The submodules with their names, without the prefixes that wrappers such as torch.compile add."""
    return ((without_wrappers(f"{name}.").rstrip("."), layer) for name, layer in module.named_modules())


def read_norm(module: Any, prefix: str, known: NormConfig) -> NormConfig:
    """Reads the settings of all norms under a prefix.

    Args:
        known: the settings that the weights determine.

    Raises:
        UnsupportedModuleError: the norms differ.
    """
    seen: dict[NormConfig, str] = {}
    for name, layer in layers_of(module):
        if name.startswith(prefix) and (found := _norm(name, layer, known)) is not None:
            seen.setdefault(found, name)
    if len(seen) > 1:
        text = "; ".join(f"{name}: {_settings(norm)}" for norm, name in seen.items())
        raise UnsupportedModuleError(
            f"the norms under {prefix or 'the module'} differ, but jaxdet has one setting for all: {text}"
        )
    return next(iter(seen), known)


def _norm(name: str, layer: Any, known: NormConfig) -> NormConfig | None:
    eps = float(getattr(layer, "eps", NORM_EPS))
    if hasattr(layer, "num_groups"):
        return NormConfig("group", eps, groups=layer.num_groups)
    if getattr(layer, "running_var", None) is None:
        return None
    if getattr(layer, "num_batches_tracked", None) is None:  # frozen norms have no momentum
        return NormConfig("frozen", eps, known.momentum)
    momentum = getattr(layer, "momentum", 0.1)
    if momentum is None:
        raise UnsupportedModuleError(
            f"{name} averages its statistics over all batches (momentum=None); give it a momentum, such as 0.1"
        )
    return NormConfig("batch", eps, round(1 - momentum, 12))


def _settings(norm: NormConfig) -> str:
    last = f"{norm.groups} groups" if norm.kind == "group" else f"momentum {1 - norm.momentum:g}"
    return f"{norm.kind}, eps {norm.eps:g}, {last}"


def check_dilations(layers: Iterable[tuple[str, Any]], model: str) -> None:
    """Refuses dilated convolutions, which state dicts do not show."""
    for path, layer in layers:
        dilation = getattr(layer, "dilation", 1)
        if hasattr(layer, "kernel_size") and set(as_tuple(dilation)) != {1}:
            raise UnsupportedModuleError(
                f"{path} is dilated by {dilation}, but jaxdet's {model} has no dilated convolutions"
            )


def leaky_slope(layers: Iterable[tuple[str, Any]]) -> float | None:
    """The slope of all LeakyReLUs; None if there are none. Raises UnsupportedModuleError if they differ."""
    slopes = {float(layer.negative_slope) for _, layer in layers if hasattr(layer, "negative_slope")}
    if len(slopes) > 1:
        raise UnsupportedModuleError(
            f"its LeakyReLU layers have the slopes {sorted(slopes)}, but jaxdet has one for all"
        )
    return next(iter(slopes), None)


def transform_options(transform: Any) -> dict[str, Any]:
    """Options of torchvision's ``GeneralizedRCNNTransform``. Of several sizes, the last one, as in its evaluation."""
    expect(transform, "size_divisible", 32)
    expect(transform, "fixed_size", None)
    expect(transform, "_skip_resize", False)
    size = as_tuple(transform.min_size)[-1]
    if size is None or transform.max_size is None:
        raise UnsupportedModuleError("the module does not resize images: give its transform a min_size and a max_size")
    return {
        "enlarge": _enlarges(transform),
        "min_size": size,
        "max_size": transform.max_size,
        "image_mean": tuple(float(value) for value in transform.image_mean),
        "image_std": tuple(float(value) for value in transform.image_std),
    }


def _enlarges(transform: Any) -> bool:
    """Whether small images are enlarged. No attribute contains it, so that an image is resized to find out."""
    training = transform.training
    transform.eval()
    try:
        image = sys.modules["torch"].zeros(3, 32, 32)
        return transform.resize(image, None)[0].shape[-1] > image.shape[-1]
    finally:
        transform.train(training)


def anchors_of(generator: Any, maps: int) -> AnchorGenerator:
    """The anchors of a module on ``maps`` feature maps."""
    if not hasattr(generator, "sizes") or not hasattr(generator, "aspect_ratios"):
        raise UnsupportedModuleError(f"the anchor generator {type(generator).__name__} has no sizes and aspect_ratios")
    # In torchvision's first versions, anchors for further levels had no effect.
    sizes, ratios = (_nested(value)[:maps] for value in (generator.sizes, generator.aspect_ratios))
    return AnchorGenerator(sizes, ratios)


def count_extra_levels(fpn: Any, p6p7: str | None) -> int:
    """The number of levels that torchvision's pyramid adds to those of the backbone.

    Args:
        p6p7: the option ``fpn_p6p7``, from the weights.
    """
    extra = getattr(fpn, "extra_blocks", None)
    if extra is None:
        return 0
    if p6p7 is None and any(True for _ in extra.parameters()):
        raise UnsupportedModuleError(f"the pyramid's extra levels ({type(extra).__name__}) are not a max pool")
    if p6p7 is not None:
        expect(extra, "use_P5", p6p7 == "p5")
    return 1 if p6p7 is None else 2


def expect(part: Any, attribute: str, value: Any) -> None:
    """Refuses a setting that jaxdet only supports with one value."""
    found = getattr(part, attribute, value)
    if found != value:
        raise UnsupportedModuleError(f"{type(part).__name__}.{attribute} is {found}, but jaxdet only supports {value}")


def as_tuple(value: Any) -> tuple[Any, ...]:
    """A sequence as a tuple, any other value as a tuple with one element."""
    return tuple(value) if isinstance(value, (list, tuple)) else (value,)


def _nested(value: Sequence[Any]) -> tuple[tuple[float, ...], ...]:
    return tuple(as_tuple(item) for item in value)
