"""A run small enough for several processes on two cores; every batch lies on one canvas, half of it upright.

Of each batch of eight the first four images are wide and the last four are high: on two processes with half of the
rows each, one has nothing but wide images and the other nothing but high ones. The validation set fills a batch and
one row of the next.
"""

import os
import time

import numpy as np

from jaxdet.backbones import ClassifierTransform
from jaxdet.data import Augmentation, ClassificationDataset, Examples
from jaxdet.data.formats.class_folder import LabelledImage, LabelledPath
from jaxdet.runs import TrainConfig
from jaxdet.training import OptimizerConfig
from parity.small import SmallConfig
from small_detector import SmallBackbone, small_config


def examples(sizes, seed):
    """Bright boxes on noise."""
    rng = np.random.default_rng(seed)
    entries = []
    for number, (height, width) in enumerate(sizes, start=1):
        image = rng.integers(0, 90, (height, width, 3), np.uint8)
        corners = rng.integers(1, 9, (2, 2))
        boxes = np.concatenate([corners, corners + rng.integers(14, 28, (2, 2))], 1)
        for (x1, y1, x2, y2), colour in zip(boxes.tolist(), (150, 230), strict=True):
            image[y1:y2, x1:x2] = colour
        entries.append({"image": image, "boxes": boxes, "labels": [1, 2], "image_id": number})
    return Examples(Slow(entries), ("grey", "white"))


class Slow(list):
    """Takes its time, so that a run can be disturbed in its middle."""

    def __getitem__(self, index):
        time.sleep(float(os.environ.get("SECONDS_AN_IMAGE", "0")))
        return super().__getitem__(index)


def config() -> TrainConfig:
    return TrainConfig(
        model=small_config(),
        backbone=SmallBackbone,
        train=examples([(36, 60)] * 4 + [(60, 36)] * 4, seed=0),
        val=examples([(40, 60)] * 9, seed=1),
        square=True,
        steps=20,
        batch_size=8,
        optimizer=OptimizerConfig(learning_rate=0.02, warmup_steps=4, clip_norm=5.0),
        augment=Augmentation(flip=0.5, photometric=0.5),
        ema_decay=0.9,
        log_every=1,
        checkpoint_every=5,
        keep=20,
        eval_batch_size=8,
        eval_losses=True,
    )


def classifier() -> SmallConfig:
    return SmallConfig(num_classes=7, transform=ClassifierTransform(resize=36, crop=32))


def labelled() -> ClassificationDataset:
    """Nine images of noise in seven classes: on two processes the second has none of the last batch."""
    return Noise([LabelledPath(f"image {number}", number % 7) for number in range(9)], tuple("abcdefg"))


class Noise(ClassificationDataset):
    """Needs no files."""

    def __getitem__(self, index):
        image = np.random.default_rng(index).integers(0, 256, (40, 50, 3), np.uint8)
        return LabelledImage(image, self.records[index].label, self.records[index].path)
