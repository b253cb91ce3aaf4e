"""Trains a small Faster R-CNN on images of shapes; a template for your own data.

    jaxdet train config.py --out run

Put the paths of your own COCO files into `train` and `val`; the classes are those of the training set. For images of
normal size remove min_size, max_size and the other options below: the defaults are torchvision's.
"""

from pathlib import Path

from jaxdet.data import CocoFiles
from jaxdet.heads import AnchorGenerator
from jaxdet.models import detector_config
from jaxdet.runs import TrainConfig
from jaxdet.training import OptimizerConfig

HERE = Path(__file__).resolve().parent


def config() -> TrainConfig:
    """Takes about two minutes on two cores."""
    model = detector_config(
        "fasterrcnn_mobilenet_v1_fpn",
        min_size=128,
        max_size=128,
        backbone_width=0.25,
        fpn_out_channels=64,
        # The objects are small for strides of 8 to 64, so every level has anchors of all sizes.
        rpn_anchor_generator=AnchorGenerator(((24, 36, 54, 80),) * 4, (1.0,)),
        rpn_pre_nms_top_n_train=200,
        rpn_post_nms_top_n_train=100,
        rpn_pre_nms_top_n_test=200,
        rpn_post_nms_top_n_test=100,
        box_representation_size=128,
        box_batch_size_per_image=64,
        box_positive_fraction=0.5,
    )
    return TrainConfig(
        model=model,
        train=CocoFiles(str(HERE / "train.json"), str(HERE / "train")),
        val=CocoFiles(str(HERE / "val.json"), str(HERE / "val")),
        steps=300,
        batch_size=16,
        optimizer=OptimizerConfig(
            kind="adamw", learning_rate=3e-3, weight_decay=1e-4, schedule="cosine", warmup_steps=50, clip_norm=5.0
        ),
        eval_batch_size=16,
    )
