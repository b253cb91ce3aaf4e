"""Matching the classes of a dataset with those of a model."""

from __future__ import annotations

from collections.abc import Sequence

from jaxdet.backbones.base import Classifier
from jaxdet.data import ClassificationDataset, DetectionDataset
from jaxdet.models import Detector


def match_labels(known: Sequence[str], wanted: Sequence[str], ids: Sequence[int], *, first: int = 0) -> tuple[int, ...]:
    """The position of each class name of a dataset in the names of a model.

    Equal lists are matched by position, so that classes may share a name. Others are matched by name, which must be
    unambiguous.

    Args:
        known: the names of the model; wanted: the names of the dataset.
        ids: the class ids of the dataset; first: the label of the model's first name. Both are for messages.

    Raises:
        ValueError: the model does not have a class of the dataset, or a name belongs to several classes.
    """
    if tuple(known) == tuple(wanted):
        return tuple(range(len(known)))
    missing = [name for name in wanted if name not in known]
    if missing:
        raise ValueError(
            f"the dataset has classes that the model does not have: {', '.join(missing)}; the model has "
            f"{', '.join(known)}. Evaluate on a dataset without them, or train on one with them"
        )
    for name in wanted:
        in_dataset = [str(number) for number, other in zip(ids, wanted, strict=True) if other == name]
        in_model = [str(label) for label, other in enumerate(known, start=first) if other == name]
        for owner, word, found in (("dataset", "ids", in_dataset), ("model", "labels", in_model)):
            if len(found) > 1:
                raise ValueError(
                    f"the {owner} has {len(found)} classes named {name!r}, with the {word} {' and '.join(found)}, and "
                    "the lists of names of model and dataset differ, so that classes cannot be matched. Give each "
                    "class its own name"
                )
    return tuple(map(list(known).index, wanted))


def match_classes(names: Sequence[str], dataset: DetectionDataset) -> tuple[int, ...]:
    """The dataset's category id for each label; -1 for the background and for names that it does not have.

    Args:
        names: a model's class names, the background first.

    Raises:
        ValueError: see `match_labels`.
    """
    ids = [-1] * len(names)
    positions = match_labels(names[1:], dataset.names[1:], dataset.category_ids[1:], first=1)
    for position, category_id in zip(positions, dataset.category_ids[1:], strict=True):
        ids[position + 1] = category_id
    return tuple(ids)


def category_ids_of(model: Detector, dataset: DetectionDataset) -> tuple[int, ...]:
    """The dataset's category id for each label of a model, matched by class name if the model has names.

    Raises:
        ValueError: see `match_labels`; or the model has no names and another number of classes.
    """
    names, num_classes = model.config.names, model.config.num_classes
    if names:
        return match_classes(names, dataset)
    if num_classes != len(dataset.names):
        raise ValueError(
            f"the model has {num_classes} classes, but the dataset has {len(dataset.names)} (including the background)"
        )
    return dataset.category_ids


def labels_of(model: Classifier, dataset: ClassificationDataset) -> tuple[int, ...]:
    """A classifier's label for each class of a dataset, matched by class name if the model has names.

    Raises:
        ValueError: see `match_labels`; or the model has no names and another number of classes.
    """
    names, num_classes = model.config.names, model.config.num_classes  # type: ignore[attr-defined]
    if names:
        return match_labels(names, dataset.names, range(len(dataset.names)))
    if num_classes != len(dataset.names):
        raise ValueError(f"the model has {num_classes} unnamed classes, but the dataset has {len(dataset.names)}")
    return tuple(range(num_classes))
