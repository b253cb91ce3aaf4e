"""The classes of a model: their names, and exchanging them."""

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
    """A detector's class names with the background in front, where it is left out."""
    first = names[0].strip("_").lower() if names else ""
    return tuple(names) if first == "background" else (BACKGROUND, *names)


def class_names(config: ModelConfig, names: Sequence[str]) -> Sequence[str]:
    """The names of a model's labels without the background, which a detector has in front."""
    return names[1:] if config.task is Task.DETECTION else names


def with_classes(model: AnyModel, classes: Sequence[str] | int, *, rngs: nnx.Rngs | None = None) -> AnyModel:
    """The model with a new predictor for other classes; all its other parameters and options are kept.

    The counterpart of torchvision's ``model.roi_heads.box_predictor = FastRCNNPredictor(...)``. The new predictor (a
    classifier's ``fc``) is initialised as in a new model, so it has to be trained.

    Args:
        model: a detector or a classifier; it is not changed, and shares its other arrays with the result.
        classes: their names, of a detector with or without the background in front; or how many there are, of a
            detector with the background, which leaves them without names.
        rngs: of the new parameters; by default ``nnx.Rngs(0)``.

    Raises:
        ValueError: there are too few classes, or two of one name.
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
        ValueError: they differ, so that labels have no names or wrong ones.
    """
    found = model.predicted_classes()
    if found is not None and found != model.config.num_classes:
        named = "with" if model.config.names else "without"
        raise ValueError(
            f"the predictor has {found} classes and the model's configuration {model.config.num_classes}, "
            f"{named} names: exchange classes by jaxdet.with_classes(model, names), which changes both"
        )


def _count_and_names(classes: Sequence[str] | int, detects: bool) -> tuple[int, tuple[str, ...]]:
    least = 2 if detects else 1
    if isinstance(classes, str) or isinstance(classes, bool):
        raise ValueError(f"classes are a list of names or a count, not {classes!r}")
    names: tuple[str, ...] = ()
    try:
        count = operator.index(classes)  # type: ignore[arg-type]
    except TypeError:
        given = tuple(classes)  # type: ignore[arg-type]
        wrong = [name for name in given if not isinstance(name, str) or not name.strip()]
        if wrong:
            raise ValueError(f"class names are strings that are not empty, unlike {wrong[0]!r}") from None
        names = with_background(given) if detects else given
        count = len(names)
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ValueError(f"two classes have one name: {', '.join(twice)}")
    if count < least:
        raise ValueError(f"there is at least one class{', besides the background' if detects else ''}: not {count}")
    return count, names
