"""Detections over a whole dataset, and their COCO metrics."""

from __future__ import annotations

from collections.abc import Sequence

import jax
import numpy as np
from flax import nnx
from tqdm.auto import tqdm

from jaxdet.data import DetectionDataset, canvases, eval_plan, ground_truth, load_batches, resize_boxes
from jaxdet.detectors import FasterRCNN
from jaxdet.evaluation import CocoEvaluator
from jaxdet.inference import infer_step


def evaluate(
    model: FasterRCNN,
    dataset: DetectionDataset,
    *,
    batch_size: int = 8,
    category_ids: Sequence[int] | None = None,
    progress: bool = True,
) -> tuple[dict[str, float], CocoEvaluator]:
    """COCO's twelve metrics (and ``AP/<class>``) of a model on a dataset, and the evaluator with its detections.

    Args:
        category_ids: the dataset's category id of each label of the model, by default the dataset's own.
    """
    transform = model.config.transform
    low, high = transform.min_size, transform.max_size
    plan = eval_plan(dataset.sizes, batch_size, canvases(low, high), min_size=low, max_size=high)
    ids = dataset.category_ids if category_ids is None else category_ids
    evaluator = CocoEvaluator(ground_truth(dataset), category_ids=ids)
    graphdef, state = nnx.split(model)
    batches = load_batches(dataset, plan, 0, len(plan), mean=transform.image_mean, std=transform.image_std)
    for batch in tqdm(batches, total=len(plan), desc="evaluate", unit="batch", disable=not progress):
        found = jax.device_get(infer_step(graphdef, state, batch.images))
        for row, index in enumerate(batch.indices):
            if index < 0:
                continue
            record = dataset.records[index]
            boxes = resize_boxes(
                np.asarray(found.boxes[row]), np.asarray(batch.images.sizes[row]).tolist(), record.size
            )
            evaluator.add(record.image_id, boxes, found.scores[row], found.labels[row], valid=found.valid[row])
    return evaluator.evaluate(), evaluator
