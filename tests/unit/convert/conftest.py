"""Models to convert, made once."""

from __future__ import annotations

import numpy as np
import pytest
from flax import nnx

from jaxdet.models import abstract, model_config
from jaxdet.saving.model import fill, flatten
from parity.twins.darknet53 import Darknet53
from torchvision_cpu import import_torchvision

torch = pytest.importorskip("torch")


@pytest.fixture(scope="session")
def torchvision():
    try:
        return import_torchvision()
    except ImportError as error:
        pytest.skip(f"no torchvision to compare with: {error}")


@pytest.fixture(scope="session")
def make_detector(torchvision):
    """torchvision's Faster R-CNN on a ResNet of four blocks, small in its heads: quick, and as it is otherwise."""
    detection = torchvision.models.detection

    def make(*, norm=torch.nn.BatchNorm2d, num_classes=5, width=32, size=64, **options):
        resnet = torchvision.models.resnet
        body = resnet.ResNet(resnet.Bottleneck, [1, 1, 1, 1], norm_layer=norm)
        backbone = detection.backbone_utils.BackboneWithFPN(
            body, {f"layer{i}": str(i - 1) for i in (1, 2, 3, 4)}, [256, 512, 1024, 2048], width
        )
        heads = detection.faster_rcnn
        options.setdefault("box_head", heads.TwoMLPHead(width * 49, size))
        predictor = heads.FastRCNNPredictor(size, num_classes)
        return heads.FasterRCNN(backbone, None, box_predictor=predictor, **options).eval()

    return make


@pytest.fixture(scope="session")
def detector(make_detector):
    """With trainable norms and five classes; not to be changed."""
    torch.manual_seed(0)
    return make_detector()


@pytest.fixture(scope="session")
def darknet():
    """Darknet-53 with statistics that are not 0 and 1; not to be changed."""
    torch.manual_seed(0)
    module = Darknet53().eval()
    for layer in module.modules():
        if isinstance(layer, torch.nn.BatchNorm2d):
            for tensor in (layer.weight.data, layer.bias.data, layer.running_mean, layer.running_var):
                tensor.uniform_(0.5, 1.5)
            layer.num_batches_tracked += 7
    return module


@pytest.fixture(scope="session")
def empty_detector():
    """This library's, on a MobileNet and small in its heads, all zeros: to be filled, not to be changed."""
    small = {"num_classes": 3, "fpn_out_channels": 8, "box_representation_size": 8}
    model = abstract(model_config("fasterrcnn_mobilenet_v1_fpn", **small))
    structs = flatten(nnx.state(model)).items()
    return fill(model, {path: np.zeros(want.shape, want.dtype) for path, want in structs})
