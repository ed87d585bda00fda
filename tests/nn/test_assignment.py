"""Assignment: SciPy's sums, for costs with ties, for tables of all shapes and in batches."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.optimize import linear_sum_assignment

from suite.nn.assignment import assign


@pytest.mark.parametrize("shape", [(1, 1), (3, 3), (5, 12), (24, 40)])
def test_the_least_sum_is_that_of_scipy(shape):
    rng = np.random.default_rng(0)
    whole = rng.integers(0, 4, (2, *shape))  # with many ties
    tables = np.concatenate([rng.standard_normal((8, *shape)), whole]).astype(np.float32)
    rows = rng.random((10, shape[0])) < 0.7
    rows[0] = True
    columns = np.asarray(jax.jit(jax.vmap(assign))(tables, rows))
    for table, wanted, given in zip(tables, rows, columns, strict=True):
        assert (given[~wanted] == -1).all()
        assert len({*given[wanted].tolist()}) == wanted.sum() and (given[wanted] >= 0).all()
        best = table[wanted][linear_sum_assignment(table[wanted])].sum()
        np.testing.assert_allclose(table[wanted, given[wanted]].sum(), best, rtol=1e-5, atol=1e-5)


def test_more_rows_than_columns_are_refused():
    with pytest.raises(ValueError, match="3 rows, and 2 columns"):
        assign(jnp.zeros((3, 2)))
