"""Write a detector as a program for CPU, CUDA and TPU that needs only JAX to run.

jaxdet export MODEL --out DIR --batch 8 --canvas 800x1344

MODEL is the folder of a jaxdet model or of a training run, a PyTorch weights file, or the name of official weights. The
command writes program.bin (jax.export), weights.npz, export.json (canvas, normalisation, class names) and reader.py,
which runs the program. A program has one batch size and one canvas. Needs flatbuffers: pip install 'jaxdet[export]'.
"""

from __future__ import annotations

import argparse


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "model", metavar="MODEL", help="folder of a model or of a run, a weights file, or the name of official weights"
    )
    parser.add_argument("--out", required=True, metavar="DIR", help="folder of the program")
    parser.add_argument("--batch", type=int, default=1, metavar="N", help="images per batch (default: %(default)s)")
    parser.add_argument(
        "--canvas", metavar="HxW", help="size of the images (default: the model's largest landscape canvas)"
    )
    parser.add_argument(
        "--platforms", default="cpu,cuda,tpu", metavar="P", help="platforms of the program (default: %(default)s)"
    )
    parser.add_argument(
        "--dtype", choices=("bfloat16", "float32"), help="dtype of the computation (default: the model's)"
    )


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
    print(f"input       {args.batch} x {canvas[0]}x{canvas[1]}, on {', '.join(platforms)}")
    print(f"run         python -c \"from reader import load_export; load_export('.')\"  in {args.out}")
    return 0
