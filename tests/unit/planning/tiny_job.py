"""A plan of the tiny detector."""

from __future__ import annotations

from jaxdet.data import CocoFiles
from jaxdet.planning import Job
from jaxdet.runs import TrainConfig
from small_detector import tiny_config

CANVAS = (64, 96)


def tiny_job(batch=2, **fields):
    config = TrainConfig(
        model=tiny_config(), train=CocoFiles("none.json", "none"), steps=100, dtype="bfloat16", **fields
    )
    return Job(config, CANVAS, batch, box_slots=8)
