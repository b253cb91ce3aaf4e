"""A detector by its stages, from the transform to post-processing."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp

from jaxdet.data.batching.canvas import align, canvases, choose_canvas
from jaxdet.models import FasterRCNN
from jaxdet.ops.resize import resized_size
from jaxdet.summary.rows import Row, Shape, parameters, torch_order, trace
from jaxdet.types import Images


@dataclass(frozen=True)
class Output:
    """One array that a stage gives."""

    name: str
    shape: Shape
    note: str = ""


@dataclass(frozen=True)
class Stage:
    """A part of a detector; macs as a `Row`'s."""

    name: str
    detail: str
    outputs: tuple[Output, ...]
    parameters: int = 0
    macs: int = 0


def detector_stages(
    model: FasterRCNN, height: int, width: int, batch: int
) -> tuple[tuple[Row, ...], tuple[Stage, ...]]:
    transform, canvas = _transform(model, height, width)
    pixels = jax.ShapeDtypeStruct((batch, *canvas, 3), jnp.float32)
    images = Images(pixels, jax.ShapeDtypeStruct((batch, 2), jnp.int32))  # type: ignore[arg-type]
    rows, (pyramid, outputs, proposals, roi, found) = trace(model, _walk, images)
    _, maps = trace(model.backbone, lambda backbone, x: backbone.features(x), pixels)  # type: ignore[arg-type]
    maps = {name: maps[name] for name in model.backbone.channels}  # tracing had sorted them by name
    features = dict(zip(model.strides, pyramid, strict=True))

    config, rpn, box = model.config, model.config.rpn, model.config.box
    generator = rpn.anchor_generator
    levels = list(features)
    hidden = next(row.shape for row in rows if row.path == "box_head")
    shapes: Any = zip(generator.sizes, generator.aspect_ratios, strict=True)  # both a tuple a level by now

    def part(name: str, detail: str, arrays: list[Output], attribute: str = "") -> Stage:
        """A stage; ``attribute`` names the module that it owns, if any."""
        macs = sum(row.macs for row in rows if row.path.split(".")[0] == attribute)
        return Stage(name, detail, tuple(arrays), sum(parameters(getattr(model, attribute))) if attribute else 0, macs)

    def optional(name: str, detail: str, attribute: str) -> list[Stage]:
        """A stage that not every detector has."""
        return [] if getattr(model, attribute) is None else [part(name, detail, [], attribute)]

    def step(level: str) -> str:
        down, right = (side // cells for side, cells in zip(canvas, features[level].shape[1:3], strict=True))
        return f"{down}x{right}"

    return rows, (
        transform,
        part("Backbone", type(model.backbone).__name__, _maps(maps, model.backbone.strides), "backbone"),
        part("FPN", f"on {_words(config.fpn.levels)}", _maps(features, model.strides), "fpn"),
        *optional("Context", f"{config.context.kind}, a module a level", "context"),
        *optional("RPN upscaling", "each map twice as high and wide", "rpn_upscale"),
        part(
            "RPN head",
            f"anchors a location: {generator.num_anchors_per_location()[0]}; shared 3x3 convolutions: {rpn.conv_depth}",
            [_array(f"{level} logits", x) for level, x in zip(levels, outputs.logits, strict=True)]
            + [_array(f"{level} deltas", x) for level, x in zip(levels, outputs.deltas, strict=True)],
            "rpn_head",
        ),
        part(
            "Anchors",
            f"{sum(boxes.shape[1] for boxes in outputs.anchors):,} in all",
            [
                _array(level, boxes, f"every {step(level)} px; sizes {_words(sizes)}; ratios {_words(ratios)}")
                for level, boxes, (sizes, ratios) in zip(levels, outputs.anchors, shapes, strict=True)
            ],
        ),
        part(
            "Proposals",
            f"the best {rpn.pre_nms_top_n_test} a level; scores from {rpn.score_thresh}; "
            f"NMS at {rpn.nms_thresh} within a level; the best {rpn.post_nms_top_n_test} of all",
            [_array("boxes", proposals.boxes), _array("scores", proposals.scores)],
        ),
        *optional("RoI upscaling", "each map twice as high and wide", "box_upscale"),
        part(
            "RoIAlign",
            f"{box.output_size}x{box.output_size} cells from {_words(box.pool_levels or config.fpn.levels)}; "
            f"sampling ratio {box.sampling_ratio}",
            [Output("pooled", (proposals.boxes.shape[1], config.fpn.out_channels, box.output_size, box.output_size))],
        ),
        part(
            "Box head",
            type(model.box_head).__name__,
            [Output("features", (proposals.boxes.shape[1], *hidden))],
            "box_head",
        ),
        part(
            "Predictor",
            f"{config.num_classes} classes with the background",
            [_array("logits", roi.logits), _array("deltas", roi.deltas)],
            "box_predictor",
        ),
        part(
            "Post-processing",
            f"scores above {box.score_thresh}; "
            f"{f'NMS at {box.nms_thresh}' if box.soft_nms is None else f'{box.soft_nms.kind} soft-NMS'} "
            f"{'over all classes' if box.class_agnostic_nms else 'within a class'}; the best {box.detections_per_img}",
            [_array("boxes", found.boxes), _array("scores", found.scores), _array("labels", found.labels)],
        ),
    )


def _walk(model: FasterRCNN, images: Images) -> tuple[Any, ...]:
    """The stages as the detector's ``__call__`` walks them, with what lies between."""
    features = model.features(images)
    rpn = model.rpn(features, images)
    proposals = model.propose(rpn, images)
    roi = model.classify(features, proposals, images)
    return list(features.values()), rpn, proposals, roi, model.detect(roi, proposals, images)


def _transform(model: FasterRCNN, height: int, width: int) -> tuple[Stage, tuple[int, int]]:
    """The first stage, and the canvas: as large as the resized image needs, so that the counts are the image's."""
    options = model.config.transform
    resized = resized_size(height, width, options.min_size, options.max_size, enlarge=options.enlarge)
    if min(resized) < 1:
        raise ValueError(f"an image of {height}x{width} has no pixels left once resized to {resized[0]}x{resized[1]}")
    canvas = (align(resized[0]), align(resized[1]))
    usual = choose_canvas(resized, canvases(options.min_size, options.max_size))
    detail = f"shorter side to {options.min_size}, longer to at most {options.max_size}; sides to multiples of 32"
    note = "" if usual == canvas else f"jaxdet.predict uses one of its few canvases, {usual[0]}x{usual[1]}"
    outputs = (
        Output("image", (3, height, width)),
        Output("resized", (3, *resized)),
        Output("canvas", (3, *canvas), note),
    )
    return Stage("Transform", detail, outputs), canvas


def _maps(maps: dict[str, Any], strides: dict[str, int]) -> list[Output]:
    return [Output(name, torch_order(x.shape[1:]), f"stride {strides[name]}") for name, x in maps.items()]


def _array(name: str, value: Any, note: str = "") -> Output:
    return Output(name, value.shape[1:], note)


def _words(values: Iterable[Any]) -> str:
    return ", ".join(str(value) for value in values)
