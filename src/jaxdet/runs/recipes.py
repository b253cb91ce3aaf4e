"""Named training configurations: torchvision's published training, and fine-tuning on small datasets.

Learning rates are for the batch sizes given here; scale them with the batch size.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from jaxdet.data import Augmentation, ClassFolder, CocoFiles
from jaxdet.models import detector_config, model_config
from jaxdet.runs.config import TrainConfig
from jaxdet.training import OptimizerConfig

_COCO = (
    CocoFiles("coco/annotations/instances_train2017.json", "coco/train2017"),
    CocoFiles("coco/annotations/instances_val2017.json", "coco/val2017"),
)


def _detector(name: str, **fields: object) -> TrainConfig:
    train, val = _COCO
    # COCO has boxes without area. torchvision's references leave them out, too.
    values: dict[str, object] = {"skip_faulty": True, "workers": 8, "eval_every": 1, **fields}
    return TrainConfig(model=detector_config(name), train=train, val=val, **values)  # type: ignore[arg-type]


def _resnet_detector() -> TrainConfig:
    """box AP 37.0 in torchvision: 26 epochs of 16 images on an ImageNet backbone (pytorch/vision, references)."""
    return _detector(
        "fasterrcnn_resnet50_fpn",
        epochs=26,
        batch_size=16,
        optimizer=OptimizerConfig(milestones=(16, 22)),
        backbone_weights="resnet50_v1",
        frozen=("backbone.conv1", "backbone.layer1"),
    )


def _resnet_detector_v2() -> TrainConfig:
    """box AP 46.7 in torchvision: 400 epochs of 64 images from scratch, large-scale jitter (pytorch/vision#5763)."""
    return _detector(
        "fasterrcnn_resnet50_fpn_v2",
        epochs=400,
        batch_size=64,
        optimizer=OptimizerConfig(learning_rate=0.1, weight_decay=4e-5, milestones=(352, 384)),
        augment=Augmentation(scale_jitter=(0.1, 2.0)),
        eval_every=10,
    )


def _retinanet() -> TrainConfig:
    """box AP 36.4 in torchvision: as Faster R-CNN, with half the learning rate (pytorch/vision, references)."""
    return _detector(
        "retinanet_resnet50_fpn",
        epochs=26,
        batch_size=16,
        optimizer=OptimizerConfig(learning_rate=0.01, milestones=(16, 22)),
        backbone_weights="resnet50_v1",
        frozen=("backbone.conv1", "backbone.layer1"),
    )


def _retinanet_v2() -> TrainConfig:
    """box AP 41.5 in torchvision: AdamW, several image sizes, an ImageNet backbone with trained norms.

    From pytorch/vision#5756.
    """
    return _detector(
        "retinanet_resnet50_fpn_v2",
        epochs=26,
        batch_size=16,
        optimizer=OptimizerConfig(
            kind="adamw", learning_rate=1e-4, weight_decay=0.05, norm_weight_decay=0.0, milestones=(16, 22)
        ),
        augment=Augmentation(min_sizes=(480, 512, 544, 576, 608, 640, 672, 704, 736, 768, 800)),
        backbone_weights="resnet50_v2",
        frozen=("backbone.conv1", "backbone.layer1"),
    )


def _fcos() -> TrainConfig:
    """box AP 39.2 in torchvision: as its RetinaNet (pytorch/vision, references)."""
    return replace(_retinanet(), model=detector_config("fcos_resnet50_fpn"))


def _small_backbone(name: str) -> Callable[[], TrainConfig]:
    def recipe() -> TrainConfig:
        """AdamW, with trained norms, for a backbone with any pretraining."""
        return _detector(
            name,
            epochs=36,
            batch_size=16,
            optimizer=OptimizerConfig(
                kind="adamw",
                learning_rate=2e-4,
                weight_decay=0.05,
                norm_weight_decay=0.0,
                schedule="cosine",
                clip_norm=10.0,
            ),
            augment=Augmentation(min_sizes=(640, 672, 704, 736, 768, 800)),
        )

    return recipe


def _finetune() -> TrainConfig:
    """Fine-tuning a COCO model on a few hundred to a few thousand images; give your own with --data."""
    return _detector(
        "fasterrcnn_resnet50_fpn",
        epochs=20,
        batch_size=8,
        optimizer=OptimizerConfig(
            learning_rate=0.005, schedule="cosine", warmup_steps=200, clip_norm=10.0, lr_scales=(("backbone", 0.5),)
        ),
        augment=Augmentation(min_sizes=(640, 672, 704, 736, 768, 800), photometric=0.5),
        weights="fasterrcnn_resnet50_fpn",
        frozen=("backbone.conv1", "backbone.layer1"),
        ema_decay=0.998,
        square=True,
        skip_faulty=False,
        workers=2,
    )


def _classifier(name: str, num_classes: int = 1000) -> Callable[[], TrainConfig]:
    def recipe() -> TrainConfig:
        """torchvision's classification reference: 90 epochs of 256 images, learning rate / 10 every 30 epochs."""
        return TrainConfig(
            model=model_config(name, num_classes=num_classes),
            train=ClassFolder("imagenet/train"),
            val=ClassFolder("imagenet/val"),
            epochs=90,
            batch_size=256,
            optimizer=OptimizerConfig(learning_rate=0.1, milestones=(30, 60), warmup_steps=0),
            eval_every=1,
            eval_batch_size=64,
            workers=8,
        )

    return recipe


RECIPES: dict[str, Callable[[], TrainConfig]] = {
    "fasterrcnn_resnet50_fpn": _resnet_detector,
    "fasterrcnn_resnet50_fpn_v2": _resnet_detector_v2,
    "fasterrcnn_mobilenet_v1_fpn": _small_backbone("fasterrcnn_mobilenet_v1_fpn"),
    "fasterrcnn_darknet53_fpn": _small_backbone("fasterrcnn_darknet53_fpn"),
    "retinanet_resnet50_fpn": _retinanet,
    "retinanet_resnet50_fpn_v2": _retinanet_v2,
    "fcos_resnet50_fpn": _fcos,
    "finetune": _finetune,
    "resnet50": _classifier("resnet50"),
    "mobilenet_v1": _classifier("mobilenet_v1"),
    "darknet53": _classifier("darknet53", num_classes=18),
}
