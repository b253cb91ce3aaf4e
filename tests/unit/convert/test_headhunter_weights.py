"""HeadHunter's weights: recognised, there and back bit for bit, whole or the backbone alone."""

from __future__ import annotations

import numpy as np
import pytest

from jaxdet.models import model_config
from jaxdet.nn import NormConfig
from jaxdet.saving.model import arrays
from jaxdet_convert import (
    ConversionError,
    RecognitionError,
    UnsupportedModuleError,
    convert_weights,
    from_torch,
    load_backbone,
    load_torch,
    to_torch,
)
from jaxdet_convert.recognise import recognise
from torchvision_cpu import torchvision_or_skip

torchvision_or_skip()
import torch  # noqa: E402

from parity.twins.headhunter import headhunter  # noqa: E402

SMALL = {"blocks": (1, 1, 1, 1), "size": 8, "width": 16}
MOBILENET = {"name": "mobilenet", "size": 8}
SHAPES = {"backbone_blocks": (1, 1, 1, 1), "fpn_out_channels": 16, "box_representation_size": 8}
THREE = {"return_layers": ("layer2", "layer3", "layer4")}
VARIANTS = [
    ({"context": "ssh"}, {"context": "ssh"}),
    ({"context": "ssh", "default_filter": True, "upscale_rpn": True},
     {"context": "ssh", "default_filter": True, "upscale_rpn": True}),
    ({"context": "deform_ssh", "levels": 3}, {"context": "deform_ssh", **THREE}),
    ({"context": "deform_ssh", "default_filter": True}, {"context": "deform_ssh", "default_filter": True}),
    ({"context": "cpm"}, {"context": "cpm"}),
    ({"levels": 3}, THREE),
    ({"upscale_rpn": True, "num_classes": 4}, {"upscale_rpn": True, "num_classes": 4}),
]  # fmt: skip


@pytest.fixture(scope="module")
def module():
    """Four levels with SSH; not to be changed."""
    torch.manual_seed(0)
    return headhunter(context="ssh", **SMALL)


def shapes(**options):
    """Of a twin that is never filled."""
    with torch.device("meta"):
        return {name: tuple(tensor.shape) for name, tensor in headhunter(**options).state_dict().items()}


def assert_same(tensors, state):
    assert set(tensors) == set(state)
    for name, tensor in state.items():
        assert tensors[name].dtype == tensor.numpy().dtype and tensors[name].tobytes() == tensor.numpy().tobytes(), name


def old_names(state):
    """As torchvision spelt its own parts when HeadHunter was written."""
    renamed = {}
    for name, tensor in state.items():
        parts = name.replace("rpn.head.conv.0.0.", "rpn.head.conv.").split(".")
        if "_blocks" in name:
            del parts[4]
        renamed[".".join(parts)] = tensor
    return renamed


@pytest.mark.parametrize(("options", "told"), VARIANTS)
def test_there_and_back(options, told):
    twin = headhunter(**SMALL, **options)
    for name, tensor in twin.state_dict().items():
        if name.endswith("num_batches_tracked"):
            tensor += 12
    model = load_torch({f"module.{name}": tensor for name, tensor in twin.state_dict().items()})
    norms = {"fpn_norm": NormConfig()} if options.get("levels") == 3 else {}
    assert model.config == model_config("headhunter_resnet50", **SHAPES, **told, **norms)
    tensors = to_torch(model)
    assert_same(tensors, twin.state_dict())
    twin.load_state_dict({name: torch.from_numpy(array) for name, array in tensors.items()}, strict=True)
    assert_same(to_torch(load_torch(old_names(twin.state_dict()))), old_names(twin.state_dict()))


@pytest.mark.parametrize("stem", ["2x2s1", "3x3s2"])
def test_the_stem_is_told_by_its_shape(stem):
    twin = headhunter(**MOBILENET, stem=stem)
    result = convert_weights(twin.state_dict())
    assert result.name == "headhunter_mobilenet" and result.model.config.backbone.stem == stem
    assert_same(to_torch(result.model), twin.state_dict())


@pytest.mark.parametrize("name", ["resnet50", "resnet152"])
def test_full_sizes(name):
    found = recognise(shapes(name=name, context="cpm"))
    assert (found.name, found.num_anchors, found.origin) == (f"headhunter_{name}", 3, ("torchvision", "new"))
    assert model_config(found.name, **found.options) == model_config(found.name, context="cpm")
    other = recognise(shapes(name="resnet50", blocks=(3, 4, 23, 3), context="ssh"))
    assert (other.name, other.options["backbone_blocks"]) == ("headhunter_resnet50", (3, 4, 23, 3))


def test_without_context_its_names_are_torchvisions():
    names = shapes()
    assert (recognise(names).name, recognise(names).also) == ("fasterrcnn_resnet50_fpn", "headhunter_resnet50")
    found = recognise(names, "headhunter_resnet50")
    assert model_config(found.name, **found.options) == model_config(found.name)
    with pytest.raises(RecognitionError, match=r"are of 'fasterrcnn_resnet50_fpn'.*not of 'headhunter_resnet152'"):
        recognise(names, "headhunter_resnet152")
    with pytest.raises(RecognitionError, match="are of 'headhunter_resnet50'"):
        recognise(shapes(context="ssh"), "fasterrcnn_resnet50_fpn")


def test_the_backbone_alone(module):
    """Its heads are new, drawn from the seed; the rest is bit for bit."""
    state = {name: tensor for name, tensor in module.state_dict().items() if name.startswith("backbone.")}
    for part, options in ((module.backbone.state_dict(), {}), (state, {"num_classes": 5})):
        result = convert_weights(part, **options)
        assert result.bare and not result.dropped
        assert {path.partition(".")[0] for path in result.fresh} == {"rpn_head", "box_head", "box_predictor"}
        tensors = to_torch(result.model)
        assert_same({name: tensors[name] for name in tensors if name.startswith("backbone.")}, state)
        assert float(np.std(result.model.rpn_head.cls_logits.kernel[...])) > 0
    assert result.model.config.num_classes == 5


def test_retinaface_gives_its_features():
    twin = headhunter(**MOBILENET, stem="3x3s2", context="ssh", default_filter=True).backbone
    heads = {
        f"{kind}.{level}.conv1x1.bias": torch.zeros(4) for kind in ("ClassHead", "LandmarkHead") for level in (0, 1)
    }
    result = convert_weights({f"module.{name}": x for name, x in (twin.state_dict() | heads).items()})
    assert result.bare and set(result.dropped) == set(heads)
    tensors = to_torch(result.model)
    assert_same({name: tensors[f"backbone.{name}"] for name in twin.state_dict()}, twin.state_dict())


def test_a_backbone_fills_a_detector(module):
    whole, plain = load_torch(module.state_dict()), load_torch(headhunter(**SMALL).state_dict(), "headhunter_resnet50")
    doubled = {name: tensor * 2 for name, tensor in module.backbone.state_dict().items()}
    model, dropped = load_backbone(whole, doubled)
    assert dropped == ()
    before, after = arrays(whole), arrays(model)
    for path in after:
        factor = 2 if path.startswith(("backbone.", "fpn.", "context.")) else 1
        assert np.array_equal(after[path], before[path] * factor), path
    with pytest.raises(ConversionError, match=r"not in the model: context\.0\.conv3"):
        load_backbone(plain, doubled)


def test_everything_that_does_not_fit_is_listed(module):
    state = dict(module.state_dict())
    del state["backbone.ssh2.conv7x7_3.0.weight"], state["rpn.head.bbox_pred.bias"]
    state["backbone.ssh5.conv3X3.0.weight"] = torch.zeros(2)
    with pytest.raises(ConversionError) as caught:
        load_torch(state)
    text = "\n".join(caught.value.problems)
    assert len(caught.value.problems) == 3
    for part in (
        "context.1.conv7_3.conv.kernel",
        "rpn_head.bbox_pred.bias",
        "unmapped: backbone.ssh5.conv3X3.0.weight",
    ):
        assert part in text
    with pytest.raises(RecognitionError, match="neither SSH nor CPM"):
        recognise(shapes(**SMALL) | {"backbone.ssh1.other.weight": (1,)})


def test_options_of_a_live_module():
    twin = headhunter(
        **SMALL, min_size=320, max_size=400, upscale_rpn=True, soft_nms=True, two_pooled=True, custom_sampling=True,
        anchors=[(9,), (20,), (40,), (80,)], ratios=(0.5, 2.0), score_thresh=0.3, detections=30,
    )  # fmt: skip
    config = from_torch(twin).config
    assert config.fpn.pool is False and config.upscale_rpn and config.transform.enlarge is False
    assert (config.transform.min_size, config.transform.max_size) == (320, 400)
    assert config.soft_nms.plus_one and config.box.class_agnostic_nms
    assert config.box.pool_levels == ("layer1", "layer4")
    assert (config.rpn.fg_iou_thresh, config.box.bg_iou_thresh, config.box.positive_fraction) == (0.5, 0.4, 0.5)
    assert config.rpn.anchor_generator.sizes == ((9,), (20,), (40,), (80,))
    assert (config.box.score_thresh, config.box.detections_per_img) == (0.3, 30)
    twin.transform.max_size = None
    with pytest.raises(UnsupportedModuleError, match="does not resize images"):
        from_torch(twin)


def test_a_live_module_of_torchvisions_names():
    """Anchors that are as many as the levels, or more than torchvision's, make it a HeadHunter."""
    twin = headhunter(**SMALL)
    assert from_torch(twin).config.names == ("__background__", "head")
    generator = twin.rpn.anchor_generator
    generator.sizes = (*generator.sizes, (192,), (256,), (384,), (512,))
    generator.aspect_ratios = (generator.aspect_ratios[0],) * 8
    config = from_torch(twin).config
    assert config.rpn.anchor_generator.sizes == ((12,), (32,), (64,), (112,)) and not config.fpn.pool
    with pytest.raises(UnsupportedModuleError, match="without its heads"):
        from_torch(twin.backbone)


def test_the_command_says_what_it_holds(module, tmp_path, monkeypatch, capsys):
    from jaxdet.cli.__main__ import main

    monkeypatch.chdir(tmp_path)
    torch.save({"model": module.state_dict()}, "hh.pth")
    torch.save(headhunter(**SMALL).state_dict(), "plain.pth")
    torch.save(module.backbone.state_dict(), "bare.pth")
    assert main(["convert", "hh.pth", "--set", "median_anchors=ScutHead", "--set", "preset=evaluate"]) == 0
    out = capsys.readouterr().out
    for part in (
        "headhunter_resnet50, 2 classes", "ResNet of (1, 1, 1, 1) blocks, 4 levels, ssh of large filters, not upscaled",
        "assumed   min_size 800; max_size 1400; bbox_reg_weights 10, 10, 5, 5", "rpn_smooth_l1_beta 0; ",
        "jaxdet detect",
    ):  # fmt: skip
        assert part in out
    (line,) = (line for line in out.splitlines() if line.startswith("assumed"))
    assert not any(told in line for told in ("anchors", "image_mean", "score_thresh"))  # the options say them
    assert main(["convert", "plain.pth"]) == 0
    assert "also      headhunter_resnet50" in capsys.readouterr().out
    assert main(["convert", "bare.pth", "--num-classes", "3"]) == 0
    out = capsys.readouterr().out
    assert "headhunter_resnet50, 3 classes" in out and "rpn_head.conv.0.conv.kernel" in out and "train it" in out
