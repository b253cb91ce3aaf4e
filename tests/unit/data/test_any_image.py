"""Images of every size and with any number of boxes reach the model whole, on few canvases, and independently."""

import numpy as np
import pytest

from jaxdet.data import BatchPlan, CocoDataset, eval_plan, load_batches
from jaxdet.data.batching.sizing import ShortestSide

SIZES = [(16, 16), (16, 300), (300, 16), (60, 8000), (700, 40), (33, 97), (100, 150), (150, 100), (480, 640), (65, 64)]
COUNTS = [0, 1, 500, 0, 3, 1, 7, 0, 40, 2]
SIZING = ShortestSide((96,), 160)


@pytest.fixture
def dataset(write_coco):
    generator = np.random.default_rng(0)
    images = {}
    for number, ((height, width), count) in enumerate(zip(SIZES, COUNTS, strict=True)):
        corner = generator.uniform(0, 0.7, (count, 2)) * (width, height)
        side = generator.uniform(0.05, 0.3, (count, 2)) * (width, height)
        boxes = np.concatenate([corner, side], axis=1).tolist()
        images[f"{number}.png"] = (height, width, [{"bbox": box, "category_id": 3} for box in boxes])
    return CocoDataset(*write_coco(images))


def _rows(dataset, plan, steps):
    """{image: its rows' (pixels within its true size, boxes)} and the canvases; pixels and boxes are checked."""
    rows, shapes = {}, set()
    for batch in load_batches(dataset, plan, 0, steps):
        shapes.add(batch.images.pixels.shape)
        assert np.isfinite(batch.images.pixels).all() and np.isfinite(batch.targets.boxes).all()
        for row, index in enumerate(batch.indices.tolist()):
            height, width = batch.images.sizes[row].tolist()
            pixels, valid = batch.images.pixels[row], batch.targets.valid[row]
            assert not pixels[height:].any() and not pixels[:, width:].any()
            boxes = batch.targets.boxes[row][valid]
            assert (boxes[:, :2] < boxes[:, 2:]).all() and (boxes[:, 2:] <= (width + 1e-3, height + 1e-3)).all()
            assert valid.sum() == (COUNTS[index] if index >= 0 else 0)
            rows.setdefault(index, []).append((pixels[:height, :width], boxes))
    return rows, shapes


def test_every_image_comes_whole_and_on_few_canvases(dataset):
    plan = eval_plan(dataset.sizes, 2, SIZING)
    rows, shapes = _rows(dataset, plan, len(plan))
    assert sorted(set(rows) - {-1}) == list(range(len(SIZES)))
    assert shapes <= {(2, *canvas, 3) for canvas in SIZING.canvases} and len(shapes) <= 5
    for index, (height, width) in enumerate(SIZES):
        scale = min(96 / min(height, width), 160 / max(height, width))
        pixels, boxes = rows[index][0]
        assert pixels.shape[:2] == (int(height * scale), int(width * scale)) and pixels.any()
        expected = dataset.records[index].boxes * (np.array(pixels.shape[1::-1] * 2) / (width, height, width, height))
        np.testing.assert_allclose(boxes, expected, rtol=1e-5)


def test_a_image_gives_the_same_numbers_in_any_batch(dataset):
    alone, _ = _rows(dataset, eval_plan(dataset.sizes, 1, SIZING), len(SIZES))
    large = ShortestSide((96,), 160, square=True)
    for plan in (eval_plan(dataset.sizes, 7, large), BatchPlan(dataset.sizes, 3, large, seed=4)):
        together, _ = _rows(dataset, plan, 2 * plan.steps_per_epoch if isinstance(plan, BatchPlan) else len(plan))
        for index in set(together) - {-1}:
            for pixels, boxes in together[index]:
                np.testing.assert_array_equal(pixels, alone[index][0][0])
                np.testing.assert_array_equal(boxes, alone[index][0][1])
