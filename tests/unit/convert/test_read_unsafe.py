"""A pickle that would run code is refused and runs nothing; other files that are no weights are named."""

import gzip
import io
import os
import pickle
import re
import struct
import zipfile

import numpy as np
import pytest

from jaxdet_convert.read.errors import WeightsError
from jaxdet_convert.read.pickle_file import Storage, TensorRef, materialize, scan
from jaxdet_convert.read.weights import read_weights

SAVE = re.escape('torch.save(model.state_dict(), "weights.pth")')


class Runs:
    """Reduces to a call of the caller's choice."""

    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


def as_zip(path, data):
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", data)
        archive.writestr("archive/data/0", bytes(16))
    return path


def as_legacy(path, data):
    head = [0x1950A86A20F9469CFC6C, 1001, {"little_endian": True}]
    path.write_bytes(b"".join(pickle.dumps(item, 2) for item in head) + data + pickle.dumps([], 2))
    return path


def as_magic(path, data):
    """In the place of the first pickle, before anything is known of the file."""
    path.write_bytes(data)
    return path


@pytest.mark.parametrize("write", [as_zip, as_legacy, as_magic])
@pytest.mark.parametrize("protocol", [2, 4])
@pytest.mark.parametrize("call", [(os.system, "touch {}"), (eval, "open('{}', 'w')"), (getattr, os, "system")])
def test_calls_are_refused_and_not_made(tmp_path, write, protocol, call):
    victim = tmp_path / "victim"
    function, *arguments = call
    bad = Runs(function, *(a.format(victim) if isinstance(a, str) else Runs(__import__, "os") for a in arguments))
    path = write(tmp_path / "w.pth", pickle.dumps({"state_dict": {}, "x": bad}, protocol))
    with pytest.raises(WeightsError, match="never run") as caught:
        read_weights(path)
    assert str(path) in str(caught.value) and "\n" not in str(caught.value)
    assert not victim.exists()


STORAGE = b"((X\x07\x00\x00\x00storagectorch\nFloatStorage\nX\x01\x00\x00\x000X\x03\x00\x00\x00cpuK%ctQ"


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"\x80\x02cnumpy\nload\n)R.", "refers to numpy.load"),
        (b"\x80\x02cbuiltins\neval\n.", "refers to builtins.eval"),
        (b"\x80\x02c__builtin__\neval\n.", "refers to __builtin__.eval"),
        # A state for an allowed function, and for allowed classes.
        (b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\n}U\x01aK\x01sb.", "sets the state of a function"),
        (b"\x80\x02cargparse\nNamespace\n}U\x01aK\x01sb.", "is damaged (TypeError"),
        (b"\x80\x02ccollections\nOrderedDict\nN}U\x01aK\x01s\x86b.", "is damaged"),
        (b"\x80\x02}r\xff\xff\xff\x7f.", "names memo slot 2147483647 in 9 bytes"),  # it takes 32 GB
        (b"\x80\x02\x82\x01.", "extension registry"),
        (b"\x80\x02U\x01aQ.", "an external reference is not to a storage"),
        (b"\x80\x02K\x01Q.", "an external reference is not to a storage"),
        (b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\n(K\x01K\x02)) tR.", "truncated or damaged"),
        (b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\n(K\x01K\x02))tR.", "something other than storage, offset"),
        (b"\x80\x02ctorch._utils\n_rebuild_parameter\n(K\x01K\x02)tR.", "wraps something other than a tensor"),
    ],
)
def test_crafted_pickles(tmp_path, data, message):
    with pytest.raises(WeightsError, match=re.escape(message)):
        read_weights(as_zip(tmp_path / "w.pth", data))


@pytest.mark.parametrize(
    ("offset", "sizes", "message"),
    [
        (b"J\xff\xff\xff\xff", 1, "something other than storage, offset"),
        (b"\x88", 1, "something other than storage, offset"),  # True
        (b"N", 1, "something other than storage, offset"),
        (b"K\x00", 33, "a tensor has 33 sizes and 33 strides"),
    ],
)
def test_tensors_described_wrongly(tmp_path, offset, sizes, message):
    ones = b"(" + b"K\x01" * sizes + b"t"
    tensor = b"ctorch._utils\n_rebuild_tensor_v2\n" + STORAGE % 4 + offset + ones + ones + b"\x89}tR"
    with pytest.raises(WeightsError, match=message):
        read_weights(as_zip(tmp_path / "w.pth", b"\x80\x02}X\x01\x00\x00\x00a" + tensor + b"s."))


def test_a_modules_field_alone_makes_no_pickled_model(tmp_path):
    with pytest.raises(WeightsError, match=r"refers to \w+\.system, which weights do not need"):
        read_weights(as_zip(tmp_path / "w.pth", pickle.dumps({"_buffers": 1, "x": Runs(os.system, "true")}, 2)))


@pytest.mark.parametrize("shape", [(0, 3), (3, 0), (0,)])
def test_an_empty_tensor_reads_nothing_wherever_it_points(shape):
    ref = TensorRef(Storage("0", np.dtype("f4"), 4), 200, shape, (1,) * len(shape), np.dtype("f4"))
    assert materialize(ref, np.zeros(16, np.uint8)).shape == shape


@pytest.mark.parametrize(
    ("count", "offset", "size", "stride", "valid"),
    [
        (4, 0, 4, 1, True),
        (4, 1, 4, 1, False),
        (4, 0, 5, 1, False),
        (4, 0, 2, 4, False),
        (4, 3, 9, 0, True),  # expanded: one number, nine times
        (4, 200, 0, 1, True),  # empty: it reads nothing, wherever it points
        (4, 200, 1, 1, False),
        (3, 0, 4, 1, False),
        (200, 0, 100, 1, False),  # the storage itself is shorter than announced
    ],
)
def test_tensors_stay_within_their_storage(tmp_path, count, offset, size, stride, valid):
    tensor = (
        b"ctorch._utils\n_rebuild_tensor_v2\n" + STORAGE % count + b"K%cK%c\x85K%c\x85\x89}tR" % (offset, size, stride)
    )
    path = as_zip(tmp_path / "w.pth", b"\x80\x02}X\x01\x00\x00\x00a" + tensor + b"s.")
    if valid:
        assert read_weights(path).tensors["a"].shape == (size,)
    else:
        with pytest.raises(WeightsError, match="the tensor a cannot be read"):
            read_weights(path)


def legacy_view(path, view, *, announced=6, stored=6, shape=2, offset=0):
    """A legacy checkpoint of one tensor in a view of a storage, whose numbers are 0, 1, 2, ..."""
    # pickle.dumps gives a whole pickle; its head and its end are taken off for the parts.
    view, numel, size = (pickle.dumps(value, 2)[2:-1] for value in (view, announced, (shape,)))
    storage = (
        b"(X\x07\x00\x00\x00storagectorch\nFloatStorage\nX\x01\x00\x00\x00kX\x03\x00\x00\x00cpu" + numel + view + b"tQ"
    )
    tensor = b"ctorch._utils\n_rebuild_tensor_v2\n(" + storage + b"K%c" % offset + size + b"K\x01\x85\x89}tR"
    head = [0x1950A86A20F9469CFC6C, 1001, {"little_endian": True}]
    data = b"".join(pickle.dumps(item, 2) for item in head) + b"\x80\x02}X\x01\x00\x00\x00a" + tensor + b"s."
    numbers = struct.pack("<q", stored) + np.arange(stored, dtype="<f4").tobytes()
    path.write_bytes(data + pickle.dumps(["k"], 2) + numbers)
    return path


@pytest.mark.parametrize(
    ("view", "changes", "values"),
    [
        (None, {}, [0, 1]),
        (("v", 0, 6), {}, [0, 1]),
        (("v", 2, 3), {}, [2, 3]),
        (("v", 2, 3), {"offset": 1}, [3, 4]),
        (("v", 4, 2), {}, [4, 5]),
        (("v", 6, 0), {"shape": 0}, []),
    ],
)
def test_views_of_legacy_storages(tmp_path, view, changes, values):
    assert read_weights(legacy_view(tmp_path / "w.pth", view, **changes)).tensors["a"].tolist() == values


@pytest.mark.parametrize(
    ("view", "changes", "message"),
    [
        (("v", 2, 3), {"shape": 4}, "ends at element 3 of a storage of 3"),  # in the storage, beyond its view
        (("v", 2, 3), {"offset": 2}, "ends at element 3 of a storage of 3"),
        (("v", 5, 2), {}, "beyond the 6 elements"),
        (("v", 7, 0), {"shape": 0}, "beyond the 6 elements"),
        (("v", 2**62 - 1, 1), {}, "beyond the 6 elements"),
        (("v", 5, 2), {"announced": 7}, "has 24 bytes instead of 28"),
        (("v", -1, 2), {}, "something other than key, start and size"),
        (("v", 0, -1), {}, "something other than key, start and size"),
        (("v", 0), {}, "something other than key, start and size"),
        ("v", {}, "something other than key, start and size"),
    ],
)
def test_views_beyond_their_storage_are_refused(tmp_path, view, changes, message):
    with pytest.raises(WeightsError, match=message) as caught:
        read_weights(legacy_view(tmp_path / "w.pth", view, **changes))
    assert str(caught.value).startswith(f"{tmp_path}") and "\n" not in str(caught.value)


def test_scan_stops_behind_the_pickle():
    stream = io.BytesIO(pickle.dumps([1, 2]) + b"rest")
    assert scan(stream).load()[0] == [1, 2]
    assert stream.read() == b"rest"


@pytest.mark.parametrize("zipped", [True, False])
def test_a_pickled_module_is_refused_with_the_line_that_helps(tmp_path, zipped):
    torch = pytest.importorskip("torch")
    path = tmp_path / "w.pth"
    torch.save({"model": torch.nn.Linear(2, 3)}, path, _use_new_zipfile_serialization=zipped)
    with pytest.raises(WeightsError, match=rf"class torch\.nn\.modules\.linear\.Linear.*{SAVE}") as caught:
        read_weights(path)
    assert str(caught.value).startswith(str(path)) and "\n" not in str(caught.value)


def tar_head(name=b"a.pth"):
    head = bytearray(512)
    head[: len(name)] = name
    head[257:262] = b"ustar"
    return bytes(head)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "it is empty"),
        (b"<!DOCTYPE html><html>Not found</html>", "HTML"),
        (b"\n  <html>", "HTML"),
        (b"version https://git-lfs.github.com/spec/v1\n", "git lfs pull"),
        (gzip.compress(b"x", mtime=0), "unpack"),
        (tar_head(), "unpack"),
        (tar_head(b"sys_info"), r"torch before 0\.1\.12 .*save it again"),
        (b"some text that is no checkpoint at all", "its format is unknown"),
        (b"abc", "truncated"),
        (b"PK\x03\x04 and then nothing", "truncated or damaged"),
        (pickle.dumps({"blobs": {}}), "not a torch checkpoint"),
        (struct.pack("<Q", 10**6) + b'{"a"', "truncated"),
    ],
)
def test_files_that_are_no_weights(tmp_path, data, message):
    path = tmp_path / "w.pth"
    path.write_bytes(data)
    with pytest.raises(WeightsError, match=message) as caught:
        read_weights(path)
    assert str(caught.value).startswith(f"{path}: ") and "\n" not in str(caught.value)


def test_missing_files_and_folders(tmp_path):
    with pytest.raises(WeightsError, match="no such file"):
        read_weights(tmp_path / "absent.pth")
    with pytest.raises(WeightsError, match="a directory"):
        read_weights(str(tmp_path))
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("weights.pth", b"x")
    with pytest.raises(WeightsError, match=r"without a torch checkpoint's data\.pkl"):
        read_weights(tmp_path / "a.zip")


def test_safetensors(tmp_path):
    safetensors_numpy = pytest.importorskip("safetensors.numpy")
    rng = np.random.default_rng(0)
    arrays = {f"module.{d}": rng.integers(0, 2, (2, 3)).astype(d) for d in "f4 f8 f2 i8 i4 i2 i1 u1 u2 u4 u8 ?".split()}
    arrays |= {"module.scalar": np.array(3, np.float32), "module.empty": np.zeros((0, 2), np.float32)}
    path = tmp_path / "w.safetensors"
    safetensors_numpy.save_file(arrays, path)
    weights = read_weights(path)
    assert (weights.source, weights.prefix) == ("safetensors", "module.")
    assert weights.tensors.keys() == {name.removeprefix("module.") for name in arrays}
    for name, array in arrays.items():
        read = weights.tensors[name.removeprefix("module.")]
        assert (read.dtype, read.shape, read.tobytes()) == (array.dtype, array.shape, array.tobytes())

    whole = path.read_bytes()
    for length in [*range(1, 60), *range(60, len(whole), 11), len(whole) - 1]:
        path.write_bytes(whole[:length])
        with pytest.raises(WeightsError):
            read_weights(path)


def test_a_safetensors_file_that_starts_like_json(tmp_path):
    """The length of its header is the code of a brace."""
    head = b'{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}'.ljust(ord("{"))
    (tmp_path / "w").write_bytes(struct.pack("<Q", len(head)) + head + struct.pack("<2f", 1, 2))
    weights = read_weights(tmp_path / "w")
    assert weights.source == "safetensors" and weights.tensors["a"].tolist() == [1, 2]


def test_safetensors_bfloat16(tmp_path):
    torch = pytest.importorskip("torch")
    safetensors_torch = pytest.importorskip("safetensors.torch")
    tensor = torch.randn(3, 5).bfloat16()
    safetensors_torch.save_file({"a": tensor}, tmp_path / "w.safetensors")
    array = read_weights(tmp_path / "w.safetensors").tensors["a"]
    assert str(array.dtype) == "bfloat16" and array.tobytes() == tensor.view(torch.int16).numpy().tobytes()
