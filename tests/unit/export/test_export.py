"""An exported detector: the same detections without jaxdet, and plain words where it is used for something else."""

from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import pytest

import jaxdet
from jaxdet.cli.__main__ import main
from jaxdet.export import load_export
from jaxdet.export.write import export_detector, in_dtype
from jaxdet.models import build
from jaxdet.saving.model import save
from small_detector import ONE_LEVEL, tiny_config

CANVAS, BATCH = (64, 96), 2
NAMES = ("background", "disc", "box", "cross")
# Runs in a process that cannot import jaxdet at all: the folder's own reader, and the program by jax.export alone.
ALONE = """
import json, sys
sys.modules["jaxdet"] = None
import jax, numpy as np
from jax import export
from reader import load_export

images = list(np.load("images.npz").values())
found = load_export(".").detect(images, score_threshold=0.05)

told = json.load(open("export.json"))
program = export.deserialize(bytearray(open("program.bin", "rb").read()))
weights = np.load("weights.npz")
pixels, sizes = (np.ones(entry["shape"], entry["dtype"]) for entry in told["inputs"])
plain = program.call([weights[entry["name"]] for entry in told["weights"]], pixels, 40 * sizes)
assert [(list(x.shape), str(x.dtype)) for x in plain] == [(o["shape"], o["dtype"]) for o in told["outputs"]]
ours = load_export(".")(pixels, 40 * sizes)
assert all(np.array_equal(ours[o["name"]], x) for o, x in zip(told["outputs"], plain))
assert not any(name.startswith(("jaxdet.", "flax")) for name in sys.modules)
np.savez("found.npz", **{f"{row}/{name}": value for row, one in enumerate(found) for name, value in one.items()})
"""


@pytest.fixture(scope="module")
def model():
    return build(tiny_config(names=NAMES, **ONE_LEVEL))


@pytest.fixture(scope="module")
def folder(model, tmp_path_factory):
    place = tmp_path_factory.mktemp("export") / "detector"
    export_detector(model, place, canvas=CANVAS, batch=BATCH)
    return place


def test_the_same_detections_without_jaxdet(model, folder):
    rng = np.random.default_rng(0)
    sizes = [(64, 96), (50, 80), (128, 190)]  # as they are, enlarged, shrunk; and a batch that is half full
    images = [rng.integers(0, 256, (*size, 3), dtype=np.uint8) for size in sizes]
    np.savez(folder / "images.npz", *images)
    run = subprocess.run([sys.executable, "-c", ALONE], cwd=folder, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    found = np.load(folder / "found.npz")
    for row, ours in enumerate(jaxdet.predict(model, images, score_threshold=0.05, batch_size=BATCH)):
        assert len(ours["boxes"]) > 20
        for name, value in ours.items():
            np.testing.assert_array_equal(found[f"{row}/{name}"], value)


def test_another_batch_or_canvas_is_said(folder):
    detector = load_export(folder)
    assert (detector.batch, detector.canvas, detector.names) == (BATCH, CANVAS, NAMES)
    sizes = np.full((3, 2), 64, np.int32)
    with pytest.raises(ValueError, match=r"exported for batches of 2 on a canvas of 64x96; jaxdet export --batch N"):
        detector(np.zeros((3, *CANVAS, 3), np.float32), sizes)
    with pytest.raises(ValueError, match=r"takes pixels \[2, 64, 96, 3\].* not \[2, 96, 64, 3\]"):
        detector(np.zeros((2, 96, 64, 3), np.float32), sizes[:2])
    with pytest.raises(ValueError, match=r"image 1, 90x60, is resized to 96x64, .* canvas is 64x96; jaxdet export"):
        detector.detect([np.zeros((60, 90, 3), np.uint8), np.zeros((90, 60, 3), np.uint8)])
    with pytest.raises(ValueError, match=r"image 0 is float64 \(60, 90, 3\); expected uint8"):
        detector.detect([np.zeros((60, 90, 3))])


def test_what_lies_beside_the_program(folder):
    told = json.loads((folder / "export.json").read_text())
    assert told["platforms"] == ["cpu", "cuda", "tpu"] and told["names"] == list(NAMES)
    assert (told["batch"], told["canvas"], told["transform"]["min_size"]) == (BATCH, list(CANVAS), 64)
    assert told["outputs"][0] == {"name": "boxes", "shape": [2, 90, 4], "dtype": "float32"}


def test_damage_and_places_that_are_taken(model, folder, tmp_path):
    with pytest.raises(ValueError, match=f"{tmp_path} is not an exported detector: .* Write one with jaxdet export"):
        load_export(tmp_path)
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(ValueError, match="exists and is not an export"):
        export_detector(model, tmp_path, canvas=CANVAS)
    with pytest.raises(ValueError, match="both sides must be multiples of 32"):
        export_detector(model, tmp_path / "new", canvas=(60, 96))
    with pytest.raises(ValueError, match="among cpu, cuda, tpu, got rocm"):
        export_detector(model, tmp_path / "new", canvas=CANVAS, platforms=("cpu", "rocm"))
    with pytest.raises(ValueError, match="gs://bucket/program: cannot export to a bucket"):
        export_detector(model, "gs://bucket/program", canvas=CANVAS)
    assert [entry.name for entry in tmp_path.iterdir()] == ["mine.txt"]


def test_the_command(model, tmp_path, capsys):
    save(model, tmp_path / "model")
    arguments = ["export", str(tmp_path / "model"), "--out", str(tmp_path / "out"), "--platforms", "tpu"]
    assert main([*arguments, "--dtype", "bfloat16"]) == 0
    assert "1 x 64x96, on tpu" in capsys.readouterr().out
    told = json.loads((tmp_path / "out" / "export.json").read_text())
    assert told["numerics"]["dtype"] == "bfloat16" and told["weights"][0]["dtype"] == "float32"
    with pytest.raises(ValueError, match="exported for tpu, but this is cpu"):
        load_export(tmp_path / "out")
    assert main(["export", str(tmp_path / "nothing"), "--out", str(tmp_path / "other")]) == 1
    assert "no such file or folder, and no official weights" in capsys.readouterr().err
    assert main([*arguments, "--canvas", "800"]) == 1
    assert "expected HEIGHTxWIDTH" in capsys.readouterr().err


def test_another_type_keeps_the_parameters(model):
    changed = in_dtype(model, "bfloat16")
    assert changed.numerics.dtype == "bfloat16" and model.numerics.dtype == "float32"
    assert np.array_equal(changed.box_head.fc6.kernel[...], model.box_head.fc6.kernel[...])
