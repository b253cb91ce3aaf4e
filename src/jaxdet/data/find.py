"""Finding training and validation sets by the layout of a folder."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from jaxdet.data.faults import DataError
from jaxdet.data.formats.class_folder import class_folders
from jaxdet.data.formats.packed import INDEX_FILE, is_packed
from jaxdet.data.formats.voc_layout import find_layout
from jaxdet.data.formats.yolo_yaml import YAML_NAMES, find_yaml, read_description
from jaxdet.data.sources import ClassFolder, CocoFiles, DataSource, HeadList, PackedFolder, VocFolder, YoloFolder
from jaxdet.paths import is_remote, to_path

Pair = tuple[DataSource, DataSource | None]

# The json file and the folder of images by the name of the split; the first existing one is used.
_COCO = (
    ("annotations/instances_{}2017.json", "{}2017"),
    ("annotations/instances_{}2014.json", "{}2014"),
    ("annotations/instances_{}.json", "{}"),
    ("{}.json", "{}"),
    ("{}/_annotations.coco.json", "{}"),
)
_VAL = ("val", "valid")


def find_sources(root: str | Path) -> Pair:
    """The training and the validation set in a folder; the latter is None if there is none.

    Known layouts, in this order: COCO (``annotations/instances_train2017.json`` and ``train2017/``, or 2014, or without
    year), ``train.json`` and ``train/`` or ``train/_annotations.coco.json``, each with ``val`` or ``valid``; Pascal VOC
    (``ImageSets/Main/train.txt``, ``val.txt``); YOLO (``data.yaml``); packed sets (``train/index.json``); HeadHunter's
    lists (``train.txt``, ``val.txt``); Pascal VOC without lists (``Annotations/*.xml`` and ``JPEGImages/`` or
    ``images/``, or xml files beside their images; in the folder or in its ``train/`` and ``val/``); and a folder for
    each class in ``train/`` and ``val/``.

    Raises:
        DataError: no such folder, or none of these layouts in it; the message lists them.
    """
    root = to_path(root)
    if not root.is_dir():
        raise DataError(f"{root}: no such folder; give the folder of the dataset")
    finders: tuple[Callable[[Path], Pair | None], ...] = (_coco, _voc, _yolo, _packed, _heads, _voc_unlisted, _classes)
    for finder in finders:
        found = finder(root)
        if found is not None:
            return found
    coco = "; ".join(f"{file.format('train')} with {images.format('train')}/" for file, images in _COCO)
    raise DataError(
        f"{root}: no dataset with a known layout. Looked for COCO ({coco}), Pascal VOC "
        f"(ImageSets/Main/train.txt, or Annotations/*.xml), YOLO ({' or '.join(YAML_NAMES)}), packed sets "
        f"(train/{INDEX_FILE}), HeadHunter's lists (train.txt) and classes (train/CLASS/ with images); "
        f"found: {_listing(root)}"
    )


def _coco(root: Path) -> Pair | None:
    def source(split: str, file: str, images: str) -> CocoFiles | None:
        json, folder = root / file.format(split), root / images.format(split)
        return CocoFiles(str(json), str(folder)) if json.is_file() and folder.is_dir() else None

    for names in _COCO:
        train = source("train", *names)
        if train is not None:
            found = (source(split, *names) for split in _VAL)
            return train, next((val for val in found if val is not None), None)
    return None


def _voc(root: Path) -> Pair | None:
    layout = find_layout(root)
    if layout is None:
        return None
    found = (name for name in ("train", "trainval") if layout.has_list(name))
    train = next(found, None)
    if train is None:
        return None
    val = VocFolder(str(root), "val") if train == "train" and layout.has_list("val") else None
    return VocFolder(str(root), train), val


def _voc_unlisted(root: Path) -> Pair | None:
    def source(folder: Path) -> VocFolder | None:
        layout = find_layout(folder)
        return VocFolder(str(folder)) if layout is not None and layout.annotation_files() else None

    whole = source(root)
    if whole is not None:
        return whole, None
    train = source(root / "train")
    if train is None:
        return None
    found = (source(root / split) for split in _VAL)
    return train, next((val for val in found if val is not None), None)


def _yolo(root: Path) -> Pair | None:
    file = None if is_remote(root) else find_yaml(root)
    if file is None:
        return None
    val = YoloFolder(str(root), "val") if read_description(root).content.get("val") else None
    return YoloFolder(str(root), "train"), val


def _heads(root: Path) -> Pair | None:
    lists = {name: root / f"{name}.txt" for name in ("train", *_VAL)}
    if not lists["train"].is_file():
        return None
    val = next((HeadList(str(lists[name])) for name in _VAL if lists[name].is_file()), None)
    return HeadList(str(lists["train"])), val


def _packed(root: Path) -> Pair | None:
    if not is_packed(root / "train"):
        return None
    found = (PackedFolder(str(root / split)) for split in _VAL if is_packed(root / split))
    return PackedFolder(str(root / "train")), next(found, None)


def _classes(root: Path) -> Pair | None:
    names = class_folders(root / "train")
    if not names:
        return None
    # A class without validation images does not change the labels of the others.
    found = (ClassFolder(str(root / split), names) for split in _VAL if class_folders(root / split))
    return ClassFolder(str(root / "train"), names), next(found, None)


def _listing(root: Path) -> str:
    names = sorted(path.name + "/" * path.is_dir() for path in root.iterdir())
    return ", ".join(names[:10]) + (", ..." if len(names) > 10 else "") if names else "nothing"
