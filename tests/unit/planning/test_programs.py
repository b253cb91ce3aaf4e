"""The programs of a plan: what they multiply, counted, and in which type."""

from __future__ import annotations

import re
from dataclasses import replace
from functools import cache

import jax
import pytest
from tiny_job import CANVAS, tiny_job

from jaxdet.data import CocoFiles
from jaxdet.models import abstract, model_config
from jaxdet.parallel import data_mesh
from jaxdet.planning import Job, evaluation_step, train_step
from jaxdet.planning.programs import Work, step_work
from jaxdet.runs import TrainConfig
from jaxdet.summary import summarize
from jaxdet.training import OptimizerConfig
from tiny_model import tiny_config


@cache
def lowered(step):
    """The program of a step for TPUs, with where each operation comes from; no TPU compiler is needed for that."""
    traced = step(tiny_job(), data_mesh(jax.devices()[:1]))
    return traced.lower(lowering_platforms=("tpu",)).as_text(debug_info=True)


def products(text):
    """(types of the operands, where it comes from) of every convolution and matrix product."""
    places = dict(re.findall(r'^(#loc\d+) = loc\("(.*?)"', text, re.M))
    found = re.findall(r"stablehlo\.(?:convolution|dot_general)\b.* : \((.*?)\) -> .* loc\((#loc\d+)\)$", text, re.M)
    return [(re.findall(r"(?<=x)([a-z]\w*)>", types), places[place]) for types, place in found]


@pytest.mark.parametrize("step", [train_step, evaluation_step])
def test_bfloat16_means_bfloat16(step):
    found = products(lowered(step))
    assert len(found) == lowered(step).count("stablehlo.convolution(") + lowered(step).count("stablehlo.dot_general ")
    assert len(found) > 30
    wide = [(types, place) for types, place in found if types != ["bf16", "bf16"]]
    assert wide and all("roi_align" in place for _, place in wide), "bilinear weights alone are float32"


def test_operations_are_those_of_the_layers():
    train, infer = (work.macs for work in step_work(tiny_job(batch=1)))
    # 30 proposals at inference and 16 in training go through the box head: 16 * 49 x 32, 32 x 32, 32 x (4 + 16).
    head = 16 * 49 * 32 + 32 * 32 + 32 * 20
    stem = (64 // 2) * (96 // 2) * 3 * 3 * 3 * 8  # the first layer needs no gradient of its input
    assert train == 3 * (infer - (30 - 16) * head) - stem
    # What is frozen, and has nothing before it that trains, costs its forward pass alone.
    frozen, twice = (work.macs for work in step_work(tiny_job(batch=2, frozen=("backbone",))))
    body = sum(row.macs for row in summarize(abstract(tiny_config()), *CANVAS).rows if row.path.startswith("backbone."))
    assert twice == 2 * infer
    assert frozen == 2 * (3 * (infer - (30 - 16) * head) - 2 * body - _laterals())


PARTS = ("backbone", "fpn", "rpn_head", "box_head", "box_predictor")


def test_numbers_that_products_read_and_write():
    rows = summarize(abstract(tiny_config()), *CANVAS).rows
    stem = next(row for row in rows if row.macs)
    assert stem.elements == 64 * 96 * 3 + 3 * 3 * 3 * 8 + 32 * 48 * 8
    head = next(row for row in rows if row.path == "box_predictor.cls_score")  # 30 proposals, 4 classes and none
    assert head.elements == 30 * (32 + 4) + 32 * 4
    train, infer = step_work(tiny_job(batch=1, frozen=PARTS))  # nothing trains: a forward pass alone
    assert infer == Work(sum(row.macs for row in rows), sum(row.elements for row in rows))
    assert infer.elements > train.elements > 0.9 * infer.elements  # 16 proposals


def _laterals():
    """Multiply-adds of the FPN's convolution that is called first: the frozen body asks for no gradient."""
    return (CANVAS[0] // 32) * (CANVAS[1] // 32) * 256 * 16


def test_a_classifier():
    config = TrainConfig(model=model_config("mobilenet_v1", num_classes=10), train=CocoFiles("", ""), steps=10)
    job = Job(replace(config, optimizer=OptimizerConfig(accumulate=2), ema_decay=0.9), (32, 32), 4)
    train, infer = (work.macs for work in step_work(job))
    stem = 4 * 16 * 16 * 3 * 3 * 3 * 8
    assert train == 3 * infer - stem
    mesh = data_mesh(jax.devices()[:1])
    assert "stablehlo.convolution" in train_step(job, mesh).lower().as_text()
    logits = jax.tree.leaves(evaluation_step(job, mesh).out_info)
    assert [leaf.shape for leaf in logits] == [(4, 10)]
