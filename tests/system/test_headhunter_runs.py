"""HeadHunter's own road: annotations of its three datasets to lists, a YAML file to a checkpoint and its metrics."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import jaxdet
from headhunter_yaml import FINE_TUNING, SCUT_HEAD, write_yaml
from jaxdet.cli.__main__ import main
from jaxdet.data.synthetic.crowds import draw_crowd

SIDE = 64
SMALL = {"min_size": SIDE, "max_size": SIDE, "max_epoch": 2, "eval_every": 2, "milestones": [1]}
# Nothing is fetched, and no more proposals than so small an image has.
OPTIONS = (
    "backbone_weights=None", "workers=0", "log_every=1", "eval_batch_size=2", "model_rpn_pre_nms_top_n_train=60",
    "model_rpn_post_nms_top_n_train=30", "model_rpn_pre_nms_top_n_test=60", "model_rpn_post_nms_top_n_test=30",
    "model_box_batch_size_per_image=32", "model_box_representation_size=64",
)  # fmt: skip
IMAGES = 3


@pytest.fixture(scope="module")
def images():
    """(image, boxes, flags) of drawn crowds."""
    return [draw_crowd(np.random.default_rng(seed), SIDE, SIDE, density=0.7) for seed in range(IMAGES)]


def _save(image, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(image).save(path)


def write_scut_head(root: Path, images) -> list[str]:
    """The xml of SCUT-HEAD, where the first box has no area, and the command that makes a list of it."""
    corners = ("xmin", "ymin", "xmax", "ymax")
    for number, (image, boxes, _) in enumerate(images):
        _save(image, root / "JPEGImages" / f"{number}.jpg")
        objects = [
            "<object><name>head</name><bndbox>"
            + "".join(f"<{tag}>{value}</{tag}>" for tag, value in zip(corners, box, strict=True))
            + "</bndbox></object>"
            for box in [(3, 3, 3, 9), *boxes]
        ]
        (root / "Annotations").mkdir(exist_ok=True)
        (root / "Annotations" / f"{number}.xml").write_text(f"<annotation>{''.join(objects)}</annotation>")
    return ["scuthead", str(root)]


def write_crowd_human(root: Path, images) -> list[str]:
    """The odgt of CrowdHuman, and the command that makes a list of it."""
    lines = []
    for number, (image, boxes, flags) in enumerate(images):
        _save(image, root / f"{number}.jpg")
        people = [
            {"tag": "person", "hbox": [x1, y1, x2 - x1, y2 - y1], "head_attr": {"ignore": int(flag != 0)}}
            for (x1, y1, x2, y2), flag in zip(boxes, flags, strict=True)
        ]
        lines.append(json.dumps({"ID": str(number), "gtboxes": people}))
    (root / "annotation.odgt").write_text("\n".join(lines))
    return ["crowdhuman", str(root / "annotation.odgt"), "--images", str(root)]


def write_crohd(root: Path, images) -> list[str]:
    """A MOTChallenge sequence, and the command that makes a list of it."""
    rows = []
    for number, (image, boxes, flags) in enumerate(images, start=1):
        _save(image, root / "img1" / f"{number:06d}.jpg")
        for track, ((x1, y1, x2, y2), flag) in enumerate(zip(boxes, flags, strict=True)):
            rows.append(f"{number},{track},{x1 + 1},{y1 + 1},{x2 - x1},{y2 - y1},1,1,{float(flag == 0)}")
    (root / "gt").mkdir()
    (root / "gt" / "gt.txt").write_text("\n".join(rows))
    (root / "seqinfo.ini").write_text(f"[Sequence]\nimDir=img1\nseqLength={len(images)}\nimExt=.jpg\n")
    return ["crohd", str(root)]


def run_yaml(folder: Path, lists, name: str, **changes) -> tuple[dict[str, float], Path]:
    """Trains by a YAML file on lists, the last of which validates, too; the metrics of its model, and where that is."""
    places = ["--base", str(folder), "--out"]
    commands = [[*arguments, *places, str(folder / f"{name}.{n}")] for n, arguments in enumerate(lists)]
    assert all(main(["lists", *command]) == 0 for command in commands)
    (folder / f"{name}.txt").write_text("".join(Path(command[-1]).read_text() for command in commands))
    valid = Path(commands[-1][-1]).name
    config = write_yaml(folder / f"{name}.yaml", folder, **{"train": f"{name}.txt", "valid": valid, **changes})
    options = [part for option in OPTIONS for part in ("--set", option)]
    out = folder / f"run_{name}"
    assert main(["train", "--headhunter", str(config), "--out", str(out), *options]) == 0
    found = folder / f"{name}.json"
    command = ["evaluate", str(out / "model"), "--config", str(config), "--metrics", "crowd", "--json", str(found)]
    assert main([*command, "--batch-size", "2"]) == 0
    return json.loads(found.read_text()), out


def check(metrics: dict[str, float], out: Path, length: int) -> None:
    assert {"AP", "LAMR", "MODA", "recall_300"} <= metrics.keys() and 0 <= metrics["AP"] <= 1
    rows = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    losses = [row["loss"] for row in rows if "loss" in row]
    assert len(losses) == length and all(np.isfinite(losses))
    last = [row for row in rows if "val/AP" in row][-1]  # the end of the run: the same model on the same images
    assert metrics["AP"] == pytest.approx(last["val/AP"], abs=1e-6)


def test_scut_head_from_annotations_to_metrics(tmp_path, images, capsys):
    (tmp_path / "scut").mkdir()
    lists = [write_scut_head(tmp_path / "scut", images)]
    # The least that compiles.
    small = {"backbone": "mobilenet0.25", "context": None, "upscale_rpn": False, "batch_size": 1}
    changes = SCUT_HEAD | SMALL | small
    metrics, out = run_yaml(tmp_path, lists, "scut", **changes)
    check(metrics, out, 2 * IMAGES)
    printed = capsys.readouterr().out
    assert printed.count(f"{tmp_path}/scut.yaml:") == printed.count(": momentum: is 0.9; the original uses") * 12 == 12
    assert printed.count("left out: degenerate-box: ") == IMAGES and "no object" not in printed
    record = json.loads((out / "run.json").read_text())["config"]
    assert record["augment"]["extra"] == [
        {"type": "RGBShift", "limit": [-20.0, 20.0], "probability": 0.5},
        {"type": "BrightnessContrast", "brightness": [-0.2, 0.2], "contrast": [-0.2, 0.2], "probability": 0.5},
    ]
    heads = sum(len(boxes) for _, boxes, _ in images)
    assert (tmp_path / "scut.0").read_text().count(" 0\n") == heads


@pytest.mark.verify
def test_the_three_files_as_they_are_but_for_their_sizes(tmp_path, images, capsys, caplog):
    """ResNet-50 with CPM; fine-tuning starts from what pre-training left, which upscales where its file does not."""
    for name in ("scut", "human", "crohd"):
        (tmp_path / name).mkdir()
    scut = write_scut_head(tmp_path / "scut", images)
    human, crohd = write_crowd_human(tmp_path / "human", images), write_crohd(tmp_path / "crohd", images)
    metrics, pretrained = run_yaml(tmp_path, [scut, human], "pretrain", **SMALL)
    check(metrics, pretrained, 2 * 2 * IMAGES)
    metrics, tuned = run_yaml(
        tmp_path, [crohd], "tune", **{**FINE_TUNING, **SMALL, "pretrained_model": str(pretrained / "model")}
    )
    check(metrics, tuned, 2 * IMAGES)
    assert "upscale_rpn: False -> True, as in the weights" in caplog.text
    assert jaxdet.load(tuned / "model").config.upscale_rpn
    metrics, out = run_yaml(tmp_path, [scut], "scut", **{**SCUT_HEAD, **SMALL})
    check(metrics, out, 2 * (IMAGES // 2))
    assert capsys.readouterr().out.count(": momentum: ") == 3
