"""Weights in several safetensors files with an index; an index that does not hold is refused by one line."""

from __future__ import annotations

import json

import numpy as np
import pytest

from jaxdet.cli.models import open_weights
from jaxdet_convert import WeightsError, convert_weights, load_backbone, read_weights, to_torch
from jaxdet_convert.read import safetensors_file as module

safetensors_numpy = pytest.importorskip("safetensors.numpy")

INDEX = "model.safetensors.index.json"


def shards(folder, *parts, **changes):
    """Writes each part as a shard, and their index with some entries changed."""
    places = {}
    for number, part in enumerate(parts, start=1):
        file = f"model-{number:05}-of-{len(parts):05}.safetensors"
        safetensors_numpy.save_file(part, folder / file)
        places |= dict.fromkeys(part, file)
    index(folder, {name: place for name, place in (places | changes).items() if place is not None})
    return folder / INDEX


def index(folder, places):
    (folder / INDEX).write_text(json.dumps({"metadata": {"total_size": 1}, "weight_map": places}))


def array(value):
    return np.full((2, 3), value, np.float32)


@pytest.fixture
def parts():
    return {"a.w": array(1), "b.w": array(2)}, {"c.w": array(3)}


def test_by_the_index_and_by_the_folder(tmp_path, parts):
    path = shards(tmp_path, *parts)
    for given in (path, tmp_path, str(tmp_path)):
        weights = read_weights(given)
        assert (weights.source, weights.file) == ("sharded", str(path))
        assert [(name, float(a[0, 0])) for name, a in weights.tensors.items()] == [("a.w", 1), ("b.w", 2), ("c.w", 3)]
    assert list(read_weights(tmp_path, container="b").tensors) == ["w"]


def test_a_model(tmp_path, empty_detector):
    torch = pytest.importorskip("torch")
    from parity.twins.mobilenet_v1 import MobileNetV1

    state = {f"model.{name}": tensor.numpy() for name, tensor in MobileNetV1(num_classes=6).state_dict().items()}
    names = sorted(state)
    shards(tmp_path, *({name: state[name] for name in names[start::3]} for start in range(3)))
    result = convert_weights(tmp_path)
    assert (result.source, result.prefix) == ("sharded", "model.")
    assert all(np.array_equal(tensor, state[f"model.{name}"]) for name, tensor in to_torch(result.model).items())
    # Commands take the folder too, under whatever name its index has.
    (tmp_path / INDEX).rename(tmp_path / "pytorch_model.bin.index.json")
    assert all(
        np.array_equal(state[f"model.{name}"], tensor) for name, tensor in to_torch(open_weights(str(tmp_path))).items()
    )

    filled, _ = load_backbone(empty_detector, tmp_path)
    kernel = torch.from_numpy(state["model.stage1.0.0.weight"]).permute(2, 3, 1, 0)
    assert np.array_equal(filled.backbone.stem.conv.kernel[...], kernel)


def test_torchs_own_files_as_shards(tmp_path):
    torch = pytest.importorskip("torch")
    torch.save({"a.w": torch.ones(2)}, tmp_path / "pytorch_model-1.bin")
    (tmp_path / "pytorch_model.bin.index.json").write_text('{"weight_map": {"a.w": "pytorch_model-1.bin"}}')
    assert read_weights(tmp_path).tensors["a.w"].tolist() == [1, 1]
    # Where both are, safetensors is taken, as transformers does.
    shards(tmp_path, {"a.w": array(7)})
    assert read_weights(tmp_path).tensors["a.w"][0, 0] == 7


def test_tensors_that_the_index_does_not_name_are_read(tmp_path, parts):
    assert list(read_weights(shards(tmp_path, *parts, **{"b.w": None})).tensors) == ["a.w", "c.w", "b.w"]


def test_shards_may_be_links_and_lie_in_folders(tmp_path, parts):
    folder = tmp_path / "snapshot"
    folder.mkdir()
    shards(folder, *parts)
    (folder / "in").mkdir()
    (folder / "model-00002-of-00002.safetensors").rename(tmp_path / "blob")
    (folder / "in" / "x.safetensors").symlink_to(tmp_path / "blob")
    index(folder, {"a.w": "model-00001-of-00002.safetensors", "c.w": "in/x.safetensors"})
    assert "c.w" in read_weights(folder).tensors


SECOND = "model-00002-of-00002.safetensors"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"c.w": "gone.safetensors"}, "its shard gone.safetensors is missing; put it into"),
        ({"c.w": "x" * 5000}, "is missing"),
        ({"d.w": SECOND}, f"the tensor d.w is not in {SECOND}, as the index says; download"),
        ({"a.w": SECOND}, f"the tensor a.w is not in {SECOND}, as the index says, but in model-00001"),
        ({"c.w": INDEX}, "it is not a shard of weights"),
        ({"c.w": "."}, "not a file in the index's folder"),
        ({"c.w": ""}, "not a file in the index's folder"),
        ({"c.w": "../w.safetensors"}, "not a file in the index's folder"),
        ({"c.w": "in/../../w.safetensors"}, "not a file in the index's folder"),
        ({"c.w": "/etc/passwd"}, "not a file in the index's folder"),
        ({"c.w": "C:\\w.safetensors"}, "not a file in the index's folder"),
        ({"c.w": "in\\w.safetensors"}, "not a file in the index's folder"),
        ({"c.w": "w\0.safetensors"}, "not a file in the index's folder"),
        ({"c.w": "w\ud800"}, "not a file in the index's folder"),
    ],
)
def test_an_index_that_does_not_hold(tmp_path, parts, changes, message):
    safetensors_numpy.save_file({"c.w": array(3)}, tmp_path / "w.safetensors")  # what "in/../.." would reach
    folder = tmp_path / "in"
    folder.mkdir()
    path = shards(folder, *parts, **changes)
    with pytest.raises(WeightsError) as caught:
        read_weights(path)
    assert message in str(caught.value)
    assert str(caught.value).startswith(str(folder)) and "\n" not in str(caught.value)


def test_a_tensor_in_two_shards(tmp_path, parts):
    path = shards(tmp_path, *parts)
    safetensors_numpy.save_file({"a.w": array(9), "c.w": array(3)}, tmp_path / SECOND)
    with pytest.raises(WeightsError, match=r"the tensor a\.w is in both model-00001-of-00002.* and model-00002-of"):
        read_weights(path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"weight_map": {"a": "x", "a": "y"}}', "names a twice"),
        ('{"weight_map": {"a": "x"', "JSON that cannot be read"),
        ('{"weight_map": ' + "[" * 100_000, "JSON that cannot be read"),
        ('{"weight_map": {}}', "not an index of sharded weights"),
        ('{"weight_map": {"a": 1}}', "not an index of sharded weights"),
        ('{"weight_map": ["a"]}', "not an index of sharded weights"),
        ('{"format": "jaxdet"}', "not an index of sharded weights"),
    ],
)
def test_files_that_are_no_index(tmp_path, text, message):
    path = tmp_path / INDEX
    path.write_text(text)
    with pytest.raises(WeightsError, match=message) as caught:
        read_weights(path)
    assert str(caught.value).startswith(f"{path}: ") and "\n" not in str(caught.value)


def test_a_huge_index_is_not_read(tmp_path, parts, monkeypatch):
    path = shards(tmp_path, *parts)
    monkeypatch.setattr(module, "_INDEX_LIMIT", path.stat().st_size - 1)
    with pytest.raises(WeightsError, match=rf"it has {path.stat().st_size} bytes"):
        read_weights(path)


def test_a_folder_with_two_indices(tmp_path, parts):
    shards(tmp_path, *parts).rename(tmp_path / "other.safetensors.index.json")
    shards(tmp_path, *parts)
    with pytest.raises(WeightsError, match=r"several indices .*\(model\.safetensors\.index\.json, other\."):
        read_weights(tmp_path)
    (tmp_path / "other.safetensors.index.json").rename(tmp_path / "._model.safetensors.index.json")
    assert len(read_weights(tmp_path).tensors) == 3
