"""Box coder: hand-computed values, round trips, padding, torchvision's numbers."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdet.ops import BoxCoder

WEIGHTS = (10.0, 10.0, 5.0, 5.0)


def random_boxes(seed, *shape):
    rng = np.random.default_rng(seed)
    corner = rng.uniform(0, 500, (*shape, 2))
    return np.concatenate([corner, corner + rng.uniform(5, 300, (*shape, 2))], axis=-1).astype(np.float32)


def test_encode():
    codes = BoxCoder().encode(jnp.array([[2.0, 0, 6, 2]]), jnp.array([[0.0, 0, 2, 2]]))
    np.testing.assert_allclose(codes, [[1.5, 0, math.log(2), 0]], rtol=1e-6)


def test_decode():
    boxes = BoxCoder().decode(jnp.array([[1.5, 0, math.log(2), 0]]), jnp.array([[0.0, 0, 2, 2]]))
    np.testing.assert_allclose(boxes, [[2, 0, 6, 2]], atol=1e-6)


def test_each_weight_is_of_its_own_offset():
    coder, start, goal = BoxCoder((1.0, 2.0, 3.0, 4.0)), jnp.array([[0.0, 0, 2, 4]]), jnp.array([[2.0, 0, 6, 2]])
    codes = coder.encode(goal, start)
    np.testing.assert_allclose(codes, [[1.5, -0.5, 3 * math.log(2), 4 * math.log(0.5)]], rtol=1e-6)
    np.testing.assert_allclose(coder.decode(codes, start), goal, atol=1e-6)


def test_decode_limits_growth():
    boxes = BoxCoder().decode(jnp.array([[0, 0, 100.0, 100]]), jnp.array([[0.0, 0, 16, 16]]))
    np.testing.assert_allclose(boxes, [[-492, -492, 508, 508]], rtol=1e-5)


def test_round_trip():
    coder, start, goal = BoxCoder(WEIGHTS), random_boxes(0, 50), random_boxes(1, 50)
    np.testing.assert_allclose(coder.decode(coder.encode(goal, start), start), goal, atol=1e-3)


def test_padding_encodes_to_zero_and_changes_nothing():
    start, goal = random_boxes(0, 3), random_boxes(1, 3)
    expected = BoxCoder().encode(goal, start)
    start[1], goal[1] = np.nan, np.nan
    codes = BoxCoder().encode(goal, start, valid=jnp.array([True, False, True]))
    np.testing.assert_array_equal(codes, np.where([[True], [False], [True]], expected, 0))


def test_decode_wants_matching_axes():
    with pytest.raises(ValueError, match="leading axes"):
        BoxCoder().decode(jnp.zeros((2, 3, 5, 4)), jnp.zeros((3, 4)))


@pytest.mark.parametrize("weights", [(1.0, 1.0, 1.0, 1.0), WEIGHTS])
def test_equals_torchvision(weights):
    from torchvision_cpu import torchvision_or_skip

    torchvision_or_skip()
    import torch
    from torchvision.models.detection._utils import BoxCoder as Reference

    coder, reference = BoxCoder(weights), Reference(weights)
    start, goal = random_boxes(2, 400), random_boxes(3, 400)
    codes = np.random.default_rng(4).standard_normal((400, 3, 4)).astype(np.float32) * 3
    encoded = reference.encode_single(torch.from_numpy(goal), torch.from_numpy(start)).numpy()
    np.testing.assert_allclose(jax.jit(coder.encode)(goal, start), encoded, rtol=1e-5, atol=1e-5)
    decoded = reference.decode(torch.from_numpy(codes), [torch.from_numpy(start)]).numpy()
    np.testing.assert_allclose(jax.jit(coder.decode)(codes, start), decoded, rtol=2e-6, atol=2e-4)
