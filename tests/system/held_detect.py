"""`jaxdet detect` that stops after HOLD_AFTER images until it is killed, so that it is killed in the middle."""

import os
import sys
import threading

from jaxdet.cli.__main__ import main
from jaxdet.detect import parts

_add = parts.Part.add
_left = int(os.environ.get("HOLD_AFTER", "1000000"))


def _add_some(part, found):
    global _left
    if not _left:
        threading.Event().wait()
    _left -= 1
    _add(part, found)


parts.Part.add = _add_some
sys.exit(main(["detect", *sys.argv[1:]]))
