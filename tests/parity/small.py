"""A network of a few hundred parameters, to train in many ways; its twin is `twins.small`."""

from __future__ import annotations

from dataclasses import dataclass

from flax import nnx
from jax import Array

from jaxdet.backbones.base import Classifier, ClassifierTransform
from jaxdet.nn import ConvNormAct, NormConfig, Numerics
from jaxdet_convert.rules import Table
from jaxdet_convert.sources.parts import conv, linear, norm

CHANNELS = 6
TABLE = Table((*conv("body.0", "body.conv"), *norm("body.1", "body.norm"), *linear("fc", "fc")))


@dataclass(frozen=True)
class SmallConfig:
    num_classes: int = 4
    names: tuple[str, ...] = ()
    transform: ClassifierTransform = ClassifierTransform()


class SmallNet(Classifier):
    names = ("map",)

    def __init__(self, config: SmallConfig, *, numerics: Numerics, rngs: nnx.Rngs):
        self.config = config
        self.body = ConvNormAct(3, CHANNELS, norm=NormConfig(), numerics=numerics, rngs=rngs)
        super().__init__(CHANNELS, config.num_classes, numerics=numerics, rngs=rngs)

    def features(self, x: Array, extents: Array | None = None, *, train: bool = False) -> dict[str, Array]:
        return {"map": self.body(x, extents, train=train)}
