"""EXIF orientations of images.

All readers follow one rule: **images are read upright**, as in browsers, annotation tools, detectron2 and Ultralytics,
and their size is the upright one. There is one exception: if the annotated size is that of the stored pixels and not
the upright one, the boxes refer to the stored pixels, which are then used as they are. If both sizes are equal (square
images, rotations by 180 degrees, mirrored images), or the size is not annotated, the image is read upright.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from PIL import ExifTags, Image

Size = tuple[int, int]  # (height, width)

UPRIGHT = 1
_TO_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_TO_STORED = {**_TO_UPRIGHT, 6: Image.Transpose.ROTATE_90, 8: Image.Transpose.ROTATE_270}
_SIDEWAYS = (5, 6, 7, 8)  # these swap height and width


@dataclass(frozen=True)
class Orientation:
    """The orientation of a stored image.

    number: the EXIF orientation, from 1 (upright) to 8; stored: (height, width) of the pixels in the file.
    """

    number: int
    stored: Size

    @property
    def upright(self) -> Size:
        """(height, width) of the upright image."""
        return self.stored[::-1] if self.number in _SIDEWAYS else self.stored

    def fits_stored(self, annotated: Size | None) -> bool:
        """Whether the annotated size is that of the stored pixels and not of the upright image."""
        return annotated is not None and tuple(annotated) == self.stored != self.upright

    def turn(self, image: Image.Image, annotated: Size | None, *, is_upright: bool) -> Image.Image:
        """The image in the orientation of its annotation.

        Args:
            annotated: the annotated (height, width), if any.
            is_upright: whether ``image`` is upright already; otherwise it is as stored.
        """
        if self.fits_stored(annotated):
            back = _TO_STORED[self.number] if is_upright else None
        else:
            back = None if is_upright else _TO_UPRIGHT.get(self.number)
        return image if back is None else image.transpose(back)


def read_orientation(file: Image.Image) -> Orientation:
    """The orientation of a file that Pillow has opened but not loaded. A damaged EXIF block is treated as upright.

    Raises:
        OSError, or another error of Pillow: damaged pixels of a PNG whose EXIF block follows them.
    """
    stored = (file.height, file.width)
    if file.format == "TIFF":  # recent versions of Pillow return the upright size
        tags: Any = file.tag_v2  # type: ignore[attr-defined]
        stored = (tags[ExifTags.Base.ImageLength], tags[ExifTags.Base.ImageWidth])
    elif file.format == "PNG" and _exif_follows_pixels(file):
        file.load()
    return Orientation(_number(file), stored)


def turned_by_pillow(file: Image.Image) -> bool:
    """Whether Pillow has rotated a loaded file upright, as it does for TIFF."""
    return file.format == "TIFF" and _number(file) == UPRIGHT


def _number(file: Image.Image) -> int:
    try:
        # Not the method of PngImageFile, which decodes all pixels to find an EXIF block after them.
        value = Image.Image.getexif(file).get(ExifTags.Base.Orientation)
    except Exception:  # a damaged block raises many types
        return UPRIGHT
    return value if value in _TO_UPRIGHT else UPRIGHT


def _exif_follows_pixels(file: Image.Image) -> bool:
    """Whether a PNG has an EXIF chunk after the pixels, which Pillow finds only when it decodes them."""
    if "exif" in file.info:
        return False
    stream: Any = file.fp  # type: ignore[attr-defined]
    position = stream.tell()
    try:
        stream.seek(8)  # the signature
        while len(head := stream.read(8)) == 8 and head[4:] != b"IEND":
            if head[4:] == b"eXIf":
                return True
            stream.seek(int.from_bytes(head[:4]) + 4, 1)  # the chunk and its checksum
        return False
    finally:
        stream.seek(position)
