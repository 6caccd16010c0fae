"""Cholesky factors of large matrices, block by block, so that products do the work.

`numpy.linalg.cholesky` copies column by column, which at 4,096 features takes twice as long as all products, and gains
nothing from float32.
"""

from __future__ import annotations

import numpy as np

from nrc_fast.base.arrays import FloatArray, StoredArray
from nrc_fast.base.blas_threads import few_blas_threads, one_blas_thread

__all__ = ["factored", "solve_with_factor"]

# Columns of a factor that are found, or solved for, at a time.
FACTOR_BLOCK = 128


def _blocks(size: int) -> list[slice]:
    return [slice(first, first + FACTOR_BLOCK) for first in range(0, size, FACTOR_BLOCK)]


def factored(matrix: StoredArray) -> StoredArray:
    """Lower Cholesky factor L of a positive definite matrix ``L L^T``, in place of it.

    Parameters
    ----------
    matrix : (d, d) float64 or float32 array
        Only the lower triangle is read. It is overwritten; beyond the blocks on the diagonal, what lies above stays.

    Raises
    ------
    numpy.linalg.LinAlgError
        The matrix is not positive definite.

    Examples
    --------
    >>> factored(np.array([[4.0, 2.0], [2.0, 5.0]])).tolist()
    [[2.0, 0.0], [1.0, 2.0]]
    """
    with few_blas_threads(len(matrix)):
        for block in _blocks(len(matrix)):
            done = slice(block.start)
            matrix[block.start :, block] -= matrix[block.start :, done] @ matrix[block, done].T
            diagonal = np.linalg.cholesky(matrix[block, block])
            matrix[block, block] = diagonal
            matrix[block.stop :, block] = matrix[block.stop :, block] @ np.linalg.inv(diagonal).T
    return matrix


def solve_with_factor(factor: StoredArray, right: FloatArray) -> FloatArray:
    """Solution X of ``L L^T X = B`` for a lower triangular factor L, in the precision of L.

    Parameters
    ----------
    factor : (d, d) float64 or float32 array
        L, as `factored` gives it; only the lower triangle is read, and blocks on the diagonal.
    right : (d, n) float64 array
        B.

    Examples
    --------
    >>> factor = np.linalg.cholesky(np.array([[4.0, 2.0], [2.0, 5.0]]))
    >>> solve_with_factor(factor, np.array([[8.0], [9.0]])).round(12).tolist()
    [[1.375], [1.25]]
    """
    solution = right.astype(factor.dtype)
    blocks = _blocks(len(factor))
    with one_blas_thread():  # each step is small
        for block in blocks:
            solution[block] -= factor[block, : block.start] @ solution[: block.start]
            solution[block] = np.linalg.solve(factor[block, block], solution[block])
        for block in reversed(blocks):
            solution[block] -= factor[block.stop :, block].T @ solution[block.stop :]
            solution[block] = np.linalg.solve(factor[block, block].T, solution[block])
    return solution.astype(np.float64, copy=False)
