"""torchvision's RetinaNet, version 1 and 2 (with norms in the head, and P6 computed from C5)."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import partial
from typing import Any

from jaxdet.models import RetinaNetConfig
from jaxdet.models.retinanet.losses import BOX_LOSSES
from jaxdet.ops import BoxCoder
from jaxdet_convert.parity import dense as parity
from jaxdet_convert.parity.calibration import calibrate_dense
from jaxdet_convert.parity.selections import decode
from jaxdet_convert.rules import Spelling, Table
from jaxdet_convert.sources import dense
from jaxdet_convert.sources.base import Parity, Recognised, Shapes, Source, UnsupportedModuleError
from jaxdet_convert.sources.dense import CENTERNESS, EXTRA, SSD_HEADS
from jaxdet_convert.sources.modules import expect
from jaxdet_convert.sources.parts import BARE_SPELLINGS, OLD_FPN, conv, has_old_fpn, norm

_NORM = re.compile(r"head\.\w+_head\.conv\.\d+\.1\.")
_UNIT_WEIGHTS = (1.0, 1.0, 1.0, 1.0)


def _claims(shapes: Shapes) -> bool:
    others = any(name.startswith(CENTERNESS) or SSD_HEADS in name for name in shapes)
    return (dense.has_head(shapes) and not others) or dense.has_bare_pyramid(shapes)


def _recognise(shapes: Shapes, spelling: str) -> Recognised:
    bare = not any(name.startswith("head.") for name in shapes)
    p6 = shapes.get(f"{EXTRA}p6.weight")
    second = any(map(_NORM.match, shapes)) or (bare and p6 is not None and p6[0] != p6[1])  # P6 from C5
    name = "retinanet_resnet50_fpn" + ("_v2" if second else "")
    return dense.recognise_dense(shapes, spelling, name, "RetinaNet", _NORM)


def _table(config: Any, origin: Sequence[str]) -> Table:
    rules = dense.shared_rules(config, origin)
    theirs, ours = "head.{part:classification|regression}_head.conv.{i}", "head.{part}.tower.{i}"
    rules += conv(f"{theirs}.0", f"{ours}.conv", bias=True) + norm(f"{theirs}.1", f"{ours}.norm")
    return Table(tuple(rules), RETINANET.respelled)


def _live(module: Any, found: Recognised) -> dict[str, Any]:
    for coder in (module.box_coder, module.head.regression_head.box_coder):
        expect(coder, "weights", _UNIT_WEIGHTS)
    expect(module.proposal_matcher, "allow_low_quality_matches", True)
    loss = getattr(module.head.regression_head, "_loss_type", BOX_LOSSES[0])
    if loss not in BOX_LOSSES:
        raise UnsupportedModuleError(f"the box loss is {loss!r}, but jaxdet has {', '.join(BOX_LOSSES)}")
    return dense.live_options(module, found) | {
        "box_loss": loss,
        "fg_iou_thresh": module.proposal_matcher.high_threshold,
        "bg_iou_thresh": module.proposal_matcher.low_threshold,
    }


def _old_head() -> tuple[Spelling, ...]:
    """The names from before torchvision 0.13, where convolutions and activations were in one sequence."""
    part = "{part:classification_head|regression_head}"
    return tuple(
        Spelling(f"head.{part}.conv.{2 * index}.{{p:weight|bias}}", f"head.{{part}}.conv.{index}.0.{{p}}")
        for index in range(4)
    )


_FORM = parity.Form(
    (parity.LOGITS, parity.DELTAS),
    lambda level: parity.sigmoid(level["logits"]),
    partial(decode, coder=BoxCoder()),
)

RETINANET = Source(
    config=RetinaNetConfig,
    claims=_claims,
    recognise=_recognise,
    table=_table,
    old={"head": _old_head(), "fpn": (OLD_FPN,)},
    has_old=lambda config: config.head_norm is None and has_old_fpn(config.fpn),
    bare=BARE_SPELLINGS,
    predictor=dense.PREDICTOR,
    norms=dense.NORMS,
    live=_live,
    assumed=partial(dense.assumed_options, own=("box_loss",)),
    parity=Parity(
        compare=partial(parity.compare, parts=dense.PARTS, form=_FORM),
        builders=("retinanet_resnet50_fpn", "retinanet_resnet50_fpn_v2"),
        calibrate=calibrate_dense,
    ),
)
