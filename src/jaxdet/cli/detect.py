"""Detect objects in pictures: annotated pictures and a COCO-style detections.json.

Without --weights it uses the official COCO model, which it fetches where there is a network.
"""

from __future__ import annotations

import argparse


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("pictures", nargs="+", metavar="PICTURE", help="files and folders")
    parser.add_argument("--weights", metavar="MODEL", help="a jaxdet model's folder, or a PyTorch weights file")
    parser.add_argument("--config", metavar="CONFIG", help="the training configuration of a backbone of your own")
    parser.add_argument("--out", default="detections", metavar="DIR", help="where results go (default: %(default)s)")
    parser.add_argument("--score-threshold", type=float, default=0.5, metavar="S", help="default: %(default)s")
    parser.add_argument("--limit", type=int, metavar="N", help="only the first N pictures")
    parser.add_argument("--no-pictures", action="store_true", help="write detections.json alone")


def run(args: argparse.Namespace) -> int:
    import json
    import os
    from pathlib import Path

    from tqdm.auto import tqdm

    from jaxdet.cli.models import open_detector, picture_files
    from jaxdet.data import read_image
    from jaxdet.inference import predict
    from jaxdet.visualize import draw_detections, save_image

    if not 0 <= args.score_threshold <= 1:
        raise ValueError(f"--score-threshold is between 0 and 1, not {args.score_threshold:g}")
    out = Path(args.out)
    files = [file for file in picture_files(args.pictures) if out.resolve() not in file.resolve().parents]
    files = files[: args.limit]  # without what an earlier run drew
    model = open_detector(args.weights, config=args.config)
    names = model.config.names
    out.mkdir(parents=True, exist_ok=True)
    targets = annotated_names(files)
    results, images, unreadable = [], [], 0
    for number, (file, target) in enumerate(
        tqdm(list(zip(files, targets, strict=True)), desc="detect", unit="picture"), 1
    ):
        try:
            picture = read_image(file)
        except ValueError as error:  # one broken file does not cost the others
            tqdm.write(f"jaxdet detect: {error}")
            unreadable += 1
            continue
        (found,) = predict(model, [picture], score_threshold=args.score_threshold)
        images.append({"id": number, "file_name": str(file), "height": picture.shape[0], "width": picture.shape[1]})
        results += coco_results(number, found)
        if not args.no_pictures:
            annotated = draw_detections(picture, found["boxes"], found["labels"], found["scores"], names or None)
            save_image(annotated, out / target)
    known = names or tuple(f"class {label}" for label in range(model.config.num_classes))
    categories = [{"id": label, "name": name} for label, name in enumerate(known) if label > 0]
    results = [{"id": count, **record} for count, record in enumerate(results, start=1)]
    partial = out / ".detections.json"
    partial.write_text(json.dumps({"images": images, "annotations": results, "categories": categories}))
    os.replace(partial, out / "detections.json")
    print(f"{len(results)} detections in {len(images)} pictures: {out / 'detections.json'}")
    if not args.no_pictures:
        print(f"annotated pictures: {out}")
    return 1 if unreadable else 0


def coco_results(image_id: int, found: dict) -> list[dict]:
    """Detections as COCO's records: ``bbox`` is (x, y, width, height) in the picture's pixels."""
    return [
        {
            "image_id": image_id,
            "category_id": int(label),
            "bbox": [round(float(v), 3) for v in (x1, y1, x2 - x1, y2 - y1)],
            "area": round(float((x2 - x1) * (y2 - y1)), 3),
            "iscrowd": 0,
            "score": round(float(score), 5),
            **({"name": found["names"][row]} if "names" in found else {}),
        }
        for row, ((x1, y1, x2, y2), label, score) in enumerate(
            zip(found["boxes"], found["labels"], found["scores"], strict=True)
        )
    ]


def annotated_names(files) -> list[str]:
    """A file name for each annotated picture; two pictures of one name in different folders keep apart."""
    taken: set[str] = set()
    names = []
    for file in files:
        name = f"{file.stem}.png"
        count = 1
        while name in taken:
            count += 1
            name = f"{file.stem}-{count}.png"
        taken.add(name)
        names.append(name)
    return names
