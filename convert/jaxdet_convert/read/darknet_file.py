"""Darknet's ``.weights`` files: a header of 20 bytes (16 before 0.2), then float32 numbers without names.

Each convolution has its biases, with batch norm then scales, running means and running variances, and finally the
kernel as [out, in, k, k]. The layers are not described in the file but in the network's configuration.
Source: ``load_convolutional_weights`` and ``load_weights_upto`` in darknet's ``src/parser.c``.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from jaxdet_convert.read.errors import WeightsError, refuse


class DarknetHeader(NamedTuple):
    """The version of the file format, and the number of images that the network was trained on."""

    major: int
    minor: int
    revision: int
    seen: int


class DarknetLayer(NamedTuple):
    """One convolution. ``name``: the prefix of its tensors; ``kernel``: the side of its kernel."""

    name: str
    out_channels: int
    in_channels: int
    kernel: int
    batch_norm: bool = True

    @property
    def parts(self) -> tuple[tuple[str, tuple[int, ...]], ...]:
        """Names and shapes, in the order of the file."""
        per_channel = (self.out_channels,)
        shape = (self.out_channels, self.in_channels, self.kernel, self.kernel)
        if not self.batch_norm:
            return (f"{self.name}.bias", per_channel), (f"{self.name}.weight", shape)
        norm = [(f"{self.name}.bn.{part}", per_channel) for part in ("bias", "weight", "running_mean", "running_var")]
        return *norm, (f"{self.name}.conv.weight", shape)

    @property
    def numbers(self) -> int:
        """The number of its values in the file."""
        return self.out_channels * (self.in_channels * self.kernel**2 + (4 if self.batch_norm else 1))


def read_darknet(path: str | os.PathLike[str]) -> tuple[DarknetHeader, np.ndarray]:
    """Reads the header and all numbers, ``[N]`` float32.

    Raises:
        WeightsError: the file is missing, has an invalid header, or is truncated.
    """
    try:
        data = Path(path).read_bytes()
    except OSError as error:
        raise refuse(path, f"it cannot be read ({error.strerror})", "give the path of a weights file") from error
    version = struct.unpack("<3i", data[:12]) if len(data) >= 16 else (-1, -1, -1)
    major, minor, revision = version
    if not (0 <= major < 1000 and 0 <= minor < 1000 and 0 <= revision < 1000):
        remedy = "give a .weights file from darknet (transposed ones, version 1000 or higher, are not supported)"
        raise refuse(path, f"it has no Darknet header ({len(data)} bytes)", remedy)
    wide = major * 10 + minor >= 2  # since 0.2 the number of images has 64 bits
    size = 20 if wide else 16
    if len(data) < size or (len(data) - size) % 4:
        remedy = "download or copy it again"
        raise refuse(
            path, f"it is truncated: {len(data)} bytes are not a header of {size} bytes and float32 numbers", remedy
        )
    seen = struct.unpack_from("<Q" if wide else "<i", data, 12)[0]
    return DarknetHeader(major, minor, revision, seen), np.frombuffer(data, "<f4", offset=size)


def darknet_tensors(flat: np.ndarray, layers: Sequence[DarknetLayer]) -> dict[str, np.ndarray]:
    """Splits the numbers into named tensors in torch's layout.

    The tensors are ``name.conv.weight`` [out, in, k, k] with ``name.bn.weight``, ``bias``, ``running_mean`` and
    ``running_var`` [out]; without batch norm ``name.weight`` and ``name.bias``. If the numbers end exactly after the
    last layer with batch norm, the layers after it are omitted: files with a pretrained backbone
    (``darknet53.conv.74``) do not contain the classifier.

    Raises:
        WeightsError: the number of values is not that of the layers.
    """
    last_norm = max((i + 1 for i, layer in enumerate(layers) if layer.batch_norm), default=len(layers))
    backbone = sum(layer.numbers for layer in layers[:last_norm])
    whole = sum(layer.numbers for layer in layers)
    if len(flat) == backbone:
        layers = layers[:last_norm]
    elif len(flat) != whole:
        difference = f"{len(flat) - whole} are left over" if len(flat) > whole else f"{whole - len(flat)} are missing"
        without = f" ({backbone} without the classifier)" if backbone != whole else ""
        raise WeightsError(
            f"the file has {len(flat)} numbers, but {len(layers)} layers have {whole}{without}: {difference}; "
            "give the complete file of the same network, or the number of classes that it was trained for"
        )
    tensors = {}
    start = 0
    for layer in layers:
        for name, shape in layer.parts:
            size = int(np.prod(shape))
            tensors[name] = flat[start : start + size].reshape(shape)
            start += size
    return tensors
