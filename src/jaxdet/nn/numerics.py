"""In what precision a model computes."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Numerics:
    """Types and precision of a model's parameters and products.

    ``precision`` is explicit because float32 means something else on every platform by default: TF32 on a GPU,
    bfloat16 passes on a TPU. ``"highest"`` is true float32 everywhere, what parity with PyTorch needs;
    ``"default"`` lets the platform choose. It has no effect on bfloat16 products.
    """

    dtype: str = "float32"
    param_dtype: str = "float32"
    precision: str = "highest"

    def __post_init__(self) -> None:
        for name in ("dtype", "param_dtype"):
            if getattr(self, name) not in ("float32", "bfloat16", "float64"):
                raise ValueError(f"{name} is float32, bfloat16 or float64, not {getattr(self, name)!r}")
        if self.precision not in ("highest", "high", "default"):
            raise ValueError(f"precision is highest, high or default, not {self.precision!r}")
