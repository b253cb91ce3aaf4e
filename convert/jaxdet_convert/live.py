"""A live torchvision module as a model of this library: what no state dict tells is read off the module.

Everything here asks for attributes and never for classes, so that torch need not be imported; whoever has a module has
imported it already.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Iterator, Sequence
from typing import Any

from jaxdet.base import Model
from jaxdet.heads import AnchorGenerator
from jaxdet.models import model_config
from jaxdet.nn import NormConfig, Numerics
from jaxdet_convert.fill import fill_strictly
from jaxdet_convert.load import NORM_EPS, coco_names, recognise_weights
from jaxdet_convert.read.unwrap import read_model
from jaxdet_convert.read.weights import without_wrappers
from jaxdet_convert.recognise import Recognised

_PARTS = {
    "backbone.body.": "backbone_norm", "backbone.fpn.": "fpn_norm", "backbone.ssh": "context_norm",
    "roi_heads.box_head.": "box_norm",
}  # fmt: skip
_HEADHUNTER = "headhunter_"


class UnsupportedModuleError(ValueError):
    """A module computes something that this library's model of the same weights would not: the line says what."""


def from_torch(
    module: Any,
    name: str | None = None,
    *,
    names: Sequence[str] | None = None,
    dtype: str = "float32",
    param_dtype: str = "float32",
    precision: str = "highest",
    **options: Any,
) -> Model:
    """A live torchvision ResNet or Faster R-CNN, a HeadHunter, or another module whose state dict `load_torch` knows.

    Read off the module: anchors, sizes, normalisation of images, thresholds, counts, box coder weights, RoIAlign and
    its levels, the norms' kind, eps and momentum, the slope of LeakyReLU, the class count, and of a HeadHunter whether
    it enlarges images and has soft-NMS. Of a list of ``min_size`` the last is taken, as torchvision does in
    evaluation, with a warning. The module is not changed, and its later training does not change the model.

    Args:
        module: wrapped in DataParallel or compiled, too, or the one such model within another module.
        name, names, dtype, param_dtype, precision, options: as in `load_torch`; options go before what is read.

    Raises:
        WeightsError: there are several such models in it.
        RecognitionError: its state dict is of no model of this library, or of another than ``name``.
        UnsupportedModuleError: a setting of it has no counterpart here.
        ConversionError: something in its state dict is left over, or missing.
    """
    if not callable(getattr(module, "state_dict", None)):
        raise TypeError(f"from_torch takes a torch.nn.Module, not {type(module).__name__}; for weights use load_torch")
    read = read_model(module.state_dict())
    module = module.get_submodule(read.prefix.rstrip("."))
    found = recognise_weights(read, name)
    if found.bare:
        raise UnsupportedModuleError("this is a detector's backbone without its heads: load_torch takes its state dict")
    if found.also is not None and name is None and _is_headhunter(module):
        found = recognise_weights(read, found.also)
    told = dict(found.options)
    parts = _PARTS if found.is_detector else {"": "norm"}
    for prefix, option in parts.items():
        if isinstance(told.get(option), NormConfig):
            told[option] = _norm(module, prefix, told[option])
    body = "backbone." if found.is_detector else ""
    _check_convolutions(module, body, found.name)
    told |= {f"{body.replace('.', '_')}{key}": value for key, value in _activation(module, found.name).items()}
    if found.is_detector:
        told |= _detector(module, found)
    chosen = told | options
    chosen |= {"names": tuple(names)} if names is not None else coco_names(found.name, chosen)
    config = model_config(found.name, **chosen)
    return fill_strictly(read, found, config, Numerics(dtype, param_dtype, precision))[0]


def _norm(module: Any, prefix: str, told: NormConfig) -> NormConfig:
    """The settings of all norms under a prefix, which have to agree."""
    seen: dict[NormConfig, str] = {}
    for name, layer in _layers(module):
        if not name.startswith(prefix) or getattr(layer, "running_var", None) is None:
            continue
        counted = getattr(layer, "num_batches_tracked", None) is not None
        momentum = getattr(layer, "momentum", 0.1)  # frozen norms have none
        if momentum is None:
            raise UnsupportedModuleError(
                f"{name} averages its statistics over all batches (momentum=None); give it a momentum, such as 0.1"
            )
        kept = round(1 - momentum, 12) if counted else told.momentum
        kind = "batch" if counted else "frozen"
        seen.setdefault(NormConfig(kind, float(getattr(layer, "eps", NORM_EPS)), kept), name)
    if len(seen) > 1:
        found = "; ".join(f"{name}: {n.kind}, eps {n.eps:g}, momentum {1 - n.momentum:g}" for n, name in seen.items())
        raise UnsupportedModuleError(f"the norms under {prefix or 'the module'} differ, and here they agree: {found}")
    return next(iter(seen), told)


def _layers(module: Any) -> Iterator[tuple[str, Any]]:
    """Its submodules, under names without those of compiled parts."""
    return ((without_wrappers(f"{name}.").rstrip("."), layer) for name, layer in module.named_modules())


def _check_convolutions(module: Any, body: str, name: str) -> None:
    """Strides and dilations are in no state dict."""
    for path, layer in _layers(module):
        dilation = getattr(layer, "dilation", 1)
        if path.startswith(body) and hasattr(layer, "kernel_size") and set(_tuple(dilation)) != {1}:
            raise UnsupportedModuleError(f"{path} is dilated by {dilation}; the convolutions of {name} here are not")
        if path.endswith("layer2.0.conv1") and set(_tuple(getattr(layer, "stride", 1))) != {1}:
            raise UnsupportedModuleError(f"{path} has the stride, where torchvision's ResNets have it on conv2")


def _activation(module: Any, name: str) -> dict[str, Any]:
    """The option of MobileNetV1 and Darknet-53, from the module's activations."""
    if "mobilenet" not in name and "darknet" not in name:
        return {}
    prefix = "backbone.body." if hasattr(module, "rpn") else ""
    layers = [layer for path, layer in _layers(module) if path.startswith(prefix)]
    slopes = {float(layer.negative_slope) for layer in layers if hasattr(layer, "negative_slope")}
    if len(slopes) > 1:
        raise UnsupportedModuleError(f"its LeakyReLU layers have the slopes {sorted(slopes)}, and here they agree")
    if slopes:
        return {"negative_slope": slopes.pop()}
    kinds = {type(layer).__name__.lower() for layer in layers} & {"relu", "relu6"}
    return {"activation": kinds.pop()} if len(kinds) == 1 and "mobilenet" in name else {}


def _is_headhunter(module: Any) -> bool:
    """Of a detector with torchvision's names: whether it drops the fifth level of its pyramid, or has soft-NMS."""
    levels = len(module.backbone.fpn.inner_blocks)
    sizes = getattr(module.rpn.anchor_generator, "sizes", ())
    return bool(getattr(module.roi_heads, "soft_nms", False)) or len(sizes) != levels + 1


def _detector(module: Any, found: Recognised) -> dict[str, Any]:
    """Options of a Faster R-CNN under torchvision's names."""
    options = _transform(module.transform)
    levels: tuple[str, ...] = found.options.get("return_layers", found.options.get("fpn_levels", ()))
    maps = len(levels)
    if not found.name.startswith(_HEADHUNTER):
        extra = getattr(module.backbone.fpn, "extra_blocks", None)
        if extra is not None and any(True for _ in extra.parameters()):
            raise UnsupportedModuleError(f"the pyramid's extra levels ({type(extra).__name__}) are not a max pool")
        options["fpn_pool"] = extra is not None
        maps += extra is not None
    elif getattr(module.roi_heads, "soft_nms", False):
        options["soft_nms"] = True
    return options | _rpn(module.rpn, maps) | _roi_heads(module, levels)


def _transform(transform: Any) -> dict[str, Any]:
    _expect(transform, "size_divisible", 32)
    _expect(transform, "fixed_size", None)
    _expect(transform, "_skip_resize", False)
    sizes = _tuple(transform.min_size)
    if len(sizes) > 1:
        warnings.warn(
            f"the module trains with min_size {list(sizes)}; taken is {sizes[-1]}, as torchvision does in evaluation",
            stacklevel=4,
        )
    if sizes[-1] is None or transform.max_size is None:
        raise UnsupportedModuleError("the module resizes no image: give its transform a min_size and a max_size")
    return {
        "enlarge": _enlarges(transform),
        "min_size": sizes[-1],
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


def _rpn(rpn: Any, maps: int) -> dict[str, Any]:
    generator = rpn.anchor_generator
    if not hasattr(generator, "sizes") or not hasattr(generator, "aspect_ratios"):
        raise UnsupportedModuleError(f"the anchor generator {type(generator).__name__} has no sizes and aspect_ratios")
    _expect(rpn, "min_size", 1e-3)
    _expect(rpn.box_coder, "weights", (1.0, 1.0, 1.0, 1.0))
    # Anchors for more levels than there are had no effect in torchvision's first versions.
    sizes, ratios = (_nested(value)[:maps] for value in (generator.sizes, generator.aspect_ratios))
    options = {"rpn_anchor_generator": AnchorGenerator(sizes, ratios)}
    for when, key in (("train", "training"), ("test", "testing")):
        options[f"rpn_pre_nms_top_n_{when}"] = rpn._pre_nms_top_n[key]
        options[f"rpn_post_nms_top_n_{when}"] = rpn._post_nms_top_n[key]
    return options | _thresholds("rpn", rpn)


def _roi_heads(module: Any, levels: tuple[str, ...]) -> dict[str, Any]:
    heads = module.roi_heads
    pool = heads.box_roi_pool
    sides = set(_tuple(pool.output_size))
    if len(sides) != 1:
        raise UnsupportedModuleError(f"RoIAlign's output is {tuple(pool.output_size)}, and here it is square")
    _expect(pool, "canonical_scale", 224)
    _expect(pool, "canonical_level", 4)
    return {
        "box_pool_levels": _pooled(module, levels),
        "box_output_size": sides.pop(),
        "box_sampling_ratio": pool.sampling_ratio,
        "bbox_reg_weights": tuple(float(weight) for weight in heads.box_coder.weights),
        "box_detections_per_img": heads.detections_per_img,
        **_thresholds("box", heads),
    }


def _pooled(module: Any, levels: tuple[str, ...]) -> tuple[str, ...] | None:
    """The levels that RoIAlign knows by name; None where it knows all."""
    names = list(module.roi_heads.box_roi_pool.featmap_names)
    layers = getattr(module.backbone.body, "return_layers", None)
    keys = names if layers is None else list(layers.values())
    pooled = tuple(level for level, key in zip(levels, keys, strict=False) if key in names)
    if len(keys) != len(levels) or not pooled:
        raise UnsupportedModuleError(f"RoIAlign takes the maps {names}, and the pyramid's are {keys}")
    return None if pooled == levels else pooled


def _thresholds(prefix: str, part: Any) -> dict[str, Any]:
    """What the two stages share."""
    return {
        f"{prefix}_nms_thresh": part.nms_thresh,
        f"{prefix}_score_thresh": part.score_thresh,
        f"{prefix}_fg_iou_thresh": part.proposal_matcher.high_threshold,
        f"{prefix}_bg_iou_thresh": part.proposal_matcher.low_threshold,
        f"{prefix}_batch_size_per_image": part.fg_bg_sampler.batch_size_per_image,
        f"{prefix}_positive_fraction": part.fg_bg_sampler.positive_fraction,
    }


def _expect(part: Any, attribute: str, value: Any) -> None:
    found = getattr(part, attribute, value)
    if found != value:
        raise UnsupportedModuleError(f"{type(part).__name__}.{attribute} is {found}, and here it is always {value}")


def _tuple(value: Any) -> tuple[Any, ...]:
    return tuple(value) if isinstance(value, (list, tuple)) else (value,)


def _nested(value: Sequence[Any]) -> tuple[tuple[float, ...], ...]:
    return tuple(_tuple(item) for item in value)
