"""`jaxdet detect` that takes its time over each picture, so that it can be killed in the middle."""

import sys
import time

from jaxdet.cli.__main__ import main
from jaxdet.runs import detect_parts

_add = detect_parts.Part.add


def _slowly(part, found):
    time.sleep(0.15)
    _add(part, found)


detect_parts.Part.add = _slowly
sys.exit(main(["detect", *sys.argv[1:]]))
