"""The rotation of a minimum: which orthonormal directions of the features hold the targets."""

from __future__ import annotations

import numpy as np

from nrc_fast.base.arrays import Array, FloatArray
from nrc_fast.kernels.inputs import as_matrix
from nrc_fast.ufm.inputs import as_width

__all__ = ["check_rotation", "rotation_within"]


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
        width = as_width(d) or n
        if width < n:
            msg = f"d is {width}; at least {n} is expected, for the features hold {n} target directions"
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


def rotation_within(rotation: Array | None, kept: FloatArray, d: int | None, width: int | None) -> FloatArray:
    """R for the directions that features of width d have room for, (min(n, d), d) with orthonormal rows.

    Parameters
    ----------
    rotation : (min(n, d), d) array or tensor, or None
        What was given; the first axes of d if None.
    kept : (..., n) float64 array
        What is kept of each direction.
    d : int or None
        The width that is asked for; that of the rotation, of the minimum or else n if None.
    width : int or None
        The width that the minimum was solved for; None if for n or more.

    Raises
    ------
    ValueError
        The rotation has no orthonormal rows, or another shape; d is not that of the rotation or of the minimum, is
        below 1, or has no room for what is kept.

    Examples
    --------
    >>> rotation_within(None, np.array([2.0, 0.0]), 1, None).tolist()
    [[1.0]]
    """
    n = kept.shape[-1]
    shape = np.shape(rotation) if rotation is not None else ()
    given = int(shape[-1]) if shape else width
    wanted = as_width(d) or given or n
    if width is not None and wanted != width:
        msg = f"d is {wanted}; {width}, which this minimum is of, is expected"
        raise ValueError(msg)
    rank = int(np.count_nonzero(kept, axis=-1).max(initial=0))
    if wanted < n and np.any(kept[..., wanted:] > 0.0):
        msg = f"d is {wanted} and this minimum keeps {rank} directions; make it with minimum(..., d={wanted})"
        raise ValueError(msg)
    return check_rotation(rotation, min(n, wanted), wanted)
