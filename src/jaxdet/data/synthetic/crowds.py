"""Synthetic crowds: images with hundreds of small heads, as HeadHunter lists with ignored regions.

People are in rows that get smaller with the distance, and occlude each other; mostly occluded heads have a flag other
than 0. Some images have a distant crowd of indistinguishable heads, an ignored region of flag -1. Balloons are
distractors.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageFilter

from jaxdet.data.formats.head_list import ListBox, ListImage, write_head_list
from jaxdet.data.synthetic.backgrounds import textured_ground

# Ranges of the width of heads in the first and in the last row, in pixels; each image draws its own.
NEAREST, FARTHEST = (15.0, 24.0), (8.0, 12.0)
TALL = 1.2  # height / width of a head
UNTRAINED, UNSCORED = 0.25, 0.5  # heads with a smaller visible fraction have flag -1 and flag 1
_EMPTY_EVERY = 16  # one of this many images has no people
_FAR_EVERY = 3  # one of this many images has a distant crowd
_HAIR = ((28, 22, 20), (60, 40, 28), (104, 72, 44), (160, 128, 84), (120, 118, 116), (36, 34, 44))
_SKIN = ((240, 206, 178), (214, 168, 132), (172, 122, 86), (120, 82, 58), (86, 60, 46))
_BALLOONS = ((230, 40, 60), (40, 110, 230), (250, 190, 20), (30, 170, 90), (220, 70, 190))


@dataclass(frozen=True)
class _Person:
    """A person. ``x``, ``y``: the centre of the head; ``width``: of the head; all in pixels."""

    x: float
    y: float
    width: float

    @property
    def box(self) -> tuple[float, float, float, float]:
        half, tall = self.width / 2, self.width * TALL / 2
        return self.x - half, self.y - tall, self.x + half, self.y + tall


def draw_crowds(
    directory: str | Path,
    *,
    images_train: int = 300,
    images_val: int = 40,
    size: tuple[int, int] = (256, 256),
    seed: int = 0,
) -> Path:
    """Draws a training and a validation set into ``directory``.

    Writes ``train/*.jpg``, ``val/*.jpg`` and the lists ``train.txt`` and ``val.txt``
    (`jaxdet.data.formats.head_list`). An image of 256 x 256 has about 50 to 300 heads, 7 to 28 pixels wide; every
    sixteenth has none. Image i of a split depends only on the seed, the split and i. The lists are written last.

    Args:
        size: (height, width) of the images, at least 64 x 64.

    Returns:
        ``directory``.
    """
    if min(size) < 64:
        raise ValueError(f"expected images of at least 64 x 64 pixels, got {size}")
    directory = Path(directory)
    lists: dict[str, list[ListImage]] = {}
    for split_number, (split, count) in enumerate((("train", images_train), ("val", images_val))):
        (directory / split).mkdir(parents=True, exist_ok=True)
        lists[split] = []
        for number in range(count):
            generator = np.random.Generator(np.random.PCG64(np.random.SeedSequence((seed, split_number, number))))
            empty = number % _EMPTY_EVERY == _EMPTY_EVERY // 2
            image, boxes, flags = draw_crowd(generator, *size, density=0.0 if empty else generator.uniform(0.3, 0.85))
            name = f"{split}/{number:05d}.jpg"
            Image.fromarray(image).save(directory / name, quality=95, subsampling=0)
            entries = [ListBox(0, box, flag) for box, flag in zip(boxes, flags, strict=True)]
            lists[split].append(ListImage(name, 0, entries))
    for split, images in lists.items():
        write_head_list(directory / f"{split}.txt", images)
    return directory


def draw_crowd(
    generator: np.random.Generator, height: int, width: int, *, density: float
) -> tuple[np.ndarray, list[tuple[float, float, float, float]], list[int]]:
    """Draws one image.

    Args:
        density: the fraction of positions with a person, 0 to 1.

    Returns:
        (image [H, W, 3] uint8, xyxy boxes in pixels, rounded to 0.01 and clipped to the image, their flags).
    """
    image = textured_ground(generator, height, width)
    far = height * generator.uniform(0.12, 0.2) if density and generator.random() < 1 / _FAR_EVERY else 0.0
    if far:
        _draw_far_crowd(generator, image, far)
    owner = np.full((height, width), -1, np.int32)  # the person whose head is visible
    people = _places(generator, far, height, width, density)
    areas = [_draw_person(generator, image, owner, person, number) for number, person in enumerate(people)]
    for _ in range(int(generator.integers(0, 7))):
        _draw_balloon(generator, image, owner)
    seen = np.bincount(owner[owner >= 0], minlength=len(people)) / np.maximum(areas, 1) if people else np.zeros(0)
    boxes, flags = _listed([person.box for person in people], seen, (height, width))
    if far:
        boxes.append((0.0, 0.0, float(width), round(far, 2)))
        flags.append(-1)
    soft = Image.fromarray(image.round().clip(0, 255).astype(np.uint8)).filter(ImageFilter.GaussianBlur(0.5))
    grain = generator.normal(0.0, 5.0, (height, width, 1))
    return (np.asarray(soft) + grain).round().clip(0, 255).astype(np.uint8), boxes, flags


def _places(generator: np.random.Generator, far: float, height: int, width: int, density: float) -> list[_Person]:
    """The people, from the last row to the first."""
    people = []
    nearest, farthest = generator.uniform(*NEAREST), generator.uniform(*FARTHEST)
    y = far + generator.uniform(0.0, 2.0) * farthest  # random, so that positions of rows give no hint
    while y < height + nearest / 2 and density:
        size = farthest + (nearest - farthest) * min(y / height, 1.0)
        step = size * 1.25
        for x in np.arange(generator.uniform(-step, 0.0), width + step, step):
            if generator.random() < density:
                shift = generator.normal(0.0, 0.2, 2) * size
                people.append(_Person(float(x + shift[0]), float(y + shift[1]), size * generator.uniform(0.85, 1.15)))
        y += size * 0.95
    return sorted(people, key=lambda person: person.y)


def _draw_person(
    generator: np.random.Generator, image: np.ndarray, owner: np.ndarray, person: _Person, number: int
) -> int:
    """Draws a person and returns the number of pixels of the head in the image."""
    x, y, width = person.x, person.y, person.width
    clothes = generator.uniform(20.0, 220.0, 3)
    window, body = _ellipse(owner.shape, x, y + 1.75 * width, 0.95 * width, 1.35 * width)
    _blend(image[window], body, clothes)
    owner[window][body > 0.5] = -1
    hair, skin = (np.array(colours[generator.integers(len(colours))], float) for colours in (_HAIR, _SKIN))
    hair, skin = hair + generator.normal(0.0, 8.0, 3), skin + generator.normal(0.0, 8.0, 3)
    window, head = _ellipse(owner.shape, x, y, width / 2, width * TALL / 2)
    _blend(image[window], head, hair)
    if generator.random() < 0.6:  # else it is seen from behind
        side = generator.uniform(-0.12, 0.12) * width
        inner, face = _ellipse(owner.shape, x + side, y + 0.14 * width, 0.36 * width, 0.42 * width)
        _blend(image[inner], face, skin)
    covered = head > 0.5
    owner[window][covered] = number
    return int(covered.sum())


def _draw_balloon(generator: np.random.Generator, image: np.ndarray, owner: np.ndarray) -> None:
    height, width = owner.shape
    radius = generator.uniform(FARTHEST[0], NEAREST[1]) / 2
    x, y = generator.uniform(0, width), generator.uniform(0, height)
    window, disc = _ellipse(owner.shape, x, y, radius, radius)
    _blend(image[window], disc, np.array(_BALLOONS[generator.integers(len(_BALLOONS))], float))
    inner, shine = _ellipse(owner.shape, x - radius * 0.35, y - radius * 0.35, radius * 0.3, radius * 0.3)
    _blend(image[inner], shine, np.full(3, 255.0))
    owner[window][disc > 0.5] = -1


def _draw_far_crowd(generator: np.random.Generator, image: np.ndarray, far: float) -> None:
    """Draws a distant crowd of dots at the top of the image."""
    width = image.shape[1]
    for _ in range(int(width * far / 10)):
        colours = _HAIR if generator.random() < 0.6 else _SKIN
        colour = np.array(colours[generator.integers(len(colours))], float)
        x, y, radius = generator.uniform(0, width), generator.uniform(0, far - 2), generator.uniform(1.2, 2.2)
        window, dot = _ellipse(image.shape[:2], x, y, radius, radius)
        _blend(image[window], dot, colour)


def _ellipse(
    size: tuple[int, ...], x: float, y: float, half_width: float, half_height: float
) -> tuple[tuple[slice, slice], np.ndarray]:
    """The window of the image that contains an ellipse, and the covered fraction of each pixel."""
    top, left = max(0, int(y - half_height - 1)), max(0, int(x - half_width - 1))
    bottom, right = min(size[0], int(y + half_height + 2)), min(size[1], int(x + half_width + 2))
    rows, columns = np.arange(top, max(top, bottom))[:, None] + 0.5, np.arange(left, max(left, right))[None] + 0.5
    distance = np.hypot((columns - x) / half_width, (rows - y) / half_height)
    cover = (0.5 + (1 - distance) * min(half_width, half_height)).clip(0.0, 1.0)
    return (slice(top, max(top, bottom)), slice(left, max(left, right))), cover


def _blend(part: np.ndarray, cover: np.ndarray, colour: np.ndarray) -> None:
    """Blends a colour into a part of the image, lighter towards its upper left."""
    rows, columns = cover.shape
    light = 1.12 - 0.24 * (np.linspace(0, 1, rows)[:, None] + np.linspace(0, 1, columns)[None]) / 2
    part += cover[..., None] * ((colour * light[..., None]).clip(0, 255) - part)


def _listed(
    boxes: Sequence[tuple[float, float, float, float]], seen: np.ndarray, size: tuple[int, int]
) -> tuple[list[tuple[float, float, float, float]], list[int]]:
    """The boxes with their centre in the image, clipped to it, and their flags by the visible fraction."""
    height, width = size
    kept, flags = [], []
    for (x1, y1, x2, y2), share in zip(boxes, seen.tolist(), strict=True):
        if not (0 <= (x1 + x2) / 2 < width and 0 <= (y1 + y2) / 2 < height):
            continue
        kept.append((round(max(x1, 0), 2), round(max(y1, 0), 2), round(min(x2, width), 2), round(min(y2, height), 2)))
        flags.append(-1 if share < UNTRAINED else 1 if share < UNSCORED else 0)
    return kept, flags
