"""RoIAlign (He et al. 2017, section 3), numerically equivalent to ``torchvision.ops.roi_align``.

Axes: H W C a feature map, L levels, R regions, PH PW output bins. Maps are channels last, boxes xyxy in pixels of
the model's input. All functions take one image; ``vmap`` them over a batch.

The algorithm depends on the platform. TPUs slice one window per region and multiply (`jaxdet.ops.roi.window`), image
after image, as the levels of one image fit in the core's own memory; other platforms gather rows
(`jaxdet.ops.roi.gather`). Both process all levels in one pass. Adaptive sampling multiplies with whole maps on every
platform (`jaxdet.ops.roi.dense`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.custom_batching import sequential_vmap

from jaxdet.ops.boxes import float_dtype
from jaxdet.ops.roi.dense import pool_adaptive
from jaxdet.ops.roi.gather import pool_by_gather, pool_in_chunks, scatter_at_once, scatter_in_chunks
from jaxdet.ops.roi.samples import AxisSamples, box_samples
from jaxdet.ops.roi.window import pool_by_window, window_gradient


def roi_align(
    input: Array,
    boxes: Array,
    output_size: int | tuple[int, int],
    spatial_scale: float = 1.0,
    sampling_ratio: int = 2,
    aligned: bool = False,
    *,
    valid: Array | None = None,
    extent: Array | None = None,
) -> Array:
    """Pools regions of one feature map: ``multiscale_roi_align`` with a single level.

    Args:
      input: ``[H, W, C]``.
      boxes: ``[R, 4]`` xyxy pixels.
      extent: ``[2]`` int, the (height, width) of the part of the map that is not padding; by default the whole map.

    The other arguments, the result and the gradient are those of ``multiscale_roi_align``.
    """
    levels = jnp.zeros(boxes.shape[:1], jnp.int32)
    extents = None if extent is None else jnp.asarray(extent)[None]
    return multiscale_roi_align(
        [input], boxes, levels, output_size, (spatial_scale,), sampling_ratio, aligned, valid=valid, extents=extents
    )


@jax.named_scope("roi_align")
def multiscale_roi_align(
    features: Sequence[Array],
    boxes: Array,
    levels: Array,
    output_size: int | tuple[int, int],
    spatial_scales: Sequence[float],
    sampling_ratio: int,
    aligned: bool = False,
    *,
    valid: Array | None = None,
    extents: Array | None = None,
) -> Array:
    """Pools each region from its own level of a feature pyramid.

    Args:
      features: L maps ``[H_l, W_l, C]`` of one dtype.
      boxes: ``[R, 4]`` xyxy pixels. NaN or infinite sample positions give zeros.
      levels: ``[R]`` int, indices into ``features``.
      output_size: (PH, PW), or one number for both.
      spatial_scales: L factors from pixels to map cells, such as 1/4.
      sampling_ratio: samples per bin and side. 0 or below: adaptive, the length of a bin in cells, rounded up. This
        multiplies every region with every map, and is meant for maps of few channels, such as masks.
      aligned: shift boxes by half a cell, and do not enlarge boxes below one cell. The detectors use False.
      valid: ``[R]`` bool. Invalid regions give zeros and receive no gradient.
      extents: ``[L, 2]`` int, the (height, width) of the part of each map that is not padding. Samples are clamped and
        dropped as if the map ended there. By default the whole maps.

    Returns:
      ``[R, PH, PW, C]`` in the dtype of ``features``; weights and sums are at least float32.

    Only ``features`` receive a gradient, which is summed in at least float32. Boxes are detached, as in torchvision.
    """
    pooled_size = (output_size, output_size) if isinstance(output_size, int) else output_size
    _check(features, boxes, levels, pooled_size, spatial_scales)
    if boxes.shape[0] == 0:
        return jnp.zeros((0, *pooled_size, features[0].shape[-1]), features[0].dtype)
    boxes = jax.lax.stop_gradient(boxes)
    valid = jnp.ones(boxes.shape[0], bool) if valid is None else valid
    shapes = tuple((map_.shape[0], map_.shape[1]) for map_ in features)
    if extents is None:
        extents = jnp.array(shapes, jnp.int32)
    levels = jnp.clip(levels, 0, len(features) - 1)  # padded slots may contain any level
    if sampling_ratio <= 0:
        return pool_adaptive(
            features, boxes, levels, spatial_scales, extents, valid, output_size=pooled_size, aligned=aligned
        )
    dtype = float_dtype(features[0])
    y, x = box_samples(
        boxes,
        jnp.array(spatial_scales, float_dtype(features[0], boxes))[levels],
        extents[levels],
        valid,
        output_size=pooled_size,
        sampling_ratio=sampling_ratio,
        aligned=aligned,
    )
    y, x = (_cast_weights(samples, dtype) for samples in (y, x))
    return _pool(_Layout(shapes, jnp.dtype(features[0].dtype)), tuple(features), _Regions(y, x, levels, valid))


class _Regions(NamedTuple):
    """The samples of R regions."""

    y: AxisSamples  # [R, PH, S]
    x: AxisSamples  # [R, PW, S]
    levels: Array  # [R] int32
    valid: Array  # [R] bool


@dataclass(frozen=True)
class _Layout:
    """Conversion of the maps of all levels to one array: a table of cells, or a canvas."""

    shapes: tuple[tuple[int, int], ...]  # (height, width) of each level
    dtype: np.dtype

    @property
    def rows(self) -> int:
        """The number of rows of the table: all cells of all levels."""
        return sum(height * width for height, width in self.shapes)

    @property
    def canvas(self) -> tuple[int, int]:
        """(height, width) of the canvas: the first level on top, the others in a row below it.

        For a pyramid that halves its sides, the area is 1.5 times that of the first level (1.33 are needed).
        """
        (height, width), *others = self.shapes
        below = max((height for height, _ in others), default=0)
        return height + below, max(width, sum(width for _, width in others))

    @property
    def origins(self) -> list[tuple[int, int]]:
        """(row, column) of each level on the canvas."""
        widths = [width for _, width in self.shapes[1:]]
        return [(0, 0)] + [(self.shapes[0][0], sum(widths[:index])) for index in range(len(widths))]

    def to_table(self, maps: tuple[Array, ...]) -> Array:
        """The maps as a table ``[T, C]``, level after level."""
        return jnp.concatenate([map_.reshape(-1, map_.shape[-1]) for map_ in maps])

    def from_table(self, table: Array) -> tuple[Array, ...]:
        """The maps of a table."""
        pieces = jnp.split(table, np.cumsum([height * width for height, width in self.shapes])[:-1])
        return tuple(piece.reshape(*shape, -1) for piece, shape in zip(pieces, self.shapes, strict=True))

    def to_canvas(self, maps: tuple[Array, ...]) -> Array:
        """The maps as a canvas ``[H, W, C]``, zero between the levels."""
        first, *others = maps
        height, width = self.canvas
        rows = [jnp.pad(first, ((0, 0), (0, width - first.shape[1]), (0, 0)))]
        if others:
            below = height - first.shape[0]
            row = jnp.concatenate([jnp.pad(map_, ((0, below - map_.shape[0]), (0, 0), (0, 0))) for map_ in others], 1)
            rows.append(jnp.pad(row, ((0, 0), (0, width - row.shape[1]), (0, 0))))
        return jnp.concatenate(rows)

    def from_canvas(self, canvas: Array) -> tuple[Array, ...]:
        """The maps of a canvas."""
        places = zip(self.origins, self.shapes, strict=True)
        return tuple(canvas[row : row + height, column : column + width] for (row, column), (height, width) in places)

    def table_rows(self, levels: Array) -> tuple[Array, Array]:
        """The first table row and the row stride of each region's level, ``[R]`` int32 each."""
        sizes = [height * width for height, width in self.shapes]
        offsets = jnp.array([sum(sizes[:index]) for index in range(len(sizes))], jnp.int32)
        return offsets[levels], jnp.array([width for _, width in self.shapes], jnp.int32)[levels]

    def canvas_origins(self, levels: Array) -> Array:
        """The (row, column) on the canvas where each region's level begins, ``[R, 2]`` int32."""
        return jnp.array(self.origins, jnp.int32)[levels]


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def _pool(layout: _Layout, maps: tuple[Array, ...], regions: _Regions) -> Array:
    """``[R, PH, PW, C]`` in the dtype of the maps."""
    pooled = jax.lax.platform_dependent(
        maps,
        regions,
        cpu=partial(_pool_from_table, layout, pool_in_chunks),
        tpu=sequential_vmap(partial(_pool_on_canvas, layout)),
        default=partial(_pool_from_table, layout, pool_by_gather),
    )
    return jnp.where(regions.valid[:, None, None, None], pooled, 0)


def _pool_forward(layout: _Layout, maps: tuple[Array, ...], regions: _Regions) -> tuple[Array, _Regions]:
    return _pool(layout, maps, regions), regions


@jax.named_scope("roi_align")
def _pool_backward(layout: _Layout, regions: _Regions, grad: Array) -> tuple[tuple[Array, ...], None]:
    # Autodiff would sum the gradient of a bfloat16 map in bfloat16.
    grad = jnp.where(regions.valid[:, None, None, None], grad, 0)
    return jax.lax.platform_dependent(
        grad,
        regions,
        cpu=partial(_gradient_of_table, layout, scatter_in_chunks),
        tpu=sequential_vmap(partial(_gradient_on_canvas, layout)),
        default=partial(_gradient_of_table, layout, scatter_at_once),
    ), None


_pool.defvjp(_pool_forward, _pool_backward)


def _pool_from_table(layout: _Layout, pool, maps: tuple[Array, ...], regions: _Regions) -> Array:
    pooled = pool(layout.to_table(maps), regions.y, regions.x, *layout.table_rows(regions.levels))
    return pooled.astype(layout.dtype)


def _pool_on_canvas(layout: _Layout, maps: tuple[Array, ...], regions: _Regions) -> Array:
    origins = layout.canvas_origins(regions.levels)
    return pool_by_window(layout.to_canvas(maps), regions.y, regions.x, origins).astype(layout.dtype)


def _gradient_of_table(layout: _Layout, scatter, grad: Array, regions: _Regions) -> tuple[Array, ...]:
    grad = grad.astype(regions.y.weight_low.dtype)
    table = scatter(grad, regions.y, regions.x, *layout.table_rows(regions.levels), layout.rows)
    return layout.from_table(table.astype(layout.dtype))


def _gradient_on_canvas(layout: _Layout, grad: Array, regions: _Regions) -> tuple[Array, ...]:
    origins = layout.canvas_origins(regions.levels)
    return layout.from_canvas(window_gradient(grad, regions.y, regions.x, origins, layout.canvas, layout.dtype))


def _cast_weights(samples: AxisSamples, dtype: np.dtype) -> AxisSamples:
    """Casts the weights, which have the dtype of the boxes, to that of the maps (at least float32)."""
    weights = {"weight_low": samples.weight_low.astype(dtype), "weight_high": samples.weight_high.astype(dtype)}
    return samples._replace(**weights)


def _check(
    features: Sequence[Array],
    boxes: Array,
    levels: Array,
    output_size: tuple[int, ...],
    spatial_scales: Sequence[float],
) -> None:
    """Raises ValueError if the arguments do not match."""
    if len(output_size) != 2 or min(output_size) < 1:
        raise ValueError(f"RoIAlign: output_size must be one or two numbers of at least 1, got {output_size}.")
    if not features or len(features) != len(spatial_scales):
        raise ValueError(
            f"RoIAlign: got {len(features)} feature maps and {len(spatial_scales)} spatial scales; give one per map."
        )
    shapes, dtypes = [map_.shape for map_ in features], {map_.dtype for map_ in features}
    if any(len(shape) != 3 or shape[2] != shapes[0][2] for shape in shapes) or len(dtypes) != 1:
        raise ValueError(
            f"RoIAlign: maps must be [H, W, C] with one C and one dtype, got {shapes} of {sorted(map(str, dtypes))}; "
            "for a batch, use vmap."
        )
    if boxes.ndim != 2 or boxes.shape[1] != 4 or levels.shape != boxes.shape[:1]:
        raise ValueError(f"RoIAlign: expected boxes [R, 4] and levels [R], got {boxes.shape} and {levels.shape}.")
