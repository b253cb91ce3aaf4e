"""The best pairs of a matrix are those of the whole of it, ties included."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdet.ops.top_pairs import top_pairs


@jax.jit
def _whole(values):
    return jax.lax.top_k(values.reshape(-1), values.size)


@pytest.mark.parametrize("count", [1, 7, 40, 1000])
def test_equal_values_go_by_row_and_column(count):
    """Values of which each comes some forty times, so that rows tie by their maximum and pairs at the last place."""
    rng = np.random.default_rng(0)
    found = jax.jit(jax.vmap(lambda values: top_pairs(values, count)))
    batch = rng.integers(0, 5, (20, 30, 7)).astype(np.float32)
    pairs = found(batch)
    for values, *best in zip(batch, *pairs, strict=True):
        whole, index = (np.asarray(x)[:count] for x in _whole(values))
        np.testing.assert_array_equal(best[0], whole)
        np.testing.assert_array_equal(best[1], index // 7)
        np.testing.assert_array_equal(best[2], index % 7)


def test_rows_that_are_not_valid_count_as_the_least():
    values = np.float32([[np.nan, 9], [1, 2], [np.inf, np.nan], [2, 0]])
    valid = np.array([False, True, False, True])
    few, all_of_them = jax.jit(lambda values, valid: [top_pairs(values, count, valid=valid) for count in (2, 6)])(
        values, valid
    )
    np.testing.assert_array_equal(few.values, [2, 2])
    assert few.rows.tolist() == [1, 3] and few.columns.tolist() == [1, 0]
    np.testing.assert_array_equal(all_of_them.values, [2, 2, 1, 0, -np.inf, -np.inf])
    assert all_of_them.rows.tolist()[:4] == [1, 3, 1, 3] and all_of_them.columns.tolist()[:4] == [1, 0, 0, 1]
    assert few.rows.dtype == few.columns.dtype == jnp.int32
