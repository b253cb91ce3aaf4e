"""What the converter has for every family of models. A new one gets these tests by its row in the registry."""

from __future__ import annotations

import ast
from pathlib import Path

import numpy as np
import pytest

import jaxdet_convert
from filled_model import filled
from jaxdet.cli.convert import SPELLINGS
from jaxdet.models import FAMILIES, Task, abstract, list_models, model_config
from jaxdet.models.options import differences, model_options, override_model
from jaxdet.nn import NormConfig
from jaxdet.nn.parameters import arrays, shapes
from jaxdet_convert import apply, convert_weights, load_torch, to_torch
from jaxdet_convert.apply import to_jax
from jaxdet_convert.parity.weights import torchvision_models
from jaxdet_convert.recognise import recognise
from jaxdet_convert.sources.backbones import BACKBONES, backbone_of
from jaxdet_convert.sources.registry import SOURCES, source_named, source_of

ROOT = Path(jaxdet_convert.__file__).parent
PRESETS = [name for family in FAMILIES for name in family.presets]
# Depths that a name stands for are told by nothing else.
DEEP = [name for name in PRESETS if "resnet1" in name]
SMALL = {
    "blocks": (1, 1, 1, 1), "backbone_blocks": (1, 1, 1, 1), "fpn_out_channels": 32, "box_representation_size": 8,
    "box_output_size": 3,
}  # fmt: skip


def named(value):
    return value if isinstance(value, str) else value.config.__name__


def small_config(name):
    """As the named model, of fewer and narrower layers where a name and options may tell that."""
    config = model_config(name, num_classes=5)
    options = {option: value for option, value in SMALL.items() if option in model_options(config)}
    if name in DEEP:
        options = {option: value for option, value in options.items() if not option.endswith("blocks")}
    if getattr(getattr(config, "fpn", None), "kind", None) == "retinaface":
        options["fpn_norm"] = NormConfig()  # which it has anyhow
    return override_model(config, options)


def same(ours, theirs):
    """Bit for bit."""
    assert ours.keys() == theirs.keys()
    for key, array in ours.items():
        assert np.asarray(array).tobytes() == np.asarray(theirs[key]).tobytes(), key


@pytest.mark.parametrize("family", FAMILIES, ids=named)
def test_a_family_has_one_source(family):
    (source,) = (source for source in SOURCES if source.config is family.config)
    config = next(iter(family.presets.values()))()
    assert source_of(config) is source
    assert all(source_named(name) is source for name in family.presets)
    assert backbone_of(config.backbone_config).config is type(config.backbone_config)
    options = model_options(config).keys()
    assert set(source.norms.values()) <= options
    untold = {option for option, words in source.assumed(config).items() if words is None}
    assert untold <= options and "names" in untold
    assert callable(source.parity.compare)


def test_there_are_no_others():
    assert {source.config for source in SOURCES} == {family.config for family in FAMILIES}
    assert {name for source in SOURCES for name in source.parity.builders} == torchvision_models().keys()
    assert torchvision_models().keys() <= set(list_models())
    known = {spelling for source in SOURCES for spelling in source.spellings}
    known |= {naming for backbone in BACKBONES if len(backbone.namings) > 1 for naming in backbone.namings}
    assert set(SPELLINGS) == known and len(SPELLINGS) == len(known)


def test_a_model_that_nobody_knows():
    with pytest.raises(ValueError, match="no table for a model of type Norm"):
        source_of(NormConfig())
    with pytest.raises(ValueError, match="no source of 'resnet5'"):
        source_named("resnet5")


@pytest.mark.parametrize("name", [name for name in PRESETS if name not in DEEP])
def test_there_and_back(name):
    """What a state dict tells, and every number, in every spelling that the model has."""
    config = small_config(name)
    model, source = filled(config), source_of(config)
    tensors = to_torch(model)
    check_told(name, config, tensors)
    again = load_torch(tensors, name)
    same(arrays(model), arrays(again))
    assert differing(config, again.config) <= told_by_names(config)
    same(tensors, to_torch(again))
    for spelling in source.spellings if source.has_old(config) else ():
        respelled = to_torch(model, spelling)
        word = source.spelling(respelled)
        again.origin = tuple(word if tag in source.spellings else tag for tag in again.origin)
        same(respelled, to_torch(again))
        read = to_jax(respelled, source.table(config, again.origin), arrays(model))
        same(arrays(model), read.arrays)


@pytest.mark.parametrize("name", DEEP)
def test_a_deep_one_is_told_by_its_depth(name):
    config = small_config(name)
    paths = {path: np.broadcast_to(np.float32(0), shape) for path, shape in shapes(abstract(config)).items()}
    paths |= {path: np.int32(0) for path in paths if path.endswith(".count")}
    check_told(name, config, apply.to_torch(paths, source_of(config).table(config, ())))


def check_told(name, config, tensors):
    """Names and shapes give the model and its options."""
    found = recognise({key: tensor.shape for key, tensor in tensors.items()})
    assert name in (found.name, found.also) and not found.bare
    assert found.is_detector == (config.task is Task.DETECTION)
    found = recognise({key: tensor.shape for key, tensor in tensors.items()}, name)
    assert differing(config, model_config(name, **found.options)) <= told_by_names(config)


def differing(config, other):
    return {option for option, *_ in differences(config, other)}


def told_by_names(config):
    """Options that follow from whose implementation the weights were trained by."""
    told = config.backbone_config.set_by_origin
    return {*told, *(f"backbone_{option}" for option in told), *(("image_mean", "image_std") if told else ())}


@pytest.mark.parametrize("name", [next(iter(family.presets)) for family in FAMILIES])
def test_a_predictor_starts_anew(name):
    config = small_config(name)
    model = filled(config)
    result = convert_weights(to_torch(model), name, num_classes=7, fresh_predictor=True)
    before, after = arrays(model), arrays(result.model)
    new = {path for path in after if path.startswith(config.predictor)}
    assert set(result.fresh) == new and new and result.dropped
    assert result.model.config.num_classes == 7
    for path, array in after.items():
        if path in new:
            assert array.shape != before[path].shape or not np.array_equal(array, before[path])
        else:
            np.testing.assert_array_equal(array, before[path])


NAMES = {kind.__name__ for family in FAMILIES for kind in (family.config, family.model)} | set(PRESETS)


@pytest.mark.parametrize(
    "path", [path for path in sorted(ROOT.rglob("*.py")) if path.parent.name != "sources"], ids=lambda path: path.stem
)
def test_nothing_but_sources_names_a_model(path):
    if path.name == "official.py":  # its rows are of named models
        return
    tree = ast.parse(path.read_text())
    used = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
    used |= {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    used |= {alias.name for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) for alias in node.names}
    used |= {node.value for node in ast.walk(tree) if isinstance(node, ast.Constant) and isinstance(node.value, str)}
    assert not used & NAMES
