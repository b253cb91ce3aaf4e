"""Checking images that are passed as arrays."""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import Any

import numpy as np


def checked_images(images: Iterable[Any]) -> list[np.ndarray]:
    """Checks a list of images with `checked_pixels`.

    Raises:
        ValueError: not a list of images. The message has the image and a remedy.
    """
    if isinstance(images, (str, os.PathLike)):
        raise ValueError(f"images is {os.fspath(images)!r}; {_how_to_read(images)}, and give the list [image]")
    if getattr(images, "ndim", None) in (2, 3):
        raise ValueError(f"images is a single array of shape {tuple(images.shape)}; give a list, [image]")  # type: ignore[attr-defined]
    try:
        given = list(images)
    except TypeError:
        raise ValueError(f"images is a {type(images).__name__}; give a list of arrays [height, width, 3]") from None
    return [checked_pixels(image, f"image {index}") for index, image in enumerate(given)]


def checked_pixels(image: Any, name: str = "the image") -> np.ndarray:
    """Checks an image and returns it as [H, W, 3] RGB, uint8, or float32 in 0..1.

    Args:
        name: the name of the image in messages.

    Raises:
        ValueError: not such an image. The message has a remedy.
    """
    if isinstance(image, (str, os.PathLike)):
        raise ValueError(f"{name} is the path {os.fspath(image)!r}; {_how_to_read(image)}")
    if image is None:
        raise ValueError(f"{name} is None, which OpenCV's imread returns for files that it cannot read")
    try:
        image = np.asarray(image)
    except Exception as error:  # such as a PyTorch tensor on a GPU
        raise ValueError(f"{name} is a {type(image).__name__} that cannot be converted to an array: {error}") from error
    if image.ndim != 3 or image.shape[2] != 3 or 0 in image.shape:
        raise ValueError(f"{name} has shape {image.shape}; expected RGB [height, width, 3]{_remedy(image.shape)}")
    if image.dtype == np.uint8:
        return image
    if image.dtype.kind != "f":
        hint = "; (image >> 8).astype(np.uint8) scales 16 bits to 8" if image.dtype == np.uint16 else ""
        raise ValueError(f"{name} is of type {image.dtype}; expected uint8, or float in 0..1{hint}")
    if not (image.min() >= 0 and image.max() <= 1):
        raise ValueError(f"{name} is float but not in 0..1; give uint8 for values up to 255")
    return image.astype(np.float32)


def _how_to_read(path: Any) -> str:
    return f"read the file first: image = jaxdet.data.read_image({os.fspath(path)!r})"


def _remedy(shape: tuple[int, ...]) -> str:
    if 0 in shape:
        return ""
    if len(shape) == 2:
        return "; np.stack([image] * 3, axis=-1) converts a greyscale image"
    if len(shape) == 4:
        return "; give the images of a batch one by one, in a list"
    if len(shape) == 3 and shape[2] == 1:
        return "; np.repeat(image, 3, axis=2) converts a greyscale image"
    if len(shape) == 3 and shape[2] == 4:
        return "; image[..., :3] removes the transparency"
    if len(shape) == 3 and shape[0] == 3:
        return "; image.transpose(1, 2, 0) puts the channels last"
    return ""
