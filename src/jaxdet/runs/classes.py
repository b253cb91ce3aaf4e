"""Which class of a dataset is which of a model's."""

from __future__ import annotations

from collections.abc import Sequence

from jaxdet.backbones.base import Classifier
from jaxdet.data import ClassificationDataset, DetectionDataset
from jaxdet.models import Detector


def match_labels(known: Sequence[str], wanted: Sequence[str], ids: Sequence[int], *, first: int = 0) -> tuple[int, ...]:
    """The position among a model's names of each name of a dataset.

    Equal lists match by position, so that classes may share a name. Others match by name, which has to be unambiguous.

    Args:
        known: the model's names; wanted: the dataset's.
        ids: what the dataset calls each of its classes; first: the label of the model's first name. For messages.

    Raises:
        ValueError: the model lacks a class of the dataset, or one of its names belongs to several classes.
    """
    if tuple(known) == tuple(wanted):
        return tuple(range(len(known)))
    missing = [name for name in wanted if name not in known]
    if missing:
        raise ValueError(
            f"the dataset has classes that the model lacks: {', '.join(missing)}; the model knows "
            f"{', '.join(known)}. Evaluate on a set without them, or train on one that has them"
        )
    for name in wanted:
        of_set = [str(number) for number, other in zip(ids, wanted, strict=True) if other == name]
        of_model = [str(label) for label, other in enumerate(known, start=first) if other == name]
        for owner, word, found in (("dataset", "ids", of_set), ("model", "labels", of_model)):
            if len(found) > 1:
                raise ValueError(
                    f"the {owner} has {len(found)} classes named {name!r}, of {word} {' and '.join(found)}, and the "
                    "model's names are not the dataset's in the same order: it cannot be known which is which. Give "
                    "each class a name of its own"
                )
    return tuple(map(list(known).index, wanted))


def match_classes(names: Sequence[str], dataset: DetectionDataset) -> tuple[int, ...]:
    """The dataset's category id of each named label, -1 for the background and for names that it lacks.

    Args:
        names: of a model's labels, the background first.

    Raises:
        ValueError: as `match_labels` says.
    """
    ids = [-1] * len(names)
    positions = match_labels(names[1:], dataset.names[1:], dataset.category_ids[1:], first=1)
    for position, category_id in zip(positions, dataset.category_ids[1:], strict=True):
        ids[position + 1] = category_id
    return tuple(ids)


def category_ids_of(model: Detector, dataset: DetectionDataset) -> tuple[int, ...]:
    """The dataset's category id of each label of a model: by class name where the model knows its names.

    Raises:
        ValueError: as `match_labels` says; or the model has no names and another number of classes.
    """
    names, num_classes = model.config.names, model.config.num_classes
    if names:
        return match_classes(names, dataset)
    if num_classes != len(dataset.names):
        raise ValueError(
            f"the model has {num_classes} classes and the dataset {len(dataset.names)}, background included"
        )
    return dataset.category_ids


def labels_of(model: Classifier, dataset: ClassificationDataset) -> tuple[int, ...]:
    """A classifier's label of each class of a dataset: by class name where the model knows its names.

    Raises:
        ValueError: as `match_labels` says; or the model has no names and another number of classes.
    """
    names, num_classes = model.config.names, model.config.num_classes  # type: ignore[attr-defined]
    if names:
        return match_labels(names, dataset.names, range(len(dataset.names)))
    if num_classes != len(dataset.names):
        raise ValueError(f"the model has {num_classes} classes without names, and the dataset {len(dataset.names)}")
    return tuple(range(num_classes))
