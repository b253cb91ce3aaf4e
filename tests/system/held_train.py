"""`jaxdet train` that waits after step HOLD_AT for a signal, so that what is to be disturbed cannot be over before."""

import os
import sys
import time

from jaxdet.cli.__main__ import main
from jaxdet.runs.signals import StopRequest

_at = StopRequest.at


def _hold(request, step):
    while step == int(os.environ["HOLD_AT"]) and request.received is None:
        time.sleep(0.01)
    return _at(request, step)


if __name__ == "__main__":
    StopRequest.at = _hold
    sys.exit(main(["train", *sys.argv[1:]]))
