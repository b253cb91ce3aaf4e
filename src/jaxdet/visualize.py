"""Drawing boxes and titles on images, and arranging several images on one sheet."""

from __future__ import annotations

import colorsys
import io
import os
from collections.abc import Sequence
from functools import lru_cache

import matplotlib
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from jaxdet.label_layout import Place, place_labels
from jaxdet.paths import PathLike, to_path, write_whole

_SMALLEST_TEXT, _PAD = 9, 2  # pixels
_LABELS_SHARE = 0.15  # of the image; labels that would cover more get smaller text
_COLOURS = (
    (230, 57, 70),
    (29, 120, 216),
    (42, 157, 80),
    (244, 162, 30),
    (131, 56, 200),
    (0, 165, 175),
    (240, 80, 160),
    (120, 85, 60),
    (130, 170, 20),
    (70, 80, 110),
)


def class_colour(label: int) -> tuple[int, int, int]:
    """The RGB colour of a class: ten selected colours for labels 1 to 10, then hues that are the golden ratio apart."""
    if 1 <= label <= len(_COLOURS):
        return _COLOURS[label - 1]
    saturation, value = ((0.75, 0.85), (0.6, 0.6), (0.95, 0.5))[label % 3]
    red, green, blue = colorsys.hsv_to_rgb((label * 0.618034 + 0.95) % 1.0, saturation, value)
    return round(red * 255), round(green * 255), round(blue * 255)


def draw_detections(
    image: np.ndarray,
    boxes: np.ndarray,
    labels: np.ndarray,
    scores: np.ndarray | None = None,
    names: Sequence[str] | None = None,
    *,
    scale: int = 1,
) -> np.ndarray:
    """A copy of the image with boxes, each with a label such as ``ring 97%``.

    Lines and text scale with the image, and are smaller for small boxes. Labels are placed so that they hide neither
    small boxes nor other labels, and always inside the image (see `jaxdet.label_layout`). If there is little room, a
    label only has the score; if there is none, it is left out. Boxes with higher scores are drawn on top of others, and
    their labels are placed first.

    Args:
        image: [H, W, 3] uint8 RGB.
        boxes: [D, 4] xyxy in pixels of ``image``. They are clipped to the image; boxes with NaN are left out.
        labels: [D] integers.
        scores: [D] from 0 to 1, or None for ground truth.
        names: class names by label; by default, the labels themselves are drawn.
        scale: the factor by which the image is enlarged before drawing.

    Returns:
        [H * scale, W * scale, 3] uint8.

    Raises:
        ValueError: the image is not uint8 RGB, or the numbers of boxes, labels and scores differ.
    """
    boxes = np.asarray(boxes, np.float64).reshape(-1, 4) * scale
    labels = np.asarray(labels).reshape(-1)
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
        raise ValueError(f"expected an image [H, W, 3] uint8, got {image.dtype} {image.shape}")
    if len(labels) != len(boxes) or (scores is not None and len(scores) != len(boxes)):
        raise ValueError(f"expected one label and score per box, got {len(boxes)} boxes and {len(labels)} labels")
    drawn = Image.fromarray(image)
    if scale != 1:
        drawn = drawn.resize((drawn.width * scale, drawn.height * scale), Image.Resampling.LANCZOS)
    draw = ImageDraw.Draw(drawn)
    diagonal = float(np.hypot(*drawn.size))
    line = max(1, round(diagonal / 400))
    order = range(len(boxes)) if scores is None else np.argsort(scores, kind="stable").tolist()
    visible = [i for i in order if np.isfinite(boxes[i]).all()]
    corners = {i: _clip(boxes[i], drawn.size) for i in visible}
    for i in visible:
        x1, y1, x2, y2 = corners[i]
        width = min(line, max(1, min(x2 - x1, y2 - y1) // 12))
        draw.rectangle(corners[i], outline=class_colour(int(labels[i])), width=width)
    best_first = visible[::-1]
    texts = [_label_texts(int(labels[i]), None if scores is None else float(scores[i]), names) for i in best_first]
    size = _text_size([text for text, *_ in texts], drawn.size)
    written = [_Label(text, corners[i], size, drawn.width) for i, text in zip(best_first, texts, strict=True)]
    outer = np.array([corners[i] for i in best_first]).reshape(-1, 4) + np.array([0, 0, 1, 1])
    places = place_labels(outer, [label.extents for label in written], drawn.size)
    for i, label, place in zip(best_first, written, places, strict=True):
        if place is not None:
            label.write(draw, place, class_colour(int(labels[i])))
    return np.asarray(drawn).copy()


def _label_texts(label: int, score: float | None, names: Sequence[str] | None) -> list[str]:
    """The text of a label, then the shorter text that is used if there is little room."""
    name = names[label] if names is not None and 0 <= label < len(names) else str(label)
    return [name] if score is None else [f"{name} {round(score * 100)}%", f"{round(score * 100)}%"]


def _text_size(texts: Sequence[str], size: tuple[int, int]) -> int:
    """The text size for large boxes in pixels: a fraction of the image's diagonal, reduced if there are many labels."""
    largest = float(np.hypot(*size)) / 75
    covered = sum(map(len, texts)) * 0.8 * largest**2  # characters with their background
    room = _LABELS_SHARE * size[0] * size[1]
    return max(_SMALLEST_TEXT, round(largest * min(1.0, np.sqrt(room / max(covered, 1.0)))))


class _Label:
    """The label of a box in several variants, from the largest text to the shortest.

    Args:
        texts: from the fullest to the shortest.
        corners: of the box. The text is at most half as high as the box's shorter side, if it is legible then.
        largest: the text size for large boxes.
        width: the width of the image. Longer texts are truncated.
    """

    def __init__(self, texts: Sequence[str], corners: tuple[int, int, int, int], largest: int, width: int) -> None:
        smallest = max(_SMALLEST_TEXT, round(largest * 0.6))
        short = min(corners[2] - corners[0], corners[3] - corners[1]) + 1
        first = min(largest, max(smallest, short // 2))
        forms = [(texts[0], size) for size in dict.fromkeys((first, (first + smallest) // 2, smallest))]
        forms += [(text, smallest) for text in texts[1:]]
        self._fonts = [_font(size) for _, size in forms]
        self._texts = [_shorten(text, _font(size), width - 2 * _PAD) for text, size in forms]
        self.extents = [self._extent(*one) for one in zip(self._texts, self._fonts, strict=True)]

    def write(self, draw: ImageDraw.ImageDraw, place: Place, colour: tuple[int, int, int]) -> None:
        """Draws the label on a background of this colour."""
        width, height = self.extents[place.choice]
        draw.rectangle((place.x, place.y, place.x + width - 1, place.y + height - 1), fill=colour)
        luminance = 0.299 * colour[0] + 0.587 * colour[1] + 0.114 * colour[2]
        ink = (0, 0, 0) if luminance > 150 else (255, 255, 255)
        where = (place.x + _PAD, place.y + height // 2)
        draw.text(where, self._texts[place.choice], font=self._fonts[place.choice], fill=ink, anchor="lm")

    @staticmethod
    def _extent(text: str, font: ImageFont.FreeTypeFont) -> tuple[int, int]:
        return int(np.ceil(font.getlength(text))) + 2 * _PAD, sum(font.getmetrics())


def titled(
    image: np.ndarray, title: str, *, size: int = 14, background: tuple[int, int, int] = (255, 255, 255)
) -> np.ndarray:
    """An image [H, W, 3] uint8 with a line of text above it. The text is shortened to the width of the image."""
    font = _font(size)
    ascent, descent = font.getmetrics()
    drawn = Image.new("RGB", (image.shape[1], image.shape[0] + ascent + descent + 2), background)
    ImageDraw.Draw(drawn).text((0, 0), _shorten(title, font, image.shape[1]), font=font, fill=(0, 0, 0))
    drawn.paste(Image.fromarray(image), (0, ascent + descent + 2))
    return np.asarray(drawn).copy()


def contact_sheet(
    images: Sequence[np.ndarray], columns: int, *, gap: int = 8, background: tuple[int, int, int] = (255, 255, 255)
) -> np.ndarray:
    """Arranges images [H, W, 3] uint8 of any size in a grid, row by row, each centred in its cell.

    Raises:
        ValueError: there are no images, or no columns.
    """
    if not images or columns < 1:
        raise ValueError(f"expected at least one image and one column, got {len(images)} and {columns}")
    columns = min(columns, len(images))
    rows = -(-len(images) // columns)
    widths = [max(image.shape[1] for image in images[column::columns]) for column in range(columns)]
    heights = [max(image.shape[0] for image in images[row * columns : (row + 1) * columns]) for row in range(rows)]
    sheet = np.empty((sum(heights) + gap * (rows + 1), sum(widths) + gap * (columns + 1), 3), np.uint8)
    sheet[:] = background
    for number, image in enumerate(images):
        row, column = divmod(number, columns)
        top = gap * (row + 1) + sum(heights[:row]) + (heights[row] - image.shape[0]) // 2
        left = gap * (column + 1) + sum(widths[:column]) + (widths[column] - image.shape[1]) // 2
        sheet[top : top + image.shape[0], left : left + image.shape[1]] = image
    return sheet


def save_image(image: np.ndarray, path: PathLike) -> None:
    """Writes an image [H, W, 3] uint8 atomically, in the format of the path's suffix.

    Raises:
        ValueError: the suffix is unknown.
    """
    content = io.BytesIO()
    Image.fromarray(image).save(content, _format_of(path))
    write_whole(path, content.getvalue())


def _format_of(path: PathLike) -> str:
    suffix = to_path(path).suffix.lower()
    known = Image.registered_extensions()
    if suffix not in known:
        raise ValueError(f"unknown file extension: {suffix!r}")
    return known[suffix]


@lru_cache(maxsize=16)
def _font(size: int) -> ImageFont.FreeTypeFont:
    # A font that is part of matplotlib, so that images look the same on every machine.
    return ImageFont.truetype(os.path.join(matplotlib.get_data_path(), "fonts", "ttf", "DejaVuSans-Bold.ttf"), size)


def _shorten(text: str, font: ImageFont.FreeTypeFont, width: float) -> str:
    while len(text) > 2 and font.getlength(text) > width:
        text = text[:-2] + "…"
    return text


def _clip(box: np.ndarray, size: tuple[int, int]) -> tuple[int, int, int, int]:
    """Integer corners, clipped to an image of ``size`` (width, height). The right and lower edges are inclusive."""
    x1, x2 = sorted(int(np.clip(round(value), 0, size[0] - 1)) for value in (box[0], box[2] - 1))
    y1, y2 = sorted(int(np.clip(round(value), 0, size[1] - 1)) for value in (box[1], box[3] - 1))
    return x1, y1, x2, y2
