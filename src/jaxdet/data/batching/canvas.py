"""Canvases: the few fixed sizes of batches, each of which needs one compiled program.

A canvas is (height, width), both multiples of 32. An image is in its top left corner, with the size of
`jaxdet.ops.resize.resized_size`. A canvas has to cover this size, rounded up to multiples of 32.
"""

from __future__ import annotations

from collections.abc import Sequence

ALIGNMENT = 32

Size = tuple[int, int]  # (height, width)


def align(length: int) -> int:
    """``length`` rounded up to a multiple of 32."""
    return -(-int(length) // ALIGNMENT) * ALIGNMENT


def canvases(min_size: int, max_size: int, *, square: bool = False) -> tuple[Size, ...]:
    """The canvases for images resized to a shorter side of ``min_size`` and a longer side of at most ``max_size``.

    The shorter side is ``min_size``; the longer side is 1, 4/3 and 3/2 times that (the common aspect ratios) and
    ``max_size``; in both orientations. For 800 / 1333, the longer sides are 800, 1088, 1216 and 1344.

    Args:
        square: add the ``max_size`` square, which fits all images in both orientations. The batch plan then leaves out
            fewer images, at the cost of a larger compiled step.

    Returns:
        (height, width) pairs by increasing area. Every resized image fits one of them.

    Raises:
        ValueError: a size is below 1.
    """
    if min_size < 1 or max_size < 1:
        raise ValueError(f"expected min_size and max_size of at least 1 pixel, got {min_size} and {max_size}")
    longest = align(max_size)
    short = min(align(min_size), longest)
    long_sides = {min(align(-(-min_size * over // under)), longest) for over, under in ((1, 1), (4, 3), (3, 2))}
    long_sides.add(longest)
    found = {size for side in long_sides for size in ((short, side), (side, short))}
    if square:
        found.add((longest, longest))
    return tuple(sorted(found, key=_order))


def parse_canvas(text: str) -> Size:
    """Parses ``"800x1344"`` as (height, width).

    Raises:
        ValueError: another format, or a side that is not a multiple of 32.
    """
    sides = text.lower().split("x")
    if len(sides) != 2 or not all(side.isdecimal() and int(side) for side in sides):
        raise ValueError(f"{text!r} is not a canvas: expected HEIGHTxWIDTH, such as 800x1344")
    height, width = map(int, sides)
    if (height, width) != (align(height), align(width)):
        raise ValueError(f"the canvas is {height}x{width}; both sides have to be multiples of {ALIGNMENT}")
    return height, width


def choose_canvas(size: Sequence[int], choices: Sequence[Size]) -> Size:
    """The smallest canvas for an image with ``size`` (height, width) after resizing.

    Raises:
        ValueError: no canvas is large enough.
    """
    needed = (align(size[0]), align(size[1]))
    fitting = [canvas for canvas in choices if covers(canvas, needed)]
    if not fitting:
        raise ValueError(
            f"no canvas is large enough for an image resized to {tuple(size)} (height, width), which needs {needed}, "
            f"in {tuple(choices)}: add one that is"
        )
    return min(fitting, key=_order)


def largest_canvas(choices: Sequence[Size]) -> Size:
    """The canvas with the largest area; of equal ones, the landscape one."""
    return max(choices, key=lambda canvas: (canvas[0] * canvas[1], canvas[1]))


def covers(canvas: Size, other: Size) -> bool:
    """Whether ``other`` fits in ``canvas``; both (height, width)."""
    return canvas[0] >= other[0] and canvas[1] >= other[1]


def _order(canvas: Size) -> tuple[int, int, int]:
    return canvas[0] * canvas[1], canvas[0], canvas[1]
