"""A run small enough to be killed and resumed in seconds; DATA is a folder that `jaxdet shapes` wrote."""

import os
from pathlib import Path

from jaxdet.data import Augmentation, CocoFiles
from jaxdet.heads import AnchorGenerator
from jaxdet.models import detector_config
from jaxdet.runs import TrainConfig
from jaxdet.training import OptimizerConfig

DATA = Path(os.environ["DATA"])


def config() -> TrainConfig:
    model = detector_config(
        "fasterrcnn_mobilenet_v1_fpn",
        min_size=64,
        max_size=64,
        backbone_width=0.25,
        fpn_out_channels=16,
        rpn_anchor_generator=AnchorGenerator(((24, 48),) * 4, (1.0,)),
        rpn_pre_nms_top_n_train=40,
        rpn_post_nms_top_n_train=20,
        rpn_pre_nms_top_n_test=40,
        rpn_post_nms_top_n_test=20,
        rpn_batch_size_per_image=16,
        box_representation_size=16,
        box_batch_size_per_image=8,
    )
    return TrainConfig(
        model=model,
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
