"""The crowd metrics on cases worked out by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest

from jaxdet.evaluation.crowd.curves import HeadCurve, average_precision, best_f1, log_average_miss_rate
from jaxdet.evaluation.crowd.matching import ScoredImage, box_coverage, box_ious, match_by_overlap, match_by_score
from jaxdet.evaluation.crowd.metrics import evaluate_heads

NONE = np.zeros((0, 4))


def _box(x, y, width=10, height=10):
    return [x, y, x + width, y + height]


def _image(boxes=(), detections=(), scores=(), ignored=()):
    return ScoredImage(*(np.array(part, float) for part in (boxes, detections, scores, ignored)))


def test_overlaps():
    one, two = np.array([_box(0, 0), [3, 3, 3, 9]], float), np.array([_box(5, 0), _box(20, 0)], float)
    np.testing.assert_allclose(box_ious(one, two), [[1 / 3, 0], [0, 0]], rtol=1e-15)
    np.testing.assert_allclose(box_coverage(one, two), [[0.5, 0], [0, 0]], rtol=1e-15)
    assert box_ious(NONE, two).shape == (0, 2) and box_coverage(one, NONE).shape == (2, 0)


def test_average_precision_by_hand():
    """Scores .9 hit, .8 false, .7 hit, .6 false; four heads: 1/4 * 1 + 1/4 * 2/3."""
    heads = [_box(20 * i, 0) for i in range(4)]
    found = _image(heads, [heads[0], _box(0, 50), heads[1], _box(50, 50)], [0.9, 0.8, 0.7, 0.6])
    result = evaluate_heads([found])
    assert result.ap == pytest.approx(1 / 4 + 1 / 4 * 2 / 3, rel=1e-15)
    np.testing.assert_allclose(result.curve.precision, [1, 1 / 2, 2 / 3, 1 / 2])
    np.testing.assert_allclose(result.curve.recall, [1 / 4, 1 / 4, 1 / 2, 1 / 2])
    # F1 is 2 * hits / (hits + false + heads): 2/5, 2/6, 4/7, 4/8.
    assert (result.f1, result.f1_threshold) == (pytest.approx(4 / 7), 0.7)
    assert result.recall == 0.5 and (result.images, result.heads, result.detections) == (1, 4, 4)


def test_an_overlap_of_exactly_the_threshold_is_enough():
    assert match_by_score(_image([_box(0, 0)], [_box(0, 0, 10, 5)], [0.5]), 0.5).hits.tolist() == [True]
    assert match_by_score(_image([_box(0, 0)], [_box(0, 0, 10, 4.999)], [0.5]), 0.5).hits.tolist() == [False]
    half_in = _image([], [_box(0, 0), _box(0, 20)], [0.5, 0.4], [_box(0, 0, 5), _box(0, 20, 4.999)])
    assert match_by_score(half_in, 0.5).absorbed.tolist() == [True, False]


def test_a_head_is_found_once_and_by_the_higher_score():
    matches = match_by_score(_image([_box(0, 0)], [_box(0, 0), _box(1, 0)], [0.6, 0.7]), 0.5)
    np.testing.assert_allclose(matches.scores, [0.7, 0.6])
    assert matches.hits.tolist() == [True, False] and matches.false.tolist() == [False, True]


def test_a_detection_takes_the_nearest_head_that_is_free():
    # The better one takes the right head, on which both lie; the other has to be content with the left.
    heads, found = [_box(0, 0), _box(4, 0)], [_box(3, 0), _box(3, 0)]
    matches = match_by_score(_image(heads, found, [0.9, 0.8]), 0.5)
    np.testing.assert_allclose(matches.overlaps, [9 / 11, 7 / 13])
    assert match_by_score(_image(heads, found, [0.9, 0.8]), 0.6).hits.tolist() == [True, False]


class TestIgnoredRegions:
    region = _box(100, 0, 100, 100)

    def test_what_lies_there_counts_neither_way_however_many(self):
        inside = [_box(100 + 11 * i, 40) for i in range(9)]
        with_region = evaluate_heads([_image([_box(0, 0)], [*inside, _box(0, 0)], [0.9] * 9 + [0.4], [self.region])])
        assert with_region.ap == 1.0 and with_region.moda == with_region.moda_image == 1.0 and with_region.ignored == 1
        assert len(with_region.curve.scores) == 1 and with_region.lamr == pytest.approx(1e-10)
        without = evaluate_heads([_image([_box(0, 0)], [*inside, _box(0, 0)], [0.9] * 9 + [0.4])])
        assert without.ap == pytest.approx(1 / 10) and without.moda == without.moda_image == -8.0

    def test_a_region_is_as_large_as_it_likes(self):
        """By intersection over union the box would not match; by the part of it that lies inside it does."""
        matches = match_by_score(_image([], [_box(96, 0), _box(94, 0)], [0.9, 0.8], [self.region]), 0.5)
        assert matches.absorbed.tolist() == [True, False]

    def test_heads_come_first(self):
        """A head within a region is found, whatever its region covers; a second detection of it is absorbed."""
        head = _box(120, 20)
        matches = match_by_score(_image([head], [_box(122, 20), head], [0.9, 0.8], [self.region]), 0.5)
        assert matches.hits.tolist() == [True, False] and matches.absorbed.tolist() == [False, True]
        assert evaluate_heads([_image([head], [], [], [self.region])]).lamr == 1.0  # and it can be missed

    def test_ignored_heads_are_no_misses(self):
        result = evaluate_heads([_image([_box(0, 0)], [_box(0, 0)], [0.9], [_box(40, 0), _box(60, 0)])])
        assert (result.heads, result.ap, result.recall, result.moda) == (1, 1.0, 1.0, 1.0)

    def test_two_regions_do_not_add_up(self):
        halves = [_box(0, 0, 4), _box(4, 0, 4)]
        assert match_by_score(_image([], [_box(0, 0)], [0.9], halves), 0.5).absorbed.tolist() == [False]


class TestTies:
    def test_one_score_is_one_point(self):
        """A hit and a false alarm of the same score: precision 1/2, whichever image comes first."""
        hit = _image([_box(0, 0)], [_box(0, 0)], [0.5])
        false = _image([_box(0, 0)], [_box(50, 0)], [0.5])
        for images in ([hit, false], [false, hit]):
            result = evaluate_heads(images)
            assert result.curve.scores.tolist() == [0.5] and result.ap == 0.5 * 0.5

    def test_the_nearer_of_two_equals_takes_the_head(self):
        for order in ([0, 1], [1, 0]):
            found = np.array([_box(4, 0), _box(1, 0)], float)[order]
            matches = match_by_score(_image([_box(0, 0)], found, [0.5, 0.5]), 0.3)
            np.testing.assert_allclose(matches.overlaps, [9 / 11, 0])

    def test_no_order_of_anything_changes_anything(self):
        generator = np.random.default_rng(3)
        images = [_random_image(generator, scores=4) for _ in range(12)]
        expected = evaluate_heads(images).metrics()
        for _ in range(4):
            shuffled = [_shuffled(images[index], generator) for index in generator.permutation(len(images))]
            found = evaluate_heads(shuffled).metrics()
            assert found == pytest.approx(expected, rel=1e-12)


class TestNothingThere:
    def test_a_image_without_heads_counts_its_false_alarms(self):
        found, empty = _image([_box(0, 0)], [_box(0, 0)], [0.8]), _image([], [_box(0, 0)], [0.9])
        result = evaluate_heads([found, empty])
        assert result.images == 2 and result.ap == pytest.approx(1 / 2)
        np.testing.assert_allclose(result.curve.fppi, [0.5, 0.5])
        assert result.moda == 0.0  # one false alarm for one head
        assert result.moda_image == 1.0  # the original's mean knows only images with heads

    def test_a_image_without_detections_is_all_missed(self):
        found, missed = _image([_box(0, 0)], [_box(0, 0)], [0.8]), _image([_box(0, 0), _box(20, 0)])
        result = evaluate_heads([found, missed])
        assert result.ap == result.recall == result.recall_300 == pytest.approx(1 / 3)
        assert result.moda == pytest.approx(1 / 3) and result.moda_image == pytest.approx(1 / 2)
        assert result.modp == result.modp_image == 1.0

    def test_everything_missed(self):
        metrics = evaluate_heads([_image([_box(0, 0)], [_box(50, 0)], [0.9]), _image([_box(0, 0)])]).metrics()
        assert {name: metrics[name] for name in ("AP", "LAMR", "F1", "recall", "recall_300")} == {
            "AP": 0.0, "LAMR": 1.0, "F1": 0.0, "recall": 0.0, "recall_300": 0.0,
        }  # fmt: skip
        assert metrics["MODA"] == 1 - 3 / 2 and metrics["MODA_image"] == pytest.approx(1 - (2 + 1) / 2)
        assert "MODP" not in metrics and "MODP_image" not in metrics

    def test_no_detection_at_all(self):
        metrics = evaluate_heads([_image([_box(0, 0)])]).metrics()
        assert metrics == {
            "AP": 0.0, "LAMR": 1.0, "F1": 0.0, "recall": 0.0, "recall_300": 0.0, "MODA": 0.0, "MODA_image": 0.0,
        }  # fmt: skip

    @pytest.mark.parametrize("images", [[], [_image()], [_image([], [_box(0, 0)], [0.5])]])
    def test_no_head_at_all_is_minus_one(self, images):
        assert evaluate_heads(images).metrics() == {"AP": -1.0}


class TestMissRate:
    @staticmethod
    def _curve(hits, false, heads, images):
        return HeadCurve(np.linspace(0.9, 0.1, len(hits)), np.array(hits), np.array(false), heads, images)

    def test_a_point_takes_the_lowest_threshold_within_it(self):
        """Miss rates .5 at 0, .4 at .02, .2 at .5 false positives per image, of which the points are 10^-2, 10^-1.75...

        0.01 and 0.0178 have .5; 0.0316, 0.0562, 0.1, 0.178, 0.316 have .4; 0.562 and beyond the end 1 have .2.
        """
        curve = self._curve([5, 6, 8], [0, 2, 50], 10, 100)
        expected = math.exp((2 * math.log(0.5) + 5 * math.log(0.4) + 2 * math.log(0.2)) / 9)
        assert log_average_miss_rate(curve) == pytest.approx(expected, rel=1e-14)

    def test_a_point_includes_its_own_number_of_false_positives(self):
        """0.01 per image exactly, which is the first point; there, and at all later ones, half is missed."""
        assert log_average_miss_rate(self._curve([5], [1], 10, 100)) == pytest.approx(0.5)

    def test_beyond_the_end_the_last_miss_rate_stays(self):
        """The original's falls to 0 there, and with it the mean."""
        curve = self._curve([7], [0], 10, 100)
        assert log_average_miss_rate(curve) == log_average_miss_rate(curve, interpolation="linear")
        assert log_average_miss_rate(curve) == pytest.approx(0.3)

    def test_before_the_beginning_everything_is_missed(self):
        """The highest threshold has 0.2 false positives per image already: six points below it."""
        curve = self._curve([5], [20], 10, 100)
        assert log_average_miss_rate(curve) == pytest.approx(math.exp(3 * math.log(0.5) / 9))
        assert log_average_miss_rate(curve, interpolation="linear") == log_average_miss_rate(curve)

    def test_lines_between_points(self):
        curve = self._curve([0, 10], [0, 100], 10, 100)  # from 1 at 0 to 0 at 1
        points = np.append(1 - np.logspace(-2, -0.25, 8), 1e-10)
        expected = math.exp(np.log(points).mean())
        assert log_average_miss_rate(curve, interpolation="linear") == pytest.approx(expected)


def test_f1_of_equal_peaks_takes_the_higher_threshold():
    curve = HeadCurve(np.array([0.9, 0.8]), np.array([1, 2]), np.array([0, 2]), 2, 1)
    assert best_f1(curve) == (pytest.approx(2 / 3), 0.9)
    assert average_precision(curve) == pytest.approx(1 / 2 + 1 / 2 * 2 / 4)


class TestClear:
    def test_pooled_and_mean_of_images_differ(self):
        """First image: 1 head, found at overlap 1/2, 1 false. Second: 3 heads, found 2 at overlap 1."""
        three = [_box(20 * i, 0) for i in range(3)]
        first = _image([_box(0, 0)], [_box(0, 0, 10, 5), _box(50, 0)], [0.9, 0.8])
        second = _image(three, three[:2], [0.7, 0.6])
        result = evaluate_heads([first, second])
        assert result.moda == pytest.approx(1 - (1 + 1) / 4) and result.modp == pytest.approx((1 / 2 + 2) / 3)
        assert result.moda_image == pytest.approx((0 + 2 / 3) / 2) and result.modp_image == pytest.approx(3 / 4)

    def test_the_threshold_of_overlap_is_a_fifth(self):
        # 10 x 2 of 10 x 10: just enough.
        assert evaluate_heads([_image([_box(0, 0)], [_box(0, 0, 10, 2)], [0.9])]).moda == 1.0
        assert evaluate_heads([_image([_box(0, 0)], [_box(0, 0, 10, 1.9)], [0.9])]).moda == -1.0

    def test_the_operating_point_is_a_score(self):
        found = _image([_box(0, 0)], [_box(0, 0), _box(50, 0)], [0.3, 0.29])
        assert evaluate_heads([found]).moda == 1.0
        assert evaluate_heads([found], score_threshold=0.2).moda == 0.0
        assert evaluate_heads([found], score_threshold=0.31).moda == 0.0  # missed

    def test_neither_way_of_averaging_sees_what_lies_below_the_score(self):
        """First image: found at overlap 1/2, a false alarm too low to count. Second: found too low to count."""
        first = _image([_box(0, 0)], [_box(0, 0, 10, 5), _box(50, 0)], [0.9, 0.2])
        second = _image([_box(0, 0)], [_box(0, 0)], [0.2])
        result = evaluate_heads([first, second])
        assert (result.moda, result.moda_image) == (1 / 2, 1 / 2)
        assert (result.modp, result.modp_image) == (1 / 2, 1 / 2)
        assert result.detections == 3 and result.recall == 1.0  # of which all are told

    def test_pooled_measures_take_the_best_mapping_and_those_by_image_go_by_score(self):
        """The first detection reaches both heads, the second one of them, which the first takes if it may choose."""
        heads, found = [_box(0, 0), _box(8, 0)], [_box(5, 0), _box(9, 0)]
        result = evaluate_heads([_image(heads, found, [0.9, 0.8])])
        assert (result.moda, result.moda_image) == (1.0, 0.0)
        assert result.modp == pytest.approx((5 / 15 + 9 / 11) / 2) and result.modp_image == pytest.approx(7 / 13)

    def test_both_ways_match_from_a_fifth_of_overlap_on(self):
        result = evaluate_heads([_image([_box(0, 0)], [_box(0, 0, 10, 3)], [0.9])])
        assert result.moda == result.moda_image == 1.0 and result.recall == 0.0

    def test_the_mapping_is_the_best_one_whatever_the_scores(self):
        """By score, the first takes the head that the second needs."""
        heads, found = [_box(0, 0), _box(6, 0)], [_box(3.5, 0), _box(6, 0)]
        image = _image([heads[1], [0, 0, 5.1, 10]], [found[0], found[1]], [0.9, 0.8])
        assert match_by_score(image, 0.1).hits.tolist() == [True, False]
        best = match_by_overlap(image, 0.1)
        assert best.hits.tolist() == [True, True] and best.missed == 0
        np.testing.assert_allclose(best.overlaps, [1.6 / 13.5, 1])


def test_recall_at_300_leaves_out_what_comes_later():
    head = _box(0, 0)
    alarms = [_box(20 + 11 * i, 0) for i in range(300)]
    result = evaluate_heads([_image([head], [*alarms, head], [0.9] * 300 + [0.5])])
    assert (result.recall, result.recall_300) == (1.0, 0.0)
    result = evaluate_heads([_image([head], [*alarms[1:], head], [0.9] * 299 + [0.5])])
    assert (result.recall, result.recall_300) == (1.0, 1.0)


def test_of_the_300_best_an_overlap_of_half_is_asked_as_well():
    head = _box(0, 0)
    alarms = [_box(20 + 11 * i, 0) for i in range(300)]
    result = evaluate_heads([_image([head], [_box(0, 0, 10, 4), *alarms], [0.9] * 301)])
    assert (result.recall, result.recall_300) == (0.0, 0.0)


def test_the_best_of_equal_scores_do_not_depend_on_their_order():
    found = np.array([_box(40, 0), _box(20, 0), _box(0, 0)], float)
    for way in ([0, 1, 2], [2, 1, 0], [1, 2, 0]):
        best = _image([], found[way], [0.5, 0.5, 0.5]).best(2)
        np.testing.assert_array_equal(best.detections, found[[2, 1]])


def test_absorption_follows_its_detection():
    """By score the second detection comes first; the region covers the other."""
    matches = match_by_score(_image([], [_box(0, 0), _box(50, 0)], [0.5, 0.9], [_box(0, 0)]), 0.5)
    assert matches.scores.tolist() == [0.9, 0.5] and matches.absorbed.tolist() == [False, True]


def test_mistakes_are_refused():
    with pytest.raises(ValueError, match=r"expected scores of shape \[1\], got \[2\]"):
        _image([], [_box(0, 0)], [0.5, 0.4])
    with pytest.raises(ValueError, match="boxes: a number is not finite"):
        _image([[0, 0, np.nan, 1]])
    with pytest.raises(ValueError, match="clear_threshold must be above 0"):
        evaluate_heads([], clear_threshold=0)


def _shuffled(image, generator):
    way = generator.permutation(len(image.scores))
    boxes, ignored = generator.permutation(image.boxes), generator.permutation(image.ignored)
    return ScoredImage(boxes, image.detections[way], image.scores[way], ignored)


def _random_image(generator, *, scores=None):
    """Heads close together, found with jitter, some twice or not at all, beside false alarms and regions."""
    heads = generator.uniform(0, 80, (generator.integers(0, 9), 2))
    heads = np.concatenate([heads, heads + generator.uniform(8, 16, heads.shape)], 1)
    found = np.repeat(heads, generator.integers(0, 3, len(heads)), axis=0)
    found = found + generator.normal(0, 2, found.shape)
    alarms = generator.uniform(0, 90, (generator.integers(0, 5), 2))
    found = np.concatenate([found, np.concatenate([alarms, alarms + 10], 1)])
    found[:, 2:] = np.maximum(found[:, 2:], found[:, :2] + 1)
    values = generator.uniform(0.05, 1, len(found))
    values = values if scores is None else np.ceil(values * scores) / scores
    regions = generator.uniform(0, 70, (generator.integers(0, 3), 2))
    return ScoredImage(heads, found, values, np.concatenate([regions, regions + 25], 1))
