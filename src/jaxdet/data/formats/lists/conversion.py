"""The result of a conversion: the images of a list, and the faults of the source."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

from jaxdet.data.boxes import clip_box, clip_region
from jaxdet.data.faults import DataError, Fault, FaultKind, Problem
from jaxdet.data.formats.head_list import ListBox, ListImage, write_head_list
from jaxdet.data.images import image_orientation
from jaxdet.data.orientation import Size

Place = tuple[str | Path, int | None]  # file and line


class Conversion:
    """Collects the images of a list. Boxes are clipped to their images; faulty ones are left out and reported.

    Args:
        base: the folder that the list's paths are relative to.

    Attributes:
        images: the images of the list; faults: errors and warnings (see `left_out`).
        clipped: the number of boxes that exceeded their images.
    """

    def __init__(self, base: str | Path) -> None:
        self.base = Path(base)
        self.images: list[ListImage] = []
        self.faults: list[Fault] = []
        self.clipped = 0
        self._size = (0, 0)

    def add_image(self, path: str | Path, place: Place, annotated: Size | None = None) -> bool:
        """Adds an image, to which the following boxes belong. Returns False, and adds a fault, if it cannot be read.

        Args:
            annotated: the (height, width) of the annotation. If it is that of stored pixels which an EXIF orientation
                rotates, the boxes do not fit the upright image that readers of lists use, and the image is left out.
        """
        try:
            orientation = image_orientation(path)
        except DataError as error:
            self.report_fault(Problem(error.faults[0].kind, str(error)), place)
            return False
        if orientation.fits_stored(annotated):
            text = f"{path}: its boxes refer to the stored pixels, which EXIF rotates; store the image upright"
            self.report_fault(Problem(FaultKind.IMAGE_SIZE, text), place)
            return False
        self._size = orientation.upright
        self.images.append(ListImage(Path(os.path.relpath(path, self.base)).as_posix(), 0))
        return True

    def add_box(self, box: Sequence[float] | Problem, flag: int, place: Place, annotation: str = "") -> None:
        """Adds an xyxy box to the last image, or its problem to the faults."""
        if isinstance(box, Problem):
            found: Sequence[float] | Problem = box
        else:
            found = clip_region(box, self._size) if flag < 0 else clip_box(box, self._size)
        if isinstance(found, Problem):
            self.report_fault(found, place, self.images[-1].path, annotation)
            return
        x1, y1, x2, y2 = found
        self.clipped += (x1, y1, x2, y2) != tuple(map(float, box))  # type: ignore[arg-type]
        self.images[-1].boxes.append(ListBox(0, (x1, y1, x2, y2), flag))

    def report_fault(self, problem: Problem, place: Place, image: str = "", annotation: str = "") -> None:
        """Adds a fault."""
        file, line = place
        self.faults.append(Fault(problem.kind, str(file), line, problem.text, os.path.basename(image), annotation))

    @property
    def left_out(self) -> list[Fault]:
        """The faults because of which something is left out of the list; the others are warnings."""
        return [fault for fault in self.faults if fault.severity == "error" or fault.kind is FaultKind.EMPTY_REGION]

    def write(self, file: str | Path) -> None:
        """Writes the list atomically.

        Raises:
            DataError: there is no image to write; the message has the faults.
        """
        if not self.images:
            raise DataError("no images to write:\n  " + "\n  ".join(map(str, self.faults)), self.faults)
        Path(file).parent.mkdir(parents=True, exist_ok=True)
        write_head_list(file, self.images)

    def report(self) -> Iterator[str]:
        """Lines with the counts, then one line per fault."""
        flags = Counter(box.flag for image in self.images for box in image.boxes)
        empty = sum(not image.boxes for image in self.images)
        left_out = self.left_out
        boxes = sum(fault.kind.of_box or fault.kind is FaultKind.EMPTY_REGION for fault in left_out)
        yield f"images      {len(self.images)}, {empty} of them without a box"
        yield f"heads       {flags[0]}"
        yield f"ignored     {flags[-1]} boxes with flag -1"
        yield f"clipped     {self.clipped} boxes that exceeded their images"
        yield f"left out    {boxes} boxes, {len(left_out) - boxes} other entries"
        for fault in self.faults:
            yield f"{'left out' if fault in left_out else 'warning'}: {fault.kind}: {fault}"
