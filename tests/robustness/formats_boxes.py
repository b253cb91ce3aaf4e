"""Annotations of boxes: valid files, and what is done with those that open."""

from __future__ import annotations

import json
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from PIL import Image

from jaxdet.data import (
    CocoFiles,
    DataError,
    DetectionDataset,
    HeadList,
    VocFolder,
    YoloFolder,
    ground_truth,
    load_batch,
)
from jaxdet.data.batching.plan import eval_plan
from jaxdet.data.batching.sizing import ShortestSide
from jaxdet.data.formats.coco import to_coco
from jaxdet.data.formats.lists import convert_crohd, convert_crowd_human, convert_scut_head
from jaxdet.data.formats.lists.conversion import Conversion
from jaxdet.data.formats.packed import index_content
from jaxdet.evaluation import CocoEvaluator, HeadEvaluator
from jaxdet.evaluation.mot import read_mot
from robustness.attempt import Format

WIDTH, HEIGHT = 24, 16
_SIZING = ShortestSide((32,), 64)


def draw(file: Path) -> None:
    """A small image."""
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (WIDTH, HEIGHT), (200, 100, 50)).save(file)


def write(file: Path, text: str) -> Path:
    """Writes a file into a folder that need not be there."""
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text, encoding="utf-8")
    return file


def use_dataset(dataset: DetectionDataset) -> None:
    """Evaluation of perfect detections, a place for each image, the digest of a run, and a batch."""
    evaluator = CocoEvaluator(ground_truth(dataset), category_ids=dataset.category_ids)
    for record in dataset.records:
        evaluator.add(record.image_id, record.boxes, np.full(len(record.labels), 0.9), record.labels)
    metrics = evaluator.evaluate()
    assert all(-1 <= value <= 1.0001 for value in metrics.values()), metrics
    evaluator.table()
    json.dumps(to_coco(dataset))
    for record in dataset.records:
        assert np.isfinite(record.boxes).all() and (record.boxes[:, :2] < record.boxes[:, 2:]).all()
        assert ((record.labels > 0) & (record.labels < len(dataset.names))).all()
    json.dumps(index_content(dataset, [len(dataset)]))
    assert len(dataset.places(range(len(dataset)))) == len(dataset)
    "".join(map(str, (*dataset.faults, *dataset.names))).encode()
    if len(dataset):
        try:
            plan = eval_plan(dataset.sizes, 2, _SIZING)
        except DataError:  # images without pixels, which a check tells with their places
            return
        for step in range(len(plan)):
            try:
                load_batch(dataset, plan, step)
            except DataError as error:  # an image of another size than annotated
                if not error.faults or not error.faults[0].file:
                    raise


def use_heads(dataset: DetectionDataset) -> None:
    """As any dataset, and the measures of heads."""
    use_dataset(dataset)
    evaluator = HeadEvaluator(dataset)
    for record in dataset.records:
        evaluator.add(record.image_id, record.boxes, np.full(len(record.labels), 0.9), record.labels)
    evaluator.evaluate()


def use_conversion(conversion: Conversion) -> None:
    """Its report; the list that it writes opens without a fault."""
    "\n".join(conversion.report()).encode()
    if conversion.images:
        with TemporaryDirectory() as folder:
            conversion.write(f"{folder}/heads.txt")
            HeadList(f"{folder}/heads.txt", str(conversion.base)).open()


# ---- COCO


def _make_coco(folder: Path) -> Path:
    for name in ("1.png", "2.png"):
        draw(folder / "images" / name)
    content = {
        "info": {"year": 2020},
        "images": [
            {"id": 1, "file_name": "1.png", "height": HEIGHT, "width": WIDTH},
            {"id": 5, "file_name": "2.png"},
        ],
        "annotations": [
            {"id": 1, "image_id": 1, "category_id": 3, "bbox": [1, 2, 8.5, 9], "area": 40.5, "iscrowd": 0},
            {"id": 2, "image_id": 1, "category_id": 7, "bbox": [4, 4, 5, 5], "segmentation": [[4, 4, 9, 4, 9, 9]]},
            {"id": 3, "image_id": 5, "category_id": 7, "bbox": [0, 0, 24, 8], "area": 192, "iscrowd": 1},
        ],
        "categories": [{"id": 3, "name": "cat", "supercategory": "x"}, {"id": 7, "name": "dog"}],
    }
    return write(folder / "coco.json", json.dumps(content, indent=0))


def _open_coco(file: Path) -> DetectionDataset:
    return CocoFiles(str(file), str(file.parent / "images")).open()


def _open_coco_skipping(file: Path) -> DetectionDataset:
    return CocoFiles(str(file), str(file.parent / "images")).open(skip_faulty=True)


# ---- Pascal VOC

_XML = f"""<annotation>
<filename>1.jpg</filename>
<size><width>{WIDTH}</width><height>{HEIGHT}</height><depth>3</depth></size>
<object><name>head</name><difficult>0</difficult><bndbox><xmin>1</xmin><ymin>2</ymin><xmax>11</xmax><ymax>12</ymax></bndbox></object>
<object><name>person</name><bndbox><xmin>3.5</xmin><ymin>2</ymin><xmax>9</xmax><ymax>9</ymax></bndbox></object>
</annotation>
"""


def _make_voc(folder: Path) -> Path:
    for name in ("1", "2"):
        draw(folder / "JPEGImages" / f"{name}.jpg")
        write(folder / "Annotations" / f"{name}.xml", _XML.replace("1.jpg", f"{name}.jpg"))
    write(folder / "ImageSets" / "Main" / "train.txt", "1\n2\n")
    return folder / "Annotations" / "1.xml"


def _make_voc_list(folder: Path) -> Path:
    _make_voc(folder)
    return folder / "ImageSets" / "Main" / "train.txt"


def _open_voc(file: Path) -> DetectionDataset:
    return VocFolder(str(file.parents[1]), "train").open()


def _open_voc_list(file: Path) -> DetectionDataset:
    return VocFolder(str(file.parents[2]), "train").open()


# ---- YOLO


def _make_yolo(folder: Path) -> Path:
    for name in ("1", "2"):
        draw(folder / "images" / "train" / f"{name}.png")
        write(folder / "labels" / "train" / f"{name}.txt", "0 0.5 0.5 0.25 0.5\n1 0.1 0.1 0.9 0.1 0.9 0.8\n")
    write(
        folder / "data.yaml",
        "# a set\npath: .\ntrain: images/train\nval:\n  - images/train\n  - list.txt\n"
        "nc: 2\nnames:\n  0: cat\n  1: dog\n",
    )
    write(folder / "list.txt", "images/train/1.png\n./images/train/2.png\n")
    return folder / "labels" / "train" / "1.txt"


def _make_yolo_yaml(folder: Path) -> Path:
    _make_yolo(folder)
    return folder / "data.yaml"


def _make_yolo_list(folder: Path) -> Path:
    _make_yolo(folder)
    write(folder / "data.yaml", "train: list.txt\nnames: [cat, dog]\n")
    return folder / "list.txt"


def _open_yolo_label(file: Path) -> DetectionDataset:
    return YoloFolder(str(file.parents[2]), "train").open()


def _open_yolo(file: Path) -> DetectionDataset:
    return YoloFolder(str(file.parent), "train").open()


# ---- lists of heads


def _make_head_list(folder: Path) -> Path:
    for name in ("1.png", "2.png"):
        draw(folder / "heads" / name)
    return write(
        folder / "heads.txt", "# heads/1.png\n1 2 11 12 0\n3.5 2 9 9 1\n4 4 8 8 -1\n# heads/2.png\n1,1,5,5,0\n"
    )


def _open_head_list(file: Path) -> DetectionDataset:
    return HeadList(str(file)).open()


def _make_crowd_human(folder: Path) -> Path:
    for name in ("a", "b"):
        draw(folder / "images" / f"{name}.jpg")
    people = [
        {"tag": "person", "hbox": [1, 2, 8, 8], "fbox": [1, 2, 8, 14], "vbox": [1, 2, 8, 14],
         "head_attr": {"ignore": 0, "occ": 1, "unsure": 0}, "extra": {"box_id": 0, "occ": 1}},
        {"tag": "person", "hbox": [4, 4, 8, 8], "head_attr": {"ignore": 1}, "extra": {"ignore": 1}},
        {"tag": "mask", "hbox": [1, 1, 4, 4], "fbox": [10, 4, 8, 8], "head_attr": {}, "extra": {"ignore": 1}},
    ]  # fmt: skip
    lines = [json.dumps({"ID": name, "gtboxes": people}) for name in ("a", "b")]
    return write(folder / "annotation_train.odgt", "\n".join([*lines, ""]))


def _open_crowd_human(file: Path) -> Conversion:
    return convert_crowd_human(file, file.parent / "images")


def first_line(content: bytes) -> bytes:
    """That of a file with an object a line."""
    return content.splitlines()[0]


def _with_second_line(line: bytes) -> bytes:
    return line + b'\n{"ID": "b", "gtboxes": []}\n'


def _open_scut_head(file: Path) -> Conversion:
    return convert_scut_head(file.parents[1])


def _open_scut_head_split(file: Path) -> Conversion:
    return convert_scut_head(file.parents[2], "train")


def _make_crohd(folder: Path) -> Path:
    for number in (1, 2):
        draw(folder / "img1" / f"{number:06d}.jpg")
    write(
        folder / "seqinfo.ini",
        "[Sequence]\nname=HT21-01\nimDir=img1\nframeRate=25\nseqLength=2\nimWidth=24\nimHeight=16\nimExt=.jpg\n",
    )
    return write(
        folder / "gt" / "gt.txt", "1,1,2,3,8,8,1,1,1.0\n1,2,5,3,8,8,0,1,0.5\n2,1,2,3,8,8,1,1,0.3\n2,3,1,1,4,4\n"
    )


def _make_crohd_info(folder: Path) -> Path:
    _make_crohd(folder)
    return folder / "seqinfo.ini"


def _open_crohd(file: Path) -> Conversion:
    return convert_crohd(file.parents[1])


def _open_crohd_info(file: Path) -> Conversion:
    return convert_crohd(file.parent)


# ---- results


def _make_mot(folder: Path) -> Path:
    return write(folder / "mot.txt", "1,-1,2.000,3.000,8.500,8.000,0.900000,-1,-1,-1\n2,-1,2,3,8,8,0.5,-1,-1,-1\n")


def _use_mot(found: dict[int, Any]) -> None:
    for frame in found.values():
        assert np.isfinite(frame.boxes).all() and np.isfinite(frame.scores).all()
        assert frame.boxes.shape == (len(frame.scores), 4)


BOXES: tuple[Format, ...] = (
    Format("COCO", "json", DataError, _make_coco, _open_coco, use_dataset),
    Format("COCO, skipping", "json", DataError, _make_coco, _open_coco_skipping, use_dataset),
    Format("VOC xml", "xml", DataError, _make_voc, _open_voc, use_dataset),
    Format("VOC list", "text", DataError, _make_voc_list, _open_voc_list, use_dataset),
    Format("YOLO labels", "text", DataError, _make_yolo, _open_yolo_label, use_dataset),
    Format("YOLO yaml", "text", DataError, _make_yolo_yaml, _open_yolo, use_dataset),
    Format("YOLO list", "text", DataError, _make_yolo_list, _open_yolo, use_dataset),
    Format("head list", "text", DataError, _make_head_list, _open_head_list, use_heads),
    Format("CrowdHuman", "text", DataError, _make_crowd_human, _open_crowd_human, use_conversion),
    Format(
        "CrowdHuman entry", "json", DataError, _make_crowd_human, _open_crowd_human, use_conversion, first_line,
        _with_second_line,
    ),
    Format("SCUT-HEAD xml", "xml", DataError, _make_voc, _open_scut_head, use_conversion),
    Format("SCUT-HEAD list", "text", DataError, _make_voc_list, _open_scut_head_split, use_conversion),
    Format("CroHD gt.txt", "text", DataError, _make_crohd, _open_crohd, use_conversion),
    Format("CroHD seqinfo.ini", "text", DataError, _make_crohd_info, _open_crohd_info, use_conversion),
    Format("MOT", "text", DataError, _make_mot, read_mot, _use_mot),
)  # fmt: skip
