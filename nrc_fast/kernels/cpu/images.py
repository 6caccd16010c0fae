"""What weights make of rows in the memory of the host, in float64, without the compiled kernels: few columns each."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np

from nrc_fast.base.arrays import FloatArray
from nrc_fast.base.blas_threads import one_blas_thread
from nrc_fast.kernels.cpu.machine import thread_count
from nrc_fast.kernels.errors import UnreadableRowsError
from nrc_fast.kernels.interface import Rows

__all__ = ["images_of"]

# Values of a block, in float64 half a megabyte: as much as stays in the cache of a core.
BLOCK_VALUES = 1 << 16


def images_of(features: Rows, weights: FloatArray) -> tuple[FloatArray, FloatArray]:
    """``W h`` of each row and ``|h|^2``, block by block on the threads of the kernels; these do not change the bits.

    Raises
    ------
    UnreadableRowsError
        The rows lie in a file that ends early or cannot be read.
    """
    count, step = features.count, max(BLOCK_VALUES // features.columns, 64)
    found, squares = np.empty((count, len(weights))), np.empty(count)
    transposed = np.ascontiguousarray(weights.T)

    def fill(first: int) -> None:
        rows = slice(first, min(first + step, count))
        values = _in_float64(features, rows)
        with np.errstate(over="ignore", invalid="ignore"):
            np.matmul(values, transposed, out=found[rows])
            np.einsum("ij,ij->i", values, values, out=squares[rows])

    # Its own threads would share a product of a block among them, and wait actively.
    with one_blas_thread(), ThreadPoolExecutor(thread_count()) as pool:
        for _ in pool.map(fill, range(0, count, step)):
            pass
    return found, squares


def _in_float64(features: Rows, rows: slice) -> FloatArray:
    try:
        part = features.part(rows.start, rows.stop).loaded()
    except UnreadableRowsError as error:
        row = rows.start + error.row
        msg = f"row {row} of {features.name} cannot be read: {error.reason}"
        raise UnreadableRowsError(msg, error.reason, row) from error
    return np.ascontiguousarray(part.array) if part.is_double else part.to_float64()
