"""Labels go where they cover neither small boxes nor each other."""

import numpy as np

from jaxdet.label_layout import place_labels
from jaxdet.visualize import draw_detections

SIZE = (400, 300)
LARGE, SMALL = (80, 16), (40, 10)


def _places(boxes, extents=None, size=SIZE):
    extents = [[LARGE, SMALL]] * len(boxes) if extents is None else extents
    places = place_labels(np.array(boxes, float), extents, size)
    rects = np.array(
        [(p.x, p.y, p.x + e[p.choice][0], p.y + e[p.choice][1]) for p, e in zip(places, extents, strict=True) if p]
    ).reshape(-1, 4)
    assert (rects[:, :2] >= 0).all() and (rects[:, 2:] <= size).all()
    return places, rects


def _shared(first, second):
    low, high = np.maximum(first[:2], second[:2]), np.minimum(first[2:], second[2:])
    return np.clip(high - low, 0, None).prod()


def test_a_label_sits_on_its_box_and_within_the_image():
    for box, expected in (
        ((100, 100, 300, 200), (100, 84)),  # above
        ((100, 5, 300, 200), (100, 0)),  # little room above
        ((100, 5, 130, 25), (100, 25)),  # the same, of a small box: below
        ((350, 100, 400, 200), (320, 84)),  # above, by its right edge
        ((0, 0, 400, 300), (0, 0)),  # room only inside
    ):
        ((choice, *corner),), _ = _places([box])
        assert (choice, tuple(corner)) == (0, expected)


def test_labels_move_out_of_the_way_of_small_boxes():
    boxes = [(100, 100, 200, 200), (110, 85, 125, 98)]  # the small one lies where the label of the large one would
    _, rects = _places(boxes)
    for rect in rects:
        assert _shared(rect, np.array(boxes[1])) == 0
    assert _shared(rects[0], rects[1]) == 0


def test_labels_keep_off_each_other_and_get_smaller():
    boxes = [(100 + 9 * n, 100, 108 + 9 * n, 140) for n in range(8)]
    places, rects = _places(boxes)
    for number, rect in enumerate(rects):
        for other in rects[number + 1 :]:
            assert _shared(rect, other) <= 0.5 * min((rect[2:] - rect[:2]).prod(), (other[2:] - other[:2]).prod())
    assert places[0].choice == 0 and any(place is None or place.choice == 1 for place in places)


def test_a_label_without_room_is_left_out_and_the_best_has_its_own():
    boxes = [(10 * x, 10 * y, 10 * x + 9, 10 * y + 9) for x in range(12) for y in range(12)]
    places, rects = _places(boxes, [[(60, 14)]] * len(boxes), (120, 120))
    assert None in places
    assert all(_shared(a, b) <= 0.5 * 60 * 14 for n, a in enumerate(rects) for b in rects[n + 1 :])
    assert _places([(5, 5, 15, 15)], [[(60, 14)]], (70, 40))[0] != [None]


def test_drawn_labels_leave_small_objects_visible():
    image = np.full((300, 400, 3), 128, np.uint8)
    boxes = np.array([[100, 100, 200, 200], [110, 85, 125, 98]])
    drawn = draw_detections(image, boxes, np.array([1, 2]), np.array([0.9, 0.8]), ("", "large", "small"))
    assert (drawn[86:97, 111:124] == 128).all()  # within the small box


def test_more_labels_than_room_leave_the_best():
    image = np.full((60, 80, 3), 128, np.uint8)
    corners = np.stack(np.meshgrid(np.arange(0, 80, 8), np.arange(0, 60, 8)), -1).reshape(-1, 2)
    boxes = np.concatenate([corners, corners + 7], 1)
    scores = np.linspace(0.99, 0.5, len(boxes))
    drawn = draw_detections(image, boxes, np.ones(len(boxes), int), scores, ("", "head"))
    assert (drawn == 128).all(-1).mean() > 0.2


def test_labels_of_neighbours_do_not_overlap_where_there_is_room():
    _, (first, second) = _places([(100, 100, 130, 130), (150, 100, 180, 130)])
    assert _shared(first, second) == 0
