"""The state dict in what a file holds: the only set of weights is found, several are refused with their paths."""

from __future__ import annotations

import collections

import numpy as np
import pytest

from jaxdet_convert import WeightsError, read_weights

torch = pytest.importorskip("torch")


NESTED = {"model": {"state_dict": {"a.w": np.ones(2)}, "epoch": 1}, "epoch": 3}


@pytest.mark.parametrize("container", [None, "model.state_dict"])
def test_nested_containers(container):
    weights = read_weights(NESTED, container=container)
    assert list(weights.tensors) == ["a.w"] and weights.container == "model.state_dict"
    assert weights.beside == ("epoch", "model.epoch")


def test_nested_containers_by_name_in_files(tmp_path):
    checkpoint = {
        "model": {"state_dict": {"a.w": torch.ones(2)}}, "runs": {"x.y": {"ema": {"a.w": torch.zeros(2)}}},
        "optimizer": {"state": {"a.w": {"exp_avg": torch.ones(2)}}},
    }  # fmt: skip
    path = tmp_path / "w.pth"
    torch.save(checkpoint, path)
    with pytest.raises(WeightsError, match=r"several sets of weights: model\.state_dict, runs\.x\.y\.ema; .*container"):
        read_weights(path)
    with pytest.raises(
        WeightsError, match=r"no container 'state_dict'; choose one of: model.state_dict, runs.x.y.ema$"
    ):
        read_weights(path, container="state_dict")
    assert read_weights(path, container="runs.x.y.ema").tensors["a.w"][0] == 0
    named = read_weights(path, container="optimizer.state.a.w")
    assert named.beside == ("model", "runs")


def holds(**containers):
    return {key: {"a.w": np.full(2, value)} for key, value in containers.items()}


def test_two_sets_of_weights_are_refused_unless_named():
    both = holds(model=1.0, ema=2.0) | {"optimizer": {"state": {0: {"m": np.ones(2)}}, "named": {"a.w": np.ones(2)}}}
    with pytest.raises(WeightsError, match=r"the mapping: it contains several sets of weights: model, ema; .*'model'"):
        read_weights(both)
    assert read_weights(both, container="ema").tensors["a.w"][0] == 2


@pytest.mark.parametrize(
    "beside",
    [
        {"hyper_parameters": {"class_weights": np.ones(6)}},  # a network's names have dots
        {"losses": {"rpn.loss": np.float32(0.5)}},  # a single number
        {"rng": {"cpu.state": np.ones(9, np.uint8)}},
        {"class_weights": np.ones(6)},
        {"again": NESTED["model"]["state_dict"]},
        {"optimizer": {"a.w": np.ones(2)}, "optim": {"a.w": np.ones(2)}},
    ],
)
def test_what_is_no_second_set_of_weights(beside):
    weights = read_weights({"model": NESTED["model"]["state_dict"]} | beside)
    assert weights.container == "model" and weights.tensors["a.w"][0] == 1


def test_a_mapping_within_a_state_dict_is_named():
    with pytest.raises(WeightsError, match=r"the entry more is a dict, not a tensor.*name the container: more$"):
        read_weights({"a.w": np.ones(2), "more": {"b.w": np.ones(2)}})
    looped = {"model": {"a.w": np.ones(2)}}
    looped["self"] = looped
    assert read_weights(looped).container == "model"


def test_integers_alone_are_found_for_the_strict_application_to_refuse():
    assert read_weights({"model": {"a.w": np.ones(2, np.int8)}, "epoch": 1}).container == "model"


def test_safetensors_and_darknet_take_no_container_without_a_word(tmp_path):
    safetensors_numpy = pytest.importorskip("safetensors.numpy")
    path = tmp_path / "w.safetensors"
    safetensors_numpy.save_file({"q.a.w": np.zeros(2), "k.a.w": np.ones(2)}, path)
    assert read_weights(path, container="k").tensors["a.w"][0] == 1
    with pytest.raises(WeightsError, match=r"no container 'model'; choose one of: k, q$"):
        read_weights(path, container="model")
    (tmp_path / "n.weights").write_bytes(bytes(40))
    with pytest.raises(WeightsError, match="has no container 'model'"):
        read_weights(tmp_path / "n.weights", container="model")


def test_numpy_arrays_in_a_pickle_are_named_for_what_they_are_not(tmp_path):
    torch.save(collections.OrderedDict({"a": torch.zeros(2), "b": np.zeros(2)}), tmp_path / "w.pth")
    with pytest.raises(WeightsError, match="the entry b is not a tensor"):
        read_weights(tmp_path / "w.pth")
