"""Class names of models, and exchanging the classes of a model."""

from __future__ import annotations

import operator
from collections.abc import Sequence
from typing import Any, TypeVar

from flax import nnx

from jaxdet.base import ModelConfig, Task
from jaxdet.models.registry import abstract, draw
from jaxdet.nn.parameters import arrays, fill

AnyModel = TypeVar("AnyModel", bound=nnx.Module)
BACKGROUND = "__background__"


def with_background(names: Sequence[str]) -> tuple[str, ...]:
    """A detector's class names, with the background prepended if it is missing."""
    first = names[0].strip("_").lower() if names else ""
    return tuple(names) if first == "background" else (BACKGROUND, *names)


def class_names(config: ModelConfig, names: Sequence[str]) -> Sequence[str]:
    """A model's class names without the background, which is a detector's first."""
    return names[1:] if config.task is Task.DETECTION else names


def with_classes(model: AnyModel, classes: Sequence[str] | int, *, rngs: nnx.Rngs | None = None) -> AnyModel:
    """The model with a new predictor for other classes; all other parameters and options are kept.

    The counterpart of torchvision's ``model.roi_heads.box_predictor = FastRCNNPredictor(...)``. The new predictor (a
    classifier's ``fc``) is freshly initialised, so it has to be trained.

    Args:
        model: a detector or a classifier. It is not changed, and shares its other arrays with the result.
        classes: class names, for a detector with or without the background; or their number, for a detector including
            the background, which leaves the classes without names.
        rngs: for the new parameters; by default ``nnx.Rngs(0)``.

    Raises:
        ValueError: too few classes, or a duplicate name.
    """
    old: Any = model
    count, names = _count_and_names(classes, old.config.task is Task.DETECTION)
    config = old.config.with_classes(names, count)
    changed = abstract(config, numerics=old.numerics, backbone=getattr(old, "backbone", None))
    changed = fill(changed, arrays(model) | draw(changed, config.predictor, rngs=rngs))
    changed.origin = old.origin
    return changed


def check_classes(model: Any) -> None:
    """Refuses a model whose predictor and configuration differ in the number of classes.

    Raises:
        ValueError: they differ; labels would have no names or wrong ones.
    """
    found = model.predicted_classes()
    if found is not None and found != model.config.num_classes:
        named = "with" if model.config.names else "without"
        raise ValueError(
            f"the predictor has {found} classes, but the model's configuration has {model.config.num_classes}, "
            f"{named} names: change classes with jaxdet.with_classes(model, names), which changes both"
        )


def _count_and_names(classes: Sequence[str] | int, is_detector: bool) -> tuple[int, tuple[str, ...]]:
    least = 2 if is_detector else 1
    if isinstance(classes, str) or isinstance(classes, bool):
        raise ValueError(f"classes must be a list of names or a count, not {classes!r}")
    names: tuple[str, ...] = ()
    try:
        count = operator.index(classes)  # type: ignore[arg-type]
    except TypeError:
        given = tuple(classes)  # type: ignore[arg-type]
        wrong = [name for name in given if not isinstance(name, str) or not name.strip()]
        if wrong:
            raise ValueError(f"class names must be non-empty strings, not {wrong[0]!r}") from None
        names = with_background(given) if is_detector else given
        count = len(names)
    duplicates = sorted({name for name in names if names.count(name) > 1})
    if duplicates:
        raise ValueError(f"duplicate class names: {', '.join(duplicates)}")
    if count < least:
        raise ValueError(f"expected at least one class{' besides the background' if is_detector else ''}, got {count}")
    return count, names
