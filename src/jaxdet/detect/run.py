"""Detection on any number of images, by one or several processes. It resumes where it was stopped.

The processes share only a folder. Each takes every n-th image and writes its results there (`jaxdet.detect.parts`). A
process that has finished its share joins the results if no image is left. As it checks this after writing its own last
result, at least one process finds all results; if several do, they write the same files.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jax.sharding import Mesh
from tqdm.auto import tqdm

from jaxdet.compiling import say_beside_bars
from jaxdet.data import DataError, read_image
from jaxdet.data.batching.workers import read_ahead
from jaxdet.detect.join import DETECTIONS, write_coco, write_mot_files
from jaxdet.detect.parts import PARTS, Found, Part, check_detect_record, digest_of, read_parts
from jaxdet.evaluation.mot import frames_of
from jaxdet.inference import checked_image, predict_each
from jaxdet.models import Detector
from jaxdet.models.classes import check_classes
from jaxdet.saving.model import fingerprint
from jaxdet.visualize import draw_detections, save_image

MOT = "mot"
_READERS = 4  # threads that decode images


@dataclass(frozen=True)
class Detected:
    """The result of `detect`.

    left: the number of images that other processes have not finished; if it is 0, the results were joined.
    unreadable: the files that could not be read, of those that are finished.
    detections, images: the numbers of joined detections and of images that could be read; mot: the MOTChallenge files.
    """

    left: int
    detections: int = 0
    images: int = 0
    unreadable: tuple[str, ...] = ()
    mot: tuple[Path, ...] = ()


def detect(
    model: Detector,
    files: Sequence[Path],
    out: str | Path,
    *,
    score_threshold: float = 0.5,
    batch_size: int = 1,
    draw: bool = True,
    mot_class: str | int | None = None,
    process_index: int = 0,
    process_count: int = 1,
    overwrite: bool = False,
    mesh: Mesh | None = None,
    say: Callable[[str], None] = tqdm.write,
    progress: bool = True,
) -> Detected:
    """Detects objects in images and writes ``detections.json``, annotated images and ``mot/SEQUENCE.txt`` to ``out``.

    With MOTChallenge text, there is one folder of annotated images per sequence.

    Finished images are skipped when the same call is repeated, except for those that could not be read. An image that
    cannot be read does not stop the others.

    Args:
        files: all images, in the same order in every process.
        out: a folder that all processes can write to; ``parts/`` in it has the results so far.
        score_threshold: detections with higher scores are kept.
        batch_size: number of images of one canvas that go through the model together; see
            `jaxdet.inference.predict_each`.
        draw: also write annotated images.
        mot_class: also write MOTChallenge text, with the detections of this class (a name or a label).
        process_index, process_count: the share of the images that this process takes.
        overwrite: discard earlier results; only for a single process.
        mesh: devices of this process over which each batch is split.
        say: called with a line for each image that cannot be read.

    Raises:
        ValueError: ``out`` has detections of other images, or by another model or threshold; another process has the
            same index; or an argument is out of its range.
        DataError: the images are not numbered frames, which MOTChallenge text needs.
    """
    check_classes(model)
    if not 0 <= process_index < process_count:
        raise ValueError(f"process_index must be from 0 to {process_count - 1}, not {process_index}")
    if overwrite and process_count > 1:
        raise ValueError(f"--overwrite is for a single process; with several, remove {Path(out) / PARTS} first")
    label = None if mot_class is None else find_label(model, mot_class)
    frames = None if label is None else frames_of(files)
    targets = annotated_names(files) if frames is None else [f"{f.sequence}/{f.number:06d}.png" for f in frames]
    out = Path(out)
    parts = out / PARTS
    if overwrite:
        shutil.rmtree(parts, ignore_errors=True)
    parts.mkdir(parents=True, exist_ok=True)
    names = [str(file) for file in files]
    record = {
        "format": 1,
        "model": fingerprint(model),
        "score threshold": score_threshold,
        "annotated images": digest_of(targets) if draw else None,
        "pictures": len(files),
        "names of images": digest_of(names),
    }
    check_detect_record(parts, record)
    with Part(parts, process_index) as part:
        done = read_parts(parts)
        share = range(len(files))[process_index::process_count]
        waiting = [number for number in share if names[number] not in done or done[names[number]].error]
        before = len(share) - len(waiting)
        bar = tqdm(total=len(share), initial=before, desc="detect", unit="image", disable=not progress)

        def readable() -> Iterator[tuple[tuple[int, np.ndarray], np.ndarray]]:
            images = read_ahead(
                lambda place: _read_or_error(files[waiting[place]]), range(len(waiting)), workers=0, threads=_READERS,
                prefetch=2 * _READERS, size=0,
            )  # fmt: skip
            for number, image in zip(waiting, images, strict=True):
                try:
                    if isinstance(image, DataError):
                        raise image
                    image = checked_image(model, image, names[number])
                except ValueError as error:  # the other images are not affected
                    say(str(error))
                    part.add(Found(names[number], error=str(error)))
                    bar.update()
                else:
                    yield (number, image), image

        stream = predict_each(
            model, readable(), score_threshold=score_threshold, batch_size=batch_size, mesh=mesh,
            say=say_beside_bars if progress else None,
        )  # fmt: skip
        with bar:
            for (number, image), found in stream:
                boxes, labels, scores = (found[name] for name in ("boxes", "labels", "scores"))
                if draw:  # before the image counts as finished
                    annotated = draw_detections(image, boxes, labels, scores, model.config.names or None)
                    (out / targets[number]).parent.mkdir(exist_ok=True)
                    save_image(annotated, out / targets[number])
                size = image.shape[0], image.shape[1]
                part.add(Found(names[number], size, boxes, labels, scores))
                bar.update()
    done = read_parts(parts)
    unreadable = tuple(name for name in names if name in done and done[name].error)
    left = sum(name not in done for name in names)
    if left:
        return Detected(left, unreadable=unreadable)
    images = [done[name] for name in names]
    count = write_coco(out / DETECTIONS, images, model.config.names, model.config.num_classes)
    mot: list[Path] = []
    if label is not None and frames is not None:
        mot = write_mot_files(out / MOT, images, frames, label)
    return Detected(0, count, len(images) - len(unreadable), unreadable, tuple(mot))


def annotated_names(files: Sequence[Path]) -> list[str]:
    """A unique file name for each annotated image, also if images in different folders have the same name."""
    taken: set[str] = set()
    counts: dict[str, int] = {}
    names = []
    for file in files:
        name = f"{file.stem}.png"
        while name in taken:
            counts[file.stem] = counts.get(file.stem, 1) + 1
            name = f"{file.stem}-{counts[file.stem]}.png"
        taken.add(name)
        names.append(name)
    return names


def _read_or_error(file: Path) -> np.ndarray | DataError:
    """The image, or the error if it cannot be read."""
    try:
        return read_image(file)
    except DataError as error:
        return error


def find_label(model: Detector, wanted: str | int) -> int:
    """The label of one of the model's classes, which is given by name or label.

    Raises:
        ValueError: there is no such class, or several classes have this name.
    """
    names = model.config.names
    if isinstance(wanted, str) and wanted.isdecimal() and wanted not in names[1:]:
        wanted = int(wanted)
    if isinstance(wanted, str):
        if wanted not in names[1:]:
            known = f"it has {', '.join(names[1:])}" if names[1:] else "its classes have no names: give a label"
            raise ValueError(f"the model has no class {wanted!r}; {known}")
        labels = [label for label, name in enumerate(names) if label and name == wanted]
        if len(labels) > 1:
            numbers = " and ".join(map(str, labels))
            raise ValueError(
                f"the model has {len(labels)} classes named {wanted!r}, with the labels {numbers}: give a label"
            )
        return labels[0]
    if not 0 < wanted < model.config.num_classes:
        raise ValueError(f"the model has the labels 1 to {model.config.num_classes - 1}, not {wanted}")
    return wanted
