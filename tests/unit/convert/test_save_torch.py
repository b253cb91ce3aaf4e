"""A file written without torch is one that torch loads, with nothing but weights allowed."""

import zipfile

import ml_dtypes
import numpy as np
import pytest

from jaxdet_convert.read.weights import read_weights
from jaxdet_convert.write import save_torch


def arrays():
    rng = np.random.default_rng(0)
    kinds = "f4 f8 f2 i8 i4 i2 i1 u1 ? c8 c16".split()
    result = {f"a.{kind}": (rng.normal(size=(3, 4)) * 50).clip(0).astype(kind) for kind in kinds}
    result["bfloat16"] = rng.normal(size=5).astype(ml_dtypes.bfloat16)
    result["transposed"] = rng.normal(size=(2, 3, 4)).astype(np.float32).transpose(2, 0, 1)
    result |= {
        "scalar": np.array(3),
        "empty": np.zeros((0, 3), np.float32),
        "ünï": np.array([np.nan, -0.0], np.float32),
    }
    result["one"] = np.zeros((1, 1, 5), np.float32)[:, :, ::2]
    return result


def test_read_back_without_torch(tmp_path):
    save_torch(tmp_path / "w.pth", arrays())
    weights = read_weights(tmp_path / "w.pth")
    assert weights.source == "torch-zip" and list(weights.tensors) == list(arrays())
    for name, array in arrays().items():
        read = weights.tensors[name]
        assert (read.dtype, read.shape, read.tobytes()) == (array.dtype, array.shape, array.tobytes())


@pytest.mark.parametrize("mmap", [False, True])
@pytest.mark.parametrize("state", [arrays(), {}], ids=["all", "none"])
def test_torch_loads_it(tmp_path, mmap, state):
    torch = pytest.importorskip("torch")
    save_torch(tmp_path / "w.pth", state)
    loaded = torch.load(tmp_path / "w.pth", weights_only=True, mmap=mmap)
    assert list(loaded) == list(state)
    for name, array in state.items():
        tensor = loaded[name]
        assert tensor.is_contiguous() and tuple(tensor.shape) == array.shape and not tensor.requires_grad
        assert str(tensor.dtype) == f"torch.{array.dtype}"
        assert tensor.reshape(-1).view(torch.uint8).numpy().tobytes() == array.tobytes()


def test_aligned_and_the_same_every_time(tmp_path):
    save_torch(tmp_path / "a.pth", arrays())
    save_torch(tmp_path / "b.pth", arrays())
    data = (tmp_path / "a.pth").read_bytes()
    assert data == (tmp_path / "b.pth").read_bytes()
    with zipfile.ZipFile(tmp_path / "a.pth") as archive:
        for info in archive.infolist():
            start = info.header_offset + 30 + len(info.filename) + len(info.extra)
            assert start % 64 == 0 and data[start : start + info.file_size] == archive.read(info)


def test_nothing_is_left_of_a_failed_save(tmp_path):
    path = tmp_path / "w.pth"
    save_torch(path, {"a": np.zeros(2, np.float32)})
    before = path.read_bytes()
    with pytest.raises(ValueError, match="b has the dtype <U1"):
        save_torch(path, {"a": np.ones(2, np.float32), "b": np.array("x")})
    assert path.read_bytes() == before
    path.unlink()
    path.mkdir()  # os.replace then fails at the very end
    with pytest.raises(OSError):
        save_torch(path, {"a": np.zeros(2, np.float32)})
    assert [item.name for item in tmp_path.iterdir()] == ["w.pth"]
    with pytest.raises(FileNotFoundError):
        save_torch(tmp_path / "absent" / "w.pth", {})
