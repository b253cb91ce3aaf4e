"""NMS against the definition, written down plainly in NumPy: every decision must agree."""

from functools import cache, partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdet.ops import batched_nms, greedy_nms, nms, nms_keep

THRESHOLDS = (0.3, 0.5, 0.7, 0.9)
CASES, BOXES = 160, 40


def iou_with(box, boxes):
    """float32, one rounding an operation, as torchvision's C++."""
    sides = np.maximum(np.minimum(box[2:], boxes[:, 2:]) - np.maximum(box[:2], boxes[:, :2]), np.float32(0))
    shared = sides[:, 0] * sides[:, 1]
    areas = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    area = (box[2] - box[0]) * (box[3] - box[1])
    with np.errstate(invalid="ignore"):
        return shared / (area + areas - shared)


def reference(boxes, scores, threshold, classes=None, valid=None):
    """Kept indices by decreasing score."""
    alive = np.ones(len(boxes), bool) if valid is None else valid.copy()
    classes = np.zeros(len(boxes)) if classes is None else classes
    kept = []
    for i in np.argsort(-np.where(alive, scores, -np.inf), kind="stable"):
        if alive[i]:
            kept.append(int(i))
            alive &= ~((iou_with(boxes[i], boxes).astype(np.float64) > threshold) & (classes == classes[i]))
    return kept


def case(rng, kind):
    """Boxes [BOXES, 4] and scores [BOXES] of one adversarial kind."""
    corner, sides = rng.uniform(0, 60, (BOXES, 2)), rng.uniform(1, 50, (BOXES, 2))
    scores = rng.uniform(size=BOXES)
    if kind == "grid":  # few distinct IoUs, many of them equal to a threshold
        corner, sides = rng.integers(0, 6, (BOXES, 2)), rng.integers(1, 11, (BOXES, 2))
    elif kind == "duplicates":
        chosen = rng.integers(0, 5, BOXES)
        corner, sides = corner[chosen], sides[chosen]
    elif kind == "chain":  # each overlaps its neighbours alone: as many turns as boxes
        corner = np.stack([np.arange(BOXES) * 2.0, np.zeros(BOXES)], axis=1)
        sides = np.full((BOXES, 2), 10.0)
        scores = -np.arange(BOXES) + 0.0 if rng.uniform() < 0.5 else scores
    elif kind == "degenerate":  # without area, or inverted
        sides = sides * rng.integers(-1, 2, (BOXES, 2))
    elif kind == "ties":
        scores = scores.round(1)
    return np.concatenate([corner, corner + sides], axis=1).astype(np.float32), scores.astype(np.float32)


@cache
def cases():
    """Every kind, batched: boxes, scores, classes, valid."""
    rng = np.random.default_rng(0)
    kinds = ["random", "grid", "duplicates", "chain", "degenerate", "ties"]
    drawn = [case(rng, kinds[i % len(kinds)]) for i in range(CASES)]
    boxes, scores = (np.stack(arrays) for arrays in zip(*drawn, strict=True))
    return boxes, scores, rng.integers(0, 3, scores.shape).astype(np.int32), rng.uniform(size=scores.shape) < 0.8


def listed(kept):
    return np.asarray(kept.indices)[np.asarray(kept.valid)].tolist()


def rows(kept):
    return [indices[valid].tolist() for indices, valid in zip(*map(np.asarray, kept), strict=True)]


@pytest.mark.parametrize("threshold", THRESHOLDS)
def test_equals_the_definition(threshold):
    boxes, scores, classes, valid = cases()
    kept = rows(jax.jit(jax.vmap(lambda b, s: nms(b, s, threshold)))(boxes, scores))
    assert kept == [reference(b, s, threshold) for b, s in zip(boxes, scores, strict=True)]

    padded = np.where(valid[..., None], boxes, np.nan), np.where(valid, scores, np.nan)
    run = jax.jit(jax.vmap(lambda b, s, c, v: batched_nms(b, s, c, threshold, valid=v)))
    expected = [reference(*row[:2], threshold, *row[2:]) for row in zip(boxes, scores, classes, valid, strict=True)]
    assert rows(run(*padded, classes, valid)) == expected

    run = jax.jit(jax.vmap(lambda b, s, c, v: greedy_nms(b, s, c, threshold, valid=v, max_outputs=12)))
    assert rows(run(*padded, classes, valid)) == [kept[:12] for kept in expected]


@pytest.mark.verify
@pytest.mark.parametrize("threshold", THRESHOLDS)
def test_equals_the_definition_thousands_of_times(threshold):
    rng = np.random.default_rng(1)
    run = jax.jit(jax.vmap(lambda b, s: nms(b, s, threshold)))
    kinds = ["random", "grid", "duplicates", "chain", "degenerate", "ties"]
    for _ in range(25):
        boxes, scores = (np.stack(a) for a in zip(*[case(rng, kinds[i % 6]) for i in range(CASES)], strict=True))
        assert rows(run(boxes, scores)) == [reference(b, s, threshold) for b, s in zip(boxes, scores, strict=True)]


def pairs_at(threshold, count=8000):
    """Pairs of boxes whose IoU is the threshold, give or take two units in the last place: ``[count, 2, 4]``."""
    rng = np.random.default_rng(2)
    corner = rng.uniform(0, 300, (count, 2)).astype(np.float32)
    first = np.concatenate([corner, corner + rng.uniform(5, 200, (count, 2)).astype(np.float32)], axis=1)
    second = first.copy()
    second[:, 2] = first[:, 0] + (first[:, 2] - first[:, 0]) * np.float32(threshold)
    second[:, 2] += np.spacing(second[:, 2]) * rng.integers(-2, 3, count).astype(np.float32)
    return np.stack([first, second], axis=1)


@pytest.mark.parametrize("threshold", THRESHOLDS)
def test_decisions_at_the_threshold(threshold):
    pairs = pairs_at(threshold)
    keep = jax.jit(partial(nms_keep, iou_threshold=threshold))(pairs, valid=jnp.ones(pairs.shape[:2], bool))
    iou = np.concatenate([iou_with(a, b[None]) for a, b in pairs])
    # A test of rounding has to have something to round: both sides of the threshold, within two units.
    close = np.abs(iou.astype(np.float64) - threshold) < 2 * np.spacing(np.float32(threshold))
    assert close.sum() > 300
    np.testing.assert_array_equal(keep[:, 1], ~(iou.astype(np.float64) > threshold))


def test_iou_of_the_rounded_threshold():
    # 3/10 as a float32 lies above 0.3 and suppresses, as in torchvision, which compares in float64.
    boxes, scores = jnp.array([[0, 0, 10, 1], [0, 0, 3, 1]], jnp.float32), jnp.array([1.0, 0.5])
    assert float(np.float32(0.3)) > 0.3
    assert listed(nms(boxes, scores, 0.3)) == [0]
    assert listed(nms(boxes, scores, float(np.float32(0.3)))) == [0, 1]


def test_ties_go_to_the_lower_index():
    boxes = jnp.array([[0, 0, 4, 4], [0, 0, 4, 5], [10, 10, 12, 12]], jnp.float32)
    assert listed(nms(boxes, jnp.array([0.5, 0.5, 0.5]), 0.5)) == [0, 2]
    assert listed(nms(boxes, jnp.array([-0.0, 0.0, 0.0]), 0.5)) == [0, 2]


def test_output_sizes():
    boxes, scores = jnp.array([[0, 0, 4, 4], [8, 8, 9, 9]], jnp.float32), jnp.array([0.1, 0.2])
    kept = nms(boxes, scores, 0.5, max_outputs=4)
    np.testing.assert_array_equal(kept.indices, [1, 0, 0, 0])
    np.testing.assert_array_equal(kept.valid, [True, True, False, False])
    assert listed(nms(boxes, scores, 0.5, max_outputs=1)) == [1]
    for empty in (
        nms(boxes[:0], scores[:0], 0.5, max_outputs=3),
        greedy_nms(boxes[:0], scores[:0], None, 0.5, max_outputs=3),
    ):
        assert empty.indices.shape == (3,) and not empty.valid.any()


def test_one_loop_with_one_predicate_for_a_batch():
    text = jax.jit(jax.vmap(lambda b, s: nms(b, s, 0.5))).lower(*cases()[:2]).as_text()
    assert text.count("stablehlo.while") == 1
    body = text[text.index("stablehlo.while") :].split("stablehlo.return", 2)
    assert "select" not in body[1]  # a batched predicate would choose between old and new keep, row by row


@pytest.mark.parametrize("platform", ["tpu", "cpu"])
def test_each_platform_lowers_its_own_algorithm(platform):
    traced = jax.jit(jax.vmap(lambda b, s: nms(b, s, 0.5))).trace(*cases()[:2])
    text = traced.lower(lowering_platforms=(platform,)).as_text()
    product = f"(tensor<{CASES}x1x{BOXES}xbf16>, tensor<{CASES}x{BOXES}x{BOXES}xbf16>) -> tensor<{CASES}x1x{BOXES}xf32>"
    assert (product in text) == (platform == "tpu")
    assert ("stablehlo.or across dimensions = [1] :" in text) == (platform == "cpu")


def test_the_tpu_algorithm_gives_the_same(monkeypatch):
    boxes, scores, classes, valid = cases()
    expected = jax.vmap(lambda *a: batched_nms(*a[:3], 0.5, valid=a[3]))(boxes, scores, classes, valid)
    monkeypatch.setattr(jax.lax, "platform_dependent", lambda *args, tpu, default: tpu(*args))
    kept = jax.vmap(lambda *a: batched_nms(*a[:3], 0.5, valid=a[3]))(boxes, scores, classes, valid)
    assert rows(kept) == rows(expected)


def test_errors():
    boxes, scores = jnp.zeros((3, 4)), jnp.zeros(3)
    with pytest.raises(ValueError, match=r"\[0, 1\]"):
        nms(boxes, scores, 1.5)
    with pytest.raises(ValueError, match="use vmap"):
        nms(boxes[None], scores[None], 0.5)
    with pytest.raises(ValueError, match="expected boxes"):
        batched_nms(boxes, scores, jnp.zeros(2, jnp.int32), 0.5)
