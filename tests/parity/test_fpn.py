"""The two pyramids against PyTorch, at sizes where nearest-neighbour upsampling is not a plain doubling."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from jaxdet.necks import FPN, LastLevelP6P7, RetinaFaceFPN, map_extents
from jaxdet.nn import BatchNorm, NormConfig
from jaxdet.saving.model import arrays, fill
from jaxdet_convert.apply import to_jax
from jaxdet_convert.rules import CONV, Rule, Table
from jaxdet_convert.sources.parts import conv, norm
from torchvision_cpu import torchvision_or_skip

torch = pytest.importorskip("torch")

CHANNELS, WIDTH = (6, 10, 14), 8
SIZES = ((27, 21), (14, 11), (7, 6))  # 7 -> 14 -> 27 and 6 -> 11 -> 21


def _maps(seed=0):
    rng = np.random.default_rng(seed)
    return [rng.normal(size=(2, c, *size)).astype(np.float32) for c, size in zip(CHANNELS, SIZES, strict=True)]


def _filled(model, module, rules):
    target = arrays(model)
    tensors = {name: tensor.detach().numpy() for name, tensor in module.state_dict().items()}
    return fill(model, to_jax(tensors, Table(tuple(rules)), target).arrays)


def _compare(theirs, ours):
    for expected, actual in zip(theirs, ours, strict=True):
        expected = expected.detach().numpy().transpose(0, 2, 3, 1)
        assert np.abs(actual - expected).max() <= 1e-5 * np.abs(expected).max()


class RetinaFaceTwin(torch.nn.Module):
    """The pyramid of RetinaFace under its own names, written for this test."""

    def __init__(self, slope):
        super().__init__()

        def unit(inputs, kernel):
            return torch.nn.Sequential(
                torch.nn.Conv2d(inputs, WIDTH, kernel, padding=kernel // 2, bias=False),
                torch.nn.BatchNorm2d(WIDTH),
                torch.nn.LeakyReLU(slope),
            )

        self.output1, self.output2, self.output3 = (unit(channels, 1) for channels in CHANNELS)
        self.merge1, self.merge2 = unit(WIDTH, 3), unit(WIDTH, 3)

    def forward(self, low, middle, high):
        low, middle, high = self.output1(low), self.output2(middle), self.output3(high)
        up = torch.nn.functional.interpolate
        middle = self.merge2(middle + up(high, size=middle.shape[2:], mode="nearest"))
        low = self.merge1(low + up(middle, size=low.shape[2:], mode="nearest"))
        return low, middle, high


def test_retinafaces_pyramid():
    torch.manual_seed(0)
    twin = RetinaFaceTwin(0.1)
    inputs = [torch.from_numpy(x) for x in _maps()]
    twin.train()(*inputs)  # running statistics that differ from 0 and 1
    twin.eval()
    rules = []
    for number in (1, 2, 3):
        rules += conv(f"output{number}.0", f"outputs.{number - 1}.conv") + norm(
            f"output{number}.1", f"outputs.{number - 1}.norm"
        )
    for number in (1, 2):
        rules += conv(f"merge{number}.0", f"merges.{number - 1}.conv") + norm(
            f"merge{number}.1", f"merges.{number - 1}.norm"
        )
    model = _filled(RetinaFaceFPN(CHANNELS, WIDTH, rngs=nnx.Rngs(0)), twin, rules)
    maps = {f"stage{i + 1}": jnp.asarray(x.transpose(0, 2, 3, 1)) for i, x in enumerate(_maps())}
    _compare(twin(*inputs), jax.jit(model)(maps).values())


def test_retinafaces_slope_follows_the_width():
    assert RetinaFaceFPN((4, 4, 4), 64, rngs=nnx.Rngs(0)).merges[0].act.negative_slope == 0.1
    assert RetinaFaceFPN((4, 4, 4), 65, rngs=nnx.Rngs(0)).merges[0].act.negative_slope == 0.0


@pytest.mark.parametrize("with_norm", [False, True])
def test_torchvisions_pyramid(with_norm):
    torchvision = torchvision_or_skip()
    torch.manual_seed(0)
    ops = torchvision.ops.feature_pyramid_network
    layer = torch.nn.BatchNorm2d if with_norm else None
    twin = ops.FeaturePyramidNetwork(list(CHANNELS), WIDTH, extra_blocks=ops.LastLevelMaxPool(), norm_layer=layer)
    inputs = {str(i): torch.from_numpy(x) for i, x in enumerate(_maps())}
    twin.train()(dict(inputs))
    twin.eval()
    rules = []
    for kind in ("inner_blocks", "layer_blocks"):
        rules.append(Rule(f"{kind}.{{i}}.0.weight", f"{kind}.{{i}}.conv.kernel", CONV))
        rules.append(Rule(f"{kind}.{{i}}.0.bias", f"{kind}.{{i}}.conv.bias"))
        rules += norm(f"{kind}.{{i}}.1", f"{kind}.{{i}}.norm")
    model = FPN(CHANNELS, WIDTH, norm=NormConfig() if with_norm else None, rngs=nnx.Rngs(0))
    assert isinstance(model.inner_blocks[0].norm, BatchNorm) == with_norm
    model = _filled(model, twin, rules)
    maps = {name: jnp.asarray(x.transpose(0, 2, 3, 1)) for name, x in zip(("a", "b", "c"), _maps(), strict=True)}
    ours = jax.jit(model)(maps)
    theirs = twin(dict(inputs))
    _compare(theirs.values(), [ours[name] for name in ("a", "b", "c", "pool")])


@pytest.mark.parametrize("from_c5", [False, True])
def test_torchvisions_p6_and_p7(from_c5):
    """Of P5 or of C5, and the same on a larger canvas with NaN beyond the extents."""
    torchvision = torchvision_or_skip()
    torch.manual_seed(0)
    ops = torchvision.ops.feature_pyramid_network
    inputs = CHANNELS[-1] if from_c5 else WIDTH
    twin = ops.FeaturePyramidNetwork(list(CHANNELS), WIDTH, extra_blocks=ops.LastLevelP6P7(inputs, WIDTH))
    rules = []
    for kind in ("inner_blocks", "layer_blocks"):
        rules += conv(f"{kind}.{{i}}.0", f"{kind}.{{i}}.conv", bias=True)
    for name in ("p6", "p7"):
        rules += conv(f"extra_blocks.{name}", f"extra_blocks.{name}.conv", bias=True)
    extra = LastLevelP6P7(inputs, WIDTH, rngs=nnx.Rngs(0))
    model = _filled(FPN(CHANNELS, WIDTH, extra_blocks=extra, rngs=nnx.Rngs(0)), twin, rules)
    strides = model.strides({"a": 8, "b": 16, "c": 32})
    assert strides == {"a": 8, "b": 16, "c": 32, "p6": 64, "p7": 128}
    maps = {name: jnp.asarray(x.transpose(0, 2, 3, 1)) for name, x in zip(("a", "b", "c"), _maps(), strict=True)}
    theirs = twin({name: torch.from_numpy(np.array(x.transpose(0, 3, 1, 2))) for name, x in maps.items()})
    ours = jax.jit(model)(maps)
    _compare(theirs.values(), [ours[name] for name in strides])
    assert ours["p7"].shape[1:3] == (2, 2)

    # An image of 96x160 alone and on a canvas of 192x256, whose maps hold NaN beyond it.
    extents = map_extents(jnp.array([[96, 160]]), strides)
    alone, canvas = {}, {}
    for name, stride, channels in zip(("a", "b", "c"), (8, 16, 32), CHANNELS, strict=True):
        height, width = 96 // stride, 160 // stride
        x = np.random.default_rng(stride).normal(size=(1, height, width, channels)).astype(np.float32)
        alone[name] = jnp.asarray(x)
        canvas[name] = jnp.full((1, 192 // stride, 256 // stride, channels), jnp.nan).at[:, :height, :width].set(x)
    ours, padded = jax.jit(model)(alone), jax.jit(model)(canvas, extents)
    for name in strides:
        height, width = ours[name].shape[1:3]
        np.testing.assert_array_equal(extents[name], [[height, width]])
        np.testing.assert_allclose(padded[name][:, :height, :width], ours[name], atol=1e-5)
