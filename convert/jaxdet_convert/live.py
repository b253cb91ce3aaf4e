"""A live PyTorch module as a model of this library: what no state dict tells is read off the module."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

from jaxdet.base import Model
from jaxdet.models import model_config
from jaxdet.nn import NormConfig, Numerics
from jaxdet_convert.fill import fill_strictly
from jaxdet_convert.load import coco_names, recognise_weights
from jaxdet_convert.read.unwrap import read_model
from jaxdet_convert.sources.backbones import backbone_of
from jaxdet_convert.sources.base import Recognised, UnsupportedModuleError
from jaxdet_convert.sources.modules import as_tuple, check_dilations, layers_of, read_norm
from jaxdet_convert.sources.parts import BODY
from jaxdet_convert.sources.registry import source_named


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
    """A live torchvision ResNet or detector, a HeadHunter, or another module whose state dict `load_torch` knows.

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
    if found.also is not None and name is None and source_named(found.also).is_live(module):
        found = recognise_weights(read, found.also)
    chosen = _told(module, found) | options
    if found.is_detector:
        _warn_of_sizes(module.transform)
    chosen |= {"names": tuple(names)} if names is not None else coco_names(found.name, chosen)
    config = model_config(found.name, **chosen)
    return fill_strictly(read, found, config, Numerics(dtype, param_dtype, precision))[0]


def _told(module: Any, found: Recognised) -> dict[str, Any]:
    """The options that the weights and the module tell."""
    source, told = source_named(found.name), dict(found.options)
    for prefix, option in source.norms.items():
        if isinstance(told.get(option), NormConfig):
            told[option] = read_norm(module, prefix, told[option])
    layers = list(layers_of(module))
    prefix, option = (BODY, "backbone_") if found.is_detector else ("", "")
    check_dilations(layers, found.name)
    body = [(path, layer) for path, layer in layers if path.startswith(prefix)]
    backbone = backbone_of(model_config(found.name).backbone_config)
    told |= {option + key: value for key, value in backbone.live(body, found.name).items()}
    return told | source.live(module, found)


def _warn_of_sizes(transform: Any) -> None:
    sizes = as_tuple(transform.min_size)
    if len(sizes) > 1:
        warnings.warn(
            f"the module trains with min_size {list(sizes)}; taken is {sizes[-1]}, as torchvision does in evaluation",
            stacklevel=3,
        )
