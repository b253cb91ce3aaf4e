"""HeadHunter's own operations against PyTorch, and RetinaFace's trained features."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from PIL import Image

from jaxdet.heads import RoIOutputs
from jaxdet.models.faster_rcnn.losses import box_losses
from jaxdet.models.faster_rcnn.targets import ProposalTargets
from jaxdet.ops import SoftNMS, deform_conv2d, headhunter_deform_conv2d, soft_nms
from jaxdet_convert import convert_weights, read_weights
from torchvision_cpu import torchvision_or_skip

torchvision = torchvision_or_skip()
import torch  # noqa: E402

from parity.twins import deform_conv as twin_deform_conv  # noqa: E402
from parity.twins import headhunter as twin  # noqa: E402
from parity.twins.mobilenet_v1 import MobileNetV1  # noqa: E402
from parity.twins.soft_nms import soft_nms as twin_soft_nms  # noqa: E402

BOUND = 1e-5  # of the largest value


def close(ours, theirs):
    theirs = theirs.detach().numpy()
    assert np.shape(ours) == theirs.shape
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=BOUND * np.abs(theirs).max())


def deformed(sizes, height=9, width=11, taps=9):
    """A map, offsets of which many reach outside, modulation, a kernel, and the output's gradient; channels last."""
    rng = np.random.default_rng(0)
    shapes = (2, height, width, 3), (2, *sizes, taps, 2), (2, *sizes, taps), (3, 3, 3, 4), (2, *sizes, 4)
    x, offsets, mask, kernel, gradient = (rng.normal(size=shape).astype(np.float32) for shape in shapes)
    return (x, 4 * offsets, np.abs(mask), kernel), gradient


def agree(ours, theirs, arrays, gradient):
    """Values, and the gradients of map, offsets, mask and kernel, of two functions of PyTorch's and our layout."""
    x, offsets, mask, kernel = (torch.tensor(array, requires_grad=True) for array in arrays)
    found, pull = jax.vjp(ours, *map(jnp.asarray, arrays))
    wanted = theirs(x.permute(0, 3, 1, 2), offsets, mask.permute(0, 3, 1, 2), kernel.permute(3, 2, 0, 1))
    wanted = wanted.permute(0, 2, 3, 1)
    wanted.backward(torch.tensor(gradient))
    close(found, wanted)
    for mine, tensor in zip(pull(jnp.asarray(gradient)), (x, offsets, mask, kernel), strict=True):
        close(mine, tensor.grad)


@pytest.mark.parametrize(
    ("stride", "padding", "dilation", "sizes"),
    [(1, 1, 1, (9, 11)), (2, 1, 1, (5, 6)), ((2, 1), (0, 2), (1, 2), (4, 11))],
)
def test_deform_conv2d_is_torchvisions(stride, padding, dilation, sizes):
    options = {"stride": stride, "padding": padding, "dilation": dilation}

    def theirs(x, offsets, mask, kernel):
        interleaved = offsets.permute(0, 3, 4, 1, 2).flatten(1, 2)
        return torchvision.ops.deform_conv2d(x, interleaved, kernel, mask=mask, **options)

    arrays, gradient = deformed(sizes)
    agree(lambda *given: deform_conv2d(*given, **options), theirs, arrays, gradient)


@pytest.mark.parametrize(("stride", "padding"), [(1, 1), (2, 1), (1, 0)])
def test_deform_conv2d_is_headhunters(stride, padding):
    """Without padding, what is clamped to the last row counts it twice."""
    options = {"stride": stride, "padding": padding}

    def theirs(x, offsets, mask, kernel):
        rows_then_columns = offsets.permute(0, 4, 3, 1, 2).flatten(1, 2)
        return twin_deform_conv.deform_conv(x, rows_then_columns, mask, kernel, **options)

    arrays, gradient = deformed((-(-9 // stride), -(-11 // stride)))
    agree(lambda *given: headhunter_deform_conv2d(*given, **options), theirs, arrays, gradient)


def test_soft_nms_decides_as_headhunters():
    """Crowds of heads: the boxes in the order of their selection, each with its own decayed score."""
    rng = np.random.default_rng(0)
    cases, count = 100, 80
    corners = rng.uniform(0, 120, (cases, count, 2))
    boxes = np.concatenate([corners, corners + rng.uniform(2, 60, (cases, count, 2))], -1).astype(np.float32)
    scores = rng.uniform(0.05, 1, (cases, count)).astype(np.float32)
    found = jax.jit(jax.vmap(lambda b, s: soft_nms(b, s, None, SoftNMS(plus_one=True))))(boxes, scores)
    for case in range(cases):
        rows, decayed = twin_soft_nms(boxes[case], scores[case])
        kept = np.asarray(found.valid[case])
        assert np.asarray(found.indices[case])[kept].tolist() == rows
        np.testing.assert_allclose(np.asarray(found.scores[case])[kept], decayed, rtol=1e-5)
        assert len(rows) > 20


@pytest.mark.parametrize("hardest", [None, 3, 500])
def test_ohem_against_pytorch(hardest):
    """Losses and gradients; with as many as were sampled, or none, it is the mean, what the original computes."""
    rng = np.random.default_rng(0)
    images, samples, classes = 2, 8, 3
    logits = rng.normal(size=(images, samples, classes)).astype(np.float32)
    deltas = rng.normal(size=(images, samples, classes, 4)).astype(np.float32)
    labels = rng.integers(0, classes, (images, samples))
    targets = rng.normal(size=(images, samples, 4)).astype(np.float32)
    sampled = ProposalTargets(
        jnp.zeros((images, samples, 4)), jnp.asarray(labels), jnp.asarray(targets), jnp.ones((images, samples), bool)
    )

    def ours(logits, deltas):
        values = box_losses(RoIOutputs(logits, deltas), sampled, 1.0, hardest)
        return sum(values.values()), values

    (_, values), gradients = jax.value_and_grad(ours, argnums=(0, 1), has_aux=True)(logits, deltas)
    x, y = torch.tensor(logits, requires_grad=True), torch.tensor(deltas, requires_grad=True)
    truth = torch.tensor(labels)
    each = torch.nn.functional.cross_entropy(x.flatten(0, 1), truth.flatten(), reduction="none").unflatten(0, (2, 8))
    classifier = each.topk(min(hardest or samples, samples), dim=1).values.mean()
    image, sample = (truth > 0).nonzero(as_tuple=True)
    chosen = y[image, sample, truth[image, sample]]
    wanted = torch.tensor(targets)[image, sample]
    box = torch.nn.functional.smooth_l1_loss(chosen, wanted, reduction="sum", beta=1.0) / truth.numel()
    (classifier + box).backward()
    close(values["loss_classifier"], classifier)
    close(values["loss_box_reg"], box)
    close(gradients[0], x.grad)
    close(gradients[1], y.grad)
    assert (classifier > each.mean() + 0.1) == (hardest == 3)


@pytest.fixture(scope="module")
def retinaface(shared):
    """PyTorch's body, pyramid and SSH modules with the trained weights, and the conversion."""
    path = shared / "weights" / "retinaface_mobilenet0.25.pth"
    layers = {"stage1": "1", "stage2": "2", "stage3": "3"}
    module = twin.Backbone(MobileNetV1(0.25), layers, (64, 128, 256), 64, "ssh", True).eval()
    tensors = {name: torch.from_numpy(np.array(array)) for name, array in read_weights(path).tensors.items()}
    heads = {name for name in tensors if "Head." in name}
    module.load_state_dict({name: tensor for name, tensor in tensors.items() if name not in heads}, strict=True)
    return module, convert_weights(path), heads


def test_retinafaces_features(retinaface, shared):
    """A real image as RetinaFace takes it: blue first, in 0..255, less the mean."""
    module, conversion, heads = retinaface
    assert set(conversion.dropped) == heads and len(heads) == 18
    file = min((shared / "data" / "bccd" / "JPEGImages").glob("*.jpg"))
    image = np.asarray(Image.open(file).convert("RGB"))[..., ::-1].astype(np.float32) - np.float32([104, 117, 123])

    @jax.jit
    def stages(state, x):
        model = nnx.merge(graphdef, state)
        body = model.backbone.features(x)
        pyramid = model.fpn(body)
        return body, pyramid, [ssh(x) for ssh, x in zip(model.context, pyramid.values(), strict=True)]

    graphdef, state = nnx.split(conversion.model)
    body, pyramid, context = stages(state, image[None])
    with torch.no_grad():
        x = torch.from_numpy(image.transpose(2, 0, 1)[None].copy())
        their_body = module.body(x)
        their_pyramid = module.fpn(their_body)
        their_context = module(x)
    for ours, theirs in ((body, their_body), (pyramid, their_pyramid), (dict(enumerate(context)), their_context)):
        assert len(ours) == len(theirs) == 3
        for mine, other in zip(ours.values(), theirs.values(), strict=True):
            close(np.asarray(mine).transpose(0, 3, 1, 2), other)
