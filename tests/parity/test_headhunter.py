"""HeadHunter against its twin in PyTorch, variant by variant, from the image to the last box.

`compare` states the bounds: every stage within 1e-5 of its largest value; boxes within 0.02 pixels and scores within
1e-4 for at least 99.5% of the detections, each exception a near-tie with its numbers unless soft-NMS changed its score.
"""

from __future__ import annotations

import gc

import jax
import pytest

from jaxdet_convert import compare
from jaxdet_convert.parity.report import SHARE_BOUND, Matching
from torchvision_cpu import torchvision_or_skip

torchvision_or_skip()
from headhunters import SMALL, pair  # noqa: E402
from weights import smooth_image  # noqa: E402

QUICK = {
    "resnet, 4 levels": {**SMALL, "two_pooled": True, "context": "deform_ssh", "upscale_rpn": True, "soft_nms": True},
    "resnet, 3 levels": {**SMALL, "levels": 3, "context": "cpm", "anchors": [(9,), (30,), (60,)]},
    "mobilenet": {"name": "mobilenet", "size": 64, "context": "ssh", "default_filter": True, "proposals": 300},
}  # fmt: skip
EVALUATE = {
    "image_mean": (117 / 255, 110 / 255, 105 / 255), "image_std": (67.10 / 255, 65.45 / 255, 66.23 / 255),
    "score_thresh": 0.3, "detections": 300,
}  # fmt: skip
SCUT = {"anchors": ((18,), (36,), (72,), (128,))}
CROWD = {"anchors": ((10,), (48,), (128,), (192,)), "ratios": (0.5, 1.0, 2.0)}
VARIANTS = {
    "resnet50": {},
    "resnet50 ssh": {"context": "ssh", **EVALUATE},
    "resnet50 ssh 3x3": {"context": "ssh", "default_filter": True, **SCUT},
    "resnet50 cpm": {"context": "cpm", "custom_sampling": True, **CROWD},
    "resnet50 deform_ssh": {"context": "deform_ssh", **EVALUATE},
    "resnet50 deform_ssh 3x3": {"context": "deform_ssh", "default_filter": True},
    "resnet50 ssh upscaled soft": {"context": "ssh", "upscale_rpn": True, "soft_nms": True, **EVALUATE},
    "resnet50 3 levels": {"levels": 3, **SCUT},
    "resnet50 3 levels ssh upscaled": {"levels": 3, "context": "ssh", "upscale_rpn": True},
    "resnet50 3 levels cpm": {"levels": 3, "context": "cpm"},
    "resnet152": {"name": "resnet152"},
    "resnet152 all pooled ssh": {"name": "resnet152", "two_pooled": False, "context": "ssh", "default_filter": True},
    "mobilenet": {"name": "mobilenet"},
    "mobilenet ssh upscaled": {"name": "mobilenet", "context": "ssh", "default_filter": True, "upscale_rpn": True},
    "mobilenet deform_ssh soft": {"name": "mobilenet", "context": "deform_ssh", "soft_nms": True, **EVALUATE},
    "mobilenet 3x3 stem cpm": {"name": "mobilenet", "stem": "3x3s2", "context": "cpm", "width": 256},
}  # fmt: skip


@pytest.mark.parametrize("variant", QUICK)
def test_smallest(variant):
    """An image that is shrunk; for MobileNetV1, which enlarges the rounding of that, one that stays as it is."""
    module, model = pair(min_size=96, max_size=160, **QUICK[variant])
    size = (91, 149) if variant == "mobilenet" else (123, 187)
    report = compare(module, model, [smooth_image(7, *size)])
    assert report.ok and report.proposals.ok, report.text()
    assert report.detections.theirs > 20


@pytest.mark.verify
@pytest.mark.parametrize("variant", VARIANTS)
def test_variants(variant, capsys):
    """Neither image is enlarged; the options are the class's, or those of the original's scripts."""
    module, model = pair(1, min_size=800, max_size=1400, **VARIANTS[variant])
    soft = model.config.soft_nms is not None
    proposals = detections = Matching()
    worst = 0.0
    for height, width in ((300, 420), (540, 960)):
        report = compare(module, model, [smooth_image(11, height, width)])
        assert all(stage.ok for stage in report.stages), report.text()
        assert report.detections.theirs > 20, report.text()
        # A score that soft-NMS decayed is a product of many factors, in which rounding adds up: no tie to be shown.
        assert soft or all(one.near_tie for one in report.detections.unmatched), report.text()
        proposals, detections = proposals + report.proposals, detections + report.detections
        worst = max(worst, *(stage.relative for stage in report.stages))
    with capsys.disabled():
        print(
            f"\n{variant}: proposals {proposals.matched} of {proposals.theirs}, worst {proposals.box_error:.2g} px; "
            f"detections {detections.matched} of {detections.theirs}, worst {detections.box_error:.2g} px, "
            f"score {detections.score_error:.2g}; worst stage {worst:.2g}"
        )
    assert proposals.share >= SHARE_BOUND and detections.share >= SHARE_BOUND
    del module, model
    jax.clear_caches()
    gc.collect()
