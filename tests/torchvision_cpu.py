"""torchvision for tests that compare with it."""

from __future__ import annotations

from types import ModuleType

import pytest

from jaxdet_convert.torchvision_cpu import import_torchvision as import_torchvision


def torchvision_or_skip() -> ModuleType:
    """torchvision, or the calling test module is skipped with the reason."""
    try:
        return import_torchvision()
    except ImportError as error:
        pytest.skip(f"no torchvision to compare with: {error}", allow_module_level=True)
