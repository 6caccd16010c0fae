"""The rotation of a minimum: which orthonormal directions of the features hold the targets."""

from __future__ import annotations

import numpy as np

from nrc_fast.base.arrays import Array, FloatArray
from nrc_fast.kernels.inputs import as_matrix
from nrc_fast.ufm.inputs import as_integer

__all__ = ["check_rotation"]


def check_rotation(rotation: Array | None, n: int, d: int | None = None) -> FloatArray:
    """R with orthonormal rows, (n, d): the one given, or the first n axes of d.

    Raises
    ------
    ValueError
        The rotation has no orthonormal rows, or another shape; d is below n, or not that of the rotation.

    Examples
    --------
    >>> check_rotation(None, 1, 2).tolist()
    [[1.0, 0.0]]
    """
    if rotation is None:
        width = n if d is None else as_integer(d, "d")
        if width < n:
            msg = f"d is {width}; at least n = {n} is expected, for the features hold all n target directions"
            raise ValueError(msg)
        return np.eye(n, width)
    matrix, epsilon = as_matrix(rotation, "rotation")
    if matrix.shape[0] != n or matrix.shape[1] != (d or matrix.shape[1]) or matrix.shape[1] < n:
        wanted = "d >= n" if d is None else str(d)
        msg = f"rotation has shape {matrix.shape}; ({n}, {wanted}) is expected"
        raise ValueError(msg)
    # Every entry was rounded once, and so were the d products of an inner product and their sums.
    error = np.abs(matrix @ matrix.T - np.eye(n)).max()
    if error > 4 * matrix.shape[1] * epsilon:
        msg = f"rotation has no orthonormal rows: R R^T is off the identity by {error:.3g}; use numpy.linalg.qr"
        raise ValueError(msg)
    return matrix
