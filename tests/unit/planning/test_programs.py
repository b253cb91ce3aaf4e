"""The programs of a plan: what they multiply, counted, and in which type."""

from __future__ import annotations

import re
from dataclasses import replace
from functools import cache

import jax
import pytest
from flax import nnx

from jaxdet.data import CocoFiles
from jaxdet.models import DetectorTransform, abstract, model_config
from jaxdet.nn import Numerics
from jaxdet.parallel import data_mesh
from jaxdet.planning import Job, evaluation_step, train_step
from jaxdet.planning.programs import Work, step_work
from jaxdet.runs import TrainConfig
from jaxdet.summary import summarize
from jaxdet.training import OptimizerConfig
from small_detector import SmallBackbone, small_config

CANVAS = (64, 96)
CONFIG = small_config(num_classes=4, transform=DetectorTransform(*CANVAS))
# 16 proposals at inference and 8 in training go through the box head: 16 * 49 x 16, 16 x 16, 16 x (4 + 16).
HEAD = 16 * 49 * 16 + 16 * 16 + 16 * 20


def small_job(batch=2, **fields):
    config = TrainConfig(
        model=CONFIG,
        backbone=SmallBackbone,
        train=CocoFiles("none.json", "none"),
        steps=100,
        dtype="bfloat16",
        **fields,
    )
    return Job(config, CANVAS, batch, box_slots=8)


def rows():
    backbone = nnx.eval_shape(lambda: SmallBackbone(numerics=Numerics(), rngs=nnx.Rngs(0)))
    return summarize(abstract(CONFIG, backbone=backbone), *CANVAS).rows


@cache
def lowered(step):
    """The program of a step for TPUs, with where each operation comes from; no TPU compiler is needed for that."""
    traced = step(small_job(), data_mesh(jax.devices()[:1]))
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
    assert len(found) > 10
    wide = [(types, place) for types, place in found if types != ["bf16", "bf16"]]
    assert wide and all("roi_align" in place for _, place in wide), "bilinear weights alone are float32"


def test_operations_are_those_of_the_layers():
    train, infer = (work.macs for work in step_work(small_job(batch=1)))
    stem = (64 // 2) * (96 // 2) * 3 * 3 * 3 * 8  # the first layer needs no gradient of its input
    assert train == 3 * (infer - (16 - 8) * HEAD) - stem
    # What is frozen, and has nothing before it that trains, costs its forward pass alone.
    frozen, twice = (work.macs for work in step_work(small_job(batch=2, frozen=("backbone",))))
    backbone = sum(row.macs for row in rows() if row.path.startswith("backbone."))
    assert twice == 2 * infer
    assert frozen == 2 * (3 * (infer - (16 - 8) * HEAD) - 2 * backbone - _lateral())


PARTS = ("backbone", "fpn", "rpn_head", "box_head", "box_predictor")


def test_numbers_that_products_read_and_write():
    found = rows()
    stem = next(row for row in found if row.macs)
    assert stem.elements == 64 * 96 * 3 + 3 * 3 * 3 * 8 + 32 * 48 * 8
    head = next(row for row in found if row.path == "box_predictor.cls_score")  # 16 proposals, 4 classes and none
    assert head.elements == 16 * (16 + 4) + 16 * 4
    train, infer = step_work(small_job(batch=1, frozen=PARTS))  # nothing trains: a forward pass alone
    assert infer == Work(sum(row.macs for row in found), sum(row.elements for row in found))
    assert infer.elements > train.elements > 0.8 * infer.elements  # 8 proposals


def _lateral():
    """Multiply-adds of the FPN's convolution that is called first: the frozen backbone asks for no gradient."""
    return (CANVAS[0] // 8) * (CANVAS[1] // 8) * 24 * 16


def test_a_classifier():
    config = TrainConfig(
        model=model_config("resnet50", blocks=(1, 1, 1, 1), num_classes=10), train=CocoFiles("", ""), steps=10
    )
    job = Job(replace(config, optimizer=OptimizerConfig(accumulate=2), ema_decay=0.9), (32, 32), 4)
    train, infer = (work.macs for work in step_work(job))
    stem = 4 * 16 * 16 * 7 * 7 * 3 * 64
    assert train == 3 * infer - stem
    mesh = data_mesh(jax.devices()[:1])
    assert "stablehlo.convolution" in train_step(job, mesh).lower().as_text()
    logits = jax.tree.leaves(evaluation_step(job, mesh).out_info)
    assert [leaf.shape for leaf in logits] == [(4, 10)]
