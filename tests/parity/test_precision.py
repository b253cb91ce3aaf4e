"""float32 means float32: the precision is read off the lowered program, also for platforms that are not here.

GPUs compute float32 products in TF32 by default and TPUs in bfloat16; only the program itself can say what it asks for.
"""

from __future__ import annotations

import re
from functools import cache

import jax
import jax.numpy as jnp
import pytest
from flax import nnx

from jaxdet.models.registry import abstract, model_config
from jaxdet.nn import Numerics
from jaxdet.training import losses
from jaxdet.types import Images, Targets

DETECTORS = (
    "fasterrcnn_resnet50_fpn",
    "fasterrcnn_resnet50_fpn_v2",
    "fasterrcnn_mobilenet_v1_fpn",
    "fasterrcnn_darknet53_fpn",
)
CLASSIFIERS = ("resnet50", "mobilenet_v1", "darknet53")
PLATFORMS = ("cpu", "cuda", "tpu")
PRODUCT = re.compile(r"stablehlo\.(convolution|dot_general)\b")
FEW = {"rpn_pre_nms_top_n_test": 50, "rpn_post_nms_top_n_test": 20}
SLIM = {name: {"backbone_blocks": (1, 1, 1, 1)} for name in DETECTORS[:2]}  # all that a long ResNet has


@cache
def program(name, *platforms, dtype="float32", precision="highest"):
    """StableHLO of one forward pass on a 64x64 canvas; nothing is computed, and no parameter is made.

    For several platforms it holds every platform's own branches.
    """
    numerics = Numerics(dtype, precision=precision)
    options = FEW | SLIM.get(name, {}) if name in DETECTORS else {}
    graphdef, state = nnx.split(abstract(model_config(name, **options), numerics=numerics))
    pixels = jax.ShapeDtypeStruct((1, 64, 64, 3), jnp.float32)

    if name in DETECTORS:
        images = Images(pixels, jax.ShapeDtypeStruct((1, 2), jnp.int32))
    else:
        images = pixels

    @jax.jit
    def forward(state, images):
        return nnx.merge(graphdef, state)(images)

    return forward.trace(state, images).lower(lowering_platforms=platforms).as_text()


def products(text):
    """Every convolution and matrix product, each as the line that holds its types and its precision."""
    return [line for line in text.splitlines() if PRODUCT.search(line)]


def operands(line):
    """Element types of its two operands, such as ``("f32", "f32")``."""
    types = re.search(r":\s*\(tensor<([^>]*)>, tensor<([^>]*)>\)", line)
    assert types, line
    return tuple(kind.split("x")[-1] for kind in types.groups())


def assert_highest(text, at_least):
    lines = products(text)
    floats = [line for line in lines if "f32" in operands(line)]
    assert len(floats) >= at_least
    for line in floats:
        assert operands(line) == ("f32", "f32"), line
        assert line.count("HIGHEST") == 2, line  # one for each operand
    # What is left are matrices of 0 and 1, which bfloat16 holds exactly: NMS for matrix units.
    rest = [line for line in lines if line not in floats]
    assert all(operands(line) == ("bf16", "bf16") for line in rest)
    return rest


@pytest.mark.parametrize("name", [*DETECTORS[:3], pytest.param(DETECTORS[3], marks=pytest.mark.verify), *CLASSIFIERS])
def test_every_float32_product_asks_for_the_highest_precision(name):
    rest = assert_highest(program(name, *PLATFORMS), 14)
    assert bool(rest) == (name in DETECTORS)


def test_so_does_a_program_for_one_platform():
    """As it is compiled there: NMS with four products of 0-1 matrices."""
    assert len(assert_highest(program(DETECTORS[0], "tpu"), 40)) == 4


@pytest.mark.parametrize("name", [DETECTORS[0], DETECTORS[2]])
def test_so_do_the_gradients(name):
    options = SLIM.get(name, {})
    model = abstract(model_config(name, rpn_post_nms_top_n_train=20, box_batch_size_per_image=16, **options))
    graphdef, params, rest = nnx.split(model, nnx.Param, ...)
    images = Images(jax.ShapeDtypeStruct((2, 64, 64, 3), jnp.float32), jax.ShapeDtypeStruct((2, 2), jnp.int32))
    targets = Targets(
        jax.ShapeDtypeStruct((2, 3, 4), jnp.float32),
        jax.ShapeDtypeStruct((2, 3), jnp.int32),
        jax.ShapeDtypeStruct((2, 3), jnp.bool_),
    )

    @jax.jit
    def gradient(params, rest, images, targets):
        def total(params):
            model = nnx.merge(graphdef, params, rest, copy=True)
            return sum(losses(model, images, targets, jax.random.split(jax.random.key(0))).values())

        return jax.grad(total)(params)

    text = gradient.trace(params, rest, images, targets).lower(lowering_platforms=PLATFORMS).as_text()
    assert_highest(text, 80)


@pytest.mark.parametrize("name", DETECTORS[1:3])
def test_an_option_lowers_it(name):
    lines = [line for line in products(program(name, "tpu", precision="default")) if "f32" in operands(line)]
    convolutions = [line for line in lines if "convolution" in line]
    assert len(convolutions) >= 24
    assert not any("HIGHEST" in line for line in convolutions)


@pytest.mark.parametrize("name", DETECTORS[1:3])
def test_bfloat16_computes_boxes_and_scores_in_float32(name):
    text = program(name, "tpu", dtype="bfloat16")
    convolutions = [line for line in products(text) if "convolution" in line]
    assert convolutions and all(operands(line) == ("bf16", "bf16") for line in convolutions)
    # Softmax, sigmoid, box decoding, levels by size, the norms' square roots.
    curves = re.findall(r"stablehlo\.(exponential|logistic|log|sqrt|rsqrt)\b.*: .*tensor<(?:\d+x)*(\w+)>", text)
    assert {"exponential", "log", "sqrt"} <= {operation for operation, _ in curves}
    assert {kind for _, kind in curves} == {"f32"}
    # Whatever is compared, sorted or divided along the way to a box is float32, too.
    ranked = re.findall(r"chlo\.top_k\(.*: tensor<(?:\d+x)*(\w+)>", text)
    assert ranked and set(ranked) == {"f32"}
    divided = re.findall(r"stablehlo\.divide\b.*: tensor<(?:\d+x)*(\w+)>", text)
    assert divided and "bf16" not in divided
    (signature,) = re.findall(r"func\.func public @main\(.*", text)
    results = re.findall(r"tensor<1x100(?:x4)?x(\w+)>", signature.split("->", 1)[1])
    assert sorted(results) == ["f32", "f32", "i1", "i32"]
