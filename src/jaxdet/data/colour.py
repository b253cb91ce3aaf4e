"""From the pixel formats that Pillow reads to RGB with 8 bits a channel.

- Greyscale (1 to 8 bits), palette, CMYK, YCbCr and HSV images are converted by Pillow; transparency is dropped.
- 16 bits become 8 by dropping the lower byte (``value >> 8``), as Pillow does with RGB of 16 bits and OpenCV with all;
  Pillow's own conversion of greyscale would clip at 255. TIFF greyscale of 12 bits becomes 8 likewise.
- Floating point and 32-bit or signed integers are refused: the file does not say which value is white. So is CIE Lab,
  which Pillow converts to wrong colours.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from PIL import ExifTags, Image

_BY_PILLOW = frozenset({"RGB", "RGBA", "RGBX", "RGBa", "L", "LA", "P", "PA", "1", "CMYK", "YCbCr", "HSV"})
_WHITE_IS_ZERO = 0  # TIFF's PhotometricInterpretation
_REFUSED = {
    "F": "floating-point pixels, and does not say which value is white",
    "I": "32-bit or signed integer pixels, and does not say which value is white",
    "LAB": "CIE Lab pixels",
}


class UnsupportedPixels(ValueError):
    """An image is sound, but its pixels have no agreed meaning as RGB."""


def is_deep(file: Image.Image) -> bool:
    """Whether an image is greyscale of 12 or 16 bits."""
    return file.mode.startswith("I;16") or (file.mode == "I" and file.format in ("PNG", "PPM"))  # an older Pillow's PNG


def to_rgb(file: Image.Image) -> Image.Image:
    """The image in mode RGB.

    Args:
        file: as Pillow opened it.

    Raises:
        UnsupportedPixels: the image has no meaning as RGB; the message says why.
    """
    if is_deep(file):
        return Image.fromarray(_to_8_bits(file)).convert("RGB")
    if file.mode == "RGB":
        file.load()
        return file  # of which Pillow's conversion would make a copy
    if file.mode in _BY_PILLOW:
        return file.convert("RGB")
    if file.mode == "La":  # premultiplied, which Pillow converts to LA alone
        return file.convert("LA").convert("RGB")
    has = _REFUSED.get(file.mode, f"pixels of Pillow's mode {file.mode}")
    raise UnsupportedPixels(f"has {has}; scale it yourself and store it as 8-bit RGB or greyscale")


def _to_8_bits(file: Image.Image) -> np.ndarray:
    tags: Any = file.tag_v2 if file.format == "TIFF" else {}  # type: ignore[attr-defined]
    bits = tags.get(ExifTags.Base.BitsPerSample, (16,))[0]
    inverted = tags.get(ExifTags.Base.PhotometricInterpretation) == _WHITE_IS_ZERO  # Pillow inverts only 8 bits
    pixels = (np.asarray(file) >> (bits - 8)).astype(np.uint8)
    return 255 - pixels if inverted else pixels
