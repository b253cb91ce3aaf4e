"""Strict both ways: everything that does not fit is named, at once."""

import pickle
from types import SimpleNamespace

import jax
import ml_dtypes
import numpy as np
import pytest

from jaxdet_convert.apply import ConversionError, to_jax, to_torch
from jaxdet_convert.rules import CONV, COUNTER, LINEAR, Rule, Spelling, Table

TABLE = Table(
    (
        Rule("conv{i}.weight", "convs.{i}.kernel", CONV),
        Rule("bn.count", "norm.count", COUNTER),
        Rule("head.0.{p:weight|bias}", "head.{p}"),
        Rule("fc.weight", "fc.kernel", LINEAR),
    ),
    (Spelling("head.{p:weight|bias}", "head.0.{p}"),),
)


def tensors():
    rng = np.random.default_rng(0)
    return {
        "conv1.weight": rng.normal(size=(4, 3, 2, 2)).astype(np.float32),
        "bn.count": np.array(7),
        "head.0.weight": rng.normal(size=(3,)).astype(np.float32),
        "fc.weight": rng.normal(size=(2, 3)).astype(np.float32),
    }


def struct(*shape, dtype=np.float32):
    return jax.ShapeDtypeStruct(shape, dtype)


def target():
    return {
        "fc.kernel": struct(3, 2),
        "convs.1.kernel": struct(2, 2, 3, 4),
        "norm.count": struct(dtype=np.int32),
        "head.weight": struct(3),
    }


def test_there_and_back():
    source = tensors()
    there = to_jax(source, TABLE, target())
    assert list(there.arrays) == list(target())
    assert there.dropped == there.fresh == () and there.respelled == {}
    for path, want in target().items():
        assert (there.arrays[path].shape, there.arrays[path].dtype) == (want.shape, want.dtype)
        assert there.arrays[path].flags.c_contiguous
    np.testing.assert_array_equal(there.arrays["fc.kernel"], source["fc.weight"].T)
    back = to_torch(there.arrays, TABLE, source)
    assert list(back) == list(source)
    for name, tensor in source.items():
        assert (back[name].dtype, back[name].shape) == (tensor.dtype, tensor.shape)
        assert back[name].tobytes() == tensor.tobytes()
    assert to_torch(there.arrays, TABLE).keys() == source.keys()


def test_old_spellings_are_recorded_and_undone():
    source = tensors()
    source["head.weight"] = source.pop("head.0.weight")
    there = to_jax(source, TABLE, target())
    assert there.respelled == {"head.0.weight": "head.weight"}
    assert to_torch(there.arrays, TABLE, respelled=there.respelled).keys() == source.keys()
    assert to_torch(there.arrays, TABLE).keys() == tensors().keys()
    with pytest.raises(ConversionError, match=r"head\.0\.weight, also in its old spelling head\.weight"):
        to_jax(source | tensors(), TABLE, target())


def test_every_problem_is_listed():
    source = tensors() | {
        "conv2.weight": np.zeros((1, 1, 1, 1), np.float32),
        "mystery": np.zeros((5,), np.float32),
        "conv1.weight": np.zeros((4, 3, 5, 5), np.float32),
        "fc.weight": np.zeros((3,), np.float32),
        "bn.count": np.array(2**40),
    }
    want = target() | {"extra": struct(9), "fc.bias": struct(2)}
    table = Table((*TABLE.rules, Rule("{x:name}.count", "other.{x}")))
    with pytest.raises(ConversionError) as caught:
        to_jax(source, table, want)
    problems = caught.value.problems
    assert list(problems) == sorted(problems) and len(problems) == 8
    text = str(caught.value)
    for line in [
        "8 problems",
        "mapped twice: bn.count -> norm.count, other.bn",
        "not in the model: conv2.weight (1, 1, 1, 1) -> convs.2.kernel",
        "shape: conv1.weight -> convs.1.kernel: (4, 3, 5, 5) becomes (5, 5, 3, 4) by conv; expected (2, 2, 3, 4)",
        "shape: fc.weight -> fc.kernel: linear does not take float32 (3,) (",
        "unfilled: extra (9,) (no rule maps to it)",
        "unfilled: fc.bias (2,) (no rule maps to it)",
        "unfilled: norm.count () <- bn.count",
        "unmapped: mystery (5,)",
    ]:
        assert line in text
    again = pickle.loads(pickle.dumps(caught.value))
    assert again.problems == problems and str(again) == text


def test_drop_and_fresh_are_explicit_and_reported():
    source = tensors() | {"classifier.weight": np.zeros((2, 2), np.float32)}
    want = target() | {"convs.2.kernel": struct(1, 1, 1, 1)}
    there = to_jax(source, TABLE, want, drop=["classifier.{p:path}"], fresh=["convs.{i}.kernel"])
    assert there.dropped == ("classifier.weight",) and there.fresh == ("convs.2.kernel",)
    assert there.arrays.keys() == target().keys()
    # A rule's own names can be dropped too; then their paths have to be fresh.
    there = to_jax(tensors(), TABLE, target(), drop=["fc.weight"], fresh=["fc.kernel"])
    assert there.dropped == ("fc.weight",)
    with pytest.raises(ConversionError, match=r"unfilled: fc\.kernel \(3, 2\) <- fc\.weight"):
        to_jax(tensors(), TABLE, target(), drop=["fc.weight"])


def test_a_template_that_matches_nothing_is_a_problem():
    with pytest.raises(ConversionError, match=r"drop: nothing matches 'fc\.weigth'; did you mean 'fc\.weight'"):
        to_jax(tensors(), TABLE, target(), drop=["fc.weigth"])
    with pytest.raises(ConversionError, match=r"fresh: nothing matches 'fc\.kernal'; did you mean 'fc\.kernel'"):
        to_jax(tensors(), TABLE, target(), fresh=["fc.kernal"])
    arrays = to_jax(tensors(), TABLE, target()).arrays
    with pytest.raises(ConversionError, match=r"drop: nothing matches 'od'"):
        to_torch(arrays, TABLE, drop=["od"])


@pytest.mark.parametrize("template", ["head.{p:weight|bias}", "head.0.{p:weight|bias}", "head.0.weight", "head.weight"])
def test_an_old_name_is_dropped_by_either_spelling(template):
    source = tensors()
    source["head.weight"] = source.pop("head.0.weight")
    there = to_jax(source, TABLE, target(), drop=[template], fresh=["head.weight"])
    assert there.dropped == ("head.weight",) and there.fresh == ("head.weight",) and there.respelled == {}
    assert there.arrays.keys() == target().keys() - {"head.weight"}


def test_two_sources_for_one_path():
    table = Table((Rule("a", "x"), Rule("b", "x")))
    source = {"a": np.zeros(2, np.float32), "b": np.zeros(2, np.float32)}
    with pytest.raises(ConversionError, match="filled twice: x <- a, b"):
        to_jax(source, table, {"x": struct(2)})
    with pytest.raises(ConversionError, match="mapped twice: x -> a, b"):
        to_torch({"x": source["a"]}, table)


def test_what_could_not_be_read_back_is_not_written():
    table = Table((Rule("a", "x"), Rule("a", "y")))
    with pytest.raises(ConversionError, match="not readable back: x -> a"):
        to_torch({"x": np.zeros(2, np.float32)}, table)


@pytest.mark.parametrize(
    ("dtype", "wanted"),
    [("float16", "float32"), ("bfloat16", "float32"), ("float64", "float32"), ("float32", "bfloat16")],
)
def test_floats_are_cast_as_torch_casts_them_and_counted(dtype, wanted):
    torch = pytest.importorskip("torch")
    table = Table((Rule("{x:name}", "{x}"),))
    values = [0.1, 1 / 3, -0.0, 1e-45, np.inf, np.nan]
    array = np.array(values).astype(dtype)
    there = to_jax({"a": array, "b": array}, table, {"a": struct(6, dtype=wanted), "b": struct(6, dtype=wanted)})
    result = torch.tensor(array.astype(np.float64), dtype=getattr(torch, dtype)).to(getattr(torch, wanted))
    assert str(there.arrays["a"].dtype) == wanted
    np.testing.assert_array_equal(there.arrays["a"].astype(np.float64), result.double().numpy())
    assert there.cast == {(dtype, wanted): 2}
    assert to_jax({"a": array}, table, {"a": struct(6, dtype=dtype)}).cast == {}


def test_numbers_beyond_the_wanted_dtype_are_a_problem():
    table = Table((Rule("a", "a"),))
    with pytest.raises(ConversionError, match=r"range: a -> a: float64 numbers that float32 cannot represent"):
        to_jax({"a": np.array([1.0, 1e39])}, table, {"a": struct(2)})


@pytest.mark.parametrize("dtype", [np.int32, np.int8, np.bool_, np.complex64, ml_dtypes.float8_e4m3fn])
def test_other_dtypes_are_a_problem_of_one_line(dtype):
    table = Table((Rule("{x:name}", "{x}"),))
    names = "abcd"
    with pytest.raises(ConversionError) as caught:
        to_jax({name: np.zeros(2, dtype) for name in names}, table, {name: struct(2) for name in names})
    assert caught.value.problems == (f"dtype: a -> a and 3 more: {np.dtype(dtype)}; expected float32",)
    with pytest.raises(ConversionError, match=r"dtype: a -> a: \w+; expected float32"):
        to_jax({"a": np.zeros(2, dtype)}, table, {"a": struct(2)})


def test_writing_does_not_narrow():
    table = Table((Rule("a", "a"),))
    assert to_torch({"a": np.ones(2, np.float32)}, table, {"a": struct(2, dtype=np.float64)})["a"].dtype == np.float64
    with pytest.raises(ConversionError, match="dtype: a -> a: float64; expected float32"):
        to_torch({"a": np.ones(2)}, table, {"a": struct(2)})


def test_writing_is_strict():
    arrays = to_jax(tensors(), TABLE, target()).arrays
    with pytest.raises(ConversionError) as caught:
        to_torch(
            arrays | {"odd": np.zeros(3), "convs.1.kernel": np.zeros((1, 1, 1, 1), np.float32)},
            TABLE,
            {name: t for name, t in tensors().items() if name != "fc.weight"} | {"more": np.zeros(1)},
        )
    assert caught.value.problems == (
        "missing: more (1,)",
        "not expected: fc.kernel (3, 2) -> fc.weight",
        "shape: convs.1.kernel -> conv1.weight: (1, 1, 1, 1) becomes (1, 1, 1, 1) by conv; expected (4, 3, 2, 2)",
        "unmapped: odd (3,)",
    )
    assert to_torch(arrays | {"odd": np.zeros(3)}, TABLE, drop=["odd"]).keys() == tensors().keys()


def test_jax_arrays_and_any_shaped_target():
    arrays = {path: jax.numpy.asarray(array) for path, array in to_jax(tensors(), TABLE, target()).arrays.items()}
    assert to_torch(arrays, TABLE)["bn.count"].dtype == np.int64
    shaped = {path: SimpleNamespace(shape=a.shape, dtype=a.dtype) for path, a in arrays.items()}
    assert to_jax(tensors(), TABLE, shaped).arrays.keys() == shaped.keys()
