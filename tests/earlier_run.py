"""The configuration of a run of four steps with a tiny Faster R-CNN on eight images of noise."""

import numpy as np

from jaxdet.data import Examples
from jaxdet.heads import AnchorGenerator
from jaxdet.models import detector_config
from jaxdet.runs import TrainConfig
from jaxdet.training import OptimizerConfig


def detector():
    return detector_config(
        "fasterrcnn_mobilenet_v1_fpn",
        backbone_width=0.0625,
        fpn_out_channels=8,
        min_size=64,
        max_size=96,
        num_classes=3,
        names=("__background__", "cat", "dog"),
        rpn_anchor_generator=AnchorGenerator((16, 24, 32, 48), (1.0,)),
        rpn_pre_nms_top_n_train=30,
        rpn_post_nms_top_n_train=16,
        rpn_pre_nms_top_n_test=30,
        rpn_post_nms_top_n_test=16,
        rpn_batch_size_per_image=16,
        box_batch_size_per_image=8,
        box_representation_size=4,
        box_output_size=3,
        box_score_thresh=0.01,
    )


def examples():
    rng = np.random.default_rng(0)
    return [
        {
            "image": rng.integers(0, 256, (64, 64, 3), np.uint8),
            "boxes": np.array([[4.0, 6.0, 30.0 + number, 40.0]], np.float32),
            "labels": np.array([1 + number % 2]),
        }
        for number in range(8)
    ]


def config():
    return TrainConfig(
        model=detector(),
        train=Examples(examples(), ("cat", "dog")),
        steps=4,
        batch_size=2,
        optimizer=OptimizerConfig(learning_rate=1e-3, schedule="constant", warmup_steps=0),
        checkpoint_every=2,
        keep=1,
    )
