"""Write a detector as a program that JAX alone can run: no jaxdet, for CPU, CUDA and TPU.

jaxdet export MODEL --out DIR --batch 8 --canvas 800x1344

MODEL is the folder of a jaxdet model or of a training run, a PyTorch weights file, or the name of official weights. DIR
receives program.bin (jax.export), weights.npz, export.json (canvas, normalisation, class names) and reader.py, which
runs it. The program is for one batch size and one canvas. Needs flatbuffers: pip install 'jaxdet[export]'.
"""

from __future__ import annotations

import argparse


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "model", metavar="MODEL", help="a model's or a run's folder, a weights file, or official weights"
    )
    parser.add_argument("--out", required=True, metavar="DIR", help="where the program goes")
    parser.add_argument("--batch", type=int, default=1, metavar="N", help="images in a batch (default: %(default)s)")
    parser.add_argument("--canvas", metavar="HxW", help="default: the model's largest landscape one")
    parser.add_argument(
        "--platforms", default="cpu,cuda,tpu", metavar="P", help="where it is to run (default: %(default)s)"
    )
    parser.add_argument("--dtype", choices=("bfloat16", "float32"), help="to compute in (default: the model's own)")


def run(args: argparse.Namespace) -> int:
    from jaxdet.cli.models import open_detector
    from jaxdet.data.batching.canvas import canvases, largest_canvas, parse_canvas
    from jaxdet.export.write import check_export, export_detector, in_dtype

    canvas = None if args.canvas is None else parse_canvas(args.canvas)
    platforms = [platform.strip() for platform in args.platforms.split(",")]
    check_export(args.out, canvas, args.batch, platforms)
    model = open_detector(args.model)
    if args.dtype is not None:
        model = in_dtype(model, args.dtype)
    if canvas is None:
        transform = model.config.transform
        canvas = largest_canvas(canvases(transform.min_size, transform.max_size))
    sizes = export_detector(model, args.out, canvas=canvas, batch=args.batch, platforms=platforms)
    print(f"written     {args.out}: " + ", ".join(f"{name} {size / 1e6:.1f} MB" for name, size in sizes.items()))
    print(f"takes       {args.batch} x {canvas[0]}x{canvas[1]}, on {', '.join(platforms)}")
    print(f"run it      python -c \"from reader import load_export; load_export('.')\"  in {args.out}")
    return 0
