"""The interface between the converter and the model families and backbones that it supports."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from jaxdet.backbones.base import BackboneConfig
from jaxdet.base import ModelConfig, Task
from jaxdet.models import list_models
from jaxdet_convert.parity.report import Compared
from jaxdet_convert.read.darknet_file import DarknetLayer
from jaxdet_convert.rules import Rule, Spelling, Table

Shapes = Mapping[str, tuple[int, ...]]
"""Shapes of weights by name, in the current spelling."""


class RecognitionError(ValueError):
    """The weights do not belong to a known model, or to another one than expected."""


class UnsupportedModuleError(ValueError):
    """A module has a setting that jaxdet does not support. The message names it."""


@dataclass(frozen=True)
class Recognised:
    """A model's name and the options that the weights determine.

    Attributes:
        origin: naming and spelling of the weights, which `jaxdet_convert.to_torch` uses by default.
        num_anchors: anchors per location; 0: unknown, or the model has none.
        bare: whether the weights are those of a detector without heads.
        also: another model whose weights have the same names and shapes; the caller selects it by its name.
    """

    name: str
    options: Mapping[str, Any] = field(default_factory=dict)
    origin: tuple[str, ...] = ()
    num_anchors: int = 0
    bare: bool = False
    also: str | None = None

    @property
    def is_detector(self) -> bool:
        return self.name in list_models(Task.DETECTION)


@dataclass(frozen=True)
class RecognisedBackbone:
    """A recognised classifier, or backbone of a detector.

    Attributes:
        name: the classifier's name.
        config: the type of its configuration.
        naming: the implementation that the names are from, a key of `BackboneSource.namings`.
        num_classes: None: without classifier layer.
        channels: channels of the feature maps, by name.
        options: options of its configuration that the weights determine, without ``num_classes``.
        named: options that its name implies.
    """

    name: str
    config: type[BackboneConfig]
    naming: str
    num_classes: int | None
    channels: Mapping[str, int]
    options: Mapping[str, Any] = field(default_factory=dict)
    named: Mapping[str, Any] = field(default_factory=dict)


def no_options(*args: Any) -> dict[str, Any]:
    """For sources without such options."""
    return {}


@dataclass(frozen=True)
class BackboneSource:
    """A backbone, which is also a classifier, with the parameter names of one or several implementations.

    Attributes:
        config: the type of its configuration.
        namings: ``{implementation: regular expression for the start of one of its names}``. The first one is used for
            models that were not loaded from weights.
        read: (names and shapes, naming) -> `RecognisedBackbone`; raises RecognitionError for an unknown variant.
        rules: (prefix in PyTorch, prefix in jaxdet, naming) -> the rules of its table.
        map_names: ``{naming: PyTorch module that returns a map}``, with the placeholders ``{name}`` (jaxdet's name),
            ``{index}`` (from 0) and ``{number}`` (from 1).
        shaping: options that determine the shapes of its parameters.
        live: (submodules by path, the model's name) -> options of a PyTorch module that weights do not determine.
        describe: the variant in words, for reports.
        numbers: the naming of a file format without names: norms have no counters, and no detectors use it.
        layers: number of values in such a file -> its layers; raises RecognitionError.
        builders: names of models that torchvision also has.
    """

    config: type[BackboneConfig]
    namings: Mapping[str, str]
    read: Callable[[Shapes, str], RecognisedBackbone]
    rules: Callable[[str, str, str], list[Rule]]
    map_names: Mapping[str, str]
    shaping: tuple[str, ...] = ()
    live: Callable[[Sequence[tuple[str, Any]], str], dict[str, Any]] = no_options
    describe: Callable[[Any], str] = lambda config: type(config).__name__.removesuffix("Config")
    numbers: str | None = None
    layers: Callable[[int], Sequence[DarknetLayer]] | None = None
    builders: tuple[str, ...] = ()

    def naming_of(self, shapes: Iterable[str]) -> str | None:
        """The implementation that the names are from; None if they are not of this backbone."""
        names = list(shapes)
        for naming, pattern in self.namings.items():
            if any(re.match(pattern, name, re.ASCII) for name in names):
                return naming
        return None

    def chosen_naming(self, origin: Sequence[str]) -> str:
        """The naming in an origin, or the first one."""
        return next((tag for tag in origin if tag in self.namings), next(iter(self.namings)))


@dataclass(frozen=True)
class Parity:
    """How models are compared with their originals in PyTorch.

    Attributes:
        compare: (PyTorch module, model, image, index of the image) -> the comparison.
        notes: (module, model) -> lines at the start of the report.
        builders: names of models that torchvision also has.
        calibrate: (torchvision's model with random weights, seed): changes the weights so that the model behaves like a
            trained one.
    """

    compare: Callable[[Any, Any, Any, int], Compared]
    notes: Callable[[Any, Any], tuple[str, ...]] = lambda module, model: ()
    builders: tuple[str, ...] = ()
    calibrate: Callable[[Any, int], None] | None = None


@dataclass(frozen=True)
class Source:
    """A model family that can be converted.

    Names are PyTorch's, paths are jaxdet's. Functions of names and shapes get the current spelling.

    Attributes:
        config: the type of the family's configurations.
        claims: (names and shapes) -> whether the weights belong to this family.
        recognise: (names and shapes, spelling) -> the model and the options that they determine.
        table: (configuration, origin) -> the conversion table.
        also: (names and shapes, model that another family recognised) -> the name of a model of this family with the
            same names and shapes, or None.
        old: ``{part: older spellings}`` of the parts that had other names in earlier versions.
        has_old: (configuration) -> whether a model can be written in an older spelling.
        bare: spellings of weights without heads.
        dropped: templates of names that such weights may also contain, and that are dropped.
        trunk: path prefixes of the parts before the heads.
        predictor: templates of the names that depend on the classes; the configuration's ``predictor`` has their paths.
        norms: ``{prefix of names: option}`` of all options that are norms.
        live: (PyTorch module, recognised model) -> options that weights do not determine; raises
            UnsupportedModuleError.
        is_live: (module with names that also belong to another family) -> whether it belongs to this one.
        assumed: (configuration) -> ``{option: description of its value}`` of the options that names and shapes do not
            determine and that affect results. None in place of a description: the value itself is shown.
        says: ``{keyword of the preset: options that it determines}``.
        describe: the variant in words, for reports; empty if the name is sufficient.
        parity: how models are compared with their originals.
    """

    config: type[ModelConfig]
    claims: Callable[[Shapes], bool]
    recognise: Callable[[Shapes, str], Recognised]
    table: Callable[[Any, Sequence[str]], Table]
    norms: Mapping[str, str]
    assumed: Callable[[Any], Mapping[str, str | None]]
    parity: Parity
    predictor: tuple[str, ...]
    also: Callable[[Shapes, Recognised], str | None] = lambda shapes, found: None
    old: Mapping[str, tuple[Spelling, ...]] = field(default_factory=dict)
    has_old: Callable[[Any], bool] = lambda config: False
    bare: tuple[Spelling, ...] = ()
    dropped: tuple[str, ...] = ()
    trunk: tuple[str, ...] = ("backbone.", "fpn.")
    live: Callable[[Any, Recognised], dict[str, Any]] = no_options
    is_live: Callable[[Any], bool] = lambda module: False
    says: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    describe: Callable[[Any], str] = lambda config: ""

    @property
    def respelled(self) -> tuple[Spelling, ...]:
        """All older spellings that can be read."""
        return (*self.old_spellings("old"), *self.bare)

    def modern(self, shapes: Mapping[str, Sequence[int]]) -> dict[str, tuple[int, ...]]:
        """Shapes by name in the current spelling."""
        table = Table((), self.respelled)
        return {table.modern(name): tuple(shape) for name, shape in shapes.items()}

    @property
    def spellings(self) -> tuple[str, ...]:
        """The spellings that `old_spellings` accepts."""
        parts = tuple(f"old-{part}" for part in self.old) if len(self.old) > 1 else ()
        return ("new", "old", *parts) if self.old else ()

    def old_spellings(self, spelling: str) -> tuple[Spelling, ...]:
        """The older names of a spelling: ``"new"``, ``"old"`` or ``"old-PART"``."""
        first, *parts = spelling.split("-")
        found = parts or self.old if first == "old" else ()
        return tuple(each for part in found for each in self.old[part])

    def spelling(self, names: Iterable[str]) -> str:
        """The spelling of these names."""
        names = list(names)
        found = [part for part, old in self.old.items() if any(each.modern(name) for each in old for name in names)]
        if len(found) == len(self.old):
            return "old" if found else "new"
        return "-".join(["old", *found]) if found else "new"
