"""Run by test_hosts.py, one process of one or several: trains, evaluates, and leaves what the test compares.

hosts_worker.py OUT DTYPE [COORDINATOR PROCESSES PROCESS]
"""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path

import jax

from jaxdet.parallel import data_mesh, initialize, is_first

out, dtype, *others = sys.argv[1:]
if others:
    initialize(others[0], int(others[1]), int(others[2]))
jax.config.update("jax_enable_x64", dtype == "float64")

from flax import nnx
from hosts_config import classifier, config, labelled

from jaxdet.models import build
from jaxdet.nn import Numerics
from jaxdet.runs import Run, evaluate, evaluate_classifier, open_task
from jaxdet.runs.start import model_for
from parity.small import SmallNet

run = replace(config(), dtype=dtype)
task = open_task(run)
numerics, rngs = Numerics(dtype, dtype), nnx.Rngs(0)
body = run.backbone(numerics=numerics, rngs=rngs)
model = build(model_for(run, task.names), backbone=body, numerics=numerics, rngs=rngs)
session = Run(task, model, out, progress=False)
_, untrained = evaluate(session.model(), task.val, batch_size=8, mesh=data_mesh(), with_losses=True, progress=False)
session.train()
_, trained = evaluate(session.model(), task.val, batch_size=8, mesh=data_mesh(), with_losses=True, progress=False)
named = SmallNet(classifier(), numerics=numerics, rngs=nnx.Rngs(1))
accuracy = evaluate_classifier(named, labelled(), batch_size=8, mesh=data_mesh(), progress=False)
if is_first():
    found = {"untrained": untrained.results, "trained": trained.results, "classified": accuracy}
    (Path(out) / "found.json").write_text(json.dumps(found))
    print(f"devices {jax.device_count()}, processes {jax.process_count()}")
