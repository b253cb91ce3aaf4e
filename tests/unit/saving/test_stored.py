"""The model that a path stands for: a model's folder, a run's, a checkpoint's."""

from __future__ import annotations

import json
import shutil

import jax
import numpy as np
import pytest

import jaxdet
from jaxdet.cli.__main__ import main
from jaxdet.cli.weights import first_model
from jaxdet.saving.model import arrays
from jaxdet.saving.open import describe_stored, open_stored
from jaxdet.saving.stored_state import CheckpointError
from small_run import small_config, start

# What Orbax reads in parts is given up in the middle, which shows when garbage is collected.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")


@pytest.fixture(scope="module")
def interrupted(images, tmp_path_factory):
    """A run with checkpoints of steps 0 and 3, whose parameters differ, and its model at each."""
    out = tmp_path_factory.mktemp("stored") / "run"
    run = start(small_config(images), out)
    models = {0: {name: np.array(value) for name, value in arrays(run.model()).items()}}
    run._save(wait=True)
    averages = jax.tree.map(lambda leaf: leaf + np.ones((), leaf.dtype), run.state.ema)
    run.state = run.state.__class__(
        run.state.step + 3, run.state.healthy, run.state.params, run.state.rest, run.state.opt_state, averages
    )
    models[3] = {name: np.array(value) for name, value in arrays(run.model()).items()}
    run._save(wait=True)
    return out, models


def _same(model, values):
    found = arrays(model)
    assert found.keys() == values.keys()
    for name, value in values.items():
        np.testing.assert_array_equal(found[name], value, err_msg=name)


def test_an_interrupted_run_has_the_model_of_its_last_checkpoint(interrupted, monkeypatch):
    out, models = interrupted
    model, taken = open_stored(out)
    _same(model, models[3])  # of the moving averages, as the run itself evaluates
    assert taken == f"{out} has no finished model: using the checkpoint of step 3, the moving averages"
    assert model.config.names == ("a", "b")
    _same(open_stored(out / "checkpoints").model, models[3])
    assert open_stored(out / "checkpoints" / "0").taken is None
    monkeypatch.chdir(out)  # a relative path, as users give it
    _same(open_stored("checkpoints/0").model, models[0])
    monkeypatch.chdir(out / "checkpoints" / "0")
    _same(open_stored(".").model, models[0])


def test_the_best_model_comes_before_the_last_and_both_before_a_checkpoint(interrupted, tmp_path):
    out, models = interrupted
    run = tmp_path / "run"
    shutil.copytree(out, run)
    last = jaxdet.create_model("mobilenet_v1", num_classes=3)
    jaxdet.save(last, run / "model")
    model, taken = open_stored(run)
    assert model.config.num_classes == 3 and taken == f"{run} is a run: using model/, the model of its last step"
    jaxdet.save(jaxdet.create_model("mobilenet_v1", num_classes=4), run / "best")
    rows = [{"step": 2, "val/top1": 0.25}, {"step": 4, "val/top1": 0.5}, {"step": 6, "val/top1": 0.5}]
    (run / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    model, taken = open_stored(run)
    assert model.config.num_classes == 4
    assert taken == f"{run} is a run: using best/, the model of the best evaluation, after step 4 (0.500)"
    _same(open_stored(run / "checkpoints" / "3").model, models[3])


def test_what_holds_no_model_is_told(interrupted, tmp_path, monkeypatch):
    out, _ = interrupted
    run = tmp_path / "run"
    run.mkdir()
    (run / "run.json").write_text("{}")
    with pytest.raises(ValueError, match="is a run without a model or checkpoint yet"):
        open_stored(run)
    with pytest.raises(ValueError, match="is not a jaxdet model"):
        open_stored(tmp_path)
    shutil.copytree(out / "checkpoints" / "3", run / "checkpoints" / "3")
    record = run / "checkpoints" / "3" / "record" / "metadata"
    kept = record.read_text()
    record.write_text(json.dumps({"best": {}}))  # of an earlier version
    with pytest.raises(ValueError, match=r"checkpoints/3 was written by an earlier version"):
        open_stored(run)
    shutil.copytree(out / "checkpoints" / "3", tmp_path / "old" / "checkpoints" / "3")
    (tmp_path / "old" / "checkpoints" / "3" / "record" / "metadata").write_text(json.dumps({"best": {}}))
    jaxdet.save(jaxdet.create_model("mobilenet_v1", num_classes=3), tmp_path / "old" / "best")
    monkeypatch.chdir(tmp_path / "old" / "checkpoints")  # the run is found from there, too
    assert describe_stored("3").config.num_classes == 3
    record.write_text("[]")
    with pytest.raises(CheckpointError, match=r"its record is not a JSON object"):
        open_stored(run)
    record.write_text("{")
    with pytest.raises(CheckpointError, match=r"checkpoints/3: this checkpoint cannot be read"):
        open_stored(run)
    record.write_text(kept)
    for file in (run / "checkpoints" / "3" / "state" / "ocdbt.process_0" / "d").iterdir():
        file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    with pytest.raises(CheckpointError, match=r"checkpoints/3: this checkpoint cannot be read"):
        open_stored(run)


def test_commands_take_a_run_and_say_what_they_took(interrupted, images, tmp_path, capsys):
    out, models = interrupted
    assert main(["summary", str(out), "--size", "32", "32"]) == 0
    assert "using the checkpoint of step 3" in capsys.readouterr().err
    image = next((images / "a").iterdir())
    assert main(["classify", str(image), "--weights", str(out), "--top", "1"]) == 0
    assert "using the checkpoint of step 3" in capsys.readouterr().err
    assert main(["convert", str(out), "--out", str(tmp_path / "model"), "--to-torch", str(tmp_path / "m.pth")]) == 0
    _same(jaxdet.load(tmp_path / "model"), models[3])
    assert (tmp_path / "m.pth").stat().st_size > 1000
    assert main(["convert", str(out)]) == 1
    assert "give --out DIR for a jaxdet model" in capsys.readouterr().err


def test_a_run_starts_another(interrupted, images, tmp_path, capsys):
    out, models = interrupted
    model = first_model(small_config(images, weights=str(out)), ("a", "b"), print)
    _same(model, models[3])
    assert "using the checkpoint of step 3" in capsys.readouterr().err
