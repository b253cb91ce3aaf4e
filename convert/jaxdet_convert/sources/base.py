"""What the converter has to know of a family of models, and of a backbone."""

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
"""Of weights, by today's names."""


class RecognitionError(ValueError):
    """The names and shapes are of no model that is known here, or of another one than was said."""


class UnsupportedModuleError(ValueError):
    """A module computes something that this library's model of the same weights would not: the line says what."""


@dataclass(frozen=True)
class Recognised:
    """A model's name and those of its options that the weights tell.

    Attributes:
        origin: whose names these are and in which spelling, as `jaxdet_convert.to_torch` takes it up again.
        num_anchors: of a location; 0: untold, or there are none.
        bare: only the parts of a detector before its heads.
        also: another model whose weights have the same names and shapes, to be said by its name.
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
class Body:
    """A classifier, or what is left of one in a detector.

    Attributes:
        name: of the model.
        config: its type.
        naming: whose names these are, a key of `BackboneSource.namings`.
        num_classes: None where there is no classifier.
        channels: of the maps that a detector can stand on.
        options: of its configuration that the weights tell, without ``num_classes``.
        named: options for which its name stands.
    """

    name: str
    config: type[BackboneConfig]
    naming: str
    num_classes: int | None
    channels: Mapping[str, int]
    options: Mapping[str, Any] = field(default_factory=dict)
    named: Mapping[str, Any] = field(default_factory=dict)


def no_options(*args: Any) -> dict[str, Any]:
    """For sources that have nothing to read there."""
    return {}


@dataclass(frozen=True)
class BackboneSource:
    """A backbone that is a classifier by itself, under the names of one or several implementations.

    Attributes:
        config: of the backbone.
        namings: {whose names: how one of them begins, a regular expression}. The first is that of models born here.
        read: (names and shapes, naming) to a `Body`; raises RecognitionError for a variant that this library lacks.
        rules: (prefix in PyTorch, prefix here, naming) to the rules of its table.
        map_names: {naming: module in PyTorch of a map}, with ``{name}`` ours, ``{index}`` from 0, ``{number}`` from 1.
        shaping: options that shape its parameters.
        live: (submodules by path, the model's name) to options that no weights tell.
        describe: the variant in words, for reports.
        numbers: a naming that is of files without names: its norms have no counters, and no detector stands on it.
        layers: a file's count of numbers to its layers, for `numbers`; raises RecognitionError.
        builders: names of models that torchvision builds under the same name.
    """

    config: type[BackboneConfig]
    namings: Mapping[str, str]
    read: Callable[[Shapes, str], Body]
    rules: Callable[[str, str, str], list[Rule]]
    map_names: Mapping[str, str]
    shaping: tuple[str, ...] = ()
    live: Callable[[Sequence[tuple[str, Any]], str], dict[str, Any]] = no_options
    describe: Callable[[Any], str] = lambda config: type(config).__name__.removesuffix("Config")
    numbers: str | None = None
    layers: Callable[[int], Sequence[DarknetLayer]] | None = None
    builders: tuple[str, ...] = ()

    def naming_of(self, shapes: Iterable[str]) -> str | None:
        """Whose names these are; None where they are not of this backbone."""
        names = list(shapes)
        for naming, begins in self.namings.items():
            if any(re.match(begins, name, re.ASCII) for name in names):
                return naming
        return None

    def chosen_naming(self, origin: Sequence[str]) -> str:
        """The naming that an origin says, or the first."""
        return next((tag for tag in origin if tag in self.namings), next(iter(self.namings)))


@dataclass(frozen=True)
class Parity:
    """How a model is compared with its original.

    Attributes:
        compare: (PyTorch's module, model, image, its number) to what was found.
        notes: (module, model) to lines that the report says first.
        builders: names of models that torchvision builds under the same name.
        calibrate: (torchvision's model with random weights, seed) changes these so that it behaves as a trained one.
    """

    compare: Callable[[Any, Any, Any, int], Compared]
    notes: Callable[[Any, Any], tuple[str, ...]] = lambda module, model: ()
    builders: tuple[str, ...] = ()
    calibrate: Callable[[Any, int], None] | None = None


@dataclass(frozen=True)
class Source:
    """One family of models: all that the converter knows of it.

    Names are PyTorch's, paths are jaxdet's. Functions of shapes see names in today's spelling.

    Attributes:
        config: of the family's models.
        claims: whether weights of these names and shapes are of this family.
        recognise: (names and shapes, spelling) to the model and the options that they tell.
        table: (configuration, origin) to the table of names and paths.
        also: (names and shapes, what another family recognised) to the name of a model of this family that has the same
            names and shapes; None where there is none.
        old: {part: its older spellings}, of a part that had other names in earlier versions.
        has_old: whether a model of this configuration can be written in them.
        bare: spellings of the parts before the heads alone.
        dropped: templates of names that may lie beside those parts and have no place here.
        trunk: how the paths of those parts begin.
        predictor: templates of the names that start anew for other classes; their paths are the configuration's
            ``predictor``.
        norms: {how names begin: option}, of every option that is a norm.
        live: (PyTorch's module, what was recognised) to options that no weights tell; raises UnsupportedModuleError.
        is_live: of a module whose names are another family's, too: whether it is of this one.
        assumed: of a configuration, {option: its value in words; None: as it is} of the options that neither names nor
            shapes tell and that change what the model computes.
        says: {keyword of the model's: the options for which it stands}.
        describe: the variant in words, for reports; empty where the name says it all.
        parity: how its models are compared with their originals.
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
        """Every spelling that is read as today's."""
        return (*self.old_spellings("old"), *self.bare)

    def modern(self, shapes: Mapping[str, Sequence[int]]) -> dict[str, tuple[int, ...]]:
        """Shapes under today's names."""
        table = Table((), self.respelled)
        return {table.modern(name): tuple(shape) for name, shape in shapes.items()}

    @property
    def spellings(self) -> tuple[str, ...]:
        """What `old_spellings` knows."""
        parts = tuple(f"old-{part}" for part in self.old) if len(self.old) > 1 else ()
        return ("new", "old", *parts) if self.old else ()

    def old_spellings(self, spelling: str) -> tuple[Spelling, ...]:
        """The spellings for which a word stands: ``"new"``, ``"old"`` or ``"old-PART"``."""
        first, *parts = spelling.split("-")
        found = parts or self.old if first == "old" else ()
        return tuple(each for part in found for each in self.old[part])

    def spelling(self, names: Iterable[str]) -> str:
        """The word for the spelling of these names."""
        names = list(names)
        found = [part for part, old in self.old.items() if any(each.modern(name) for each in old for name in names)]
        if len(found) == len(self.old):
            return "old" if found else "new"
        return "-".join(["old", *found]) if found else "new"
