"""An image's result depends on neither its batch mates nor its padding; what lies in the padding changes nothing."""

from __future__ import annotations

from functools import cache, partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from jaxdet.data import preprocess
from jaxdet.heads import AnchorGenerator
from jaxdet.inference import collate, infer_step
from jaxdet.models.registry import abstract, model_config
from jaxdet.nn import BatchNorm, NormConfig, Numerics
from jaxdet.saving.model import fill, flatten
from jaxdet.training import losses
from jaxdet.types import Images, Targets
from jaxdet_convert.parity.match import Boxes, match
from small_detector import SmallBackbone
from torchvision_cpu import torchvision_or_skip

torchvision_or_skip()
import torch  # noqa: E402

from parity.weights import pair, resized, smooth_image  # noqa: E402

SIZES = ((120, 151), (150, 97))  # what the batch holds: neither is a multiple of 32
OWN, LARGER = (160, 160), (192, 256)
FEW = {
    "rpn_pre_nms_top_n_test": 400, "rpn_post_nms_top_n_test": 200,
    "rpn_pre_nms_top_n_train": 200, "rpn_post_nms_top_n_train": 100, "box_batch_size_per_image": 64,
}  # fmt: skip
NARROW = {"fpn_out_channels": 32, "box_representation_size": 64}
# Whole ones in `make verify`; a ResNet with one block a stage has all that a long one has, and compiles sooner.
WHOLE = ("fasterrcnn_resnet50_fpn", "fasterrcnn_resnet50_fpn_v2")
DENSE = {"retinanet_resnet50_fpn": 32, "retinanet_resnet50_fpn_v2": 32, "fcos_resnet50_fpn": 8}  # the first anchor size


@cache
def detector(name):
    """Calibrated weights, so that detections are many and distinct."""
    if name in WHOLE:
        return pair(name, 3, name == WHOLE[0], num_classes=11, **resized(160), **FEW)[1]
    if name in DENSE:  # on a small backbone, with its map of stride 8 and two more
        anchors = AnchorGenerator(tuple(DENSE[name] * 2**level for level in range(3)), (1.0,))
        options = resized(160) | {"num_classes": 11, "fpn_out_channels": 32, "topk_candidates": 200}
        options |= {"backbone": None, "fpn_levels": ("c3",), "anchor_generator": anchors, "score_thresh": 0.05}
        return calibrated(model_config(name, **options))
    options = resized(160) | FEW | NARROW | {"num_classes": 11}
    if name == "resnet":
        options |= {"backbone_blocks": (1, 1, 1, 1), "backbone_norm": NormConfig(), "fpn_norm": NormConfig()}
        return calibrated(model_config("fasterrcnn_resnet50_fpn", **options))
    return calibrated(model_config("fasterrcnn_mobilenet_v1_fpn", **options))


def calibrated(config):
    """A model with random weights, drawn by numpy to compile nothing, and statistics of its own images."""
    rng = np.random.default_rng(0)
    spread = {
        "rpn_head.cls_logits": 2,
        "rpn_head.bbox_pred": 0.3,
        "box_predictor.cls_score": 2,
        "head.classification.output": 2,
        "head.regression.output": 0.3,
        "head.regression.centerness": 1,
    }  # of the outputs
    backbone = SmallBackbone(numerics=Numerics(), rngs=nnx.Rngs(0))
    model = abstract(config, backbone=backbone)
    values = {}
    for path, variable in flatten(nnx.state(model)).items():
        layer, kind = path.rsplit(".", 1)
        shape, dtype = variable.shape, variable.dtype
        if kind == "kernel":
            values[path] = rng.normal(0, spread.get(layer, 2**0.5) / np.prod(shape[:-1]) ** 0.5, shape).astype(dtype)
        elif kind in ("scale", "var"):
            values[path] = rng.uniform(0.5, 1.5, shape).astype(dtype)
        else:
            values[path] = np.zeros(shape, dtype)
    model = fill(model, values)
    for _ in range(20):  # a running average keeps nine tenths
        nnx.update(model, statistics(*nnx.split(model), on_canvas(pictures(), OWN)))
    return model


@partial(jax.jit, static_argnums=0)
def statistics(graphdef, state, images):
    """What the norms of backbone and pyramid hold after a training pass."""
    model = nnx.merge(graphdef, state, copy=True)
    model.features(images, train=True)
    return nnx.state(model, nnx.BatchStat)


@cache
def pictures():
    return [preprocess(smooth_image(index, *size), min(size), 400) for index, size in enumerate(SIZES)]


def on_canvas(members, canvas, fill=0.0):
    """Images with ``fill`` everywhere beyond each image's true size."""
    batch = collate(members, canvas, len(members))
    pixels = np.array(batch.pixels)
    for row, (height, width) in enumerate(batch.sizes):
        pixels[row, height:] = fill
        pixels[row, :, width:] = fill
    return Images(jnp.asarray(pixels), jnp.asarray(batch.sizes))


def detect(model, images, row=0):
    found = jax.device_get(infer_step(*nnx.split(model), images))
    keep = found.valid[row]
    return found.boxes[row][keep], found.scores[row][keep], found.labels[row][keep]


def assert_same(found, expected):
    """The same detections one to one, boxes within 1e-3 pixels; equal scores may change places."""
    assert len(expected[0]) == len(found[0]) > 20
    pairs = np.asarray(match(Boxes(*expected), Boxes(*found)))
    assert len(pairs) == len(expected[0])
    np.testing.assert_allclose(found[0][pairs[:, 1]], expected[0][pairs[:, 0]], atol=1e-3, rtol=0)


@pytest.mark.parametrize(
    "name", ["resnet", "mobilenet", *DENSE, *(pytest.param(n, marks=pytest.mark.verify) for n in WHOLE)]
)
def test_alone_with_mates_and_on_a_larger_canvas(name):
    """All at once: NaN fills whatever lies beyond an image's true size on the larger canvas."""
    model = detector(name)
    small, other = pictures()
    alone = detect(model, on_canvas([small], OWN))
    assert alone[0][:, 0::2].max() <= 151 and alone[0][:, 1::2].max() <= 120
    larger = on_canvas([small, other], LARGER, np.nan)
    assert_same(detect(model, larger, 0), alone)
    # The mate is the same on either side, too.
    assert_same(detect(model, on_canvas([other, small], LARGER, np.nan), 1), alone)


def test_fast_canvas_differs_but_works():
    model = nnx.merge(*nnx.split(detector("mobilenet")))
    small, other = pictures()
    exact = detect(model, on_canvas([small], OWN))
    model.config = model.config.__class__(**vars(model.config) | {"canvas": "fast"})
    fast = detect(model, on_canvas([small, other], LARGER))
    assert len(fast[0]) > 20 and np.isfinite(fast[0]).all() and np.isfinite(fast[1]).all()
    assert len(fast[0]) != len(exact[0]) or np.abs(fast[0] - exact[0]).max() > 1e-3


def targets(fill):
    """Two boxes and one; three and four slots left over that hold ``fill``, one image without boxes at all."""
    boxes = np.full((2, 4, 4), fill, np.float32)
    boxes[0, :2] = [[10, 10, 60, 70], [40, 30, 140, 110]]
    boxes[1, 0] = [5, 40, 80, 130]
    labels, valid = np.zeros((2, 4), np.int32), np.zeros((2, 4), bool)
    labels[0, :2], labels[1, 0] = (3, 7), 2
    valid[0, :2] = valid[1, 0] = True
    labels[~valid] = 9
    return Targets(jnp.asarray(boxes), jnp.asarray(labels), jnp.asarray(valid))


@partial(jax.jit, static_argnums=0)
def loss_and_gradient(graphdef, params, rest, images, targets):
    """Losses and gradients, and the batch statistics that the step left behind."""

    def total(params):
        model = nnx.merge(graphdef, params, rest, copy=True)
        values = losses(model, images, targets, jax.random.split(jax.random.key(0), images.pixels.shape[0]))
        return sum(values.values()), (values, nnx.split(model, nnx.Param, ...)[2])

    (_, (values, rest)), gradient = jax.value_and_grad(total, has_aux=True)(params)
    return values, gradient, rest


def close_trees(one, two, tolerance):
    """Every leaf to ``tolerance`` of its own largest value; 0 is exact equality."""
    for (path, a), b in zip(jax.tree.leaves_with_path(one), jax.tree.leaves(two), strict=True):
        assert np.isfinite(a).all(), jax.tree_util.keystr(path)
        scale = float(np.abs(np.asarray(b, np.float64)).max(initial=0))
        np.testing.assert_allclose(a, b, atol=tolerance * scale, rtol=0, err_msg=jax.tree_util.keystr(path))


@pytest.mark.parametrize(
    "name",
    ["resnet", *DENSE, pytest.param("mobilenet", marks=pytest.mark.verify)],
)
def test_nan_in_padding_changes_no_loss_and_no_gradient(name):
    """Bit for bit: pixels beyond the images' sizes, and slots of targets that are not valid."""
    graphdef, params, rest = nnx.split(detector(name), nnx.Param, ...)
    members = pictures()
    plain = loss_and_gradient(graphdef, params, rest, on_canvas(members, LARGER), targets(0))
    filled = loss_and_gradient(graphdef, params, rest, on_canvas(members, LARGER, np.nan), targets(np.nan))
    close_trees(filled, plain, 0)
    assert all(float(value) > 0 for value in plain[0].values())
    norms = [float(np.abs(leaf).max()) for leaf in jax.tree.leaves(plain[1])]
    assert min(norms) > 0 and len(norms) > 30  # every parameter trains


def test_training_statistics_see_the_images_alone():
    """The batch's statistics do not know how large the canvas is: those of the same two images on a smaller one."""
    graphdef, state = nnx.split(detector("resnet"))
    small = statistics(graphdef, state, on_canvas(pictures(), OWN))
    large = statistics(graphdef, state, on_canvas(pictures(), LARGER, np.nan))
    close_trees(large, small, 1e-4)  # one pixel too many in a 5x5 map is 4e-2; rounding grows from norm to norm


@pytest.mark.parametrize("fill", [0.0, 5.0, np.nan])
def test_batch_norm_against_torch_on_the_unpadded_image(fill):
    rng = np.random.default_rng(0)
    channels, height, width = 6, 9, 13
    x = np.full((1, 16, 16, channels), fill, np.float32)
    x[0, :height, :width] = rng.normal(3, 2, (height, width, channels))
    theirs = torch.nn.BatchNorm2d(channels, momentum=0.3).train()
    with torch.no_grad():
        theirs.weight.copy_(torch.linspace(0.5, 2, channels))
        theirs.bias.copy_(torch.linspace(-1, 1, channels))
    ours = BatchNorm(channels, config=NormConfig(momentum=0.7), numerics=Numerics())
    ours.scale[...], ours.bias[...] = (jnp.asarray(v.detach().numpy()) for v in (theirs.weight, theirs.bias))
    expected = theirs(torch.from_numpy(x[:, :height, :width].transpose(0, 3, 1, 2))).detach().numpy()
    found = ours(jnp.asarray(x), jnp.asarray([[height, width]]), train=True)
    np.testing.assert_allclose(found[:, :height, :width], expected.transpose(0, 2, 3, 1), atol=2e-6)
    np.testing.assert_allclose(ours.mean[...], theirs.running_mean.numpy(), rtol=1e-6)
    np.testing.assert_allclose(ours.var[...], theirs.running_var.numpy(), rtol=1e-6)
    assert int(ours.count[...]) == int(theirs.num_batches_tracked) == 1
