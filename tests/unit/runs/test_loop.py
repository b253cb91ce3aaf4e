"""The loop around the step, which is a stand-in here: nothing compiles, and evaluations give what they are told to."""

from __future__ import annotations

import signal
from dataclasses import replace

import jax.numpy as jnp
import pytest

import jaxdet
from jaxdet.compiling import Compilations
from jaxdet.data import ClassFolder
from jaxdet.runs.signals import Stopped
from small_run import small_config, start

# What a folder of checkpoints leaves open, in Orbax, shows when garbage is collected.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")


def _step(state, images, targets, key):
    """Adds one to every parameter, in place of a step."""
    bias = state.params["fc"]["bias"]
    params = state.params
    params["fc"]["bias"] = bias.replace(bias[...] + 1)
    return replace(state, step=state.step + 1, params=params), {"loss": jnp.float32(1)}


def _start(images, out, scores, **options):
    """A run of eight steps that is evaluated after every second, with these accuracies by step."""
    config = small_config(
        images,
        val=ClassFolder(str(images)),
        steps=8,
        eval_every=2,
        checkpoint_every=2,
        eval_batch_size=2,
        ema_decay=None,
    )
    run = start(config, out, **options)
    run._step = _step
    run.task.evaluate = lambda model, **rest: {"top1": scores[run.position]}
    return run


def _bias(out):
    return float(jaxdet.load(out / "best").fc.bias[0])


def test_a_worse_evaluation_after_resuming_leaves_the_best_model(images, tmp_path):
    run = _start(images, tmp_path, {2: 0.25, 4: 0.5})
    begin = float(run.state.params["fc"]["bias"][...][0])
    advance = run._advance

    def stopped(state, batch, key):  # as by SIGTERM in the fourth step
        if batch.step == 3:
            signal.raise_signal(signal.SIGTERM)
        return advance(state, batch, key)

    run._advance = stopped
    with pytest.raises(Stopped):
        run.train()
    assert run.position == 4 and _bias(tmp_path) == pytest.approx(begin + 4)
    again = _start(images, tmp_path, {6: 0.5, 8: 0.375})
    assert again.position == 4 and again.best == {"step": 4, "value": 0.5}
    assert again.train() == {"top1": 0.375}
    assert again.best["step"] == 4 and _bias(tmp_path) == pytest.approx(begin + 4)


def test_a_better_evaluation_takes_its_place(images, tmp_path):
    run = _start(images, tmp_path, {2: 0.25, 4: 0.5, 6: 0.5, 8: 0.75})
    begin = float(run.state.params["fc"]["bias"][...][0])
    run.train()
    assert run.best == {"step": 8, "value": 0.75} and _bias(tmp_path) == pytest.approx(begin + 8)


def test_each_canvas_is_announced_once(images, tmp_path, capsys):
    for progress, expected in ((True, 1), (False, 0)):
        run = _start(images, tmp_path / str(progress), dict.fromkeys(range(9), 0.5), progress=progress)
        run.train()
        assert capsys.readouterr().err.count("compiling 32x32 ...") == expected
    said = []
    compilations = Compilations("evaluation")
    for program, canvas in ((1, (32, 64)), (1, (32, 64)), (1, (64, 32)), (2, (32, 64)), (1, (64, 32))):
        compilations.announce(program, canvas, said.append)
    assert said == [f"compiling {size} for evaluation ..." for size in ("32x64", "64x32", "32x64")]
