"""Detection over any number of images, by one process or several, that goes on where it was stopped.

The processes share a folder and nothing else: each takes every n-th image, writes down what it has done
(`jaxdet.detect.parts`), and, when its share is done, joins everything if nothing is left. As each looks after its
own last line is written, one of them finds it all there; two that do write the same files.
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
    """What `detect` leaves behind.

    left: images that other processes have still to do; where there are none, everything was joined.
    unreadable: files that could not be read, as far as is known.
    detections: how many there are, on how many images; mot: the files of MOTChallenge text. Of what was joined.
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
    """Detects objects in images, into ``out``: ``detections.json``, annotated images and ``mot/SEQUENCE.txt``.

    With MOTChallenge text, annotated images lie in a folder a sequence.

    What is done already is not done again, but for images that could not be read. One that cannot costs no other.

    Args:
        files: all the images, the same for every process.
        out: a folder that all processes see; what has been found so far lies in its ``parts/``.
        score_threshold: of the detections that are kept.
        batch_size: images of one canvas that go through the model together; see `jaxdet.inference.predict_each`.
        draw: also write annotated images.
        mot_class: also write MOTChallenge text, of this class's detections; a name or a label.
        process_index, process_count: which share of the images is this process's.
        overwrite: begin anew, for a single process.
        mesh: over this process's devices: each batch is split over them.
        say: is told of images that cannot be read.

    Raises:
        ValueError: ``out`` holds detections of another model, threshold or other images; another process has the
            same index; or an argument is out of its range.
        DataError: for MOTChallenge text the images are no numbered frames.
    """
    check_classes(model)
    if not 0 <= process_index < process_count:
        raise ValueError(f"process_index must be from 0 to {process_count - 1}, not {process_index}")
    if overwrite and process_count > 1:
        raise ValueError(f"--overwrite is for a single process; with several remove {Path(out) / PARTS} before")
    label = None if mot_class is None else _label(model, mot_class)
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
                lambda place: _read(files[waiting[place]]), range(len(waiting)), workers=0, threads=_READERS,
                prefetch=2 * _READERS, size=0,
            )  # fmt: skip
            for number, image in zip(waiting, images, strict=True):
                try:
                    if isinstance(image, DataError):
                        raise image
                    image = checked_image(model, image, names[number])
                except ValueError as error:  # one broken file does not cost the others
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
                if draw:  # before it counts as done
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
    """A file name for each annotated image; two images of one name in different folders keep apart."""
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


def _read(file: Path) -> np.ndarray | DataError:
    """The image, or why it cannot be read."""
    try:
        return read_image(file)
    except DataError as error:
        return error


def _label(model: Detector, wanted: str | int) -> int:
    names = model.config.names
    if isinstance(wanted, str) and wanted.isdecimal() and wanted not in names[1:]:
        wanted = int(wanted)
    if isinstance(wanted, str):
        if wanted not in names[1:]:
            known = ", ".join(names[1:]) or "no names, give its number"
            raise ValueError(f"the model has no class {wanted!r}; it knows {known}")
        labels = [label for label, name in enumerate(names) if label and name == wanted]
        if len(labels) > 1:
            numbers = " and ".join(map(str, labels))
            raise ValueError(
                f"the model has {len(labels)} classes named {wanted!r}, of labels {numbers}: give the label"
            )
        return labels[0]
    if not 0 < wanted < model.config.num_classes:
        raise ValueError(f"the model has the classes 1 to {model.config.num_classes - 1}, not {wanted}")
    return wanted
