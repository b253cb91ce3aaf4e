"""A run small enough to be killed and resumed in seconds; DATA is a folder that `jaxdet shapes` wrote."""

import os
from pathlib import Path

from jaxdet.data import Augmentation, CocoFiles
from jaxdet.models import DetectorTransform
from jaxdet.runs import TrainConfig
from jaxdet.training import OptimizerConfig
from small_detector import SmallBackbone, small_config

DATA = Path(os.environ["DATA"])


def config() -> TrainConfig:
    return TrainConfig(
        model=small_config(transform=DetectorTransform(64, 64)),
        backbone=SmallBackbone,
        train=CocoFiles(str(DATA / "train.json"), str(DATA / "train")),
        val=CocoFiles(str(DATA / "val.json"), str(DATA / "val")),
        steps=24,
        batch_size=2,
        optimizer=OptimizerConfig(kind="adamw", learning_rate=1e-3, warmup_steps=4, accumulate=2, clip_norm=5.0),
        augment=Augmentation(flip=0.5, photometric=0.5),
        ema_decay=0.9,
        workers=1,
        log_every=1,
        checkpoint_every=5,
        eval_every=10,
        eval_batch_size=2,
    )
