"""Parts alone, in a foreign NNX module, and through `nnx.bridge` in a Linen one."""

from __future__ import annotations

import inspect

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen, nnx

import jaxdet
from jaxdet.nn import ConvNormAct, NormConfig, Numerics, strided
from jaxdet.types import Images
from torchvision_cpu import torchvision_or_skip


class ForeignHead(nnx.Module):
    """Somebody else's module: plain nnx layers around parts of jaxdet."""

    def __init__(self, *, rngs):
        self.stem = nnx.Conv(3, 8, (3, 3), strides=2, rngs=rngs)
        self.deep = nnx.Conv(8, 12, (3, 3), strides=2, rngs=rngs)
        self.fpn = jaxdet.FPN((8, 12), 6, rngs=rngs)
        self.out = nnx.Linear(6, 1, rngs=rngs)

    def __call__(self, x, boxes, valid):
        shallow = self.stem(x)
        maps = self.fpn({"shallow": shallow, "deep": self.deep(shallow)})
        pool = jax.vmap(lambda f, b, v: jaxdet.roi_align(f, b, 3, 0.5, sampling_ratio=2, aligned=True, valid=v))
        pooled = pool(maps["shallow"], boxes, valid)  # [B, R, 3, 3, 6]
        scores = self.out(pooled.mean((2, 3)))[..., 0]
        keep = jax.vmap(lambda b, s, v: jaxdet.nms(b, s, 0.5, valid=v))
        return scores, keep(boxes, scores, valid)


def _inputs():
    rng = np.random.default_rng(0)
    corner = rng.uniform(0, 12, (2, 5, 2))
    boxes = np.concatenate([corner, corner + 10], -1).astype(np.float32)
    valid = np.array([[True] * 5, [True, True, False, False, False]])
    boxes[~valid] = np.nan
    return jnp.asarray(rng.normal(size=(2, 32, 32, 3)), jnp.float32), jnp.asarray(boxes), jnp.asarray(valid)


def test_in_a_foreign_nnx_module_with_gradients():
    module = ForeignHead(rngs=nnx.Rngs(0))
    x, boxes, valid = _inputs()
    graphdef, state = nnx.split(module)

    @jax.jit
    def run(state):
        def loss(state):
            scores, kept = nnx.merge(graphdef, state)(x, boxes, valid)
            return jnp.where(valid, scores, 0).sum(), kept

        return jax.value_and_grad(loss, has_aux=True)(state)

    (value, (indices, kept)), gradient = run(state)
    assert np.isfinite(float(value))
    assert kept[1].sum() <= 2 and set(np.asarray(indices[1])[np.asarray(kept[1])]) <= {0, 1}
    leaves = jax.tree.leaves(gradient)
    assert all(np.isfinite(leaf).all() for leaf in leaves) and any(np.abs(leaf).max() > 0 for leaf in leaves)


def test_in_a_linen_module():
    class Pyramid(linen.Module):
        @linen.compact
        def __call__(self, x):
            first = linen.Conv(8, (3, 3), strides=2)(x)
            second = linen.Conv(12, (3, 3), strides=2)(first)
            fpn = nnx.bridge.ToLinen(jaxdet.FPN, args=((8, 12), 6))
            return fpn({"first": first, "second": second})

    x, _, _ = _inputs()
    module = Pyramid()
    variables = module.init(jax.random.key(0), x)
    maps = jax.jit(module.apply)(variables, x)
    assert {name: level.shape for name, level in maps.items()} == {
        "first": (2, 16, 16, 6),
        "second": (2, 8, 8, 6),
        "pool": (2, 4, 4, 6),
    }


def test_box_coder_and_anchors_under_jit_vmap_and_grad():
    coder = jaxdet.BoxCoder((10.0, 10.0, 5.0, 5.0))
    boxes = jnp.array([[[0.0, 0, 10, 10], [5, 5, 20, 25]]])
    deltas = jax.jit(jax.vmap(coder.encode))(boxes + 1, boxes)
    np.testing.assert_allclose(jax.vmap(coder.decode)(deltas, boxes), boxes + 1, rtol=1e-5)
    # The lower right corner moves by a tenth of the box's side, and by a fifth of half of it (both boxes keep theirs).
    gradient = jax.grad(lambda d: coder.decode(d, boxes[0])[:, 2:].sum())(deltas[0])
    np.testing.assert_allclose(gradient, [[1, 1, 1, 1], [1.5, 2, 1.5, 2]], rtol=1e-5)
    generator = jaxdet.AnchorGenerator((8, 16), (1.0,))
    extents = jnp.array([[32, 32]])
    make = jax.jit(lambda extents: generator([(4, 4), (2, 2)], extents, [extents // 8, extents // 16]))
    anchors, valid = make(extents)
    assert [level.shape for level in anchors] == [(1, 16, 4), (1, 4, 4)] and all(v.all() for v in valid)


class TinyBackbone(nnx.Module):
    channels = {"c3": 8, "c4": 12}  # noqa: RUF012
    strides = {"c3": 8, "c4": 16}  # noqa: RUF012
    masks_padding = True

    def __init__(self, *, rngs):
        def conv(i, o):
            return ConvNormAct(i, o, 3, stride=2, norm=NormConfig(), numerics=Numerics(), rngs=rngs)

        self.stem = nnx.List([conv(3, 4), conv(4, 6), conv(6, 8)])
        self.last = conv(8, 12)

    def features(self, x, extents=None, *, train=False):
        for layer in self.stem:
            x = layer(x, extents, train=train)
            extents = strided(extents, 2)
        return {"c3": x, "c4": self.last(x, extents, train=train)}


def test_a_backbone_of_ones_own_detects_saves_and_loads(tmp_path):
    options = {"fpn_out_channels": 8, "box_representation_size": 16, "min_size": 64, "max_size": 64}
    model = jaxdet.faster_rcnn(
        TinyBackbone(rngs=nnx.Rngs(0)), 3, rngs=nnx.Rngs(1), names=("__background__", "cat", "dog"), **options
    )
    image = np.random.default_rng(0).integers(0, 256, (40, 60, 3), np.uint8)
    (found,) = jaxdet.predict(model, [image], score_threshold=0.01)
    assert found["boxes"].shape == (len(found["scores"]), 4) and len(found["names"]) == len(found["labels"]) > 0
    jaxdet.save(model, tmp_path / "model")
    with pytest.raises(ValueError, match="has no backbone: pass your own"):
        jaxdet.load(tmp_path / "model")
    again = jaxdet.load(tmp_path / "model", backbone=TinyBackbone(rngs=nnx.Rngs(7)))
    (same,) = jaxdet.predict(again, [image], score_threshold=0.01)
    np.testing.assert_array_equal(same["boxes"], found["boxes"])


def test_a_backbone_that_does_not_mask_says_so():
    class Plain(TinyBackbone):
        masks_padding = False

    with pytest.raises(ValueError, match='canvas="fast"'):
        jaxdet.faster_rcnn(Plain(rngs=nnx.Rngs(0)), 3, rngs=nnx.Rngs(1))
    model = jaxdet.faster_rcnn(
        Plain(rngs=nnx.Rngs(0)), 3, rngs=nnx.Rngs(1), canvas="fast", fpn_out_channels=8, box_representation_size=16
    )
    images = Images(jnp.zeros((1, 64, 64, 3)), jnp.array([[50, 60]]))
    features = jax.jit(model.features)(images)
    assert model.rpn(features, images).valid[0].all()


def test_anchors_that_do_not_match_the_levels_say_both():
    with pytest.raises(ValueError, match=r"3 levels, but there are 4 feature maps"):
        jaxdet.create_model(
            "fasterrcnn_mobilenet_v1_fpn", rpn_anchor_generator=jaxdet.AnchorGenerator((32, 64, 128), (1.0,))
        )


def test_defaults_are_torchvisions():
    torchvision_or_skip()
    from torchvision.models.detection import FasterRCNN

    config = jaxdet.models.model_config("fasterrcnn_resnet50_fpn")
    compared = 0
    for name, parameter in inspect.signature(FasterRCNN.__init__).parameters.items():
        part, _, field = name.partition("_")
        if part in ("rpn", "box") and isinstance(parameter.default, int | float):
            assert getattr(getattr(config, part), field) == parameter.default, name
            compared += 1
    assert compared == 17
    assert (config.transform.min_size, config.transform.max_size) == (800, 1333)
    assert config.rpn.smooth_l1_beta == config.box.smooth_l1_beta == 1 / 9  # which there stand within the losses


def test_options_are_torchvisions_and_unknown_ones_name_the_nearest():
    options = {"min_size": 600, "rpn_nms_thresh": 0.6, "bbox_reg_weights": [1, 1, 1, 1]}
    config = jaxdet.models.model_config("fasterrcnn_resnet50_fpn", **options)
    assert (config.transform.min_size, config.rpn.nms_thresh, config.box.reg_weights) == (600, 0.6, (1, 1, 1, 1))
    assert hash(config) == hash(config)
    with pytest.raises(ValueError, match="did you mean 'rpn_nms_thresh'"):
        jaxdet.models.model_config("fasterrcnn_resnet50_fpn", rpn_nms_threshold=0.6)
    with pytest.raises(ValueError, match="did you mean 'resnet50'"):
        jaxdet.create_model("resnet_50")
