"""Conversion of pixel formats to RGB with 8 bits per channel.

- Greyscale (1 to 8 bits), palette, CMYK, YCbCr and HSV images are converted by Pillow; transparency is dropped.
- 16 bits are reduced to 8 by dropping the lower byte (``value >> 8``), as Pillow does for 16-bit RGB and OpenCV for all
  formats; Pillow's conversion of greyscale would clip at 255. 12-bit greyscale TIFF is reduced likewise.
- Floating-point, 32-bit and signed integer images are errors, as files do not define the value of white. So is CIE Lab,
  which Pillow converts to incorrect colours.
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
    """An image is intact, but its pixels cannot be converted to RGB."""


def is_deep(file: Image.Image) -> bool:
    """Whether an image is greyscale with 12 or 16 bits."""
    return file.mode.startswith("I;16") or (file.mode == "I" and file.format in ("PNG", "PPM"))  # an older Pillow's PNG


def to_rgb(file: Image.Image) -> Image.Image:
    """Converts an image that Pillow has opened to mode RGB.

    Raises:
        UnsupportedPixels: the image cannot be converted to RGB.
    """
    if is_deep(file):
        return Image.fromarray(_to_8_bits(file)).convert("RGB")
    if file.mode == "RGB":
        file.load()
        return file  # Pillow's conversion would copy it
    if file.mode in _BY_PILLOW:
        return file.convert("RGB")
    if file.mode == "La":  # premultiplied; Pillow only converts it to LA
        return file.convert("LA").convert("RGB")
    has = _REFUSED.get(file.mode, f"pixels of Pillow's mode {file.mode}")
    raise UnsupportedPixels(f"has {has}; scale it yourself and store it as 8-bit RGB or greyscale")


def _to_8_bits(file: Image.Image) -> np.ndarray:
    tags: Any = file.tag_v2 if file.format == "TIFF" else {}  # type: ignore[attr-defined]
    bits = tags.get(ExifTags.Base.BitsPerSample, (16,))[0]
    inverted = tags.get(ExifTags.Base.PhotometricInterpretation) == _WHITE_IS_ZERO  # Pillow inverts only 8 bits
    pixels = (np.asarray(file) >> (bits - 8)).astype(np.uint8)
    return 255 - pixels if inverted else pixels
