"""Backbones against PyTorch with the same weights: every map, and the logits, at odd and even sizes."""

from __future__ import annotations

from pathlib import Path

import jax
import numpy as np
import pytest
from flax import nnx

import jaxdet.data
from jaxdet.backbones.base import IMAGENET_MEAN, IMAGENET_STD
from jaxdet_convert import from_torch, load_torch
from parity.twins.darknet53 import Darknet53, TimmDarknet53
from parity.twins.mobilenet_v1 import MobileNetV1
from parity.twins.weights import randomise
from torchvision_cpu import torchvision_or_skip

torchvision = torchvision_or_skip()
torch = pytest.importorskip("torch")

BOUND = 1e-5  # maximum error over maximum value
ODD, EVEN = (417, 333), (256, 320)
RESNET_LAST = ("bn3",)
RESNETS = ("resnet50", "resnet101", "resnet152")


class TapResNet(torch.nn.Module):
    """torchvision's ResNet with its inner maps."""

    def __init__(self, net: torch.nn.Module) -> None:
        super().__init__()
        self.net = net

    def features(self, x):
        net = self.net
        x = net.maxpool(net.relu(net.bn1(net.conv1(x))))
        maps = {}
        for name in ("layer1", "layer2", "layer3", "layer4"):
            maps[name] = x = getattr(net, name)(x)
        return maps

    def forward(self, x):
        return self.net(x)


def picture(size, seed=0):
    return np.random.default_rng(seed).normal(size=(1, *size, 3)).astype(np.float32)


def run_torch(module, x):
    with torch.no_grad():
        nchw = torch.from_numpy(np.ascontiguousarray(x.transpose(0, 3, 1, 2)))
        maps = {name: value.permute(0, 2, 3, 1).numpy() for name, value in module.features(nchw).items()}
        return maps | {"logits": module(nchw).numpy()}


def run_jax(model, x):
    graphdef, state = nnx.split(model)

    @jax.jit
    def forward(state, x):
        model = nnx.merge(graphdef, state)
        maps = model.features(x)
        return maps | {"logits": model.fc(model.avgpool(maps[model.names[-1]])[:, 0, 0])}

    return {name: np.asarray(value) for name, value in forward(state, x).items()}


def errors(ours, theirs):
    assert ours.keys() == theirs.keys()
    for name in theirs:
        assert ours[name].shape == theirs[name].shape, name
        assert np.abs(theirs[name]).max() > 0.1, f"{name} says nothing"
    return {name: float(np.abs(ours[name] - theirs[name]).max() / np.abs(theirs[name]).max()) for name in theirs}


def check(module, model, *sizes, images=None):
    for x in images if images is not None else [picture(size) for size in sizes]:
        ours, theirs = run_jax(model, x), run_torch(module, x)
        found = errors(ours, theirs)
        print(x.shape[1:3], {name: f"{error:.1e}" for name, error in found.items()})
        assert max(found.values()) <= BOUND, found
        assert top5(ours).tolist() == top5(theirs).tolist()


def top5(outputs):
    return np.argsort(-outputs["logits"], axis=1)[:, :5]


def frozen(weights):
    """The same weights without counters of batches."""
    return {name: value for name, value in weights.items() if not name.endswith("num_batches_tracked")}


def slow(*names):
    return [pytest.param(name, marks=pytest.mark.verify) for name in names]


@pytest.mark.parametrize("name", ["resnet50", *slow("resnet101", "resnet152")])
def test_resnet(name):
    twin = randomise(getattr(torchvision.models, name)(), last=RESNET_LAST)
    check(TapResNet(twin), from_torch(twin, name), ODD)


@pytest.mark.verify
@pytest.mark.parametrize("name", RESNETS)
def test_resnet_frozen_and_even(name):
    twin = randomise(getattr(torchvision.models, name)(), seed=1, last=RESNET_LAST)
    model = load_torch(frozen(twin.state_dict()))
    assert model.config.norm.kind == "frozen"
    check(TapResNet(twin), model, EVEN)


def test_frozen_resnet_with_eps_zero():
    """The norms of torchvision's official detector: constants, and nothing added to the variance."""
    layer = torchvision.ops.FrozenBatchNorm2d
    resnet = torchvision.models.resnet
    batch = randomise(resnet.ResNet(resnet.Bottleneck, [1, 1, 1, 1]), size=96, last=RESNET_LAST)
    twin = resnet.ResNet(resnet.Bottleneck, [1, 1, 1, 1], norm_layer=layer)
    twin.load_state_dict(batch.state_dict())
    for module in twin.modules():
        if isinstance(module, layer):
            module.eps = 0.0
    model = from_torch(twin.eval())
    assert (model.config.norm.kind, model.config.norm.eps) == ("frozen", 0.0)
    check(TapResNet(twin), model, (97, 65))


def test_mobilenet():
    twin = randomise(MobileNetV1())
    check(twin, from_torch(twin, "mobilenet_v1"), ODD, EVEN)


@pytest.mark.verify
def test_mobilenet_frozen_of_another_width():
    twin = randomise(MobileNetV1(0.35))
    model = load_torch(frozen(twin.state_dict()))
    assert model.config.norm.kind == "frozen"
    check(twin, model, ODD)


@pytest.mark.parametrize("slope", [0.01, pytest.param(0.1, marks=pytest.mark.verify)])
def test_darknet(slope):
    twin = randomise(Darknet53(slope=slope), last=("layer2.1",))
    model = from_torch(twin)
    assert model.config.negative_slope == slope
    check(twin, model, ODD)


@pytest.mark.verify
def test_darknet_of_timm_frozen_and_even():
    twin = randomise(TimmDarknet53(), seed=1, last=("conv2.bn",))
    check(twin, load_torch(frozen(twin.state_dict())), EVEN)


def test_real_mobilenet_on_real_images(shared: Path):
    weights = shared / "weights" / "mobilenetV1X0.25_pretrain.tar"
    pictures = sorted((shared / "data" / "bccd" / "JPEGImages").glob("*.jpg"))[:3]
    if not weights.is_file() or not pictures:
        pytest.skip(f"{weights} or BCCD's images are absent")
    state = torch.load(weights, map_location="cpu", weights_only=True)["state_dict"]
    twin = MobileNetV1()
    twin.load_state_dict({name.removeprefix("module."): value for name, value in state.items()}, strict=True)
    images = [normalised(jaxdet.data.read_image(path)) for path in pictures]
    images[-1] = images[-1][:, :417, :333]
    check(twin.eval(), load_torch(weights), images=images)


def normalised(image):
    mean, std = (np.asarray(value, np.float32) for value in (IMAGENET_MEAN, IMAGENET_STD))
    return ((image.astype(np.float32) / 255 - mean[None, None]) / std[None, None])[None]
