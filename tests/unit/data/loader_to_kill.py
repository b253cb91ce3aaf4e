"""Loads with workers, prints their process ids, and waits to be killed."""

import multiprocessing
import sys
import time

from jaxdet.data import CocoDataset, eval_plan, load_batches
from jaxdet.data.batching.sizing import ShortestSide

if __name__ == "__main__":
    dataset = CocoDataset(*sys.argv[1:])
    plan = eval_plan(dataset.sizes, 1, ShortestSide((48,), 64))
    batches = load_batches(dataset, plan, 0, len(plan), workers=2)
    for _ in range(2):  # one of each worker
        next(batches)
    print(*(worker.pid for worker in multiprocessing.active_children()), flush=True)
    time.sleep(600)
