"""What a live module of PyTorch tells of parts that several families share.

Everything here asks for attributes and never for classes, so that torch need not be imported; whoever has a module has
imported it already.
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
    """Its submodules, under names without those of compiled parts."""
    return ((without_wrappers(f"{name}.").rstrip("."), layer) for name, layer in module.named_modules())


def read_norm(module: Any, prefix: str, told: NormConfig) -> NormConfig:
    """The settings of all norms under a prefix, which have to agree.

    Args:
        told: what the weights tell of them.
    """
    seen: dict[NormConfig, str] = {}
    for name, layer in layers_of(module):
        if name.startswith(prefix) and (found := _norm(name, layer, told)) is not None:
            seen.setdefault(found, name)
    if len(seen) > 1:
        text = "; ".join(f"{name}: {_settings(norm)}" for norm, name in seen.items())
        raise UnsupportedModuleError(f"the norms under {prefix or 'the module'} differ, and here they agree: {text}")
    return next(iter(seen), told)


def _norm(name: str, layer: Any, told: NormConfig) -> NormConfig | None:
    eps = float(getattr(layer, "eps", NORM_EPS))
    if hasattr(layer, "num_groups"):
        return NormConfig("group", eps, groups=layer.num_groups)
    if getattr(layer, "running_var", None) is None:
        return None
    if getattr(layer, "num_batches_tracked", None) is None:  # frozen norms have no momentum
        return NormConfig("frozen", eps, told.momentum)
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
    """Refuses convolutions that are dilated, which no state dict tells."""
    for path, layer in layers:
        dilation = getattr(layer, "dilation", 1)
        if hasattr(layer, "kernel_size") and set(as_tuple(dilation)) != {1}:
            raise UnsupportedModuleError(f"{path} is dilated by {dilation}; the convolutions of {model} here are not")


def leaky_slope(layers: Iterable[tuple[str, Any]]) -> float | None:
    """The slope of all LeakyReLUs; None where there are none."""
    slopes = {float(layer.negative_slope) for _, layer in layers if hasattr(layer, "negative_slope")}
    if len(slopes) > 1:
        raise UnsupportedModuleError(f"its LeakyReLU layers have the slopes {sorted(slopes)}, and here they agree")
    return next(iter(slopes), None)


def transform_options(transform: Any) -> dict[str, Any]:
    """Of torchvision's ``GeneralizedRCNNTransform``. Of several sizes the last, as torchvision does in evaluation."""
    expect(transform, "size_divisible", 32)
    expect(transform, "fixed_size", None)
    expect(transform, "_skip_resize", False)
    size = as_tuple(transform.min_size)[-1]
    if size is None or transform.max_size is None:
        raise UnsupportedModuleError("the module resizes no image: give its transform a min_size and a max_size")
    return {
        "enlarge": _enlarges(transform),
        "min_size": size,
        "max_size": transform.max_size,
        "image_mean": tuple(float(value) for value in transform.image_mean),
        "image_std": tuple(float(value) for value in transform.image_std),
    }


def _enlarges(transform: Any) -> bool:
    """Seen from what it makes of the smallest image, as no attribute tells."""
    training = transform.training
    transform.eval()
    try:
        image = sys.modules["torch"].zeros(3, 32, 32)
        return transform.resize(image, None)[0].shape[-1] > image.shape[-1]
    finally:
        transform.train(training)


def anchors_of(generator: Any, maps: int) -> AnchorGenerator:
    """The anchors on so many maps."""
    if not hasattr(generator, "sizes") or not hasattr(generator, "aspect_ratios"):
        raise UnsupportedModuleError(f"the anchor generator {type(generator).__name__} has no sizes and aspect_ratios")
    # Anchors for more levels than there are had no effect in torchvision's first versions.
    sizes, ratios = (_nested(value)[:maps] for value in (generator.sizes, generator.aspect_ratios))
    return AnchorGenerator(sizes, ratios)


def further_levels(fpn: Any, p6p7: str | None) -> int:
    """How many levels torchvision's pyramid adds above those of the backbone.

    Args:
        p6p7: as the weights tell it.
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
    """Refuses a setting that is a constant here."""
    found = getattr(part, attribute, value)
    if found != value:
        raise UnsupportedModuleError(f"{type(part).__name__}.{attribute} is {found}, and here it is always {value}")


def as_tuple(value: Any) -> tuple[Any, ...]:
    """A sequence as a tuple, anything else as a tuple of it alone."""
    return tuple(value) if isinstance(value, (list, tuple)) else (value,)


def _nested(value: Sequence[Any]) -> tuple[tuple[float, ...], ...]:
    return tuple(as_tuple(item) for item in value)
