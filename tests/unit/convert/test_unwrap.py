"""Prefixes before the names of a known model are found and told, or refused with the choices."""

from __future__ import annotations

import numpy as np
import pytest

from jaxdet.saving.model import arrays
from jaxdet_convert import WeightsError, convert_weights, from_torch, load_backbone, load_torch, read_weights, to_torch
from jaxdet_convert.read.unwrap import model_prefixes, read_model
from jaxdet_convert.read.weights import Weights
from parity.twins.darknet53 import Darknet53
from parity.twins.mobilenet_v1 import MobileNetV1

torch = pytest.importorskip("torch")


@pytest.fixture(scope="module")
def classifier():
    torch.manual_seed(0)
    return MobileNetV1(num_classes=6).eval()


@pytest.fixture
def state(classifier):
    return classifier.state_dict()


@pytest.fixture
def told(caplog):
    """What the log "jaxdet" said of the weights, but for the options that no weights hold."""
    caplog.set_level("WARNING", logger="jaxdet")

    def lines():
        found = [record.getMessage() for record in caplog.records if record.name == "jaxdet"]
        return [line for line in found if ": assumed, as weights do not contain it" not in line]

    return lines


def under(prefix, state):
    return {prefix + name: tensor for name, tensor in state.items()}


def is_same(found, state):
    """Of weights that were read, or of a model."""
    tensors = found.tensors if isinstance(found, Weights) else to_torch(found)
    return tensors.keys() == state.keys() and all(np.array_equal(tensors[name], state[name]) for name in state)


@pytest.mark.parametrize("prefix", ["model.", "detector.", "net.", "a.b.c.", "ema_model.module.", "module.model."])
def test_any_prefix_of_a_classifier(state, prefix):
    read = read_model(under(prefix, state))
    assert read.prefix == prefix and is_same(read, state)


@pytest.mark.parametrize("prefix", ["model.", "lit.detector."])
@pytest.mark.parametrize("spelling", ["new", "old"])
def test_any_prefix_of_a_detector(detector, prefix, spelling):
    state = detector.state_dict()
    if spelling == "old":
        state = {name.replace("rpn.head.conv.0.0.", "rpn.head.conv."): tensor for name, tensor in state.items()}
    read = read_model(under(prefix, state))
    assert read.prefix == prefix and is_same(read, state)


def test_a_training_checkpoint_of_a_detector(detector, tmp_path, told):
    path = tmp_path / "last.ckpt"
    torch.save({"state_dict": under("model.", detector.state_dict()), "epoch": 3}, path)
    result = convert_weights(path)
    assert (result.container, result.prefix, result.beside) == ("state_dict", "model.", ("epoch",))
    assert is_same(result.model, detector.state_dict())
    assert told() == [f"{path}: the prefix 'model.' is removed from the names"]


def test_nothing_is_told_where_nothing_was_done(state, detector, told):
    load_torch(state)
    load_torch({"state_dict": state, "epoch": 3})
    from_torch(detector)
    assert told() == []


def test_prefixes_end_where_the_model_begins():
    with torch.device("meta"):
        darknet = Darknet53(4).state_dict()
    assert model_prefixes(darknet) == [""]
    assert model_prefixes(under("net.", darknet)) == ["net."]  # its blocks hold names of a ResNet
    body = ["layer1.0.conv1.weight", "layer4.0.bn1.bias"]
    assert model_prefixes(body) == [""]
    assert model_prefixes(under("x.backbone.body.", dict.fromkeys(body))) == ["x.backbone.body."]
    whole = [*under("backbone.body.", dict.fromkeys(body)), "rpn.head.conv.weight"]
    assert model_prefixes(whole) == [""]
    assert model_prefixes(under("x.", dict.fromkeys(whole))) == ["x."]
    bare = [*under("body.", dict.fromkeys(body)), "fpn.inner_blocks.0.0.weight"]
    assert model_prefixes(under("backbone.", dict.fromkeys(bare))) == [""]
    assert model_prefixes(under("model.", dict.fromkeys(bare))) == ["model."]
    assert model_prefixes(under("encoder_q.", dict.fromkeys(body)) | under("encoder_k.", dict.fromkeys(body))) == [
        "encoder_k.", "encoder_q.",
    ]  # fmt: skip
    assert model_prefixes(["features.0.weight", "mylayer1.0.conv1.weight", "layer1.weight"]) == []


def test_two_models_under_prefixes_are_refused_with_both_names(state, tmp_path, told):
    doubled = {name: tensor * 2 for name, tensor in state.items()}
    path = tmp_path / "last.ckpt"
    averaged = under("ema_model.module.", doubled) | {"ema_model.n_averaged": torch.tensor(4)}
    torch.save({"state_dict": under("model.", state) | averaged, "epoch": 1}, path)
    with pytest.raises(
        WeightsError, match=r"several sets .*: state_dict\.ema_model\.module, state_dict\.model"
    ) as caught:
        read_model(path)
    assert "--container state_dict.ema_model.module" in str(caught.value)
    assert is_same(read_model(path, container="state_dict.model"), state)
    read = read_model(path, container="state_dict.ema_model.module")
    assert is_same(read, doubled)
    assert read.beside == ("epoch", "state_dict.model", "state_dict.ema_model.n_averaged")
    assert is_same(load_torch(path, container="state_dict.ema_model"), doubled)
    assert told() == [
        f"{path}: the weights under 'state_dict.ema_model' are used",
        f"{path}: the prefix 'module.' is removed from the names",
    ]


def test_what_lies_beside_a_prefix_is_refused_until_the_part_is_named(state):
    whole = under("model.", state) | {"criterion.weight": torch.ones(6)}
    with pytest.raises(
        WeightsError, match=r"only the names under 'model\.'.*1 \(criterion\.weight\).*container='model'"
    ):
        read_model(whole)
    read = read_model(whole, container="model")
    assert is_same(read, state) and read.beside == ("criterion",)


def test_the_counter_of_an_averaged_model_goes_with_it(state):
    averaged = under("ema.module.", state) | {"ema.n_averaged": torch.tensor(3)}
    read = read_model(averaged)
    assert is_same(read, state) and read.beside == ("ema.n_averaged",)
    with pytest.raises(WeightsError, match=r"other names: 1 \(other\.n_averaged\)"):
        read_model(under("ema.module.", state) | {"other.n_averaged": torch.tensor(3)})


def test_compiled_parts_within_a_model(state, told):
    within = {name.replace("stage2.", "stage2._orig_mod."): tensor for name, tensor in under("model.", state).items()}
    result = convert_weights(within)
    assert result.prefix == "model." and is_same(result.model, state)
    assert told() == [
        "the weights: the prefix 'model.' is removed from the names",
        "the weights: '_orig_mod.' is removed from the names",
    ]
    twice = state | {"stage2._orig_mod.0.0.weight": state["stage2.0.0.weight"]}
    with pytest.raises(WeightsError, match=r"stage2\.0\.0\.weight both with a wrapper .* and without"):
        read_model(twice)


@pytest.mark.parametrize("dtype", ["float64", "float16", "bfloat16"])
def test_other_floats_are_cast_and_told_in_one_line(classifier, dtype, told):
    state = {
        name: t.to(getattr(torch, dtype)) if t.is_floating_point() else t for name, t in classifier.state_dict().items()
    }
    model = load_torch(state)
    assert told() == [f"the weights: 137 parameters are cast from {dtype} to float32"]
    tensors = to_torch(model)
    for name, tensor in state.items():
        assert np.array_equal(tensors[name], tensor.float().numpy() if tensor.is_floating_point() else tensor)


def test_a_whole_state_dict_in_float64_counters_included(state, told):
    assert is_same(load_torch({name: tensor.double() for name, tensor in state.items()}), state)
    assert told() == [
        "the weights: 137 parameters are cast from float64 to float32",
        "the weights: 27 parameters are cast from float64 to int64",
    ]


def test_a_model_in_bfloat16_takes_float32(state):
    model = load_torch(state, param_dtype="bfloat16")
    assert {str(array.dtype) for path, array in arrays(model).items() if path.endswith("kernel")} == {"bfloat16"}


def test_every_way_in_tells(state, classifier, empty_detector, tmp_path, told, capsys):
    from jaxdet.cli.__main__ import main

    path = tmp_path / "lit.pth"
    torch.save(under("model.", state), path)
    line = f"{path}: the prefix 'model.' is removed from the names"
    load_backbone(empty_detector, path)
    assert told() == [line]
    assert main(["convert", str(path), "--out", str(tmp_path / "out")]) == 0
    assert told() == [line, line] and "without 'model.'" in capsys.readouterr().out
    from_torch(torch.nn.ModuleDict({"net": classifier.double()}))
    classifier.float()
    assert told()[2:] == [
        "the weights: the prefix 'net.' is removed from the names",
        "the weights: 137 parameters are cast from float64 to float32",
    ]


def test_a_live_module_within_others(detector):
    within = torch.nn.ModuleDict({"model": torch.nn.DataParallel(detector)})
    assert from_torch(within).config == from_torch(detector).config
    with pytest.raises(WeightsError, match="several sets of weights: a, b; give only that part"):
        from_torch(torch.nn.ModuleDict({"a": detector, "b": detector}))


def test_a_live_module_with_a_compiled_part(classifier):
    for layer in classifier.modules():
        if isinstance(layer, torch.nn.BatchNorm2d):
            layer.eps = 1e-3

    class Compiled(torch.nn.Module):
        """As torch.compile wraps a module, without the compiler."""

        def __init__(self, module):
            super().__init__()
            self._orig_mod = module

    whole = MobileNetV1(num_classes=6)
    for name, child in classifier.named_children():
        setattr(whole, name, Compiled(child) if name.startswith("stage") else child)
    assert from_torch(whole).config.norm.eps == 1e-3


def test_tensors_that_numpy_cannot_hold():
    sparse = torch.eye(3).to_sparse()
    with pytest.raises(WeightsError, match=r"the mapping: the tensor a cannot be converted to numpy"):
        read_weights({"a": sparse})
    with pytest.raises(WeightsError, match="cannot be converted to numpy"):
        read_weights({"a": torch.zeros(2, device="meta")})
