from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from nrc_fast.base.factors import factored, solve_with_factor

SIZES = [0, 1, 2, 3, 31, 97, 127, 128, 129, 255, 256, 300, 700]


def positive_definite(d: int) -> Any:
    root = np.random.default_rng(d).standard_normal((d, d)) / max(d, 1) ** 0.5
    return root @ root.T + np.eye(d)


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("d", SIZES)
def test_a_factor_is_that_of_lapack(d: int, dtype: type) -> None:
    matrix, eps = positive_definite(d), float(np.finfo(dtype).eps)
    above = np.triu(np.full((d, d), np.nan), 1) + np.tril(np.ones((d, d)))  # what lies above is not read
    for first in range(0, d, 128):
        above[first : first + 128, first : first + 128] = 1.0  # but in blocks, which have both triangles
    found = np.tril(factored((matrix * above).astype(dtype)))
    assert found.dtype == dtype
    np.testing.assert_allclose(found, np.linalg.cholesky(matrix), rtol=0.0, atol=16 * eps * max(d, 1) ** 0.5)
    product = found.astype(np.float64) @ found.astype(np.float64).T
    np.testing.assert_allclose(product, matrix, rtol=0.0, atol=16 * eps * max(d, 1) ** 0.5)


@pytest.mark.parametrize("d", [1, 130, 300])
def test_what_is_not_positive_definite_is_an_error(d: int) -> None:
    matrix = positive_definite(d)
    matrix[-1, -1] = -1.0
    with pytest.raises(np.linalg.LinAlgError):
        factored(matrix)


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("d", SIZES)
def test_solutions_with_a_factor(d: int, dtype: type) -> None:
    matrix, right = positive_definite(d), np.random.default_rng(1).standard_normal((d, 3))
    found = solve_with_factor(factored(matrix.astype(dtype)), right)
    assert found.dtype == np.float64
    eps = float(np.finfo(dtype).eps)
    assert found == pytest.approx(np.linalg.solve(matrix, right), rel=0.0, abs=64 * eps * max(d, 1))
