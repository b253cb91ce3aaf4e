"""`jaxdet plan` before it compiles: what it plans, and what it refuses, each in a line."""

from __future__ import annotations

import os

import pytest
from PIL import Image

from jaxdet.cli import plan
from jaxdet.cli.__main__ import main, make_parser
from jaxdet.data import CocoFiles
from jaxdet.planning import compiler, parse_topology
from jaxdet.runs import TrainConfig
from small_detector import tiny_config


@pytest.fixture(autouse=True)
def environment(monkeypatch):
    monkeypatch.setenv("JAX_PLATFORMS", "cpu")  # put back afterwards: the command sets it


def refusal(capsys, *arguments):
    assert main(["plan", *arguments]) == 1
    (line,) = capsys.readouterr().err.strip().splitlines()[-1:]
    return line


@pytest.mark.parametrize(
    "arguments, line",
    [
        (["resnet50", "--topology", "v5x:4x4"], "jaxdet plan: there is no TPU 'v5x'"),
        (["resnet5", "--topology", "v5e:4x4"], "jaxdet plan: resnet5: no such configuration file"),
        (["resnet50", "--topology", "v5e:4x4", "--canvas", "224x225"], "jaxdet plan: the canvas is 224x225"),
        (["resnet50", "--topology", "v5e:4x4", "--batch", "0"], "jaxdet plan: --batch must be at least 1"),
        (["resnet50", "--topology", "v5e:4x4", "--set", "stepz=1"], "jaxdet plan: unknown option 'stepz'"),
    ],
)
def test_mistakes_are_said_in_a_line(arguments, line, capsys):
    assert refusal(capsys, *arguments).startswith(line)


def test_a_plan_leaves_the_environment_as_it_was(monkeypatch):
    seen = {}

    def describe(**_):
        seen.update(os.environ)
        raise RuntimeError("TPU support not installed")

    monkeypatch.setattr(compiler.topologies, "get_topology_desc", describe)
    before = dict(os.environ)
    with pytest.raises(ValueError, match="is not installed"):
        compiler.pod_mesh(parse_topology("v5e:2x2"))
    assert dict(os.environ) == before
    assert seen["TPU_WORKER_HOSTNAMES"] == "localhost"  # by which a command would take this for a host of a pod


def test_without_libtpu(monkeypatch, capsys):
    def absent(**_):
        raise RuntimeError("JAX TPU support not installed; cannot generate TPU topology.")

    monkeypatch.setattr(compiler.topologies, "get_topology_desc", absent)
    assert "libtpu, which has the TPU compiler, is not installed: pip install 'jaxdet[plan]'" in refusal(
        capsys, "resnet50", "--topology", "v5e:4x4"
    )


def job(*arguments, topology="v5e:4x4"):
    args = make_parser().parse_args(["plan", *arguments, "--topology", topology])
    return plan.job_of(args, parse_topology(topology))


def test_a_recipe_says_what_is_not_told(capsys):
    planned = job("fasterrcnn_resnet50_fpn", topology="v5e:2x2")
    assert (planned.canvas, planned.batch, planned.box_slots) == ((800, 1344), 4, 96)  # 16 images over 4 chips
    assert planned.config.dtype == "float32" and capsys.readouterr().err == ""
    planned = job("fasterrcnn_resnet50_fpn", "--dtype", "bfloat16", "--set", "max_boxes=8", topology="v5e:16x16")
    assert (planned.batch, planned.box_slots, planned.config.dtype) == (8, 8, "bfloat16")
    assert (
        "batch of 16 does not divide over 256 chips: planning 8 images per chip, 2048 in total"
        in capsys.readouterr().err
    )


def test_a_model_without_a_recipe():
    planned = job("headhunter_resnet50", "--canvas", "640x640", "--batch", "2")
    assert (planned.canvas, planned.batch) == ((640, 640), 2)
    assert planned.config.model.box.output_size == 7


def test_a_model_without_a_recipe_takes_the_data_given(tmp_path):
    for name in ("a", "b"):
        (tmp_path / "train" / name).mkdir(parents=True)
        for number in range(4):
            Image.new("RGB", (8, 8)).save(tmp_path / "train" / name / f"{number}.png")
    arguments = ("mobilenet_v1", "--data", str(tmp_path), "--batch", "2", "--set", "batch_size=1")
    planned = job(*arguments)
    assert planned.names == ("a", "b") and planned.config.val is None
    assert job(*arguments, "--val-fraction", "0.25").config.val.fraction == 0.25


def test_a_file(tmp_path):
    file = tmp_path / "run.py"
    file.write_text(
        "import sys; from jaxdet.runs import TrainConfig; from jaxdet.data import CocoFiles\n"
        "from small_detector import tiny_config\n"
        "def config(): return TrainConfig(model=tiny_config(), train=CocoFiles('a', 'b'), steps=9, batch_size=32)\n"
    )
    planned = job(str(file))
    assert planned.config == TrainConfig(model=tiny_config(), train=CocoFiles("a", "b"), steps=9, batch_size=32)
    assert (planned.canvas, planned.batch) == ((64, 96), 2)
