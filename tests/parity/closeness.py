"""Comparison of arrays with PyTorch's tensors."""

from __future__ import annotations

from typing import Any

import numpy as np

TOLERANCE = {"float32": 1e-5, "float64": 1e-12}


def close(ours: Any, theirs: Any, dtype: str) -> None:
    """Asserts that shapes and dtypes are equal, and the difference is small relative to the largest value."""
    ours, theirs = np.asarray(ours), theirs.detach().numpy()
    assert ours.dtype == theirs.dtype == dtype and ours.shape == theirs.shape
    assert np.abs(ours - theirs).max(initial=0) <= TOLERANCE[dtype] * max(np.abs(theirs).max(initial=0), 1)


def tensor(array: Any) -> Any:
    """A copy as a PyTorch tensor."""
    import torch

    return torch.from_numpy(np.array(array))
