"""A detector small enough to compile in seconds, and a batch for it."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np

from jaxdet.heads import AnchorGenerator
from jaxdet.models import detector_config
from jaxdet.types import Images, Targets


def tiny_config(**options):
    values = {
        "num_classes": 4,
        "min_size": 64,
        "max_size": 96,
        "backbone_width": 0.25,
        "fpn_out_channels": 16,
        "rpn_anchor_generator": AnchorGenerator((16, 32, 48, 64), (1.0,)),
        "rpn_pre_nms_top_n_train": 50,
        "rpn_post_nms_top_n_train": 30,
        "rpn_pre_nms_top_n_test": 50,
        "rpn_post_nms_top_n_test": 30,
        "rpn_batch_size_per_image": 32,
        "box_batch_size_per_image": 16,
        "box_representation_size": 32,
        "box_score_thresh": 0.01,
    }
    return detector_config("fasterrcnn_mobilenet_v1_fpn", **values | options)


def make_batch(batch=2, canvas=(64, 96), seed=0):
    rng = np.random.default_rng(seed)
    sizes = np.stack([rng.integers(40, canvas[0] + 1, batch), rng.integers(40, canvas[1] + 1, batch)], 1)
    pixels = rng.normal(size=(batch, *canvas, 3)).astype(np.float32)
    corner = rng.uniform(0, 20, (batch, 3, 2))
    boxes = np.concatenate([corner, corner + rng.uniform(10, 20, (batch, 3, 2))], -1).astype(np.float32)
    valid = np.array([[True, True, False]] * batch)
    valid[0] = False  # an image without objects
    labels = rng.integers(1, 4, (batch, 3)).astype(np.int32)
    images = Images(jnp.asarray(pixels), jnp.asarray(sizes, jnp.int32))
    return images, Targets(jnp.asarray(boxes), jnp.asarray(labels), jnp.asarray(valid))
