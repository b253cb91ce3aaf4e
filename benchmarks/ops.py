"""Operations compared with torchvision's native ones: same arrays, same results, alternately in one process.

    python -m benchmarks.ops [--rounds N] [--images N]

The operations are RoIAlign over one feature map, forward and backward; the selection of proposals from the outputs of
an RPN; the final NMS; matching and sampling of anchors. Sizes are those of `fasterrcnn_resnet50_fpn` at 800x1344. If
JAX has a GPU, both libraries use it.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.peers import on_gpu
from benchmarks.race import Contender, Table
from jaxdet import batched_nms
from jaxdet.heads import RPNConfig, RPNOutputs
from jaxdet.heads.proposals import select_proposals
from jaxdet.models.faster_rcnn.targets import sample_anchors
from jaxdet.ops.roi.align import multiscale_roi_align
from jaxdet.types import Targets
from jaxdet_convert.torchvision_cpu import import_torchvision

HEIGHT, WIDTH = 800, 1344
STRIDES = (4, 8, 16, 32, 64)
CHANNELS, ROIS, CANDIDATES, OBJECTS = 256, 1000, 2000, 8
OURS, THEIRS = "jaxdet", "torchvision"


def random_boxes(rng: np.random.Generator, count: int) -> np.ndarray:
    """``[count, 4]`` xyxy, with the sizes of proposals."""
    corner = rng.uniform(0, 0.8, (count, 2)) * (WIDTH, HEIGHT)
    side = np.exp(rng.uniform(np.log(16), np.log(400), (count, 2)))
    return np.minimum(np.concatenate([corner, corner + side], 1), [WIDTH, HEIGHT] * 2).astype(np.float32)


class Ops:
    """The arrays of both libraries, and the operations on them."""

    def __init__(self, images: int) -> None:
        import torch

        self.torch, self.torchvision = torch, import_torchvision()
        self.device = "cuda" if on_gpu() else "cpu"
        self.images = images
        self.rng = np.random.default_rng(0)

    def tensor(self, array: np.ndarray) -> Any:
        return self.torch.from_numpy(np.ascontiguousarray(array)).to(self.device)

    def theirs(self, function: Any) -> Contender:
        def run() -> None:
            function()
            if self.device == "cuda":
                self.torch.cuda.synchronize()

        return run

    def ours(self, function: Any, *args: Any) -> Contender:
        compiled, args = jax.jit(function), jax.device_put(args)
        return lambda: jax.block_until_ready(compiled(*args))

    def roi_align(self) -> tuple[dict[str, Contender], dict[str, Contender]]:
        """Forward and backward over the finest feature map of one image."""
        height, width = HEIGHT // STRIDES[0], WIDTH // STRIDES[0]
        x = self.rng.normal(size=(1, height, width, CHANNELS)).astype(np.float32)
        boxes = random_boxes(self.rng, ROIS)
        levels = jnp.zeros(ROIS, jnp.int32)

        def pool(x: jax.Array, boxes: jax.Array) -> jax.Array:
            return multiscale_roi_align([x], boxes, levels, 7, (1 / STRIDES[0],), 2)

        def pull(x: jax.Array, boxes: jax.Array, gradient: jax.Array) -> jax.Array:
            return jax.vjp(lambda x: pool(x, boxes), x)[1](gradient)[0]

        gradient = self.rng.normal(size=(ROIS, 7, 7, CHANNELS)).astype(np.float32)
        their_map, their_boxes = self.tensor(x.transpose(0, 3, 1, 2)), [self.tensor(boxes)]
        operation = partial(
            self.torchvision.ops.roi_align, boxes=their_boxes, output_size=7, spatial_scale=1 / STRIDES[0],
            sampling_ratio=2,
        )  # fmt: skip
        tracked = their_map.clone().requires_grad_()
        pooled = operation(tracked)
        theirs = pooled.permute(0, 2, 3, 1).detach().cpu().numpy()
        np.testing.assert_allclose(pool(x[0], boxes), theirs, atol=1e-4)
        their_gradient = self.tensor(gradient.transpose(0, 3, 1, 2))

        def backward() -> None:
            self.torch.autograd.grad(pooled, tracked, their_gradient, retain_graph=True)

        return (
            {THEIRS: self.theirs(lambda: operation(their_map)), OURS: self.ours(pool, x[0], boxes)},
            {THEIRS: self.theirs(backward), OURS: self.ours(pull, x[0], boxes, gradient)},
        )

    def selection(self) -> dict[str, Contender]:
        """From the RPN's outputs on five levels to a thousand proposals per image."""
        from torchvision.models.detection.rpn import RegionProposalNetwork

        shapes = [(-(-HEIGHT // stride), -(-WIDTH // stride)) for stride in STRIDES]
        config = RPNConfig()
        extents = jnp.tile(jnp.array([[HEIGHT, WIDTH]]), (self.images, 1))
        grids = [jnp.tile(jnp.array([shape]), (self.images, 1)) for shape in shapes]
        anchors, valid = config.anchor_generator(shapes, extents, grids)
        counts = [level.shape[1] for level in anchors]
        logits = [self.rng.normal(size=(self.images, count)).astype(np.float32) for count in counts]
        deltas = [self.rng.normal(0, 0.3, (self.images, count, 4)).astype(np.float32) for count in counts]
        rpn = RPNOutputs(tuple(map(jnp.asarray, logits)), tuple(map(jnp.asarray, deltas)), anchors, valid)
        top = {"training": config.post_nms_top_n_test, "testing": config.post_nms_top_n_test}
        module = RegionProposalNetwork(None, None, 0.7, 0.3, 256, 0.5, top, top, 0.7).eval()
        objectness = self.tensor(np.concatenate(logits, 1).reshape(-1, 1))
        regression = self.tensor(np.concatenate(deltas, 1).reshape(-1, 4))
        their_anchors = [self.tensor(np.concatenate([np.asarray(level)[image] for level in anchors]))
                         for image in range(self.images)]  # fmt: skip
        sizes = [(HEIGHT, WIDTH)] * self.images

        def theirs() -> Any:
            boxes = module.box_coder.decode(regression, their_anchors).view(self.images, -1, 4)
            return module.filter_proposals(boxes, objectness, sizes, counts)

        return {
            THEIRS: self.theirs(theirs),
            OURS: self.ours(lambda rpn, sizes: select_proposals(rpn, sizes, config), rpn, extents),
        }

    def final_nms(self) -> dict[str, Contender]:
        """NMS per class, to a hundred detections per image."""
        boxes = np.stack([random_boxes(self.rng, CANDIDATES) for _ in range(self.images)])
        scores = self.rng.uniform(size=boxes.shape[:2]).astype(np.float32)
        labels = self.rng.integers(1, 91, boxes.shape[:2])
        args = [self.tensor(array) for array in (boxes, scores, labels)]

        def theirs() -> Any:
            return [self.torchvision.ops.batched_nms(*(x[image] for x in args), 0.5)[:100]
                    for image in range(self.images)]  # fmt: skip

        ours = jax.vmap(lambda boxes, scores, labels: batched_nms(boxes, scores, labels, 0.5, max_outputs=100))
        kept = np.asarray(ours(boxes, scores, labels).indices[0])
        np.testing.assert_array_equal(kept, theirs()[0].cpu().numpy())
        return {THEIRS: self.theirs(theirs), OURS: self.ours(ours, boxes, scores, labels)}

    def matching(self) -> dict[str, Contender]:
        """Matching anchors to objects, and a balanced sample of them, for the RPN's losses."""
        from torchvision.models.detection.rpn import RegionProposalNetwork

        config = RPNConfig()
        shapes = [(-(-HEIGHT // stride), -(-WIDTH // stride)) for stride in STRIDES]
        extents = jnp.array([[HEIGHT, WIDTH]])
        generated, valid = config.anchor_generator(shapes, extents, [jnp.array([shape]) for shape in shapes])
        anchors, anchors_valid = (jnp.concatenate(x, axis=1)[0] for x in (generated, valid))
        objects = np.stack([random_boxes(self.rng, OBJECTS) for _ in range(self.images)])
        shape = objects.shape[:2]
        targets = Targets(jnp.asarray(objects), jnp.ones(shape, jnp.int32), jnp.ones(shape, bool))
        keys = jax.random.split(jax.random.key(0), self.images)
        top = {"training": 1000, "testing": 1000}
        module = RegionProposalNetwork(None, None, 0.7, 0.3, 256, 0.5, top, top, 0.7)
        their_anchors = [self.tensor(np.asarray(anchors))] * self.images
        truth = [{"boxes": self.tensor(boxes)} for boxes in objects]

        def theirs() -> Any:
            labels, matched = module.assign_targets_to_anchors(their_anchors, truth)
            return module.fg_bg_sampler(labels), module.box_coder.encode(matched, their_anchors)

        def ours(keys: jax.Array, targets: Targets) -> Any:
            return jax.vmap(lambda key, one: sample_anchors(key, anchors, anchors_valid, one, config))(keys, targets)

        return {THEIRS: self.theirs(theirs), OURS: self.ours(ours, keys, targets)}


def main(argv: Sequence[str] | None = None) -> int:
    """Prints a table and one line of JSON."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.ops", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--images", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=9)
    args = parser.parse_args(argv)
    ops = Ops(args.images)
    table = Table(f"operations at {HEIGHT}x{WIDTH}, float32, batches of {args.images}, {args.rounds} rounds")
    forward, backward = ops.roi_align()
    table.race(f"RoIAlign, {ROIS} RoIs", forward, rounds=args.rounds)
    table.race("RoIAlign, backward", backward, rounds=args.rounds)
    table.race("selection of proposals", ops.selection(), rounds=args.rounds, items=args.images)
    table.race(f"NMS of {CANDIDATES} by class", ops.final_nms(), rounds=args.rounds, items=args.images)
    table.race("matching and sampling", ops.matching(), rounds=args.rounds, items=args.images)
    table.finish(images=args.images)
    return 0


if __name__ == "__main__":
    sys.exit(main())
