"""A run that goes on from another's state, with its own configuration, in a folder of its own."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path

import jax
import numpy as np
import pytest

from jaxdet.saving.stored_state import StoredState
from small_run import small_config, start, write_images

# What a folder of checkpoints leaves open, in Orbax, shows when garbage is collected.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")


@pytest.fixture(scope="module")
def four(images, tmp_path_factory):
    """A finished run of four steps."""
    out = tmp_path_factory.mktemp("runs") / "four"
    start(small_config(images), out).train()
    return out


def _files(folder):
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def _same(one, other):
    assert jax.tree.structure(one) == jax.tree.structure(other)
    jax.tree.map(np.testing.assert_array_equal, one, other)


def test_a_longer_run_ends_with_the_bits_of_a_straight_one(images, four, tmp_path):
    before = _files(four)
    straight = start(small_config(images, steps=6), tmp_path / "straight")
    straight.train()
    longer = start(small_config(images, steps=6), tmp_path / "longer", source=four)
    assert longer.position == 4 and longer.taken.differences == ("steps (was 4, now 6)",) and not longer.taken.notes
    longer.train()
    _same(longer.state, straight.state)
    assert _files(four) == before
    told = json.loads((tmp_path / "longer" / "run.json").read_text())["from"]
    assert told == {"run": str(four), "step": 4, "differences": ["steps (was 4, now 6)"], "notes": []}
    steps = [json.loads(line)["step"] for line in (tmp_path / "longer" / "metrics.jsonl").read_text().splitlines()]
    assert steps == [5, 6]


def test_the_same_command_goes_on_and_needs_the_source_no_more(images, four, tmp_path):
    config = small_config(images, steps=6, checkpoint_every=100)
    start(config, tmp_path / "new", source=four)  # killed before its first step
    for source in (four, None):
        again = start(config, tmp_path / "new", source=source)
        assert again.position == 4 and again.taken is None
    assert json.loads((tmp_path / "new" / "run.json").read_text())["from"]["run"] == str(four)
    with pytest.raises(ValueError, match=r"already has a run, which was started from .*four: leave out --from"):
        start(config, tmp_path / "new", source=tmp_path / "other")
    with pytest.raises(ValueError, match="this is the folder of --out; give another folder"):
        start(small_config(images), four, source=four)
    start(small_config(images, steps=6, seed=1), tmp_path / "own")._save(wait=True)
    with pytest.raises(ValueError, match="already has a run, which was not started from another"):
        start(small_config(images, steps=6, seed=1), tmp_path / "own", source=four)


def test_a_run_that_took_nothing_over_does_not_say_so(images, four, tmp_path):
    config = small_config(images, steps=6)
    start(config, tmp_path / "new", source=four)
    shutil.rmtree(tmp_path / "new" / "checkpoints")  # as if killed before they were written
    assert start(config, tmp_path / "new").position == 0
    assert "from" not in json.loads((tmp_path / "new" / "run.json").read_text())


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        ({"length": {"steps": 4, "steps_per_epoch": 0, "milestones": []}}, "its 'length' is"),
        ({"length": {}}, "it has no 'steps'"),
        ({"config": []}, "its 'config' is not an object"),
        ({"data": 4}, "cannot be read"),
        ({"from": "run"}, "cannot be read"),
    ],
)
def test_a_damaged_record_is_refused(images, four, tmp_path, damage, says):
    source = tmp_path / "source"
    shutil.copytree(four, source)
    record = source / "run.json"
    record.write_text(json.dumps(json.loads(record.read_text()) | damage))
    with pytest.raises(ValueError, match=r"--from .*run\.json cannot be read") as error:
        start(small_config(images, steps=6), tmp_path / "new", source=source)
    assert says in str(error.value)


def test_any_checkpoint_can_be_taken(images, four, tmp_path, monkeypatch):
    monkeypatch.chdir(four.parent)  # a relative path, as users give it
    run = start(small_config(images, steps=6), tmp_path, source=Path(four.name) / "checkpoints" / "2")
    assert run.position == 2 == run.taken.step


def test_rate_batch_and_data_may_differ_and_are_told(images, four, tmp_path):
    other = write_images(tmp_path / "other", count=8, seed=1)
    config = small_config(
        other,
        steps=9,
        batch_size=4,
        optimizer_learning_rate=5e-4,
        optimizer_clip_norm=1.0,  # a further part in the optimizer's chain
        optimizer_lr_scales=(("fc", 2.0),),
        workers=1,
    )
    run = start(config, tmp_path / "new", source=four)
    told = "\n".join(run.taken.differences)
    for line in (
        "batch_size (was 2, now 4)",
        "optimizer.learning_rate (was 0.001, now 0.0005)",
        "optimizer.clip_norm (was null, now 1.0)",
        "steps (was 4, now 9)",
        "workers (was 0, now 1)",
        "data (was 8 images, now 16)",
        "train.root",
    ):
        assert line in told
    assert any("4 of the 4 completed steps had other learning rates" in note for note in run.taken.notes)
    old = StoredState(four / "checkpoints" / "4")
    count = [name for name in old.shapes if name.startswith(".opt_state") and name.endswith(".count")]
    device = jax.sharding.SingleDeviceSharding(jax.devices()[0])
    wanted = {n: jax.ShapeDtypeStruct(old.shapes[n][0], old.shapes[n][1], sharding=device) for n in old.shapes}
    values = old.read(wanted)
    assert len(count) == 2 and all(int(values[name]) == 4 for name in count)
    adam = next(part for part in run.state.opt_state if hasattr(part, "mu"))
    np.testing.assert_array_equal(adam.mu["fc"]["kernel"][...], values[".opt_state[0].mu['fc']['kernel'].value"])
    np.testing.assert_array_equal(run.state.ema[0]["fc"]["kernel"][...], values[".ema[0]['fc']['kernel'].value"])
    np.testing.assert_array_equal(
        run.state.rest["stem"]["norm"]["mean"][...], values[".rest['stem']['norm']['mean'].value"]
    )


def test_a_schedule_that_depends_on_the_length_is_told(images, four, tmp_path):
    cosine = {"optimizer_schedule": "cosine"}
    start(small_config(images, **cosine), tmp_path / "short")._save(wait=True)  # at step 0: nothing was done
    assert not start(small_config(images, steps=8, **cosine), tmp_path / "a", source=tmp_path / "short").taken.notes
    run = start(small_config(images, steps=8, **cosine), tmp_path / "b", source=four)
    (note,) = run.taken.notes
    assert "(cosine, over 4 steps there and 8 here), so the result differs from an uninterrupted run of 8 steps" in note
    assert "continues at 0.0005, after 0.001" in note


def test_averages_that_one_of_the_two_lacks(images, four, tmp_path):
    bare = start(small_config(images, steps=6, ema_decay=None), tmp_path / "bare", source=four)
    assert bare.state.ema is None and bare.taken.notes == (
        "its moving averages are dropped, as this run has none (ema_decay)",
    )
    again = start(small_config(images, steps=8), tmp_path / "again", source=tmp_path / "bare")
    assert "moving averages start at the current parameters" in again.taken.notes[0]
    _same(again.state.ema, (again.state.params, again.state.rest))


@pytest.mark.parametrize(
    "fields, says",
    [
        ({"steps": 4}, r"its checkpoint is of step 4, but this run ends at step 4: make it longer"),
        (
            {"optimizer_kind": "sgd"},
            r'state of its optimizer does not fit \(optimizer\.kind \(was "adamw", now "sgd"\)\)',
        ),
        ({"optimizer_accumulate": 2}, r"does not fit \(optimizer\.accumulate \(was 1, now 2\)\)"),
        ({"frozen": ("stem",)}, r"stem\.conv\.kernel was trained there and is frozen here, and so are 2 others"),
        ({"freeze_norms": True}, r"another model or other classes; the first of \d+ differing"),
    ],
)
def test_what_does_not_fit_is_refused(images, four, tmp_path, fields, says):
    with pytest.raises(ValueError, match=says):
        start(small_config(images, **{"steps": 6, **fields}), tmp_path / "new", source=four)
    assert not (tmp_path / "new").exists()


def test_other_classes_and_no_run_are_refused(four, tmp_path):
    images = write_images(tmp_path / "three", ("a", "b", "c"))
    with pytest.raises(ValueError, match=r"the first of \d+ differing parameters: fc\.bias, there \(2,\), here \(3,\)"):
        start(small_config(images, steps=6), tmp_path / "new", source=four)
    with pytest.raises(ValueError, match=r"--from .*three: this is not the folder of a run"):
        start(small_config(images, steps=6), tmp_path / "new", source=tmp_path / "three")
    assert not (tmp_path / "new").exists()
