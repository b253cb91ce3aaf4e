"""How a plan is printed, on one put together by hand."""

from __future__ import annotations

import json
from dataclasses import replace

from tiny_job import tiny_job

from jaxdet.planning import Plan, parse_topology, to_dict, to_text
from jaxdet.planning.bounds import Bounds
from jaxdet.planning.compiler import Compiled
from jaxdet.planning.fit import Largest
from jaxdet.planning.hlo import Collective, Loop, Program, Shape
from jaxdet.planning.plan import Figures, StepPlan
from jaxdet.planning.programs import Work

COMPILED = Compiled(400_000_000, 300_000_000, 7_000_000_000, 200_000_000, 9e12, 80e9, "", 200.0)
PROGRAM = Program(
    (
        Collective("all-reduce", (Shape("bf16", (40_000_000,)),), "gradient", False),
        Collective("all-reduce", (Shape("f32", ()),), "loss", False),
    ),
    (),
    (),
    (Loop(8, "roi", False), Loop(None, "nms", False)),
    cycles=2_500_000_000,
    traffic=60_000_000_000,
)
TRAIN = StepPlan(
    "train",
    Figures(COMPILED, PROGRAM, Bounds(0.05, 0.1, 0.001), Work(4_500_000_000_000, 20_000_000_000)),
    None,
    Largest(14, {8: 7.5e9, 4: 4e9, 14: 15.1e9}, 15.9e9),
)
INFER = StepPlan("infer", None, "it needs 20.10 GB, but 16.91 GB are available", None)
PLAN = Plan(replace(tiny_job(), batch=8), parse_topology("v5e:16x16"), (TRAIN, INFER))


def test_text():
    lines = to_text(PLAN).splitlines()
    assert lines[0].startswith("v5e:16x16: 256 chips on 64 hosts; per chip 17.2 GB, 197 TFLOP/s, 819 GB/s")
    assert lines[1] == "8 images of 64x96 per chip, 2048 per step, bfloat16"
    rows = {line[:26].strip(): line[26:].split() for line in lines[3:30]}
    assert rows["memory needed"] == ["7.50", "GB", "of", "17.18", "GB", "-"]
    assert rows["FLOPs (layers)"][:2] == ["9.00", "TFLOP"]
    assert rows["bytes accessed (compiler)"][:2] == ["80.00", "GB"] and rows["memory traffic"][:2] == ["60.00", "GB"]
    assert rows["products only"][:2] == ["40.00", "GB"]
    assert rows["cycles (compiler)"][:2] == ["2.50", "G"]
    assert rows["bandwidth bound"][:2] == ["100.0", "ms"]
    assert rows["images per second"][0] == "79" and rows["all chips"][0] == f"{8 / 0.101 * 256:,.0f}"
    assert rows["largest batch"] == ["14", "images", "not", "searched"]
    text = "\n".join(lines)
    assert "train step: all-reduce: 80.0 MB, 1 smaller, 4 B in total" in text
    assert "train step: 2 loops: 8 iterations; 1 with an unknown number" in text
    assert "per chip: 4 4.00 GB, 8 7.50 GB, 14 15.10 GB; 15 not compiled, 15.90 GB by extrapolation" in text
    assert "infer step: 8 images per chip do not fit: it needs 20.10 GB" in text
    assert [line.split()[1] for line in lines if line.startswith("v5e:")][1:] == ["1", "4", "16", "64", "256"]


def test_json():
    told = json.loads(json.dumps(to_dict(PLAN)))
    train, infer = told["steps"]["train"], told["steps"]["infer"]
    assert (told["chips"], told["images_a_chip"], told["chip"]["name"]) == (256, 8, "v5e")
    assert train["needed"] == 7_500_000_000 and train["loops"] == [8, None] and train["problem"] is None
    assert train["collectives"][0] == {"kind": "all-reduce", "bytes": 80_000_000, "arrays": 1, "in_loop": False}
    assert train["largest"]["batch"] == 14 and train["scaling"][-1]["chips"] == 256
    assert infer == {"problem": INFER.problem}
