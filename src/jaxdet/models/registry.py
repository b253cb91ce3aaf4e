"""The registry of model families: their names, their configurations, and building models."""

from __future__ import annotations

import dataclasses
import inspect
import typing
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import jax
from flax import nnx

from jaxdet.backbones import (
    Backbone,
    Darknet53,
    Darknet53Config,
    MobileNetV1,
    MobileNetV1Config,
    ResNet,
    ResNetConfig,
)
from jaxdet.backbones.presets import DARKNET, MOBILENET_V1, RESNET
from jaxdet.base import Model, ModelConfig, Task
from jaxdet.config import nearest
from jaxdet.models import faster_rcnn, fcos, headhunter, retinanet
from jaxdet.models.options import override_model
from jaxdet.nn import Numerics
from jaxdet.nn.parameters import arrays, flatten
from jaxdet.typed import field_types


@dataclass(frozen=True)
class Family:
    """The models of one configuration type.

    model: the class of the models; it takes the configuration and, for a detector, the backbone.
    presets: functions that return the configuration of each named model; their keyword arguments are options, too.
    """

    config: type[ModelConfig]
    model: Callable[..., Model]
    presets: Mapping[str, Callable[..., ModelConfig]]


FAMILIES: tuple[Family, ...] = (
    Family(ResNetConfig, ResNet, RESNET),
    Family(MobileNetV1Config, MobileNetV1, MOBILENET_V1),
    Family(Darknet53Config, Darknet53, DARKNET),
    Family(faster_rcnn.FasterRCNNConfig, faster_rcnn.FasterRCNN, faster_rcnn.PRESETS),
    Family(headhunter.HeadHunterConfig, headhunter.HeadHunter, headhunter.PRESETS),
    Family(retinanet.RetinaNetConfig, retinanet.RetinaNet, retinanet.PRESETS),
    Family(fcos.FCOSConfig, fcos.FCOS, fcos.PRESETS),
)

_MODELS = {family.config: family.model for family in FAMILIES}
_PRESETS = {name: preset for family in FAMILIES for name, preset in family.presets.items()}
_TASKS = {name: family.config.task for family in FAMILIES for name in family.presets}


def _config_types(types: Iterable[type]) -> dict[str, type]:
    """Configuration classes and the classes of their fields, recursively, by name."""
    found: dict[str, type] = {}
    pending = list(types)
    while pending:
        hint = pending.pop()
        pending += typing.get_args(hint)
        if isinstance(hint, type) and dataclasses.is_dataclass(hint) and found.setdefault(hint.__name__, hint) is hint:
            pending += [each for each in field_types(hint).values() if each not in found.values()]
    return found


CONFIG_TYPES = _config_types([Numerics, *_MODELS])
"""The classes that a stored configuration may contain, by name."""


def list_models(task: Task | None = None) -> list[str]:
    """The names of all models, or of those for one task."""
    return [name for name in _PRESETS if task is None or _TASKS[name] is task]


def model_config(name: str, **options: Any) -> ModelConfig:
    """The configuration of a named model, with options.

    Options are fields of the model's configuration. Those of a detector's parts have torchvision's keyword names
    (``min_size``, ``rpn_nms_thresh``, ``box_score_thresh``); those of its backbone begin with ``backbone_``
    (``backbone_width=0.5``). `jaxdet.models.headhunter_config` documents further options of HeadHunter.
    """
    if name not in _PRESETS:
        raise ValueError(f"unknown model {name!r}; known: {', '.join(_PRESETS)}{nearest(name, _PRESETS)}")
    preset = _PRESETS[name]
    known = {key for key, value in inspect.signature(preset).parameters.items() if value.kind is value.KEYWORD_ONLY}
    config = preset(**{key: options.pop(key) for key in known & options.keys()})
    return override_model(config, options, also=known)


def detector_config(name: str, **options: Any) -> Any:
    """The configuration of a named detector, with options; see `model_config`."""
    config = model_config(name, **options)
    if config.task is not Task.DETECTION:
        raise ValueError(f"{name} is {config.task.value}; detectors are {', '.join(list_models(Task.DETECTION))}")
    return config


def build(
    config: ModelConfig,
    *,
    backbone: Backbone | None = None,
    numerics: Numerics = Numerics(),
    rngs: nnx.Rngs | None = None,
) -> Any:
    """Builds the model of a configuration, with freshly initialised parameters.

    Args:
        backbone: the backbone, for a detector whose configuration has none.
        rngs: for the parameters; by default ``nnx.Rngs(0)``.
    """
    rngs = nnx.Rngs(0) if rngs is None else rngs
    make = _MODELS[type(config)]
    if config.task is not Task.DETECTION:
        return make(config, numerics=numerics, rngs=rngs)
    if backbone is None:
        if config.needs_backbone:
            raise ValueError("this detector's configuration has no backbone: pass your own as backbone=")
        backbone = build(config.backbone_config, numerics=numerics, rngs=rngs)
    return make(config, backbone, numerics=numerics, rngs=rngs)


def abstract(config: ModelConfig, *, numerics: Numerics = Numerics(), backbone: Backbone | None = None) -> Any:
    """The model with shapes in place of parameters, to be filled without initialising them first.

    Args:
        backbone: the backbone, for a detector whose configuration has none; otherwise ignored.
    """
    own = backbone if config.needs_backbone else None
    return nnx.eval_shape(lambda: build(config, backbone=own, numerics=numerics, rngs=nnx.Rngs(jax.random.key(0))))


def draw(model: Model, prefixes: tuple[str, ...], *, rngs: nnx.Rngs | None = None) -> dict[str, jax.Array]:
    """Freshly initialised values for the parameters whose paths begin with one of ``prefixes``.

    Args:
        model: abstract or not. It needs a backbone of jaxdet if the paths lie in the backbone.
        rngs: by default ``nnx.Rngs(0)``.
    """
    rngs = nnx.Rngs(0) if rngs is None else rngs
    wanted = {path: variable for path, variable in flatten(nnx.state(model)).items() if path.startswith(prefixes)}
    found: dict[str, jax.Array] = {}
    for parts, module in nnx.iter_modules(model):
        for name in ("kernel", "bias"):
            path = ".".join(map(str, (*parts, name)))
            init = getattr(module, f"{name}_init", None)
            if path in wanted and init is not None:
                found[path] = init(rngs.params(), wanted[path].shape, wanted[path].dtype)
    if found.keys() == wanted.keys():
        return found

    def initialise(key: jax.Array) -> dict[str, jax.Array]:
        whole = arrays(build(model.config, numerics=model.numerics, rngs=nnx.Rngs(key)))
        return {path: whole[path] for path in wanted}

    return jax.jit(initialise)(rngs.params())  # under jit, parameters that are not returned are not drawn
