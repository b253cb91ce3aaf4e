"""A detector and its batch, shared by these tests."""

from __future__ import annotations

import pytest

from small_detector import make_batch, small_detector


@pytest.fixture(scope="session")
def small():
    return small_detector()


@pytest.fixture(scope="session")
def batch():
    return make_batch()
