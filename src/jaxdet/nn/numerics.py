"""Dtypes and precision of a model's computation."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Numerics:
    """Dtypes of activations and parameters, and the precision of matrix products.

    The default precision of float32 products depends on the platform: TF32 on GPUs, bfloat16 passes on TPUs.
    ``"highest"`` is true float32 everywhere, as parity with PyTorch requires; ``"default"`` is the platform's choice.
    It has no effect on bfloat16 products.
    """

    dtype: str = "float32"
    param_dtype: str = "float32"
    precision: str = "highest"

    def __post_init__(self) -> None:
        for name in ("dtype", "param_dtype"):
            if getattr(self, name) not in ("float32", "bfloat16", "float64"):
                raise ValueError(f"{name} must be float32, bfloat16 or float64, not {getattr(self, name)!r}")
        if self.precision not in ("highest", "high", "default"):
            raise ValueError(f"precision must be highest, high or default, not {self.precision!r}")
