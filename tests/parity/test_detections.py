"""Detections of both Faster R-CNNs against torchvision's native operators, from the image to the last box.

`compare` states the bounds: labels equal, boxes within 0.02 pixels, scores within 1e-4 for at least 99.5% of the
detections, each exception a near-tie with its numbers.
"""

from __future__ import annotations

import numpy as np
import pytest

from jaxdet import predict
from jaxdet_convert import compare
from jaxdet_convert.parity.report import Matching
from torchvision_cpu import torchvision_or_skip

torchvision_or_skip()
import torch  # noqa: E402
from weights import DETECTORS, pair, resized, smooth_image  # noqa: E402

# (height, width) of the image, min_size of the model, seed of the weights, frozen norms
SWEEP = [
    (600, 816, 800, 0, False),  # canvas 800x1088; at height 800 the sixth level's stride is 61
    (800, 1088, 800, 1, True),  # not resized
    (480, 640, 800, 2, False),  # height 800 again, width 1066
    (640, 480, 800, 0, True),  # upright
    (333, 417, 480, 1, False),  # odd sizes
    (30, 640, 480, 2, False),  # thin: 37 rows, two of them in the fifth level
    (61, 83, 320, 0, False),  # small, enlarged five times
    (1000, 747, 320, 1, True),  # shrunk three times
    (256, 320, 256, 3, False),
    (320, 500, 320, 4, False),
    (417, 333, 417, 5, False),
]


def report_of(name, height, width, min_size, seed, frozen, **options):
    module, model = pair(name, seed, frozen, **resized(min_size), **options)
    return compare(module, model, [smooth_image(100 + seed, height, width)])


@pytest.mark.parametrize("name", DETECTORS)
def test_smallest(name):
    """One pair a model, with fewer proposals for the second detector, whose head is costly."""
    module, model = pair(name, 0, name == DETECTORS[0], **resized(256), rpn_post_nms_top_n_test=300)
    report = compare(module, model, [smooth_image(7, 253, 331)])
    assert report.ok, report.text()
    assert report.detections.theirs > 50
    assert len({stage.name for stage in report.stages}) == len(report.stages) == 25


def test_predict_agrees():
    """What a user calls, without any of the comparison's own machinery."""
    module, model = pair(DETECTORS[0], 0, True, **resized(256), rpn_post_nms_top_n_test=300)
    image = smooth_image(7, 253, 331)
    with torch.no_grad():
        theirs = module([torch.from_numpy(image).permute(2, 0, 1).float() / 255])[0]
    (ours,) = predict(model, [image])
    np.testing.assert_array_equal(ours["labels"], theirs["labels"])
    np.testing.assert_allclose(ours["boxes"], theirs["boxes"], atol=0.02, rtol=0)
    np.testing.assert_allclose(ours["scores"], theirs["scores"], atol=1e-4, rtol=0)
    assert len(ours["names"]) == len(ours["scores"]) > 50


def test_height_800_has_a_sixth_level_of_stride_61():
    """13 rows over 800 pixels: the anchors of both, compared exactly, without running either backbone."""
    module, model = pair(DETECTORS[0], 0, True, **resized(256), rpn_post_nms_top_n_test=300)
    images = torchvision_images(800, 1088)
    shapes = [(200, 272), (100, 136), (50, 68), (25, 34), (13, 17)]
    theirs = module.rpn.anchor_generator(images, [torch.zeros(1, 1, *shape) for shape in shapes])[0].numpy()
    canvas = [(-(-832 // s), -(-1344 // s)) for s in (4, 8, 16, 32, 64)]  # on a larger canvas
    ours, valid = model.config.rpn.anchor_generator(
        canvas, np.asarray([[800, 1088]]), [np.asarray([shape]) for shape in shapes]
    )
    ours = np.concatenate([np.asarray(boxes)[np.asarray(own)] for boxes, own in zip(ours, valid, strict=True)])
    np.testing.assert_array_equal(ours, theirs)
    assert ours[-1, 1] - ours[-1 - 3 * 17, 1] == 61


def torchvision_images(height, width):
    from torchvision.models.detection.image_list import ImageList

    return ImageList(torch.zeros(1, 3, height, width), [(height, width)])


@pytest.mark.verify
@pytest.mark.parametrize("name", DETECTORS)
def test_sweep(name, capsys):
    total = Matching()
    worst = 0.0
    for setting in SWEEP:
        report = report_of(name, *setting)
        with capsys.disabled():
            found = report.detections
            print(
                f"\n{name} {setting}: {found.theirs} detections, {found.matched} matched, box {found.box_error:.2g} px,"
                f" score {found.score_error:.2g}, worst stage {max(stage.relative for stage in report.stages):.2g}"
            )
            for one in found.unmatched:
                print("  " + one.text())
        assert all(stage.ok for stage in report.stages), report.text()
        # One image in ten may hold the exception, so the share is judged over all of them.
        assert all(one.near_tie for one in report.detections.unmatched), report.text()
        assert report.detections.theirs > 50, report.text()
        total += report.detections
        worst = max(worst, *(stage.relative for stage in report.stages))
        pair.cache_clear()
    with capsys.disabled():
        print(
            f"\n{name}: {len(SWEEP)} pairs, {total.theirs} detections of torchvision, {total.ours} of jaxdet, "
            f"{total.share:.3%} matched, worst box {total.box_error:.2g} px, worst score {total.score_error:.2g}, "
            f"{len(total.unmatched)} exceptions, worst stage {worst:.2g}"
        )
    assert total.ok
