"""The pieces around a run: its journal, its record, its requests to stop, its configuration."""

from __future__ import annotations

import json
import os
import signal
from dataclasses import replace
from types import SimpleNamespace

import pytest

from jaxdet.data import Augmentation, ClassAugmentation, CocoFiles
from jaxdet.runs import RECIPES, TrainConfig, read_config
from jaxdet.runs.config import run_length
from jaxdet.runs.journal import Journal
from jaxdet.runs.record import check_record, keep_record, make_record
from jaxdet.runs.signals import StopRequest
from jaxdet.saving.run_folder import read_rows
from jaxdet.training import OptimizerConfig


def test_a_journal_takes_back_what_a_killed_run_said_too_much(tmp_path):
    journal = Journal(tmp_path, 0, 9, 2, progress=False)
    for step in (1, 2, 3):
        journal.train(step, {"loss": 1.0 / step, "learning_rate": 0.1})
    journal.evaluation(3, {"AP": 0.25}, ("AP",))
    journal.close()
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"step": 4, "lo')  # killed here
    journal = Journal(tmp_path, 2, 9, 2, progress=False)
    journal.train(3, {"loss": 0.5, "learning_rate": 0.2})
    journal.close()
    rows = read_rows(tmp_path / "metrics.jsonl")
    assert [(row["step"], row.get("loss")) for row in rows] == [(1, 1.0), (2, 0.5), (3, 0.5)]
    assert (tmp_path / "losses.png").stat().st_size > 1000
    assert any(entry.name.startswith("events") for entry in (tmp_path / "tensorboard").iterdir())


def test_a_stop_request_is_noted_once_and_handlers_come_back():
    before = signal.getsignal(signal.SIGTERM)
    with StopRequest() as stop:
        assert stop.received is None
        os.kill(os.getpid(), signal.SIGTERM)
        assert stop.received == signal.SIGTERM
        assert signal.getsignal(signal.SIGTERM) == before  # a second one is not held up
    assert signal.getsignal(signal.SIGTERM) == before


def test_a_record_names_what_differs(tmp_path):
    record = {"config": {"seed": 0, "workers": 1, "optimizer": {"kind": "sgd"}}, "data": {"pictures": 4, "digest": "a"}}
    keep_record(tmp_path, record)
    watched = {"config": record["config"] | {"workers": 8}, "data": record["data"]}
    assert check_record(tmp_path, watched) is None
    keep_record(tmp_path, watched)
    other = {"config": {"seed": 1, "workers": 1, "optimizer": {"kind": "adamw"}}, "data": record["data"]}
    with pytest.raises(ValueError, match=r'optimizer\.kind \(was "sgd", now "adamw"\), seed \(was 0, now 1\)'):
        check_record(tmp_path, other)
    with pytest.raises(ValueError, match="on other data"):
        check_record(tmp_path, record | {"data": {"pictures": 4, "digest": "b"}})
    assert json.loads((tmp_path / "run.json").read_text()) == watched
    (tmp_path / "run.json").write_text("{")
    with pytest.raises(ValueError, match=r"run\.json cannot be read"):
        check_record(tmp_path, record)


def test_every_recipe_reads_and_options_reach_its_parts():
    for name in RECIPES:
        config = read_config(name, {"epochs": 3, "optimizer_learning_rate": 0.5, "augment_flip": 0.0})
        assert config.epochs == 3 and config.optimizer.learning_rate == 0.5 and config.augment.flip == 0.0
    assert isinstance(read_config("darknet53").augment, ClassAugmentation)
    assert read_config("darknet53").model.num_classes == 18
    jittered = read_config("fasterrcnn_resnet50_fpn_v2").augment
    assert isinstance(jittered, Augmentation) and jittered.scale_jitter == (0.1, 2.0)
    config = read_config("fasterrcnn_resnet50_fpn", {"train_annotations": "a.json", "model_rpn_nms_thresh": 0.6})
    assert config.train == CocoFiles("a.json", "coco/train2017") and config.model.rpn.nms_thresh == 0.6


@pytest.mark.parametrize(
    "name, options, says",
    [
        ("finetun", {}, r"or recipe; recipes: .*; did you mean 'finetune'\?$"),
        ("finetune", {"optimizer_learning_rat": 1}, r"lists all \d+; did you mean 'optimizer_learning_rate'.*\?$"),
        ("finetune", {"steps": 5, "epochs": 5}, "either steps or epochs"),
        ("finetune", {"batch_size": 0}, "batch_size must be at least 1"),
        ("finetune", {"optimizer_kind": "lamb"}, "one of sgd, adamw"),
        ("finetune", {"ema_decay": 2.0}, "between 0 and 1"),
    ],
)
def test_a_mistaken_configuration_is_told(name, options, says):
    with pytest.raises(ValueError, match=says):
        read_config(name, options)


def test_epochs_become_steps_with_their_marks():
    config = read_config("fasterrcnn_resnet50_fpn")
    length = run_length(config, 7329)
    assert length.steps == 26 * 7329 and length.optimizer.milestones == (16 * 7329, 22 * 7329)
    assert length.eval_every == 7329
    by_steps = replace(config, epochs=None, steps=100, optimizer=OptimizerConfig(milestones=(60,)), eval_every=10)
    assert run_length(by_steps, 7329).optimizer.milestones == (60,) and run_length(by_steps, 7329).eval_every == 10


COUNTED = """
from jaxdet.data import CocoFiles
from jaxdet.models import detector_config
from jaxdet.runs import TrainConfig
from jaxdet.training import OptimizerConfig

def config():
    return TrainConfig(
        model=detector_config("fasterrcnn_mobilenet_v1_fpn"), train=CocoFiles("a", "b"), {length}, eval_every=2,
        optimizer=OptimizerConfig(milestones=(4, 6)),
    )
"""


@pytest.mark.parametrize(
    "length, options, expected",  # (steps, eval_every, milestones), of 10 steps an epoch
    [
        ("epochs=8", {}, (80, 20, (40, 60))),
        ("steps=8", {}, (8, 2, (4, 6))),
        ("epochs=8", {"steps": 50}, (50, 20, (40, 60))),
        ("steps=8", {"epochs": 3}, (30, 2, (4, 6))),
        ("epochs=8", {"epochs": 5}, (50, 20, (40, 60))),
        ("steps=8", {"steps": 50}, (50, 2, (4, 6))),
        # What is given anew without a unit counts as the run then does.
        ("epochs=8", {"steps": 50, "eval_every": 7, "optimizer_milestones": (30,)}, (50, 7, (30,))),
        ("steps=8", {"epochs": 5, "eval_every": 1, "optimizer_milestones": [3]}, (50, 10, (30,))),
        ("epochs=8", {"eval_every": "15 steps", "optimizer_milestones": ("25 steps", "7 epochs")}, (80, 15, (25, 70))),
        ("steps=8", {"eval_every": "0.5epochs"}, (8, 5, (4, 6))),
        ("epochs=8", {"optimizer_learning_rate": 0.5, "steps": 50}, (50, 20, (40, 60))),
    ],
)
def test_a_quantity_keeps_its_unit(tmp_path, length, options, expected):
    (tmp_path / "config.py").write_text(COUNTED.format(length=length))
    found = run_length(read_config(tmp_path / "config.py", options), 10)
    assert (found.steps, found.eval_every, found.optimizer.milestones) == expected


def test_a_recipe_by_steps_still_evaluates_after_epochs():
    assert run_length(read_config("finetune", {"steps": 500}), 40).eval_every == 40
    assert run_length(read_config("fasterrcnn_resnet50_fpn_v2", {"steps": 500}), 40).eval_every == 400


@pytest.mark.parametrize(
    "options, says",
    [
        (
            {"eval_every": "often"},
            "eval_every must be a number, or text such as '500 steps' or '2 epochs', not 'often'",
        ),
        ({"eval_every": "2 hours"}, "not '2 hours'"),
        ({"eval_every": 0}, "eval_every must be above 0, not 0 epochs"),
        ({"optimizer_milestones": (6, 4)}, "milestones must ascend, not 6"),
        ({"optimizer_milestones": ("6 epochs", "4 epochs")}, "milestones must ascend, not 6 epochs, 4 epochs"),
    ],
)
def test_a_quantity_that_is_none(options, says):
    with pytest.raises(ValueError, match=says):
        read_config("fasterrcnn_resnet50_fpn", options)


def _task(config):
    plan = SimpleNamespace(steps_per_epoch=10)
    return SimpleNamespace(
        config=config, train=range(3), digest=lambda: "d", plan=plan, length=run_length(config, plan.steps_per_epoch)
    )


def test_units_are_in_the_record_and_old_records_read(tmp_path):
    config = read_config("fasterrcnn_resnet50_fpn", {"steps": 500})
    plain = make_record(_task(config))
    assert plain["config"]["eval_every"] == "1 epoch" and plain["config"]["optimizer"]["milestones"] == [
        "16 epochs", "22 epochs"
    ]  # fmt: skip
    epochs = make_record(_task(read_config("fasterrcnn_resnet50_fpn")))
    optimizer = epochs["config"]["optimizer"] | {"milestones": [16, 22]}
    old = epochs | {"format": 1, "config": epochs["config"] | {"eval_every": 1, "optimizer": optimizer}}
    (tmp_path / "run.json").write_text(json.dumps(old))
    check_record(tmp_path, epochs)
    later = read_config("fasterrcnn_resnet50_fpn", {"optimizer_milestones": ("16 steps", "22 steps")})
    later = make_record(_task(later))
    with pytest.raises(ValueError, match=r'milestones \(was \["16 epochs", "22 epochs"\], now \["16 steps"'):
        check_record(tmp_path, later)


def test_metrics_are_known_and_for_detectors():
    source = CocoFiles("a", "b")
    with pytest.raises(ValueError, match="one of coco, crowd, not 'voc'"):
        TrainConfig(model=RECIPES["finetune"]().model, train=source, steps=1, metrics="voc")
    with pytest.raises(ValueError, match="metrics='crowd' is for detectors"):
        TrainConfig(model=RECIPES["resnet50"]().model, train=source, steps=1, metrics="crowd")


def test_metrics_by_their_earlier_name(tmp_path):
    now = read_config("finetune", {"metrics": "heads", "train_annotations": "a", "train_images": "b"})
    assert now.metrics == "crowd" and now == replace(now, metrics="crowd")
    record = {"config": {"metrics": "heads"}, "data": {"pictures": 4, "digest": "a"}}
    keep_record(tmp_path, record)
    check_record(tmp_path, record | {"config": {"metrics": "crowd"}})
    with pytest.raises(ValueError, match='was "crowd", now "coco"'):
        check_record(tmp_path, record | {"config": {"metrics": "coco"}})


def test_a_run_has_one_length():
    model, source = RECIPES["finetune"]().model, CocoFiles("a", "b")
    with pytest.raises(ValueError, match="either steps or epochs"):
        TrainConfig(model=model, train=source)


def test_a_field_that_an_earlier_version_did_not_have_counts_as_its_default(tmp_path):
    def record(**norm):
        config = {"norm": {"type": "NormConfig", "kind": "batch", **norm}}
        return {"config": config, "data": {"pictures": 1, "digest": "d"}}

    keep_record(tmp_path, record())
    assert check_record(tmp_path, record(groups=32)) is None
    with pytest.raises(ValueError, match=r"norm\.groups \(was 32, now 8\)"):
        check_record(tmp_path, record(groups=8))
