"""Templates and tables read in both directions; transforms lose no bit."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jaxdet_convert import rules
from jaxdet_convert.rules import Rule, Spelling, Table, Template

TABLE = Table(
    (
        Rule("body.layer{l}.{b}.conv{c}.weight", "backbone.layer{l}.blocks.{b}.conv{c}.kernel", rules.CONV),
        Rule("body.layer{l}.{b}.{n:bn1|bn2}.weight", "backbone.layer{l}.blocks.{b}.{n}.scale"),
        Rule("fpn.inner.{i}.0.{p:weight|bias}", "neck.inner_{i}.{p}"),
        Rule("head.{rest:path}.bias", "head.{rest}.bias"),
        Rule("{x:name}.top", "tops.{x}"),
    ),
    (Spelling("fpn.inner.{i}.{p:weight|bias}", "fpn.inner.{i}.0.{p}"),),
)


@pytest.mark.parametrize(
    ("name", "path"),
    [
        ("body.layer1.10.conv2.weight", "backbone.layer1.blocks.10.conv2.kernel"),
        ("body.layer4.0.bn2.weight", "backbone.layer4.blocks.0.bn2.scale"),
        ("fpn.inner.3.0.bias", "neck.inner_3.bias"),
        ("head.a.b_1.0.bias", "head.a.b_1.0.bias"),
        ("fc.top", "tops.fc"),
    ],
)
def test_names_both_ways(name, path):
    assert [found for _, found in TABLE.forward(name)] == [path]
    assert [found for _, found in TABLE.inverse(path)] == [name]


@pytest.mark.parametrize(
    "name",
    [
        "body.layer01.0.conv1.weight",
        "body.layer-1.0.conv1.weight",
        "body.layer1.0.conv\u0661.weight",  # a digit, and not an ASCII one
        "body.layer1.0.conv1\u0661.weight",
        "body.layer1.0.conv1.weight.x",
        "body.layer1.0.bn3.weight",
        "bodyXlayer1.0.conv1.weight",
        "a.b.top",
        "fc.top\n",
        "",
    ],
)
def test_names_of_another_form(name):
    assert TABLE.forward(name) == []


@given(st.integers(0, 10**6), st.integers(0, 99), st.integers(0, 9))
def test_numbers_come_back(layer, block, conv):
    name = f"body.layer{layer}.{block}.conv{conv}.weight"
    ((rule, path),) = TABLE.forward(name)
    assert rule.inverse(path) == name


def test_spellings():
    assert TABLE.modern("fpn.inner.2.weight") == "fpn.inner.2.0.weight"
    assert TABLE.modern("fpn.inner.2.0.weight") == "fpn.inner.2.0.weight"


@pytest.mark.parametrize("text", ["{i}{j}", "{i}.{i}", "{I}", "a{", "}", "{}", "{x:nmae}"])
def test_malformed_templates(text):
    with pytest.raises(ValueError, match="template"):
        Template(text)


@pytest.mark.parametrize(("source", "target"), [("{i}", "a"), ("a", "{i}"), ("{i}", "{i:name}"), ("{i}.{j}", "{i}")])
def test_sides_with_different_gaps(source, target):
    with pytest.raises(ValueError, match="different gaps"):
        Rule(source, target)


FLATTEN = rules.flatten_linear(3, 2, 4)


@pytest.mark.parametrize(
    ("transform", "shape", "laid_out"),
    [
        (rules.IDENTITY, (3,), (3,)),
        (rules.CONV, (8, 3, 5, 7), (5, 7, 3, 8)),
        (rules.DEPTHWISE, (8, 1, 3, 3), (3, 3, 1, 8)),
        (rules.CONV_TRANSPOSE, (3, 8, 5, 7), (5, 7, 3, 8)),
        (rules.LINEAR, (4, 6), (6, 4)),
        (FLATTEN, (5, 24), (24, 5)),
    ],
    ids=lambda value: getattr(value, "name", None),
)
@pytest.mark.parametrize("dtype", ["<u4", "<u2"])
def test_transforms_lose_no_bit(transform, shape, laid_out, dtype):
    # Random bits, so with NaNs of every payload.
    raw = np.random.default_rng(0).integers(0, 2**32, shape).astype(dtype)
    array = raw.view("<f4" if dtype == "<u4" else "<f2")
    there = transform.forward(array)
    assert there.shape == laid_out
    back = transform.inverse(there)
    assert back.shape == shape and back.tobytes() == array.tobytes()


def test_flatten_linear_gives_the_same_product():
    rng = np.random.default_rng(0)
    features, weight = rng.integers(-9, 9, (3, 2, 4)), rng.integers(-9, 9, (5, 24))
    np.testing.assert_array_equal(
        features.transpose(1, 2, 0).reshape(-1) @ FLATTEN.forward(weight), weight @ features.reshape(-1)
    )


def test_conv_transpose_against_torch():
    torch = pytest.importorskip("torch")
    from jaxdet.ops import conv_transpose_2x

    rng = np.random.default_rng(0)
    image, weight = (rng.integers(-4, 4, shape).astype(np.float32) for shape in ((1, 3, 5, 6), (3, 2, 8, 8)))
    want = torch.nn.functional.conv_transpose2d(torch.tensor(image), torch.tensor(weight), stride=2, padding=3)
    got = conv_transpose_2x(image.transpose(0, 2, 3, 1), rules.CONV_TRANSPOSE.forward(weight))
    np.testing.assert_array_equal(np.asarray(got).transpose(0, 3, 1, 2), want.numpy())


def test_counters():
    there = rules.COUNTER.forward(np.array(2**31 - 1))
    assert there.dtype == np.int32 and there.shape == ()
    back = rules.COUNTER.inverse(there)
    assert back.dtype == np.int64 and back == 2**31 - 1
    for dtype in (np.float64, np.float32, np.float16, np.int32, np.uint8):
        there = rules.COUNTER.forward(np.array(7, dtype))
        assert there.dtype == np.int32 and there == 7
    for bad in (*map(np.array, (2**31, -(2**31) - 1, [1], 1.5, np.inf, np.nan, True, 1j, 1e300)),):
        with pytest.raises(ValueError, match="counter"):
            rules.COUNTER.forward(bad)
