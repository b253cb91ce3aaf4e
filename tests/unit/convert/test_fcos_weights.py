"""torchvision's FCOS: recognised, there and back bit for bit, and read off live modules."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import numpy as np
import pytest

from jaxdet.heads import AnchorGenerator
from jaxdet.models import model_config
from jaxdet.nn import NormConfig
from jaxdet_convert import (
    RecognitionError,
    UnsupportedModuleError,
    convert_weights,
    from_torch,
    official_config,
    to_torch,
)
from jaxdet_convert.recognise import recognise
from parity.twins.slim import slim_torchvision
from torchvision_cpu import torchvision_or_skip

torchvision = torchvision_or_skip()
import torch  # noqa: E402
from torchvision.models.detection import fcos  # noqa: E402

NAME = "fcos_resnet50_fpn"


def small(**options):
    """torchvision's FCOS on a ResNet of four blocks with narrow heads."""
    torch.manual_seed(0)
    build = slim_torchvision().models.detection.fcos_resnet50_fpn
    return build(weights=None, weights_backbone=None, num_classes=5, **options).eval()


@pytest.fixture(scope="module")
def module():
    """Not to be changed."""
    return small()


@pytest.fixture(scope="module")
def whole():
    """Names and shapes of torchvision's own."""
    with torch.device("meta"):
        state = fcos.fcos_resnet50_fpn(weights=None, weights_backbone=None).state_dict()
    return {name: tuple(tensor.shape) for name, tensor in state.items()}


def test_torchvisions_own_is_the_preset(whole):
    found = recognise(whole)
    assert (found.name, found.num_anchors, found.bare, found.options["num_classes"]) == (NAME, 1, False, 91)
    assert found.options["head_norm"] == NormConfig("group") and found.options["fpn_p6p7"] == "p5"
    assert replace(official_config(NAME), names=()) == model_config(NAME)


def test_a_missing_tensor_does_not_change_the_family(whole):
    for missing in np.random.default_rng(0).choice(list(whole), 30, replace=False):
        assert recognise({name: shape for name, shape in whole.items() if name != missing}).name == NAME, missing


def test_there_and_back(module):
    """Through the live module and through its weights."""
    state = module.state_dict()
    live, read = from_torch(module), convert_weights(state, norm_eps=1e-5)
    for back in (to_torch(live), to_torch(read.model)):
        assert set(back) == set(state)
        for name, tensor in state.items():
            assert back[name].dtype == tensor.numpy().dtype and back[name].tobytes() == tensor.numpy().tobytes(), name
    assert "head_norm_groups 32" in read.assumed and "center_sampling_radius 1.5" in read.assumed


def test_options_come_from_a_live_module():
    anchors = torchvision.models.detection.anchor_utils.AnchorGenerator(
        ((4,), (8,), (16,), (32,), (64,)), ((1.0,),) * 5
    )
    options = {
        "score_thresh": 0.3, "nms_thresh": 0.4, "detections_per_img": 7, "topk_candidates": 50, "min_size": 320,
        "max_size": 400, "center_sampling_radius": 2.5,
    }  # fmt: skip
    config = from_torch(small(anchor_generator=anchors, **options)).config
    assert {name: getattr(config, name) for name in options if name not in ("min_size", "max_size")} == {
        name: value for name, value in options.items() if name not in ("min_size", "max_size")
    }
    assert (config.transform.min_size, config.transform.max_size) == (320, 400)
    assert config.anchor_generator == AnchorGenerator((4, 8, 16, 32, 64), (1.0,))
    assert config.head_norm == NormConfig("group", groups=8)


def test_what_the_model_would_not_compute_is_refused():
    module = small()
    module.box_coder.normalize_by_size = False
    with pytest.raises(UnsupportedModuleError, match="normalize_by_size"):
        from_torch(module)
    module = small()
    module.head.regression_head.conv[2] = torch.nn.SiLU()
    with pytest.raises(UnsupportedModuleError, match=r"regression_head.conv.2 is a SiLU"):
        from_torch(module)
    module = small()
    module.head.classification_head = fcos.FCOSClassificationHead(
        32, 1, 5, norm_layer=partial(torch.nn.GroupNorm, 4)
    )  # fmt: skip
    with pytest.raises(UnsupportedModuleError, match=r"the norms under head\. differ"):
        from_torch(module)


def test_a_pyramid_alone_is_either_family(whole):
    bare = {name: shape for name, shape in whole.items() if name.startswith("backbone.")}
    found = recognise(bare)
    assert (found.name, found.also) == ("retinanet_resnet50_fpn", NAME)
    assert (recognise(bare, NAME).name, recognise(bare, NAME).bare) == (NAME, True)
    with pytest.raises(RecognitionError, match="these weights are of 'fcos_resnet50_fpn'"):
        recognise(whole, "retinanet_resnet50_fpn")
