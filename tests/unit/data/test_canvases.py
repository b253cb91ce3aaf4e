"""The canvas set and the choice among it."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxdet.data.batching.canvas import align, canvases, choose_canvas, covers, largest_canvas, parse_canvas
from jaxdet.ops.resize import resized_size


def test_the_usual_sizes():
    expected = [(800, 800)]
    for side in (1088, 1216, 1344):
        expected += [(800, side), (side, 800)]
    assert canvases(800, 1333) == tuple(expected)
    assert canvases(800, 1333, square=True) == (*expected, (1344, 1344))


def test_small_and_odd_sizes():
    assert canvases(128, 128) == ((128, 128),)
    assert canvases(96, 128) == ((96, 96), (96, 128), (128, 96))
    assert canvases(800, 600) == ((608, 608),)
    with pytest.raises(ValueError, match="at least 1 pixel, got 0 and 5"):
        canvases(0, 5)


def test_choice_by_hand():
    choices = canvases(800, 1333)
    assert choose_canvas((800, 1066), choices) == (800, 1088)  # 640 x 480 after resizing
    assert choose_canvas((1066, 800), choices) == (1088, 800)
    assert choose_canvas((800, 801), choices) == (800, 1088)
    assert choose_canvas((800, 800), choices) == (800, 800)
    assert choose_canvas((300, 1333), choices) == (800, 1344)
    with pytest.raises(
        ValueError, match=r"no canvas is large enough for an image resized to \(801, 801\).*needs \(832, 832\)"
    ):
        choose_canvas((801, 801), choices)


def test_the_largest_is_the_landscape_one():
    assert largest_canvas(canvases(800, 1333)) == (800, 1344)
    assert largest_canvas([(800, 1344), (1344, 800), (96, 96)]) == (800, 1344)


def test_height_comes_first_in_text():
    assert parse_canvas("800x1344") == (800, 1344) and parse_canvas("64X32") == (64, 32)
    for text in ("800", "800x", "0x32", "32x-32", "32x32x32"):
        with pytest.raises(ValueError, match="is not a canvas: expected HEIGHTxWIDTH"):
            parse_canvas(text)
    with pytest.raises(ValueError, match=r"the canvas is 64x33; .* multiples of 32"):
        parse_canvas("64x33")


@settings(max_examples=300, deadline=None)
@given(st.integers(1, 3000), st.integers(1, 3000), st.integers(32, 900), st.integers(32, 1400))
def test_every_image_fits_the_smallest_canvas_that_holds_it(height, width, min_size, max_size):
    choices = canvases(min_size, max_size)
    assert all(side % 32 == 0 for canvas in choices for side in canvas)
    assert all((w, h) in choices for h, w in choices)
    size = resized_size(height, width, min_size, max_size)
    chosen = choose_canvas(size, choices)
    needed = (align(size[0]), align(size[1]))
    assert covers(chosen, size) and covers(chosen, needed)
    assert not any(covers(c, needed) and c[0] * c[1] < chosen[0] * chosen[1] for c in choices)
