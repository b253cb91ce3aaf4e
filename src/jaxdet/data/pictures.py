"""Picture files: decoding them, and finding out what is wrong with one."""

from __future__ import annotations

import io
import os
import struct
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
from PIL import ExifTags, Image

from jaxdet.data.faults import DataError, Fault, FaultKind, Problem
from jaxdet.paths import PathLike, is_remote, to_path

PICTURE_SUFFIXES = (".jpg", ".jpeg", ".png", ".ppm", ".bmp", ".pgm", ".tif", ".tiff", ".webp")  # torchvision's

Size = tuple[int, int]  # (height, width)

# What Pillow raises for damaged files.
_UNDECODABLE = (OSError, SyntaxError, ValueError, TypeError, EOFError, struct.error, Image.DecompressionBombError)
# What turns a picture upright, by its EXIF orientation. Pillow's exif_transpose fails where the block is damaged.
_UPRIGHT = 1
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_SIDEWAYS = (5, 6, 7, 8)  # these swap height and width


def read_image(path: PathLike, size: Size | None = None, *, content: bytes | None = None) -> np.ndarray:
    """Decodes an image file to [H, W, 3] uint8 RGB (grey, palette and CMYK are converted, transparency is dropped).

    The stored pixels are taken as they are, like torchvision does. Only where they do not have the annotated
    ``size`` (height, width) and the picture turned upright by its EXIF orientation does, it is turned.

    Args:
        path: of the file, which may be a URL.
        content: of a file that lies elsewhere; the path then is its name in messages.

    Raises:
        DataError: the file is missing, no image, cut short, or has not the annotated size.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # remarks about unusual EXIF blocks or palettes: the pixels are fine
            with Image.open(_stream(path, content)) as file:
                picture: Image.Image = file
                if size is not None and (file.height, file.width) != tuple(size):
                    turn = _TURNS.get(_orientation(file))
                    picture = file if turn is None else file.transpose(turn)
                pixels = np.array(picture.convert("RGB"))
    except _UNDECODABLE as error:
        raise _unreadable(path, error) from error
    if size is not None and pixels.shape[:2] != tuple(size):
        height, width = pixels.shape[:2]
        raise _error(
            FaultKind.PICTURE_SIZE,
            path,
            f"the image is {width} x {height} but its annotation says {size[1]} x {size[0]} (width x height); "
            "correct the annotation or restore the image it was made for",
        )
    return pixels


def read_file(path: PathLike) -> bytes:
    """A picture's file as it is. Raises DataError where it cannot be read."""
    try:
        return to_path(path).read_bytes()
    except OSError as error:
        raise _unreadable(path, error) from error


def read_image_size(path: PathLike, *, upright: bool = False) -> Size:
    """(height, width) from the file's header, of the stored pixels or of the picture turned ``upright`` by EXIF.

    Raises:
        DataError: the file is missing or no image.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with Image.open(_stream(path)) as file:
                turned = upright and _orientation(file) in _SIDEWAYS
                return (file.width, file.height) if turned else (file.height, file.width)
    except _UNDECODABLE as error:
        raise _unreadable(path, error) from error


def picture_problems(decode: Callable[[], Any], path: str, size: Size | None = None) -> list[Problem]:
    """What is wrong with a picture, or worth to be told: it is decoded, and its file's header looked at.

    Args:
        decode: reads it as training does, and raises DataError where it cannot.
        path: its file, where it has one; size: the annotated (height, width), if any.
    """
    try:
        decode()
    except DataError as error:
        kind = error.faults[0].kind if error.faults else FaultKind.UNREADABLE_PICTURE
        return [Problem(kind, str(error))]
    return _header_problems(path, size) if os.path.isfile(path) else []


def _header_problems(path: str, size: Size | None) -> list[Problem]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with Image.open(path) as file:
            mode, stored, orientation = file.mode, (file.height, file.width), _orientation(file)
    found = []
    if mode != "RGB":
        # Pillow converts deeper pixels by clipping them.
        loss = "; values above 255 become 255" if mode.startswith(("I", "F")) else ""
        found.append(Problem(FaultKind.COLOUR_MODE, f"{path}: the image is {mode} and is converted to RGB{loss}"))
    if orientation != _UPRIGHT:
        use = "it is used as stored" if size is None or tuple(size) == stored else "it is turned, as its annotation is"
        text = f"{path}: EXIF says that the image is stored turned or mirrored (orientation {orientation}); {use}"
        found.append(Problem(FaultKind.EXIF_ROTATION, text))
    return found


def _stream(path: PathLike, content: bytes | None = None) -> Any:
    if content is None and is_remote(path):
        content = to_path(path).read_bytes()
    return path if content is None else io.BytesIO(content)


def _orientation(file: Image.Image) -> int:
    try:
        value = file.getexif().get(ExifTags.Base.Orientation)
    except Exception:  # a damaged block says nothing
        return _UPRIGHT
    return value if value in _TURNS else _UPRIGHT


def _unreadable(path: PathLike, error: BaseException) -> DataError:
    if isinstance(error, FileNotFoundError):
        return _error(FaultKind.MISSING_PICTURE, path, "there is no such image file; check the image directory")
    text = f"cannot be decoded as an image ({error}); replace or remove the file"
    return _error(FaultKind.UNREADABLE_PICTURE, path, text)


def _error(kind: FaultKind, path: PathLike, problem: str) -> DataError:
    fault = Fault(kind, os.fspath(path), None, problem)
    return DataError(str(fault), [fault])
