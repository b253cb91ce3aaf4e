"""Detect objects in images: annotated images, a COCO-style detections.json, and MOTChallenge text of sequences.

Without --weights it uses the official COCO model, which it downloads once. After an interruption the same command
continues. Several processes can share the images: give each its --share, or run the command on many hosts.
"""

from __future__ import annotations

import argparse

from jaxdet.cli.hosts import add_distributed_arguments
from jaxdet.cli.images import add_image_arguments


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("images", nargs="+", metavar="IMAGE", help="image files and folders")
    parser.add_argument(
        "--weights",
        metavar="MODEL",
        help="folder of a model or of a run, a weights file, or the name of official weights",
    )
    parser.add_argument(
        "--config", metavar="CONFIG", help="the training configuration that defines the model's custom backbone"
    )
    parser.add_argument(
        "--out", default="detections", metavar="DIR", help="folder of the results (default: %(default)s)"
    )
    parser.add_argument(
        "--score-threshold", type=float, default=0.5, metavar="S", help="lowest score (default: %(default)s)"
    )
    parser.add_argument("--batch-size", type=int, metavar="N", help="images per batch (default: one per device)")
    parser.add_argument("--limit", type=int, metavar="N", help="only the first N images")
    parser.add_argument("--no-images", "--no-pictures", action="store_true", help="write no annotated images")
    parser.add_argument(
        "--mot", action="store_true", help="also write mot/SEQUENCE.txt for images SEQUENCE/img1/000001.jpg ..."
    )
    parser.add_argument("--mot-class", metavar="NAME", help="the class that --mot writes, if the model has several")
    parser.add_argument("--overwrite", action="store_true", help="start again and replace earlier results in DIR")
    parser.add_argument(
        "--share",
        metavar="I/N",
        help="process share I (from 0) of N of the images, independently of the other processes",
    )
    add_image_arguments(parser)
    parser.set_defaults(local_only=("out",))
    add_distributed_arguments(parser)


def run(args: argparse.Namespace) -> int:
    from pathlib import Path

    from tqdm.auto import tqdm

    if not 0 <= args.score_threshold <= 1:
        raise ValueError(f"--score-threshold must be between 0 and 1, not {args.score_threshold:g}")
    if "://" in args.out:
        raise ValueError(
            f"--out {args.out}: give a folder on a disk, because results are appended to files; hosts may share it"
        )
    share = _parse_share(args.share)

    import jax

    from jaxdet.cli.models import image_files, open_detector
    from jaxdet.detect import detect
    from jaxdet.parallel import barrier, data_mesh, process_count, process_index

    out = Path(args.out)
    # Without the annotated images of an earlier run.
    files = [file for file in image_files(args.images) if out.resolve() not in file.resolve().parents]
    files = files[: args.limit]
    model = open_detector(args.weights, config=args.config)
    devices = jax.local_devices()
    done = detect(
        model,
        files,
        out,
        score_threshold=args.score_threshold,
        batch_size=args.batch_size or len(devices),
        draw=not args.no_images,
        mot_class=_mot_class(args, model.config.num_classes),
        process_index=process_index() if share is None else share[0],
        process_count=process_count() if share is None else share[1],
        overwrite=args.overwrite,
        mesh=data_mesh(devices) if len(devices) > 1 else None,
        say=lambda line: tqdm.write(f"jaxdet detect: {line}"),
    )
    if done.left:
        print(f"this process's share is done; {done.left} images remain for others; the last process joins the results")
    else:
        print(f"{done.detections} detections in {done.images} images: {out / 'detections.json'}")
        if done.mot:
            print(f"{len(done.mot)} sequences: {done.mot[0].parent}")
        if not args.no_images:
            print(f"annotated images: {out}")
    barrier("detected")  # the processes of a job end together
    return 1 if done.unreadable else 0


def _parse_share(text: str | None) -> tuple[int, int] | None:
    """(I, N) of ``"I/N"``."""
    if text is None:
        return None
    index, slash, count = text.partition("/")
    if not (slash and index.isdecimal() and count.isdecimal() and int(index) < int(count)):
        raise ValueError(f"--share {text}: give I/N, such as 0/2 for the first of two shares")
    return int(index), int(count)


def _mot_class(args: argparse.Namespace, num_classes: int) -> str | int | None:
    """The name or label of the class that ``--mot`` writes; None without ``--mot``."""
    if args.mot_class is not None:
        return args.mot_class
    if args.mot and num_classes > 2:
        raise ValueError(f"--mot writes one class, and the model has {num_classes - 1}: say which with --mot-class")
    return 1 if args.mot else None
