"""What every family of models has. A new one gets these tests by its row in the registry."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

import jaxdet
from jaxdet.base import ModelConfig
from jaxdet.config import from_dict, option_names, to_dict
from jaxdet.models import FAMILIES, DetectorConfig, HeadHunterConfig, Model, Task, list_models, model_config
from jaxdet.models.detector import Detector
from jaxdet.models.options import model_options
from jaxdet.models.registry import CONFIG_TYPES
from jaxdet.runs import RECIPES

README = (Path(__file__).resolve().parents[3] / "README.md").read_text()
PRESETS = [(family, name) for family in FAMILIES for name in family.presets]
DETECTORS = [family for family in FAMILIES if family.config.task is Task.DETECTION]


def named(value):
    return value if isinstance(value, str) else value.config.__name__


def test_the_lists_are_the_rows():
    assert jaxdet.list_models() == [name for _, name in PRESETS] == list(dict.fromkeys(list_models()))
    split = [list_models(task) for task in (Task.CLASSIFICATION, Task.DETECTION)]
    assert split[0] + split[1] == list_models() and all(split)
    assert len({family.config for family in FAMILIES}) == len(FAMILIES)


@pytest.mark.parametrize("family, name", PRESETS, ids=named)
def test_a_preset_is_stored_and_read(family, name):
    config = model_config(name)
    assert type(config) is family.config and from_dict(to_dict(config), CONFIG_TYPES) == config
    assert hash(config) == hash(model_config(name))


@pytest.mark.parametrize("family, name", PRESETS, ids=named)
def test_a_preset_has_a_row_in_the_readme(family, name):
    models = README[README.index("\n## Models") : README.index("\n## What agrees")]
    assert f"`{name}`" in models


@pytest.mark.parametrize("family", FAMILIES, ids=named)
def test_a_family_has_a_recipe(family):
    trained = {type(recipe().model) for recipe in RECIPES.values()}
    assert family.config in trained | {HeadHunterConfig}  # its YAML files are its recipes


@pytest.mark.parametrize("family", FAMILIES, ids=named)
def test_a_family_answers_all_that_is_asked_of_one(family):
    assert issubclass(family.config, ModelConfig) and issubclass(family.model, Model)
    assert dataclasses.is_dataclass(family.config) and family.config.__dataclass_params__.frozen
    fields = {field.name for field in dataclasses.fields(family.config)}
    assert {"num_classes", "names", "transform"} <= fields and family.config.predictor
    config = next(iter(family.presets.values()))()
    assert set(config.trained_with) <= model_options(config).keys()
    assert config.fixed_by_weights(config) == config
    assert config.with_classes(("a", "b", "c")).num_classes == 3
    assert config.with_frozen_norms().backbone_config.norm.kind == "frozen"
    assert family.model.losses is not Model.losses and family.model.predicted_classes is not Model.predicted_classes


@pytest.mark.parametrize("family", DETECTORS, ids=named)
def test_a_detector_answers_all_that_is_asked_of_one(family):
    assert issubclass(family.config, DetectorConfig) and issubclass(family.model, Detector)
    for method in ("__call__", "losses_and_detections", "stages"):
        assert getattr(family.model, method) is not getattr(Detector, method)
    config = next(iter(family.presets.values()))()
    assert {"backbone", "fpn", "canvas"} <= {field.name for field in dataclasses.fields(config)}
    assert config.with_score_threshold(0.125).score_threshold == 0.125
    assert config.with_max_detections(7).max_detections == 7
    assert dataclasses.replace(config, backbone=None).needs_backbone and not config.needs_backbone
    changed = config.with_score_threshold(0.125).with_max_detections(7)
    assert changed.architecture() == config.architecture() != config.with_classes((), 5).architecture()
    assert {"min_size", "max_size", "image_mean", "num_classes"} <= option_names(config).keys()
