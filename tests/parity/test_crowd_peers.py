"""Head metrics against independent implementations: brambox, which HeadHunter used, and pycocotools; each on crowds."""

from __future__ import annotations

import contextlib
import io
import itertools

import numpy as np
import pytest
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from jaxdet.evaluation import ScoredImage, evaluate_heads
from jaxdet.evaluation.crowd.curves import log_average_miss_rate
from jaxdet.evaluation.crowd.matching import box_coverage, box_ious, match_by_overlap

# brambox 5.0 speaks to pandas as it was before version 3, and pandas 2 says so.
pytestmark = pytest.mark.filterwarnings("ignore:.*_data is deprecated", "ignore:ChainedAssignmentError")


def _crowd(seed, *, pictures=60, tied=False):
    """Dense heads, found with jitter, some twice, beside false alarms and ignored regions and heads.

    Every tenth image is without heads, another tenth without detections. Scores are distinct, unless ``tied``: in
    what order equals of an image are matched is every implementation's own.
    """
    generator = np.random.default_rng(seed)
    made = []
    for number in range(pictures):
        corners = generator.uniform(0, 150, (0 if number % 10 == 3 else generator.integers(5, 40), 2))
        heads = np.concatenate([corners, corners + generator.uniform(8, 16, corners.shape)], 1)
        found = heads[generator.random(len(heads)) < 0.85]
        found = np.concatenate([found, found[generator.random(len(found)) < 0.05]])
        found = found + generator.normal(0, 1.2, found.shape)
        alarms = generator.uniform(0, 150, (generator.integers(0, 5), 2))
        detections = np.concatenate([found, np.concatenate([alarms, alarms + generator.uniform(8, 16, (1, 2))], 1)])
        scores = np.concatenate([generator.beta(5, 2, len(found)), generator.beta(2, 4, len(alarms))])
        if number % 10 == 5:
            detections, scores = detections[:0], scores[:0]
        regions = generator.uniform(0, 120, (generator.integers(0, 3), 2))
        regions = np.concatenate([regions, regions + generator.uniform(15, 50, regions.shape)], 1)
        hidden = generator.random(len(heads)) < 0.15  # ignored heads among the regions
        ignored = np.concatenate([regions, heads[hidden]])
        made.append(ScoredImage(heads[~hidden], detections, np.round(scores, 1) if tied else scores, ignored))
    return made


def _frames(pictures):
    """The images as brambox's tables of detections and annotations."""
    pandas = pytest.importorskip("pandas", reason="brambox's tables need pandas: pip install jaxdet[test]")
    columns = ["image", "class_label", "id", "x_top_left", "y_top_left", "width", "height"]
    found, truth = [], []
    for number, one in enumerate(pictures):
        for box, score in zip(one.detections, one.scores, strict=True):
            found.append((str(number), "head", 0, *box[:2], *(box[2:] - box[:2]), score))
        for boxes, ignore in ((one.boxes, False), (one.ignored, True)):
            truth += [(str(number), "head", 0, *box[:2], *(box[2:] - box[:2]), ignore) for box in boxes]
    tables = (
        pandas.DataFrame(found, columns=[*columns, "confidence"]),
        pandas.DataFrame(truth, columns=[*columns, "ignore"]),
    )
    for table in tables:
        table["image"] = pandas.Categorical(table["image"], categories=[str(i) for i in range(len(pictures))])
    return tables


@pytest.mark.parametrize("seed", range(4))
def test_brambox_gives_the_same_curves_ap_f1_and_miss_rates(seed):
    stat = pytest.importorskip("brambox", reason="pip install jaxdet[test]").stat
    pictures = _crowd(seed)
    found, truth = _frames(pictures)
    curve, rates = stat.pr(found, truth, ignore=True), stat.mr_fppi(found, truth, ignore=True)
    ours = evaluate_heads(pictures)
    np.testing.assert_array_equal(ours.curve.scores, curve["confidence"])
    np.testing.assert_allclose(ours.curve.precision, curve["precision"], rtol=1e-14)
    np.testing.assert_allclose(ours.curve.recall, curve["recall"], rtol=1e-14)
    np.testing.assert_allclose(ours.curve.miss_rate, rates["miss_rate"], rtol=1e-13)
    np.testing.assert_allclose(ours.curve.fppi, rates["false_positives_per_image"], rtol=1e-14)
    assert ours.ap == pytest.approx(stat.ap(curve), rel=1e-13) and 0.5 < ours.ap < 0.95
    peak = stat.peak(stat.fscore(curve).fillna(0))
    assert (ours.f1, ours.f1_threshold) == (pytest.approx(peak["f1"], rel=1e-13), peak["confidence"])
    assert ours.recall == pytest.approx(curve["recall"].iloc[-1], rel=1e-14)
    assert ours.curve.fppi[-1] > 1  # all nine points lie on the curve, where brambox's LAMR is right
    assert log_average_miss_rate(ours.curve, interpolation="linear") == pytest.approx(stat.lamr(rates), rel=1e-12)
    # The step of Caltech's benchmark, read off brambox's curve point by point.
    steps = []
    for point in 10.0 ** np.arange(-2, 0.01, 0.25):
        reached = [row.miss_rate for row in rates.itertuples() if row.false_positives_per_image <= point]
        steps.append(reached[-1] if reached else 1.0)
    assert ours.lamr == pytest.approx(np.prod(steps) ** (1 / 9), rel=1e-12)


def test_brambox_counts_ties_as_one_point_too():
    stat = pytest.importorskip("brambox", reason="pip install jaxdet[test]").stat
    pictures = [ScoredImage(one.boxes, one.boxes + 1, one.boxes[:, 0].round(-1), one.ignored) for one in _crowd(9)]
    found, truth = _frames(pictures)
    curve = stat.pr(found, truth, ignore=True)
    ours = evaluate_heads(pictures)
    assert len(ours.curve.scores) == len(curve) < 20
    assert ours.ap == pytest.approx(stat.ap(curve), rel=1e-3)  # within an image the order of equals is brambox's own


@pytest.mark.parametrize("seed", range(4))
def test_pycocotools_matches_the_same_and_counts_crowds_as_ignored_regions(seed):
    """Its AP at 0.5 is another sum over the same curve: the best precision at 101 recalls or beyond each."""
    pictures = _crowd(seed)
    with contextlib.redirect_stdout(io.StringIO()):
        evaluation = COCOeval(_coco(pictures, "boxes"), _coco(pictures, "detections"), "bbox")
        evaluation.params.iouThrs, evaluation.params.maxDets = np.array([0.5]), [1000]
        evaluation.params.areaRng, evaluation.params.areaRngLbl = [[0, 1e10]], ["all"]
        evaluation.evaluate()
        evaluation.accumulate()
    theirs = evaluation.eval["precision"][0, :, 0, 0, 0]
    curve = evaluate_heads(pictures).curve
    best = np.append(np.maximum.accumulate(curve.precision[::-1])[::-1], 0.0)
    ours = best[np.searchsorted(curve.recall, evaluation.params.recThrs, side="left")]
    np.testing.assert_allclose(ours, theirs, atol=1e-12)
    assert evaluate_heads(pictures).recall == pytest.approx(evaluation.eval["recall"].item(), rel=1e-12)


def _coco(pictures, part):
    entries = []
    for number, one in enumerate(pictures):
        rows = [(box, 0, score) for box, score in zip(one.detections, one.scores, strict=True)]
        if part == "boxes":
            rows = [(box, 0, 1.0) for box in one.boxes] + [(box, 1, 1.0) for box in one.ignored]
        for box, crowd, score in rows:
            width, height = box[2:] - box[:2]
            entry = {"image_id": number, "category_id": 1, "bbox": [*box[:2], width, height], "iscrowd": crowd}
            entries.append({**entry, "id": len(entries) + 1, "area": width * height, "score": score})
    coco = COCO()
    images = [{"id": number} for number in range(len(pictures))]
    coco.dataset = {"images": images, "categories": [{"id": 1, "name": "head"}], "annotations": entries}
    coco.createIndex()
    return coco


@pytest.mark.parametrize("tied", [False, True])
def test_every_count_of_the_curve_comes_from_matching_above_its_score_alone(tied):
    """By loops over boxes, one threshold at a time, as the benchmark's own code goes about it."""
    pictures = _crowd(11, pictures=8, tied=tied)
    curve = evaluate_heads(pictures).curve
    for score, hits, false in zip(curve.scores, curve.hits, curve.false, strict=True):
        counts = np.sum([_count_by_loops(one.above(score)) for one in pictures], axis=0)
        assert counts.tolist() == [hits, false], score


def _count_by_loops(image):
    """[hits, false] of one image."""
    ious, inside = box_ious(image.detections, image.boxes), box_coverage(image.detections, image.ignored)
    order = sorted(range(len(image.scores)), key=lambda i: (-image.scores[i], -max(ious[i], default=0)))
    taken: set[int] = set()
    counts = [0, 0]
    for i in order:
        free = [j for j in range(len(image.boxes)) if j not in taken and ious[i, j] >= 0.5]
        if free:
            taken.add(max(free, key=lambda j: ious[i, j]))
            counts[0] += 1
        elif not any(part >= 0.5 for part in inside[i]):
            counts[1] += 1
    return counts


def test_the_clear_mapping_is_the_best_of_all_mappings():
    generator = np.random.default_rng(5)
    for _ in range(60):
        heads, found = (generator.uniform(0, 12, (n, 2)) for n in generator.integers(1, 5, 2))
        heads, found = np.concatenate([heads, heads + 10], 1), np.concatenate([found, found + 10], 1)
        ious = box_ious(found, heads)
        ious = np.where(ious >= 0.2, ious, 0)
        small = ious if len(found) <= len(heads) else ious.T
        best = max(
            sum(small[i, j] for i, j in enumerate(chosen))
            for chosen in itertools.permutations(range(small.shape[1]), small.shape[0])
        )
        matches = match_by_overlap(ScoredImage(heads, found, np.ones(len(found))), 0.2)
        assert matches.overlaps.sum() == pytest.approx(best) and matches.hits.sum() + matches.missed == len(heads)
