"""The operators in float64, in a process of its own: ``jax_enable_x64`` holds for a whole process."""

import subprocess
import sys

from float64 import float64_environment

SCRIPT = """
import jax, jax.numpy as jnp, numpy as np
from jaxdet.ops import BoxCoder, Matcher, box_iou, greedy_nms, nms, resize_bilinear, roi_align, sample_balanced
from torchvision_cpu import import_torchvision
try:
    torchvision = import_torchvision()
except ImportError:
    raise SystemExit
import torch

rng = np.random.default_rng(0)
corner = rng.uniform(0, 60, (80, 2))
boxes = np.concatenate([corner, corner + rng.uniform(1, 40, (80, 2))], axis=1)
scores, features = rng.uniform(size=80), rng.standard_normal((16, 20, 3))
tensors = torch.from_numpy(boxes), torch.from_numpy(scores)

iou = jax.jit(box_iou)(boxes, boxes)
assert iou.dtype == jnp.float64
np.testing.assert_array_equal(iou, torchvision.ops.box_iou(tensors[0], tensors[0]).numpy())

kept = jax.jit(lambda b, s: nms(b, s, 0.3))(boxes, scores)
assert np.asarray(kept.indices)[np.asarray(kept.valid)].tolist() == torchvision.ops.nms(*tensors, 0.3).tolist()

tensor = torch.from_numpy(features.transpose(2, 0, 1)[None].copy()).requires_grad_()
expected = torchvision.ops.roi_align(tensor, [tensors[0]], 7, 0.25, 2)
expected.sum().backward()
pooled, pull = jax.vjp(jax.jit(lambda f: roi_align(f, boxes, 7, 0.25)), features)
np.testing.assert_allclose(pooled, expected.detach().numpy().transpose(0, 2, 3, 1), atol=1e-13)
np.testing.assert_allclose(pull(jnp.ones_like(pooled))[0], tensor.grad[0].numpy().transpose(1, 2, 0), atol=1e-12)

choose, jax.lax.platform_dependent = jax.lax.platform_dependent, lambda *args, tpu, **others: tpu(*args)
np.testing.assert_allclose(jax.jit(lambda f: roi_align(f, boxes, 7, 0.25))(features), pooled, atol=1e-13)
jax.lax.platform_dependent = choose

again = jax.jit(lambda b, s: greedy_nms(b, s, None, 0.3, max_outputs=80))(boxes, scores)
np.testing.assert_array_equal(again.indices, kept.indices)
matches = Matcher(0.7, 0.3, True)(iou[:5], jnp.ones(5, bool))
assert matches.index.dtype == jnp.int32
samples = sample_balanced(jax.random.key(0), matches.positive, matches.negative, 16, 0.25)
assert samples.indices.dtype == kept.indices.dtype == jnp.int32

coder = BoxCoder((10.0, 10.0, 5.0, 5.0))
np.testing.assert_allclose(coder.decode(coder.encode(boxes, boxes[::-1]), jnp.array(boxes[::-1])), boxes, atol=1e-12)
assert resize_bilinear(features, (5, 7)).dtype == np.float64
"""


def test_operators_in_float64():
    command = [sys.executable, "-W", "error", "-c", SCRIPT]
    run = subprocess.run(command, env=float64_environment(), capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
