"""Draw a dataset, train a detector on it, evaluate it and detect with it, in a few minutes."""

from __future__ import annotations

import argparse


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--out", default="runs/demo", metavar="DIR", help="folder of all files (default: %(default)s)")


def run(args: argparse.Namespace) -> int:
    import json
    import shlex
    from pathlib import Path

    from jaxdet.cli.__main__ import main

    out = Path(args.out)
    data, model = out / "data", out / "run" / "model"
    metrics = out / "metrics.json"
    commands = [
        ["shapes", str(data)],
        ["train", str(data / "config.py"), "--out", str(out / "run")],
        ["evaluate", str(model), str(data / "val.json"), str(data / "val"), "--json", str(metrics)],
        ["detect", str(data / "val"), "--weights", str(model), "--out", str(out / "pictures"), "--limit", "12"],
    ]
    for command in commands:
        print(f"\n$ jaxdet {shlex.join(command)}", flush=True)
        status = main(command)
        if status:
            return status
    print(
        f"\nimages      {out / 'pictures'}"
        f"\nloss curve  {out / 'run' / 'losses.png'}"
        f"\nyour data   put the paths of your COCO files into {data / 'config.py'} and repeat the second command"
    )
    print(f"AP50 {json.loads(metrics.read_text())['AP50']:.3f}")
    return 0
