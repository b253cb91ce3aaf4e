"""Images: what must be where, pixel by pixel."""

import numpy as np
import pytest
from PIL import Image

from jaxdet.evaluation import ClassResult, CocoEvaluator
from jaxdet.plots import plot_losses, plot_precision_recall
from jaxdet.visualize import class_colour, contact_sheet, draw_detections, save_image

GREY = np.full((120, 160, 3), 128, np.uint8)


def test_a_box_is_outlined_in_its_class_colour():
    image = draw_detections(GREY, np.array([[40, 50, 100, 110]]), np.array([2]))
    assert image.shape == GREY.shape and image.dtype == np.uint8 and (GREY == 128).all()
    for x, y in ((99, 80), (40, 80), (70, 109)):  # right, left and lower edge, the last pixel inside
        assert tuple(image[y, x]) == class_colour(2)
    assert (image[70:100, 50:90] == 128).all()
    assert (image[:, 101:] == 128).all() and (image[110:] == 128).all()


@pytest.mark.parametrize("box", [[-50, -50, 500, 500], [150, 110, 160, 120], [0, 0, 4, 4], [155, 0, 160, 3]])
def test_text_stays_within_the_image(box):
    """The label's background is drawn whole: as many of its pixels as for a label with room around it."""
    args = (np.array([1]), np.array([0.97]), ("__background__", "cat"))
    free = draw_detections(GREY, np.array([[40, 60, 44, 62]]), *args)
    image = draw_detections(GREY, np.array([box]), *args)
    changed = (free != 128).any(-1).sum()
    assert (image != 128).any(-1).sum() >= changed - 30


def test_a_name_too_long_for_the_image_is_cut():
    image = draw_detections(GREY[:, :60], np.array([[5, 30, 50, 90]]), np.array([1]), None, ("", "word" * 40))
    assert image.shape == (120, 60, 3)


def test_padding_and_empty_images():
    nan = np.full((1, 4), np.nan)
    assert (draw_detections(GREY, nan, np.array([1])) == 128).all()
    assert (draw_detections(GREY, np.zeros((0, 4)), np.zeros(0, int), np.zeros(0)) == 128).all()
    with pytest.raises(ValueError, match="expected one label and score per box, got 1 boxes and 2 labels"):
        draw_detections(GREY, nan, np.array([1, 2]))
    with pytest.raises(ValueError, match=r"expected an image \[H, W, 3\] uint8, got float64"):
        draw_detections(GREY / 255, nan, np.array([1]))


def test_scale_enlarges_image_and_boxes():
    image = draw_detections(GREY, np.array([[40, 50, 100, 110]]), np.array([2]), scale=3)
    assert image.shape == (360, 480, 3) and tuple(image[240, 299]) == class_colour(2)


def test_colours_are_distinct():
    colours = np.array([class_colour(label) for label in range(1, 21)], int)
    distances = np.abs(colours[:, None] - colours[None]).sum(-1) + 1000 * np.eye(20, dtype=int)
    assert distances.min() > 50 and len({class_colour(label) for label in range(1, 92)}) == 91


def test_contact_sheet_puts_images_side_by_side():
    red, blue = np.zeros((2, 3, 3), np.uint8), np.zeros((4, 1, 3), np.uint8)
    red[..., 0], blue[..., 2] = 255, 255
    sheet = contact_sheet([red, blue, red], 2, gap=1)
    assert sheet.shape == (1 + 4 + 1 + 2 + 1, 1 + 3 + 1 + 1 + 1, 3)
    assert (sheet[2:4, 1:4] == (255, 0, 0)).all() and (sheet[1:5, 5] == (0, 0, 255)).all()
    assert (sheet[6:8, 1:4] == (255, 0, 0)).all() and (sheet[6:8, 4:] == 255).all()
    with pytest.raises(ValueError, match="at least one image"):
        contact_sheet([], 2)


def test_plot_is_written_whole_or_not_at_all(tmp_path):
    rows = [{"step": n, "loss": 3.0 / (n + 1), "loss_box": 1.0 / (n + 1), "lr": 0.1} for n in range(60)]
    rows[3]["loss"] = float("nan")
    path = tmp_path / "loss.png"
    plot_losses(rows, path, title="a run")
    with Image.open(path) as image:
        assert image.width > 600 and len(np.unique(np.asarray(image.convert("L")))) > 20
    plot_losses([{"loss": 1.0}], path)
    with pytest.raises(ValueError, match="none of the 1 rows"):
        plot_losses([{"lr": 1.0}], tmp_path / "other.png")
    with pytest.raises(OSError):
        save_image(GREY, tmp_path / "absent" / "a.png")
    save_image(GREY, tmp_path / "a.png")
    np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / "a.png")), GREY)
    assert sorted(file.name for file in tmp_path.iterdir()) == ["a.png", "loss.png"]


def test_precision_over_recall(tmp_path):
    names = [{"id": number, "name": f"class {number}"} for number in range(1, 15)]
    boxes = [{"id": n["id"], "image_id": 1, "category_id": n["id"], "bbox": [9, 9, 50, 50]} for n in names[1:]]
    evaluator = CocoEvaluator({"images": [{"id": 1, "file_name": "a"}], "annotations": boxes, "categories": names})
    path = tmp_path / "curves.png"
    with pytest.raises(ValueError, match="no class has ground truth"):
        plot_precision_recall(evaluator.classes, path)
    for label in (2, 3):
        evaluator.add(1, np.array([[9, 9, 59, 59]]), np.array([0.9]), np.array([label]))
    evaluator.evaluate()
    plot_precision_recall(evaluator.classes, path, threshold=0.75)
    with Image.open(path) as image:
        pixels = np.asarray(image.convert("RGB")).reshape(-1, 3).tolist()
        assert image.width > 600
    shown = [number for number in range(1, 15) if list(class_colour(number)) in pixels]
    assert shown == list(range(1, 11))  # ten of the thirteen with ground truth
    assert [file.name for file in tmp_path.iterdir()] == ["curves.png"]


def test_one_class_has_one_curve(tmp_path, monkeypatch):
    legends = []
    monkeypatch.setattr("jaxdet.plots._write", lambda figure, path: legends.append(figure.axes[0].get_legend()))
    one, other = (ClassResult(name, 5, 0.5, 0.5, 0.5, {0.5: np.full(101, 0.5)}) for name in ("ring", "square"))
    for classes in ((one,), (one, other)):
        plot_precision_recall(classes, tmp_path / "curves.png")
    assert [[text.get_text() for text in legend.get_texts()] for legend in legends] == [
        ["ring 0.500"],
        ["ring 0.500", "square 0.500", "mean of 2 classes 0.500"],
    ]
