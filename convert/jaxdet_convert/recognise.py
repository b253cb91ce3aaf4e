"""Recognition of the model of weights from their names and shapes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from jaxdet.config import nearest
from jaxdet.models import Task, list_models
from jaxdet_convert.rules import Table
from jaxdet_convert.sources.backbones import inside
from jaxdet_convert.sources.base import Recognised, RecognitionError, Shapes
from jaxdet_convert.sources.parts import BARE_SPELLINGS, seen
from jaxdet_convert.sources.registry import SOURCES, source_named


def recognise(shapes: Shapes, name: str | None = None) -> Recognised:
    """Recognises the model that weights with these names and shapes belong to.

    Args:
        shapes: ``{PyTorch name: shape}``, in any spelling.
        name: the expected model, if known. Unknown weights are then assumed to belong to it, so that the strict
            conversion lists everything that does not fit.

    Raises:
        RecognitionError: the weights do not belong to a known model, or to another one than ``name``.
    """
    if name is not None and name not in list_models():
        known = list_models()
        raise RecognitionError(f"unknown model {name!r}; known: {', '.join(known)}{nearest(name, known)}")
    found = _find_source(shapes)
    if found is None and name is not None:
        return Recognised(name)
    if found is None:
        raise RecognitionError(
            f"these weights do not belong to a known model: {seen(_shown_shapes(shapes))}. "
            f"Known: {', '.join(list_models())}"
        )
    if name is not None and name == found.also:
        other = source_named(name)
        found = other.recognise(other.modern(shapes), other.spelling(shapes))
    if name is not None and name != found.name:
        raise RecognitionError(_describe_mismatch(name, found))
    return found


def _find_source(shapes: Shapes) -> Recognised | None:
    for source in SOURCES:
        modern = source.modern(shapes)
        if source.claims(modern):
            found = source.recognise(modern, source.spelling(shapes))
            others = (other.also(modern, found) for other in SOURCES if other is not source)
            return replace(found, also=next(filter(None, others), None))
    return None


def _shown_shapes(shapes: Shapes) -> Mapping[str, tuple[int, ...]]:
    """The shapes to list in a message: for a detector, those of its backbone."""
    table = Table((), BARE_SPELLINGS)
    modern = {table.modern(name): tuple(shape) for name, shape in shapes.items()}
    return inside(modern) or modern


def _describe_mismatch(name: str, found: Recognised) -> str:
    classes = f" ({found.options['num_classes']} classes)" if found.options.get("num_classes") else ""
    text = f"these weights are of {found.name!r}{classes}, and not of {name!r}"
    if name in list_models(Task.DETECTION) and not found.is_detector:
        return f"{text}: they can fill a detector's backbone (load_backbone, or --backbone-weights)"
    return f"{text}: leave the name out, or give {found.name!r}"
