"""torchvision's FCOS."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np

from jaxdet.models import FCOSConfig
from jaxdet_convert.parity import dense as parity
from jaxdet_convert.parity.calibration import calibrate_dense
from jaxdet_convert.parity.selections import decode_distances
from jaxdet_convert.rules import Table
from jaxdet_convert.sources import dense
from jaxdet_convert.sources.base import Parity, Recognised, Shapes, Source
from jaxdet_convert.sources.dense import BOXES, CENTERNESS
from jaxdet_convert.sources.modules import expect
from jaxdet_convert.sources.parts import BARE_SPELLINGS, OLD_FPN, conv, has_old_fpn, norm

_NAME = "fcos_resnet50_fpn"
_DEPTH = 4  # convolutions before the predictions
_NORM = re.compile(r"head\.\w+_head\.conv\.(1|4|7|10)\.")


def _claims(shapes: Shapes) -> bool:
    return dense.has_head(shapes) and any(name.startswith(CENTERNESS) for name in shapes)


def _recognise(shapes: Shapes, spelling: str) -> Recognised:
    return dense.recognise_dense(shapes, spelling, _NAME, "FCOS", _NORM)


def _also(shapes: Shapes, found: Recognised) -> str | None:
    """A pyramid with P6 and P7 from P5 is RetinaNet's, too."""
    return _NAME if found.bare and found.options.get("fpn_p6p7") == "p5" else None


def _table(config: Any, origin: Sequence[str]) -> Table:
    rules = dense.shared_rules(config, origin)
    step = 2 if config.head_norm is None else 3  # convolution, norm and activation are in one sequence
    for index in range(_DEPTH):
        theirs, ours = "head.{part:classification|regression}_head.conv", f"head.{{part}}.tower.{index}"
        rules += conv(f"{theirs}.{step * index}", f"{ours}.conv", bias=True)
        if config.head_norm is not None:
            rules += norm(f"{theirs}.{step * index + 1}", f"{ours}.norm")
    rules += conv(f"{BOXES}bbox_ctrness", "head.regression.centerness", bias=True)
    return Table(tuple(rules), FCOS.respelled)


def _live(module: Any, found: Recognised) -> dict[str, Any]:
    for coder in (module.box_coder, module.head.box_coder):
        expect(coder, "normalize_by_size", True)
    return dense.live_options(module, found) | {"center_sampling_radius": module.center_sampling_radius}


_FORM = parity.Form(
    (parity.LOGITS, parity.DELTAS, parity.HeadOutput("centerness", "bbox_ctrness", "centerness")),
    lambda level: np.sqrt(parity.sigmoid(level["logits"]) * parity.sigmoid(level["centerness"])),
    decode_distances,
)

FCOS = Source(
    config=FCOSConfig,
    claims=_claims,
    recognise=_recognise,
    table=_table,
    also=_also,
    old={"fpn": (OLD_FPN,)},
    has_old=lambda config: has_old_fpn(config.fpn),
    bare=BARE_SPELLINGS,
    predictor=dense.PREDICTOR,
    norms=dense.NORMS,
    live=_live,
    assumed=partial(dense.assumed_options, own=("center_sampling_radius",)),
    parity=Parity(
        compare=partial(parity.compare, parts=dense.PARTS, form=_FORM),
        builders=(_NAME,),
        calibrate=calibrate_dense,
    ),
)
