"""Conversion of a PyTorch module in memory, with the options that a state dict does not contain."""

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
    """Converts a torchvision ResNet or detector, a HeadHunter, or another module that `load_torch` supports.

    The following options are read from the module: anchors, image sizes and normalisation, thresholds, counts, box
    coder weights, RoIAlign and its levels, kind, eps and momentum of the norms, the slope of LeakyReLU, the number of
    classes, and for HeadHunter whether it enlarges images and uses soft-NMS. If ``min_size`` is a list, the last
    entry is used with a warning, as torchvision does in evaluation. The module is not changed, and later training of it
    does not change the model.

    Args:
        module: may be compiled or wrapped in DataParallel, or contain the supported module as a submodule.
        name, names, dtype, param_dtype, precision, options: see `convert_weights`; options override the module's.

    Raises:
        WeightsError: the module contains several such models.
        RecognitionError: its state dict is not that of a known model, or of another model than ``name``.
        UnsupportedModuleError: the module has a setting that jaxdet does not support.
        ConversionError: its state dict has unknown or missing names.
    """
    if not callable(getattr(module, "state_dict", None)):
        raise TypeError(f"from_torch takes a torch.nn.Module, not {type(module).__name__}; for weights use load_torch")
    read = read_model(module.state_dict())
    module = module.get_submodule(read.prefix.rstrip("."))
    found = recognise_weights(read, name)
    if found.bare:
        raise UnsupportedModuleError("this is a detector without its heads: convert its state dict with load_torch")
    if found.also is not None and name is None and source_named(found.also).is_live(module):
        found = recognise_weights(read, found.also)
    chosen = _read_options(module, found) | options
    if found.is_detector:
        _warn_about_sizes(module.transform)
    chosen |= {"names": tuple(names)} if names is not None else coco_names(found.name, chosen)
    config = model_config(found.name, **chosen)
    return fill_strictly(read, found, config, Numerics(dtype, param_dtype, precision))[0]


def _read_options(module: Any, found: Recognised) -> dict[str, Any]:
    """The options that the weights and the module determine."""
    source, known = source_named(found.name), dict(found.options)
    for prefix, option in source.norms.items():
        if isinstance(known.get(option), NormConfig):
            known[option] = read_norm(module, prefix, known[option])
    layers = list(layers_of(module))
    prefix, option = (BODY, "backbone_") if found.is_detector else ("", "")
    check_dilations(layers, found.name)
    backbone_layers = [(path, layer) for path, layer in layers if path.startswith(prefix)]
    backbone = backbone_of(model_config(found.name).backbone_config)
    known |= {option + key: value for key, value in backbone.live(backbone_layers, found.name).items()}
    return known | source.live(module, found)


def _warn_about_sizes(transform: Any) -> None:
    sizes = as_tuple(transform.min_size)
    if len(sizes) > 1:
        warnings.warn(
            f"the module trains with min_size {list(sizes)}; {sizes[-1]} is used, as torchvision does in evaluation",
            stacklevel=3,
        )
