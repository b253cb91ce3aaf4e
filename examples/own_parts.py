"""Trains a detector with a custom backbone and a custom data source, both defined in this file.

jaxdet train examples/own_parts.py --out runs/own
jaxdet evaluate runs/own/model --config examples/own_parts.py
jaxdet detect image.jpg --weights runs/own/model --config examples/own_parts.py
"""

from dataclasses import dataclass

import numpy as np
from flax import nnx

from jaxdet.data import DetectionDataset, Examples
from jaxdet.heads import AnchorGenerator, BoxConfig, RPNConfig
from jaxdet.models import DetectorTransform, FasterRCNNConfig, FPNConfig
from jaxdet.nn import ConvNormAct, NormConfig, Numerics, strided
from jaxdet.runs import TrainConfig
from jaxdet.training import OptimizerConfig


class Small(nnx.Module):
    """Four convolutions; docs/add_a_backbone.md describes the interface."""

    channels = {"c3": 48, "c4": 96}
    strides = {"c3": 8, "c4": 16}
    masks_padding = True

    def __init__(self, *, numerics: Numerics, rngs: nnx.Rngs):
        def conv(inputs, outputs):
            return ConvNormAct(inputs, outputs, 3, stride=2, norm=NormConfig(), numerics=numerics, rngs=rngs)

        self.stem = nnx.List([conv(3, 16), conv(16, 32), conv(32, 48)])
        self.last = conv(48, 96)

    def features(self, x, extents=None, *, train=False):
        for layer in self.stem:
            x = layer(x, extents, train=train)
            extents = strided(extents, 2)
        return {"c3": x, "c4": self.last(x, extents, train=train)}


class Discs:
    """Images that are drawn when they are read. A dataset needs `__len__`, `__getitem__` and `__repr__`."""

    def __init__(self, count, seed):
        self.count, self.seed = count, seed

    def __len__(self):
        return self.count

    def __getitem__(self, index):
        generator = np.random.default_rng((self.seed, index))
        image = generator.integers(0, 90, (96, 96, 3)).astype(np.uint8)
        y, x = np.mgrid[:96, :96]
        boxes = []
        for left in (4, 50)[: generator.integers(0, 3)]:  # zero to two discs
            radius, middle = int(generator.integers(10, 20)), int(generator.integers(24, 72))
            image[(x - left - 20) ** 2 + (y - middle) ** 2 <= radius**2] = generator.integers(150, 256, 3)
            boxes.append((left + 20 - radius, middle - radius, left + 21 + radius, middle + radius + 1))
        return {"image": image, "boxes": np.array(boxes, np.float32).reshape(-1, 4), "labels": np.ones(len(boxes), int)}

    def __repr__(self):
        return f"Discs({self.count}, {self.seed})"


@dataclass(frozen=True)
class DiscSource:
    """A data source: an object whose `open` returns a dataset."""

    count: int
    seed: int

    def open(self, *, skip_faulty: bool = False) -> DetectionDataset:
        return Examples(Discs(self.count, self.seed), ("disc",)).open(skip_faulty=skip_faulty)


def config() -> TrainConfig:
    """Training takes a minute on two cores."""
    model = FasterRCNNConfig(
        backbone=None,  # built by TrainConfig.backbone below
        fpn=FPNConfig(levels=("c3", "c4"), out_channels=32, pool=False),
        rpn=RPNConfig(AnchorGenerator(((24, 36), (24, 36)), (1.0,)), pre_nms_top_n_train=100, post_nms_top_n_train=50),
        box=BoxConfig(representation_size=64, batch_size_per_image=32, positive_fraction=0.5),
        transform=DetectorTransform(min_size=96, max_size=96),
    )
    return TrainConfig(
        model=model,
        backbone=Small,
        train=DiscSource(128, seed=0),
        val=DiscSource(32, seed=1),
        steps=150,
        batch_size=8,
        optimizer=OptimizerConfig(kind="adamw", learning_rate=3e-3, schedule="cosine", warmup_steps=20, clip_norm=5.0),
    )
