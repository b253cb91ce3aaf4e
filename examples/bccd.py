"""Detects blood cells (Shenggan/BCCD_Dataset): red cells, white cells and platelets, with a MobileNetV1 from ImageNet.

    export BCCD=path/to/bccd MOBILENET=path/to/mobilenetV1X0.25_pretrain.tar
    jaxdet train examples/bccd.py --out runs/bccd
    jaxdet evaluate runs/bccd/model val $BCCD --voc
    jaxdet detect $BCCD/JPEGImages --weights runs/bccd/model --out runs/bccd/images --limit 20

BCCD is a Pascal VOC folder with Annotations, JPEGImages, and ImageSets/Main/train.txt and val.txt.
"""

import os

from jaxdet.data import VocFolder
from jaxdet.heads import AnchorGenerator
from jaxdet.models import detector_config
from jaxdet.runs import TrainConfig
from jaxdet.training import OptimizerConfig

BCCD = os.environ.get("BCCD", "bccd")
CLASSES = ("RBC", "WBC", "Platelets")


def config() -> TrainConfig:
    """Training takes a quarter of an hour on two cores. Without MOBILENET the backbone starts from random weights."""
    model = detector_config(
        "fasterrcnn_mobilenet_v1_fpn",
        min_size=240,
        max_size=320,
        fpn_out_channels=64,
        # Cells are 15 to 110 pixels wide at this size, small for the strides, so every level has anchors of all sizes.
        rpn_anchor_generator=AnchorGenerator(((16, 32, 52, 84),) * 4, (1.0,)),
        rpn_pre_nms_top_n_train=500,
        rpn_post_nms_top_n_train=300,
        rpn_pre_nms_top_n_test=500,
        rpn_post_nms_top_n_test=300,
        box_representation_size=256,
        box_batch_size_per_image=128,
        box_positive_fraction=0.5,
    )
    return TrainConfig(
        model=model,
        train=VocFolder(BCCD, "train", CLASSES),
        val=VocFolder(BCCD, "val", CLASSES),
        backbone_weights=os.environ.get("MOBILENET"),
        steps=600,
        batch_size=8,
        optimizer=OptimizerConfig(
            kind="adamw", learning_rate=2e-3, weight_decay=1e-4, schedule="cosine", warmup_steps=100, clip_norm=5.0
        ),
    )
