"""Trains HeadHunter on drawn crowds: images with hundreds of small heads, and ignored regions.

jaxdet shapes runs/crowd --crowd
jaxdet train examples/heads.py --out runs/ssh
jaxdet train examples/heads.py --out runs/cpm --set model_context=cpm
jaxdet evaluate runs/ssh/model --config examples/heads.py --metrics crowd

The environment variable CROWD is the folder of the data, by default "runs/crowd". MOBILENET, if set, is the path of
pretrained weights for the backbone (mobilenetV1X0.25_pretrain.tar of the Pytorch_Retinaface repository). For your own
images, put your lists into the folder and remove the options of sizes and anchors: the defaults are HeadHunter's.
"""

import os
from pathlib import Path

from jaxdet.data import Augmentation, BrightnessContrast, HeadList, RGBShift
from jaxdet.heads import AnchorGenerator
from jaxdet.models import detector_config
from jaxdet.runs import TrainConfig
from jaxdet.training import OptimizerConfig

CROWD = Path(os.environ.get("CROWD", "runs/crowd"))


def config() -> TrainConfig:
    """A MobileNetV1 with SSH modules, and a pyramid that is upscaled to strides of 4, 8 and 16."""
    model = detector_config(
        "headhunter_mobilenet",
        context="ssh",
        upscale_rpn=True,
        preset="train",
        min_size=256,
        max_size=256,
        custom_sampling=True,
        rpn_anchor_generator=AnchorGenerator(((9, 12, 16, 21), (12, 16, 21, 27), (21, 27, 34, 42)), (1.2,)),
        rpn_pre_nms_top_n_train=1000,
        rpn_post_nms_top_n_train=500,
        rpn_pre_nms_top_n_test=1000,
        rpn_post_nms_top_n_test=500,
        box_representation_size=128,
        box_batch_size_per_image=128,
    )
    return TrainConfig(
        model=model,
        train=HeadList(str(CROWD / "train.txt")),
        val=HeadList(str(CROWD / "val.txt")),
        backbone_weights=os.environ.get("MOBILENET"),
        steps=600,
        batch_size=4,
        optimizer=OptimizerConfig(
            kind="adamw", learning_rate=2e-3, weight_decay=1e-4, schedule="cosine", warmup_steps=50, clip_norm=5.0
        ),
        augment=Augmentation(flip=0.5, extra=(RGBShift(), BrightnessContrast())),
        metrics="crowd",
        eval_batch_size=4,
    )
