"""What the version before the families of models wrote still opens: `tests/earlier`, of `earlier_run`."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

import earlier_run
import jaxdet
from jaxdet.models import FasterRCNNConfig, HeadHunterConfig, model_config
from jaxdet.ops.suppression.soft import SoftNMS
from jaxdet.runs import Run, open_task
from jaxdet.runs.start import fresh
from jaxdet.saving.earlier import upgraded_model
from jaxdet_convert import load_torch

FILES = Path(__file__).resolve().parents[2] / "earlier"


def same_detections(model, name):
    """The model finds what it found then."""
    with np.load(FILES / "detections.npz") as known:
        (found,) = jaxdet.predict(model, [known["image"]])
        assert len(found["labels"]) == len(known[f"{name}_labels"]) > 10
        np.testing.assert_array_equal(found["labels"], known[f"{name}_labels"])
        np.testing.assert_allclose(found["scores"], known[f"{name}_scores"], atol=1e-5)
        np.testing.assert_allclose(found["boxes"], known[f"{name}_boxes"], atol=1e-2)


def test_a_faster_rcnn_with_what_is_headhunters_is_one():
    model = jaxdet.load(FILES / "headhunter")
    assert type(model.config) is HeadHunterConfig and type(model) is jaxdet.HeadHunter
    assert model.config.context.kind == "ssh" and model.config.upscale_rpn
    assert model.config.soft_nms == SoftNMS(plus_one=True) and model.config.names[2] == "hat"
    same_detections(model, "headhunter")


def test_weights_with_their_options_beside_them():
    model = load_torch(FILES / "faster_rcnn.pth")
    assert model.config == earlier_run.detector() and type(model.config) is FasterRCNNConfig
    same_detections(model, "faster_rcnn")


def test_a_run_goes_on(tmp_path):
    shutil.copytree(FILES / "run", tmp_path / "run")
    task = open_task(earlier_run.config())
    run = Run(task, fresh(earlier_run.config(), task.names), tmp_path / "run", progress=False)
    assert run.position == 2
    run.train()
    assert run.position == 4


@pytest.mark.parametrize(
    "option",
    [{"context": "cpm"}, {"upscale_rpn": True}, {"soft_nms": True}, {"fpn_kind": "retinaface"}, {"enlarge": False}, {}],
    ids=str,
)
def test_which_configurations_are_headhunters(option):
    """The fields as they were; only those with something of HeadHunter's become one."""
    values = {
        "type": "FasterRCNNConfig", "fpn": {"kind": option.get("fpn_kind", "torchvision")},
        "context": {"kind": option.get("context")}, "upscale_rpn": option.get("upscale_rpn", False),
        "box": {"score_thresh": 0.5, "soft_nms": {"type": "SoftNMS"} if "soft_nms" in option else None},
        "transform": {"enlarge": option.get("enlarge", True)},
    }  # fmt: skip
    found = upgraded_model(values)
    assert found["type"] == ("HeadHunterConfig" if option else "FasterRCNNConfig")
    assert ("context" in found) == bool(option) and "soft_nms" not in found["box"]
    assert found["box"]["score_thresh"] == 0.5


def test_todays_configurations_stay():
    from jaxdet.config import to_dict

    for name in ("fasterrcnn_resnet50_fpn", "headhunter_resnet50", "resnet50"):
        values = to_dict(model_config(name))
        assert upgraded_model(values) is values
    assert upgraded_model("text") == "text"
