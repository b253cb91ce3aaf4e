"""Images that are stored turned or mirrored, and say so by an EXIF orientation.

Every reader follows one rule: **an image is read upright**, as browsers, annotation tools, detectron2 and Ultralytics
show it, and its size is the upright one. The one exception: where the annotation gives the size of the stored pixels
and not the upright one, the boxes were made on the stored pixels, and these are used as they are. Where both sizes are
equal (a square, a half turn, a mirrored image), or the annotation gives no size, the image is upright.
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
    """How an image is stored.

    number: the EXIF orientation, from 1 (upright) to 8. stored: the size of the pixels in the file.
    """

    number: int
    stored: Size

    @property
    def upright(self) -> Size:
        """The size of the image turned upright."""
        return self.stored[::-1] if self.number in _SIDEWAYS else self.stored

    def fits_stored(self, annotated: Size | None) -> bool:
        """Whether an annotation of this size was made on the stored pixels, and not on the upright image."""
        return annotated is not None and tuple(annotated) == self.stored != self.upright

    def turn(self, image: Image.Image, annotated: Size | None, *, is_upright: bool) -> Image.Image:
        """The image as it is to be used with an annotation of this size.

        Args:
            is_upright: it has been turned already; otherwise it is as stored.
        """
        if self.fits_stored(annotated):
            back = _TO_STORED[self.number] if is_upright else None
        else:
            back = None if is_upright else _TO_UPRIGHT.get(self.number)
        return image if back is None else image.transpose(back)


def read_orientation(file: Image.Image) -> Orientation:
    """The orientation of a file that Pillow has opened and not loaded. A damaged EXIF block counts as upright.

    Raises:
        OSError, or what else Pillow raises for damaged pixels: of a PNG with the EXIF block behind them.
    """
    stored = (file.height, file.width)
    if file.format == "TIFF":  # Pillow gives the upright size, unless its version is an old one
        tags: Any = file.tag_v2  # type: ignore[attr-defined]
        stored = (tags[ExifTags.Base.ImageLength], tags[ExifTags.Base.ImageWidth])
    elif file.format == "PNG" and _exif_follows_pixels(file):
        file.load()
    return Orientation(_number(file), stored)


def turned_by_pillow(file: Image.Image) -> bool:
    """Whether Pillow has turned a loaded file upright by itself, as it does with TIFF."""
    return file.format == "TIFF" and _number(file) == UPRIGHT


def _number(file: Image.Image) -> int:
    try:
        # Not PngImageFile's own method, which decodes all pixels of a PNG to look for the block behind them.
        value = Image.Image.getexif(file).get(ExifTags.Base.Orientation)
    except Exception:  # damaged in one of many ways
        return UPRIGHT
    return value if value in _TO_UPRIGHT else UPRIGHT


def _exif_follows_pixels(file: Image.Image) -> bool:
    """Whether a PNG has an EXIF chunk that Pillow finds only after the pixels."""
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
