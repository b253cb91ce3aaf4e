"""Transforms of images and boxes on the host, numerically equivalent to torchvision's.

Axes: H W stored pixels, h w pixels after resizing, G ground-truth boxes. Boxes are xyxy in pixels. Random draws use an
explicit numpy Generator.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from PIL import Image

from jaxdet.data.dataset import Example
from jaxdet.ops.pixels import IMAGENET_MEAN, IMAGENET_STD
from jaxdet.ops.resize import resize_bilinear, resized_size


def horizontal_flip(example: Example) -> Example:
    """Flips an example horizontally."""
    width = example.image.shape[1]

    def mirror(boxes: np.ndarray) -> np.ndarray:
        x1, y1, x2, y2 = boxes.T
        return np.stack([width - x2, y1, width - x1, y2], axis=1).astype(np.float32)

    return replace(example.map_boxes(mirror), image=example.image[:, ::-1])


def random_horizontal_flip(example: Example, probability: float, generator: np.random.Generator) -> Example:
    """Flips an example horizontally with the given probability. Always draws one number from ``generator``."""
    return horizontal_flip(example) if generator.random() < probability else example


def crop(example: Example, top: int, left: int, height: int, width: int) -> Example:
    """Crops an example. Boxes are clipped, and boxes without remaining area are removed with their labels."""

    def clip(boxes: np.ndarray) -> np.ndarray:
        shifted = boxes - np.array([left, top, left, top], np.float32)
        return shifted.clip(0, np.array([width, height, width, height], np.float32))

    cut = example.map_boxes(clip).with_area()
    return replace(cut, image=example.image[top : top + height, left : left + width])


def preprocess(
    image: np.ndarray,
    min_size: int,
    max_size: int,
    *,
    mean: Sequence[float] = IMAGENET_MEAN,
    std: Sequence[float] = IMAGENET_STD,
) -> np.ndarray:
    """Preprocesses an image for a detector: scales it to 0..1, normalises, then resizes.

    Equivalent to ``torchvision.transforms.functional.to_tensor`` followed by ``GeneralizedRCNNTransform``.

    Args:
        image: [H, W, 3] RGB, uint8 or float in 0..1.
        min_size: the shorter side after resizing, unless the longer side would exceed ``max_size``.
        mean, std: three numbers each, for pixels in 0..1.

    Returns:
        [h, w, 3] float32, with the size of `jaxdet.ops.resize.resized_size`.

    Raises:
        ValueError: the image is not [H, W, 3] uint8 or float, or mean and std are not three numbers each.
    """
    size = resized_size(image.shape[0], image.shape[1], min_size, max_size)
    return preprocess_to(image, size, mean=mean, std=std)


def preprocess_to(
    image: np.ndarray,
    size: tuple[int, int],
    *,
    mean: Sequence[float] = IMAGENET_MEAN,
    std: Sequence[float] = IMAGENET_STD,
) -> np.ndarray:
    """`preprocess` to a given size (height, width)."""
    return resize_bilinear(normalize(image, mean, std), size)


def centre_crop(
    image: np.ndarray,
    resize: int,
    crop: int,
    mean: Sequence[float] = IMAGENET_MEAN,
    std: Sequence[float] = IMAGENET_STD,
) -> np.ndarray:
    """Preprocesses an image for a classifier: resizes the shorter side, crops the centre, normalises.

    Equivalent to torchvision's classification presets on PIL images, with Pillow's antialiasing bilinear filter.

    Args:
        image: [H, W, 3] RGB, uint8 or float in 0..1.
        resize: the shorter side after resizing, at least ``crop``; crop: the side of the result.

    Returns:
        [crop, crop, 3] float32.
    """
    height, width = image.shape[:2]
    short = min(height, width)
    # torchvision's Resize truncates the longer side, its CenterCrop rounds the offset.
    size = (resize * width // short, resize * height // short)
    if image.dtype == np.uint8:
        resized = np.asarray(Image.fromarray(image).resize(size, Image.Resampling.BILINEAR))
    else:  # Pillow's float images have only one channel
        channels = (Image.fromarray(image[..., number].astype(np.float32)) for number in range(3))
        planes = [np.asarray(channel.resize(size, Image.Resampling.BILINEAR)) for channel in channels]
        resized = np.stack(planes, axis=-1)
    top, left = (round((side - crop) / 2.0) for side in resized.shape[:2])
    return normalize(resized[top : top + crop, left : left + crop], mean, std)


def normalize(image: np.ndarray, mean: Sequence[float], std: Sequence[float]) -> np.ndarray:
    """Scales an image [H, W, 3], uint8 or float in 0..1, to 0..1 and normalises it: [H, W, 3] float32."""
    if image.ndim != 3 or image.shape[2] != 3 or not (image.dtype == np.uint8 or image.dtype.kind == "f"):
        raise ValueError(f"expected an image [H, W, 3], uint8 or float, got {image.dtype} {image.shape}")
    if len(mean) != 3 or len(std) != 3:
        raise ValueError(f"expected three numbers for mean and std, got {tuple(mean)} and {tuple(std)}")
    if image.dtype.kind == "f":
        return (image.astype(np.float32) - np.asarray(mean, np.float32)) / np.asarray(std, np.float32)
    # A table of the 256 normalised levels gives bit-identical results to normalising every pixel.
    levels = np.arange(256, dtype=np.float32) / np.float32(255)
    table = (levels[:, None] - np.asarray(mean, np.float32)) / np.asarray(std, np.float32)  # [256, 3]
    normalised = np.empty(image.shape, np.float32)
    for channel in range(3):
        np.take(table[:, channel], image[..., channel], out=normalised[..., channel], mode="clip")
    return normalised


def resize_boxes(boxes: np.ndarray, old_size: Sequence[int], new_size: Sequence[int]) -> np.ndarray:
    """Resizes boxes [G, 4] xyxy from an image of ``old_size`` (height, width) to one of ``new_size``, as float32.

    Each axis has its own ratio, computed in float32, as in torchvision's ``resize_boxes``. With the sizes swapped,
    detections are mapped back to the original image.
    """
    ratio_y, ratio_x = (np.float32(new) / np.float32(old) for new, old in zip(new_size, old_size, strict=True))
    ratios = np.array([ratio_x, ratio_y, ratio_x, ratio_y], np.float32)
    return np.asarray(boxes, np.float32).reshape(-1, 4) * ratios
