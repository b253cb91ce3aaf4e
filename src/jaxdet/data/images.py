"""Decoding and checking of image files.

`jaxdet.data.orientation` handles EXIF orientations, `jaxdet.data.colour` the conversion of pixel formats to RGB.
"""

from __future__ import annotations

import io
import os
import struct
import warnings
from collections.abc import Callable
from typing import IO, Any

import numpy as np
from PIL import Image, UnidentifiedImageError

from jaxdet.data.colour import UnsupportedPixels, is_deep, to_rgb
from jaxdet.data.faults import DataError, Fault, FaultKind, Problem
from jaxdet.data.orientation import UPRIGHT, Orientation, Size, read_orientation, turned_by_pillow
from jaxdet.paths import PathLike, is_remote, to_path

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".ppm", ".bmp", ".pgm", ".tif", ".tiff", ".webp")  # torchvision's

# The errors that Pillow raises for damaged files.
_UNDECODABLE = (OSError, SyntaxError, ValueError, TypeError, EOFError, struct.error, Image.DecompressionBombError)
_LARGE_READ = 1 << 20  # bytes
_FEW_PIXELS = 1 << 24  # images up to this are decoded without checking the size of the file
# Deflate expands a byte to at most 1032 bytes with eight pixels each; a JPEG block of 64 pixels needs at least a bit.
_MAX_PIXELS_PER_BYTE = {"PNG": 8 * 1032, "JPEG": 8 * 64}
_NEARLY_BLACK = 16  # of 255


def read_image(path: PathLike, size: Size | None = None, *, content: bytes | None = None) -> np.ndarray:
    """Decodes an image file to [H, W, 3] uint8 RGB, upright.

    An EXIF orientation is applied, unless the annotated ``size`` (height, width) only fits the stored pixels, which are
    then used as they are (see `jaxdet.data.orientation`). Greyscale, palette and CMYK are converted, transparency is
    dropped, and 16 bits become 8 (see `jaxdet.data.colour`).

    Args:
        path: the file; may be a URL.
        content: the bytes of the file, if it is not at ``path``, which is then its name in messages.

    Raises:
        DataError: the file is missing, not an image, truncated, larger than the limit (see `set_max_pixels`), has
            floating-point or 32-bit pixels, or does not have the annotated size.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # warnings about unusual EXIF blocks or palettes; the pixels are fine
            with _opened(path, content) as stream, Image.open(stream) as file:
                _check_expansion(file, stream)
                orientation = read_orientation(file)
                image = to_rgb(file)
                pixels = np.array(orientation.turn(image, size, is_upright=turned_by_pillow(file)))
    except _UNDECODABLE as error:
        raise _unreadable(path, error) from error
    if size is not None and pixels.shape[:2] != tuple(size):
        height, width = pixels.shape[:2]
        raise _error(
            FaultKind.IMAGE_SIZE,
            path,
            f"the image is {width} x {height} but its annotation says {size[1]} x {size[0]} (width x height); "
            "correct the annotation or restore the image it was made for",
        )
    return pixels


def set_max_pixels(limit: int | None) -> None:
    """Sets the maximum number of pixels of image files; None: no limit. It also applies to worker processes.

    The limit protects against small files that expand until the memory is full. It is Pillow's, by default 178,956,970
    (twice ``PIL.Image.MAX_IMAGE_PIXELS``), and applies to all uses of Pillow in this process.

    Raises:
        ValueError: the limit is below 1.
    """
    if limit is not None and limit < 1:
        raise ValueError(f"the maximum number of pixels of an image must be at least 1, not {limit}")
    Image.MAX_IMAGE_PIXELS = None if limit is None else -(-limit // 2)


def read_file(path: PathLike) -> bytes:
    """The bytes of an image file. Raises DataError if it cannot be read."""
    try:
        return to_path(path).read_bytes()
    except OSError as error:
        raise _unreadable(path, error) from error


def read_image_size(path: PathLike) -> Size:
    """(height, width) of the upright image, from the file's header.

    Raises:
        DataError: the file is missing, not an image, or larger than the limit.
    """
    return image_orientation(path).upright


def image_orientation(path: PathLike) -> Orientation:
    """The orientation of an image, from the file's header. Raises DataError like `read_image_size`."""
    return _read_header(path)[0]


def image_problems(
    decode: Callable[[], Any], path: str, size: Size | None = None, *, content: Callable[[], bytes] | None = None
) -> list[Problem]:
    """The problems of an image, errors and warnings. Decodes it and reads its header.

    Args:
        decode: reads the image as in training; returns an object with ``image``, or raises DataError.
        path: the file, if there is one; size: the annotated (height, width), if any.
        content: returns the bytes of the file, if it is not at ``path``.
    """
    try:
        brightest = int(decode().image.max())
        if content is None and not is_remote(path) and not os.path.isfile(path):
            return []
        orientation, mode, deep = _read_header(path, None if content is None else content())
    except DataError as error:
        kind = error.faults[0].kind if error.faults else FaultKind.UNREADABLE_IMAGE
        return [Problem(kind, str(error))]
    found = []
    if mode != "RGB":
        text = f"{path}: the image is {mode} and is converted to RGB"
        if deep:
            text += " of 8 bits by dropping the lower bits"
        if deep and brightest < _NEARLY_BLACK:
            text += f", which leaves it nearly black (at most {brightest} of 255): scale its values to the full range"
        found.append(Problem(FaultKind.COLOUR_MODE, text))
    if orientation.number != UPRIGHT:
        use = "it is read upright"
        if orientation.fits_stored(size):
            height, width = orientation.stored
            use = f"its annotation has the stored size {width} x {height} (width x height), so it is read as stored"
        stored = f"by its EXIF orientation {orientation.number} the image is stored rotated or mirrored"
        found.append(Problem(FaultKind.EXIF_ROTATION, f"{path}: {stored}; {use}"))
    return found


def _read_header(path: PathLike, content: bytes | None = None) -> tuple[Orientation, str, bool]:
    """The orientation, Pillow's mode, and whether 12 or 16 bits are reduced to 8."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with _opened(path, content) as stream, Image.open(stream) as file:
                _check_expansion(file, stream)
                return read_orientation(file), file.mode, is_deep(file)
    except _UNDECODABLE as error:
        raise _unreadable(path, error) from error


def _opened(path: PathLike, content: bytes | None) -> IO[bytes]:
    if content is None and is_remote(path):
        content = to_path(path).read_bytes()
    # A stream: given a path, Pillow would memory-map uncompressed TIFF files, and mix up the rows of rotated ones.
    return _File(io.FileIO(path, "rb")) if content is None else io.BytesIO(content)


def _check_expansion(file: Image.Image, stream: IO[bytes]) -> None:
    """Raises OSError if a damaged header declares more pixels than the file's bytes can encode.

    Pillow would allocate memory for them and, in some formats, return an empty image.
    """
    most, pixels = _MAX_PIXELS_PER_BYTE.get(file.format or ""), file.width * file.height
    if most is None or pixels <= _FEW_PIXELS:
        return
    position = stream.tell()
    size = stream.seek(0, io.SEEK_END)
    stream.seek(position)
    if pixels > most * size:
        raise OSError(f"its header declares {file.width} x {file.height} pixels, more than {size} bytes can encode")


class _File(io.BufferedReader):
    """A file that limits reads to its remaining bytes; otherwise Python would allocate 4 GB for a damaged PNG chunk."""

    def read(self, size: int | None = -1, /) -> bytes:
        if size is not None and size > _LARGE_READ:
            size = min(size, max(0, os.fstat(self.fileno()).st_size - self.tell()))
        return super().read(size)


def _unreadable(path: PathLike, error: BaseException) -> DataError:
    if isinstance(error, FileNotFoundError):
        return _error(FaultKind.MISSING_IMAGE, path, "no such image file; check the image directory")
    if isinstance(error, UnsupportedPixels):
        return _error(FaultKind.UNREADABLE_IMAGE, path, f"the image {error}")
    if isinstance(error, Image.DecompressionBombError):
        text = (
            f"{str(error).partition(',')[0]}, which protects against files that expand until the memory is full; if "
            "the file is fine, raise the limit with --max-pixels, in Python with jaxdet.data.set_max_pixels"
        )
        return _error(FaultKind.UNREADABLE_IMAGE, path, text)
    reason = "unknown format" if isinstance(error, UnidentifiedImageError) else error
    text = f"cannot be decoded as an image ({reason}); replace or remove the file"
    return _error(FaultKind.UNREADABLE_IMAGE, path, text)


def _error(kind: FaultKind, path: PathLike, problem: str) -> DataError:
    fault = Fault(kind, os.fspath(path), None, problem)
    return DataError(str(fault), [fault])
