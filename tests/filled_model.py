"""A model with random parameters, created without compiling its initialisation."""

from __future__ import annotations

import numpy as np
from flax import nnx

from jaxdet.models import abstract
from jaxdet.nn.parameters import fill, flatten


def filled(config):
    """A model of this configuration with random parameters and statistics; scales and variances are around 1."""
    model, rng = abstract(config), np.random.default_rng(0)
    values = {}
    for name, variable in flatten(nnx.state(model)).items():
        around = 1.0 if name.endswith((".var", ".scale")) else 0.0
        values[name] = (around + 0.1 * rng.normal(size=variable.shape)).astype(variable.dtype)
    return fill(model, values)
