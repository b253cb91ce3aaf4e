"""What torch.save wrote is read without torch, bit for bit, against torch.load on the same file."""

import argparse
import collections
import pathlib
import pickle
import zipfile

import ml_dtypes
import numpy as np
import pytest

from jaxdet_convert.read.errors import WeightsError
from jaxdet_convert.read.weights import read_weights

torch = pytest.importorskip("torch", reason="torch writes the checkpoints that are read here")

SHARED = pathlib.Path(__file__).resolve().parents[4] / "shared" / "weights"
FORMATS = pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])
DTYPES = "float32 float64 float16 bfloat16 int64 int32 int16 int8 uint8 bool complex64 complex128".split()
YOUNG_DTYPES = "uint16 uint32 uint64 float8_e4m3fn float8_e5m2".split()


def save(value, path, zipped, **options):
    torch.save(value, path, _use_new_zipfile_serialization=zipped, **options)
    return path


def bits(tensor):
    """A torch tensor's values as bytes, whatever its dtype."""
    return tensor.detach().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()


def assert_same(tensors, state):
    assert list(tensors) == list(state)
    for name, tensor in state.items():
        array = tensors[name]
        assert array.shape == tuple(tensor.shape), name
        assert f"torch.{array.dtype}" == str(tensor.dtype), name
        assert array.tobytes() == bits(tensor), name


def state_dict():
    generator = torch.Generator().manual_seed(0)
    state = collections.OrderedDict()
    for name in DTYPES:
        dtype = getattr(torch, name)
        state[f"{name}.weight"] = (torch.randn(3, 4, generator=generator) * 50).abs().to(dtype)
        state[f"{name}.scalar"] = torch.tensor(1, dtype=dtype)
        state[f"{name}.empty"] = torch.zeros(0, 3, dtype=dtype)
    base = torch.arange(60.0).reshape(3, 4, 5)
    state["base"] = base
    state["transposed"] = base.permute(2, 0, 1)
    state["slice"] = base[1:, ::2, 1:4]
    state["expanded"] = base[0, 0, :1].expand(7, 2, 1)
    state["parameter"] = torch.nn.Parameter(base[2])
    state["nan"] = torch.tensor([float("nan"), -0.0, float("inf"), 1e-42])
    return state


@FORMATS
def test_every_dtype_view_and_shared_storage(tmp_path, zipped):
    path = save(state_dict(), tmp_path / "w.pth", zipped)
    weights = read_weights(path)
    assert weights.source == ("torch-zip" if zipped else "torch-legacy")
    assert_same(weights.tensors, torch.load(path, weights_only=True))
    assert np.shares_memory(weights.tensors["base"], weights.tensors["slice"])


@FORMATS
@pytest.mark.parametrize("name", YOUNG_DTYPES)
def test_dtypes_without_a_storage_class(tmp_path, name, zipped):
    state = {"a": torch.arange(12).to(getattr(torch, name)).reshape(3, 4).t()}
    path = save(state, tmp_path / "w.pth", zipped)
    assert_same(read_weights(path).tensors, state)  # torch 2.13 cannot load its own legacy file of these


@FORMATS
@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_pickle_protocols(tmp_path, zipped, protocol):
    state = {"a.b": torch.randn(2, 3), "c": torch.nn.Parameter(torch.randn(4))}
    assert_same(read_weights(save(state, tmp_path / "w", zipped, pickle_protocol=protocol)).tensors, state)


@FORMATS
def test_a_training_checkpoint_with_everything_beside(tmp_path, zipped):
    model = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.BatchNorm2d(4))
    model(torch.randn(2, 3, 8, 8)).sum().backward()
    optimizer = torch.optim.SGD(model.parameters(), 0.1, momentum=0.9)
    optimizer.step()
    schedule = torch.optim.lr_scheduler.MultiStepLR(optimizer, [2, 3])
    checkpoint = {
        "epoch": 3,
        "arch": "x",
        "best": np.float64(0.5),
        "history": np.arange(3.0),
        "args": argparse.Namespace(lr=0.1, data=pathlib.PurePosixPath("/data"), device=torch.device("cpu")),
        "size": torch.Size([1, 2]),
        "dtype": torch.float32,
        "misc": {"set": {1, 2}, "default": collections.defaultdict(), "deque": collections.deque([1]), "c": 1 + 2j},
        "optimizer": optimizer.state_dict(),
        "lr_scheduler": schedule.state_dict(),
        "model": model.state_dict(),
    }
    weights = read_weights(save(checkpoint, tmp_path / "w.pth", zipped))
    assert weights.container == "model"
    assert set(weights.beside) == checkpoint.keys() - {"model"}
    assert_same(weights.tensors, model.state_dict())
    with pytest.raises(WeightsError, match=r"under 'misc'"):
        read_weights(tmp_path / "w.pth", container="misc")


@FORMATS
def test_containers_and_prefixes(tmp_path, zipped):
    def state(value, prefix=""):
        return {f"{prefix}w": torch.full((2,), value)}

    path = tmp_path / "w.pth"
    save({"model": state(1.0), "model_ema": {"n_averaged": torch.tensor(7), **state(2.0, "module.")}}, path, zipped)
    with pytest.raises(WeightsError, match=r"several sets of weights: model, model_ema; .*container='model'"):
        read_weights(path)
    assert read_weights(path, container="model").tensors["w"][0] == 1
    average = read_weights(path, container="model_ema")
    assert (average.tensors["w"][0], average.prefix, average.beside) == (2, "module.", ("model", "n_averaged"))
    with pytest.raises(WeightsError, match=r"no container 'state_dict'.*choose one of: model, model_ema"):
        read_weights(path, container="state_dict")

    save({"model_ema": state(2.0), "epoch": 1}, path, zipped)
    assert read_weights(path).container == "model_ema"
    save({"state_dict": state(3.0, "module._orig_mod."), "epoch": 1}, path, zipped)
    weights = read_weights(path)
    assert (weights.tensors["w"][0], weights.prefix, weights.container) == (3, "module._orig_mod.", "state_dict")
    # A prefix that only some names have is a part of the model.
    save({"module.a": torch.zeros(1), "b": torch.zeros(1)}, path, zipped)
    assert list(read_weights(path).tensors) == ["module.a", "b"]


@FORMATS
@pytest.mark.parametrize(
    ("value", "message"),
    [
        (lambda: {"state_dict": {"a": torch.zeros(2), "note": "hello"}}, "the entry note under 'state_dict' is a str"),
        (lambda: {"a": torch.zeros(2), "epoch": 3}, "the entry epoch is a int, not a tensor"),
        (lambda: {"epoch": 3, "lr": 0.1}, "no tensors .its entries are: epoch, lr"),
        (dict, "no tensors"),
        (lambda: torch.zeros(2), "a single tensor"),
        (lambda: [torch.zeros(2)], "contains a list"),
    ],
)
def test_what_is_no_state_dict(tmp_path, zipped, value, message):
    path = save(value(), tmp_path / "w.pth", zipped)
    with pytest.raises(WeightsError, match=message) as caught:
        read_weights(path)
    assert str(caught.value).startswith(str(path)) and "\n" not in str(caught.value)


@FORMATS
def test_cut_short_at_any_length(tmp_path, zipped):
    state = {"a": torch.randn(20, 20), "b": torch.arange(5), "c": torch.zeros(1, dtype=torch.float16)}
    whole = save(state, tmp_path / "whole", zipped).read_bytes()
    path = tmp_path / "w.pth"
    for length in [*range(40), *range(40, len(whole), 7), *range(len(whole) - 20, len(whole))]:
        path.write_bytes(whole[:length])
        with pytest.raises(WeightsError) as caught:
            read_weights(path)
        assert str(caught.value).startswith(f"{path}: ") and "\n" not in str(caught.value), length


@FORMATS
def test_damaged_bytes_are_refused_or_harmless(tmp_path, zipped):
    """A zip archive has checksums, so that what is read is what was saved. The legacy format has none: one damaged byte
    changes one tensor at most, and gives no array that is larger than what was saved."""
    state = {"a": torch.randn(3), "b": torch.arange(5)}
    whole = save(state, tmp_path / "whole", zipped).read_bytes()
    rng = np.random.default_rng(0)
    path = tmp_path / "w.pth"
    read, lines = 0, []
    for place in range(0, len(whole), 3 if zipped else 1):
        damaged = bytearray(whole)
        damaged[place] ^= rng.integers(1, 256)
        path.write_bytes(damaged)
        try:
            tensors = read_weights(path).tensors
        except WeightsError as error:
            lines.append(str(error))
            continue
        read += 1
        if zipped:
            assert_same(tensors, state)
            continue
        assert len(tensors) == 2, place
        same = [name for name in tensors if name in state and tensors[name].tobytes() == bits(state[name])]
        assert same, place
        for name, array in tensors.items():
            assert type(array) is np.ndarray and array.nbytes <= 40, (place, name)
    assert read and lines
    assert all(line.startswith(f"{path}: ") and "\n" not in line for line in lines)


def test_big_endian_is_refused(tmp_path):
    save({"a": torch.zeros(2)}, tmp_path / "w.pth", True)
    path = tmp_path / "big.pth"
    with zipfile.ZipFile(tmp_path / "w.pth") as source, zipfile.ZipFile(path, "w") as target:
        for name in source.namelist():
            target.writestr(name, b"big" if name.endswith("byteorder") else source.read(name))
    with pytest.raises(WeightsError, match="byte order is 'big'"):
        read_weights(path)

    legacy = save({"a": torch.zeros(2)}, tmp_path / "legacy.pth", False)
    data = legacy.read_bytes()
    key = data.index(b"little_endian")
    true = data.index(b"\x88", key)
    legacy.write_bytes(data[:true] + b"\x89" + data[true + 1 :])
    with pytest.raises(WeightsError, match="big-endian"):
        read_weights(legacy)


@pytest.mark.parametrize("machine", [{}, {"little_endian": 1}, {"little_endian": None}, [True]])
def test_a_legacy_machine_that_is_not_said_to_be_little_endian(tmp_path, machine):
    path = tmp_path / "w.pth"
    items = (0x1950A86A20F9469CFC6C, 1001, machine, {}, [])
    path.write_bytes(b"".join(pickle.dumps(item, 2) for item in items))
    with pytest.raises(WeightsError, match="big-endian"):
        read_weights(path)


def test_an_unknown_legacy_protocol(tmp_path):
    items = (0x1950A86A20F9469CFC6C, 1002, {"little_endian": True}, {}, [])
    (tmp_path / "w.pth").write_bytes(b"".join(pickle.dumps(item, 2) for item in items))
    with pytest.raises(WeightsError, match="unknown protocol"):
        read_weights(tmp_path / "w.pth")


@pytest.mark.parametrize("names", [["a/data.pkl", "b/data.pkl"], ["a/b/data.pkl"], ["data.pkl"], ["a/xdata.pkl"]])
def test_zip_archives_of_another_layout(tmp_path, names):
    with zipfile.ZipFile(tmp_path / "w.pth", "w") as archive:
        for name in names:
            archive.writestr(name, pickle.dumps({"a": 1}, 2))
    with pytest.raises(WeightsError, match=r"without a torch checkpoint's data\.pkl"):
        read_weights(tmp_path / "w.pth")


def test_torchscript_is_named(tmp_path):
    path = tmp_path / "w.pt"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("w/data.pkl", b"\x80\x02}.")
        archive.writestr("w/constants.pkl", b"\x80\x02).")
    with pytest.raises(WeightsError, match=r"TorchScript.*torch\.jit\.load"):
        read_weights(path)


@pytest.mark.parametrize("wrap", [dict, collections.OrderedDict])
def test_mappings_of_arrays_and_tensors(wrap):
    state = state_dict()
    assert_same(read_weights(wrap(state)).tensors, state)
    tensor = torch.zeros(3)
    weights = read_weights({"model": {"module.a": tensor, "module.b": np.ones(2, ml_dtypes.bfloat16)}, "epoch": 1})
    tensor += 1
    assert (weights.source, weights.container, weights.prefix) == ("mapping", "model", "module.")
    assert not weights.tensors["a"].any()
    assert weights.tensors["b"].dtype == ml_dtypes.bfloat16
    with pytest.raises(WeightsError, match="the mapping: the entry b is a str"):
        read_weights({"a": np.zeros(2), "b": "x"})


@pytest.mark.parametrize(
    ("file", "container", "count"),
    [("mobilenetV1X0.25_pretrain.tar", "state_dict", 164), ("retinaface_mobilenet0.25.pth", None, 300)],
)
def test_published_files(file, container, count):
    path = SHARED / file
    if not path.exists():
        pytest.skip(f"{path} is absent")
    weights = read_weights(path)
    state = torch.load(path, map_location="cpu", weights_only=False)
    state = state[container] if container else state
    assert len(state) == count
    assert weights.container == container
    assert_same({weights.prefix + name: array for name, array in weights.tensors.items()}, state)
