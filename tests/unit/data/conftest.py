"""Small datasets on disk, made by the tests themselves."""

import json

import numpy as np
import pytest
from PIL import Image


@pytest.fixture
def write_coco(tmp_path):
    """A function that writes images and a COCO file from {name: (height, width, [(annotation fields), ...])}."""

    def write(images, *, categories=((7, "cat"), (3, "dog")), edit=None):
        folder = tmp_path / "images"
        folder.mkdir(exist_ok=True)
        content = {"images": [], "annotations": [], "categories": [{"id": i, "name": n} for i, n in categories]}
        for number, (name, (height, width, annotations)) in enumerate(images.items(), start=10):
            pixels = np.random.default_rng(number).integers(0, 256, (height, width, 3), np.uint8)
            Image.fromarray(pixels).save(folder / name)
            content["images"].append({"id": number, "file_name": name, "height": height, "width": width})
            for entry in annotations:
                entry = {"id": len(content["annotations"]) + 100, "image_id": number, "iscrowd": 0, **entry}
                content["annotations"].append(entry)
        if edit is not None:
            edit(content)
        path = tmp_path / "annotations.json"
        path.write_text(json.dumps(content))
        return path, folder

    return write


@pytest.fixture
def many_images(write_coco):
    """37 images of eight sizes and both orientations, with 0 to 3 boxes each: (annotation file, folder)."""
    sizes = [(40, 60), (60, 40), (50, 50), (40, 41), (30, 61), (64, 33), (20, 60), (48, 64)]
    images = {}
    for number in range(37):
        height, width = sizes[number * 5 % len(sizes)]
        boxes = [{"bbox": [1 + n, 2, 10 + number % 5, 8 + n], "category_id": (3, 7)[n % 2]} for n in range(number % 4)]
        images[f"{number:02d}.png"] = (height, width, boxes)
    return write_coco(images)


@pytest.fixture
def write_voc(tmp_path):
    """A function that writes one split from {stem: (height, width, [(name, corners), ...])}."""

    def write(images, split="train", size=True):
        for folder in ("Annotations", "JPEGImages", "ImageSets/Main"):
            (tmp_path / folder).mkdir(parents=True, exist_ok=True)
        for stem, (height, width, objects) in images.items():
            Image.new("RGB", (width, height)).save(tmp_path / "JPEGImages" / f"{stem}.jpg")
            written = "".join(
                f"<object><name>{name}</name><bndbox>"
                + "".join(f"<{k}>{v}</{k}>" for k, v in zip(("xmin", "ymin", "xmax", "ymax"), corners, strict=True))
                + "</bndbox></object>\n"
                for name, corners in objects
            )
            shape = f"<size><width>{width}</width><height>{height}</height></size>" if size else ""
            (tmp_path / "Annotations" / f"{stem}.xml").write_text(f"<annotation>\n{shape}\n{written}</annotation>")
        (tmp_path / "ImageSets" / "Main" / f"{split}.txt").write_text("\n".join(images) + "\n\n")
        return tmp_path

    return write
