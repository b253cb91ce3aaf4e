"""Timing of contenders that run alternately in one process, so that other load affects all of them."""

from __future__ import annotations

import json
import os
import statistics
import sys
import time
from collections.abc import Callable, Mapping
from typing import Any

import jax

Contender = Callable[[], Any]
Clock = Callable[[], float]  # returns seconds: `time.perf_counter` or `time.process_time`


def measure(
    contenders: Mapping[str, Contender], *, rounds: int, warm_up: int = 1, clock: Clock = time.perf_counter
) -> dict[str, list[float]]:
    """Seconds of each contender in each round, after ``warm_up`` rounds that are not measured.

    A contender must not return before its work on the device is done.
    """
    seconds: dict[str, list[float]] = {name: [] for name in contenders}
    for number in range(warm_up + rounds):
        for name, run in contenders.items():
            start = clock()
            run()
            if number >= warm_up:
                seconds[name].append(clock() - start)
    return seconds


class Table:
    """Prints one row per contender as results arrive, and collects them for a line of JSON.

    Args:
        ours: the contender that is compared with the fastest of the others.
        clock: returns seconds.
    """

    def __init__(self, title: str, ours: str = "jaxdet", *, clock: Clock = time.perf_counter) -> None:
        self.ours, self.clock = ours, clock
        self.result: dict[str, Any] = {"machine": machine()}
        print(title)
        print(", ".join(f"{key} {value}" for key, value in self.result["machine"].items()))
        print(f"\n{'':<26}{'':<28}{'median ms':>11}{'min':>9}{'max':>9}{'per second':>12}")

    def race(
        self, kind: str, contenders: Mapping[str, Contender], *, rounds: int, items: int = 1, warm_up: int = 1
    ) -> None:
        """Measures and prints; ``items``: number of images (or calls) per run."""
        seconds = measure(contenders, rounds=rounds, warm_up=warm_up, clock=self.clock)
        medians = {name: statistics.median(times) for name, times in seconds.items()}
        for name, times in seconds.items():
            low, middle, high = (1e3 * value for value in (min(times), medians[name], max(times)))
            rate = items / medians[name]
            print(f"{kind:<26}{name:<28}{middle:>11.2f}{low:>9.2f}{high:>9.2f}{rate:>12.2f}", flush=True)
        self.result[kind] = {"seconds": seconds, "medians": medians, "items": items}
        others = {name: value for name, value in medians.items() if name != self.ours}
        if others and self.ours in medians:
            best = min(others, key=others.__getitem__)
            ratio = others[best] / medians[self.ours]
            self.result[kind] |= {"best_peer": best, "times_as_fast": ratio}
            print(f"{kind:<26}{f'{self.ours} is {ratio:.2f} times as fast as {best}'}\n", flush=True)

    def medians(self, kind: str) -> dict[str, float]:
        """Seconds of each contender."""
        return self.result[kind]["medians"]

    def finish(self, **more: Any) -> None:
        """Prints all results as one line of JSON."""
        print(json.dumps(more | self.result))


def machine() -> dict[str, str]:
    """Versions, device, cores, and their load before the benchmark."""
    import torch

    return {
        "jax": jax.__version__,
        "torch": torch.__version__,
        "device": jax.devices()[0].device_kind,
        "cores": str(os.cpu_count()),
        "torch threads": str(torch.get_num_threads()),
        "load before": f"{os.getloadavg()[0]:.1f}",
        "python": ".".join(map(str, sys.version_info[:3])),
    }
