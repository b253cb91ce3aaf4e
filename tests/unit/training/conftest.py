"""The tiny detector and its batch, shared by these tests."""

from __future__ import annotations

import pytest
from flax import nnx

from jaxdet.models import build
from tiny_model import make_batch, tiny_config


@pytest.fixture(scope="session")
def tiny():
    return build(tiny_config(), rngs=nnx.Rngs(0))


@pytest.fixture(scope="session")
def batch():
    return make_batch()
