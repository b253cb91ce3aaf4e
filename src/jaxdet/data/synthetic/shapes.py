"""A small synthetic detection dataset: coloured rings, squares and triangles on textured backgrounds.

It is an ordinary COCO folder, so that the demo and tests use the same code as real data. Colours are independent of the
class; the backgrounds are gradients, stripes, checks and clouds with noise.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageChops, ImageDraw, ImageFilter

from jaxdet.data.synthetic.backgrounds import textured_ground
from jaxdet.paths import write_text

SHAPE_NAMES = ("ring", "square", "triangle")
SMALLEST, LARGEST = 24, 64  # the longer side of a shape's box, in pixels
_EMPTY_EVERY = 20  # one of this many images has no object
_MAX_OBJECTS = 4
_MAX_OVERLAP = 0.08  # fraction of the smaller of two boxes
_SHARPNESS = 4  # shapes are drawn larger by this factor and reduced, for smooth edges
_COLOURS = (
    (231, 76, 60),
    (52, 120, 219),
    (39, 174, 96),
    (243, 176, 24),
    (142, 68, 173),
    (23, 180, 188),
    (232, 92, 160),
    (245, 245, 240),
    (44, 52, 66),
)


def draw_shapes(
    directory: str | Path,
    *,
    images_train: int = 400,
    images_val: int = 100,
    size: tuple[int, int] = (96, 128),
    seed: int = 0,
) -> Path:
    """Draws a training and a validation set into ``directory``.

    Writes ``train/*.jpg``, ``val/*.jpg``, ``train.json`` and ``val.json`` (COCO, categories 1 ring, 2 square,
    3 triangle). Every image has 1 to 4 shapes of 24 to 64 pixels that hardly overlap; every twentieth has none.
    Image i of a split depends only on the seed, the split and i. The json files are written last, so that an
    interrupted call does not leave a dataset that looks complete.

    Args:
        size: range of the sides of images, in pixels; both sides are drawn from it.

    Returns:
        ``directory``.

    Raises:
        ValueError: the sizes do not ascend, or are too small for the largest shape.
    """
    if not LARGEST <= size[0] <= size[1]:
        raise ValueError(f"expected sizes of at least {LARGEST} pixels in ascending order, got {size}")
    directory = Path(directory)
    contents = {
        split: _draw_split(directory / split, count, size, (seed, number))
        for number, (split, count) in enumerate((("train", images_train), ("val", images_val)))
    }
    for split, content in contents.items():
        write_text(directory / f"{split}.json", json.dumps(content))
    return directory


def draw_image(
    generator: np.random.Generator, height: int, width: int, objects: int
) -> tuple[np.ndarray, list[tuple[float, float, float, float]], list[int]]:
    """Draws one image.

    Returns:
        (image [H, W, 3] uint8, xyxy boxes in pixels, labels 1..3) with up to ``objects`` shapes; fewer if there is no
        space, but at least one if ``objects`` > 0.
    """
    ground = textured_ground(generator, height, width)
    image = Image.fromarray(ground.round().clip(0, 255).astype(np.uint8))
    boxes: list[tuple[float, float, float, float]] = []
    labels: list[int] = []
    for _ in range(objects):
        label = int(generator.integers(1, len(SHAPE_NAMES) + 1))
        outline = _place(generator, _outline(generator, SHAPE_NAMES[label - 1]), (height, width), boxes)
        if outline is None:
            continue
        box = _box(outline)
        left, top, right, bottom = (int(value) for value in box)
        colour = _contrasting_colour(generator, ground[top : bottom + 1, left : right + 1].mean((0, 1)))
        image = _paint(image, outline, colour, hole=0.5 if SHAPE_NAMES[label - 1] == "ring" else 0.0)
        boxes.append(box)
        labels.append(label)
    grain = generator.normal(0.0, 4.0, (height, width, 1))
    return (np.asarray(image) + grain).round().clip(0, 255).astype(np.uint8), boxes, labels


def _draw_split(folder: Path, count: int, size: tuple[int, int], key: tuple[int, int]) -> dict[str, Any]:
    folder.mkdir(parents=True, exist_ok=True)
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for number in range(count):
        generator = np.random.Generator(np.random.PCG64(np.random.SeedSequence((*key, number))))
        height, width = (int(side) for side in generator.integers(size[0], size[1] + 1, 2))
        objects = 0 if number % _EMPTY_EVERY == _EMPTY_EVERY // 3 else int(generator.integers(1, _MAX_OBJECTS + 1))
        image, boxes, labels = draw_image(generator, height, width, objects)
        name = f"{number:05d}.jpg"
        Image.fromarray(image).save(folder / name, quality=95, subsampling=0)
        images.append({"id": number + 1, "file_name": name, "height": height, "width": width})
        for (x1, y1, x2, y2), label in zip(boxes, labels, strict=True):
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": number + 1,
                    "category_id": label,
                    "bbox": [x1, y1, x2 - x1, y2 - y1],
                    "area": (x2 - x1) * (y2 - y1),
                    "iscrowd": 0,
                }
            )
    categories = [{"id": label, "name": name} for label, name in enumerate(SHAPE_NAMES, start=1)]
    return {"images": images, "annotations": annotations, "categories": categories}


def _outline(generator: np.random.Generator, name: str) -> np.ndarray:
    """Corners (x, y) [P, 2] around the shape's centre; the longer side of their box is 1."""
    if name == "ring":
        angles = np.linspace(0.0, 2 * np.pi, 72, endpoint=False)
    elif name == "square":
        angles = np.pi / 4 + np.arange(4) * np.pi / 2 + generator.uniform(-0.3, 0.3)
    else:
        angles = -np.pi / 2 + np.arange(3) * 2 * np.pi / 3 + generator.uniform(-0.3, 0.3)
    corners = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    low, high = corners.min(0), corners.max(0)
    return (corners - (low + high) / 2) / (high - low).max()


def _place(
    generator: np.random.Generator,
    outline: np.ndarray,
    size: tuple[int, int],
    others: list[tuple[float, float, float, float]],
) -> np.ndarray | None:
    """The outline at a free position, in pixels. Every failed attempt reduces the maximum size; None: no position."""
    height, width = size
    largest = float(LARGEST)
    for _ in range(60):
        corners = outline * generator.uniform(SMALLEST, largest)
        x1, y1, x2, y2 = _box(corners)
        shift = generator.uniform(1 - x1, width - 1 - x2), generator.uniform(1 - y1, height - 1 - y2)
        corners = corners + np.array(shift)
        if all(_overlap(_box(corners), other) <= _MAX_OVERLAP for other in others):
            return corners
        largest = max(SMALLEST + 2.0, largest * 0.96)
    return None


def _box(corners: np.ndarray) -> tuple[float, float, float, float]:
    x1, y1 = corners.min(0).round(2).tolist()
    x2, y2 = corners.max(0).round(2).tolist()
    return x1, y1, x2, y2


def _overlap(a: tuple[float, float, float, float], b: tuple[float, float, float, float]) -> float:
    """The intersection as a fraction of the smaller box."""
    width = max(0.0, min(a[2], b[2]) - max(a[0], b[0]))
    height = max(0.0, min(a[3], b[3]) - max(a[1], b[1]))
    smaller = min((box[2] - box[0]) * (box[3] - box[1]) for box in (a, b))
    return width * height / smaller


def _contrasting_colour(generator: np.random.Generator, ground: np.ndarray) -> np.ndarray:
    candidates = np.array(_COLOURS, float) + generator.normal(0.0, 10.0, (len(_COLOURS), 3))
    distance = np.linalg.norm(candidates - ground, axis=1)
    visible = np.flatnonzero(distance > 95.0)
    return candidates[generator.choice(visible) if len(visible) else distance.argmax()].clip(0, 255)


def _paint(image: Image.Image, outline: np.ndarray, colour: np.ndarray, *, hole: float) -> Image.Image:
    """Paints a shape with a soft shadow, a lighter top and a darker rim; ``hole``: relative size of its hole."""
    width, height = image.size
    middle = (outline.min(0) + outline.max(0)) / 2

    def scaled(share: float) -> Image.Image:
        return _mask(middle + (outline - middle) * share, (height, width))

    mask, inner = scaled(1.0), scaled(0.9)
    if hole:
        mask, inner = ImageChops.subtract(mask, scaled(hole)), ImageChops.subtract(inner, scaled(hole + 0.1))
    shadow = _mask(outline + 2.0, (height, width)).filter(ImageFilter.GaussianBlur(2.5)).point(lambda v: v * 0.45)
    image = Image.composite(Image.new("RGB", image.size, (15, 15, 25)), image, shadow)
    _, top, _, bottom = _box(outline)
    shade = np.interp(np.arange(height), (top, bottom), (1.1, 0.86))[:, None, None]
    body = np.broadcast_to(colour * shade, (height, width, 3)).clip(0, 255).astype(np.uint8)
    rim = Image.fromarray((body * 0.68).astype(np.uint8))
    return Image.composite(Image.fromarray(body), Image.composite(rim, image, mask), inner)


def _mask(outline: np.ndarray, size: tuple[int, int]) -> Image.Image:
    """An 8-bit coverage mask of ``size`` (height, width)."""
    height, width = size
    large = Image.new("L", (width * _SHARPNESS, height * _SHARPNESS), 0)
    # Pillow's polygon corners are pixel centres, so half a pixel is subtracted.
    corners = outline * _SHARPNESS - 0.5
    ImageDraw.Draw(large).polygon([(float(x), float(y)) for x, y in corners], fill=255)
    return large.reduce(_SHARPNESS)
