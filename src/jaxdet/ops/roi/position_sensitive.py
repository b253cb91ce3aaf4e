"""Position-sensitive pooling of R-FCN (Dai et al. 2016) and Light-Head R-CNN (Li et al. 2017).

Every bin of a region is pooled from its own channels. As in torchvision, input channel ``(c * PH + p) * PW + q``
corresponds to output channel c of bin (p, q).

Axes: H W C a feature map of one image, R regions, PH and PW output bins. ``vmap`` over a batch.
"""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp
from jax import Array, lax

from jaxdet.ops.boxes import float_dtype
from jaxdet.ops.map_regions import map_regions
from jaxdet.ops.roi.dense import adaptive_weights, mask_to_extent
from jaxdet.ops.roi.max_pool import cells_of, prepare, whole_bins
from jaxdet.ops.roi.samples import box_samples, weights_of_cells

Weights = tuple[Array, Array]  # [R, PH, H] and [R, PW, W]


def ps_roi_align(
    input: Array,
    boxes: Array,
    output_size: int | tuple[int, int],
    spatial_scale: float = 1.0,
    sampling_ratio: int = -1,
    *,
    valid: Array | None = None,
    extent: Array | None = None,
) -> Array:
    """Position-sensitive RoIAlign: ``torchvision.ops.ps_roi_align``.

    Boxes are shifted by half a cell; small ones are not enlarged.

    Args:
      input: ``[H, W, C]``, C a multiple of PH * PW.
      boxes: ``[R, 4]`` xyxy pixels.
      output_size: (PH, PW), or one number for both.
      spatial_scale: map cells per pixel, such as 1/16.
      sampling_ratio: samples per bin and side; 0 or below: ``ceil(bin size)``. Empty or inverted boxes then have no
        samples and give 0; torchvision divides zero by zero.
      valid: ``[R]`` bool. Invalid regions give zeros and receive no gradient.
      extent: ``[2]`` int, the (height, width) of the part of the map that is not padding; by default the whole map.

    Returns:
      ``[R, PH, PW, C / (PH * PW)]`` in the dtype of ``input``. Only ``input`` receives a gradient.
    """
    size, valid, extent = prepare("ps_roi_align", input, boxes, output_size, valid, extent)
    boxes = lax.stop_gradient(boxes)
    scale = jnp.asarray(spatial_scale, float_dtype(input, boxes))
    if sampling_ratio <= 0:
        shape = (input.shape[0], input.shape[1])
        weights = adaptive_weights(boxes, scale, extent, valid, shape=shape, output_size=size, aligned=True)
    else:
        count = boxes.shape[0]
        samples = box_samples(
            boxes,
            jnp.broadcast_to(scale, (count,)),
            jnp.broadcast_to(extent, (count, 2)),
            valid,
            output_size=size,
            sampling_ratio=sampling_ratio,
            aligned=True,
        )
        cells = (jnp.arange(length, dtype=jnp.int32)[None] for length in input.shape[:2])
        y, x = (weights_of_cells(side, cell) for side, cell in zip(samples, cells, strict=True))
        weights = y, x
    return _pool(mask_to_extent(input, extent), weights, "ps_roi_align").astype(input.dtype)


def ps_roi_pool(
    input: Array,
    boxes: Array,
    output_size: int | tuple[int, int],
    spatial_scale: float = 1.0,
    *,
    valid: Array | None = None,
    extent: Array | None = None,
) -> Array:
    """Position-sensitive RoIPool, the mean of each bin: ``torchvision.ops.ps_roi_pool``.

    Boxes are rounded to whole cells (halves away from zero) and exclude their far ends. As in torchvision, bins never
    read the last row or column of the map, but the gradient is computed as if they did.

    The arguments, without ``sampling_ratio``, and the result are those of `ps_roi_align`.
    """
    size, valid, extent = prepare("ps_roi_pool", input, boxes, output_size, valid, extent)
    sides = whole_bins(boxes, spatial_scale, size, 0)
    map_ = mask_to_extent(input, extent)

    def weights(limits: Array) -> Weights:
        y, x = (
            _means(cells_of(side, length, limit), valid).astype(map_.dtype)
            for side, length, limit in zip(sides, input.shape, limits, strict=False)
        )
        return y, x

    return _pool_with_gradient_weights(map_, weights(extent - 1), weights(extent)).astype(input.dtype)


def _means(cells: Array, valid: Array) -> Array:
    """Equal weights for the cells ``[R, P, N]`` of each bin."""
    cells &= valid[:, None, None]
    return cells / jnp.maximum(cells.sum(axis=-1, keepdims=True), 1)


def _pool(map_: Array, weights: Weights, name: str = "ps_roi_pool") -> Array:
    """``[R, PH, PW, C / (PH * PW)]`` from ``map_ [H, W, C]``."""
    y, x = weights
    height, width, channels = map_.shape
    bins = y.shape[1] * x.shape[1]
    if channels % bins:
        raise ValueError(f"{name}: the number of channels, {channels}, must be a multiple of the {bins} bins.")
    split = map_.reshape(height, width, channels // bins, y.shape[1], x.shape[1])

    def one(y: Array, x: Array) -> Array:
        rows = jnp.einsum("ph,hwcpq->wcpq", y, split, precision=lax.Precision.HIGHEST)
        return jnp.einsum("qw,wcpq->pqc", x, rows, precision=lax.Precision.HIGHEST)

    return map_regions(one, y.astype(map_.dtype), x.astype(map_.dtype), width * channels)


@jax.custom_vjp
def _pool_with_gradient_weights(map_: Array, weights: Weights, gradient_weights: Weights) -> Array:
    return _pool(map_, weights)


def _forward(map_: Array, weights: Weights, gradient_weights: Weights) -> tuple[Array, tuple[Array, Weights]]:
    return _pool(map_, weights), (jnp.zeros_like(map_), gradient_weights)


def _backward(residual: tuple[Array, Weights], grad: Array) -> tuple[Array, None, None]:
    like, weights = residual
    _, pull = jax.vjp(partial(_pool, weights=weights), like)  # linear, so the values of the map do not matter
    return *pull(grad), None, None


_pool_with_gradient_weights.defvjp(_forward, _backward)
