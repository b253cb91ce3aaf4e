"""Every format that jaxdet reads, in the order of the tests."""

from __future__ import annotations

from robustness.attempt import Format
from robustness.formats_boxes import BOXES
from robustness.formats_runs import RUNS
from robustness.formats_weights import IMAGES, WEIGHTS

FORMATS: tuple[Format, ...] = (*BOXES, *RUNS, *IMAGES, *WEIGHTS)
