"""NRC1 and NRC2 of features from their definitions, and the Gram matrix and residuals beneath them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import overload

import numpy as np
from numpy.typing import ArrayLike

from nrc_fast.testing.rows import EPSILON, FloatArray, about_mean, reference_rows, to_unit_norm

__all__ = ["reference_gram", "reference_nrc1", "reference_nrc2", "reference_residuals"]

# name: (are the components those of centred rows, are the rows centred, are they scaled to norm 1)
_CONVENTIONS = {
    "nrc24": (True, False, True),
    "id25": (True, True, True),
    "raw": (True, False, False),
    "uncentered": (False, False, True),
    "variance": (True, True, False),
}


def _projected_rows(rows: FloatArray, convention: str) -> FloatArray:
    """Rows that the convention projects."""
    if convention not in _CONVENTIONS:
        msg = f"unknown convention {convention!r}; there are {', '.join(_CONVENTIONS)}"
        raise ValueError(msg)
    _, centered_rows, unit_rows = _CONVENTIONS[convention]
    projected = about_mean(rows) if centered_rows else rows
    return to_unit_norm(projected) if unit_rows else projected


def _principal_components(rows: FloatArray) -> FloatArray:
    """The right singular vectors as columns, the largest first; only the R of a QR is needed for them.

    Those whose deviation is not above ``8 sqrt(d) eps`` of the largest are rounding, and left out.
    """
    triangle = np.linalg.qr(rows, mode="r")
    _, scales, directions = np.linalg.svd(triangle, full_matrices=False)
    kept = scales > 8.0 * math.sqrt(rows.shape[1]) * EPSILON * scales[0]
    return np.asarray(directions[kept].T)


def reference_gram(H: ArrayLike, shift: ArrayLike | None = None) -> FloatArray:
    """Shifted Gram matrix ``sum_i (h_i - shift)(h_i - shift)^T``.

    Parameters
    ----------
    H : (N, d) array or tensor
    shift : (d,) array or tensor, optional
        Zero if not given.

    Returns
    -------
    (d, d) float64 array
        Not divided by N.

    Examples
    --------
    >>> reference_gram(np.array([[1.0, 2.0], [3.0, 4.0]]), shift=np.array([1.0, 1.0])).tolist()
    [[4.0, 6.0], [6.0, 10.0]]
    """
    rows = reference_rows(H)
    if shift is not None:
        rows -= reference_rows(shift)
    gram: FloatArray = rows.T @ rows
    return gram


def reference_residuals(
    H: ArrayLike, basis: ArrayLike, shift: ArrayLike | None = None, *, unit: bool = False
) -> FloatArray:
    """Squared distance of every row from a subspace, ``|x - U U^T x|^2``, as the explicit difference.

    Parameters
    ----------
    H : (N, d) array or tensor
    basis : (d, k) array
        U, orthonormal columns; k = 0 leaves the rows as they are.
    shift : (d,) array or tensor, optional
        Subtracted from each row first.
    unit : bool
        Scale each shifted row to norm 1; a zero row has residual 0.

    Returns
    -------
    (N,) float64 array

    Examples
    --------
    >>> rows = np.array([[3.0, 4.0], [0.0, 0.0]])
    >>> reference_residuals(rows, np.array([[1.0], [0.0]])).tolist()
    [16.0, 0.0]
    >>> reference_residuals(rows, np.array([[1.0], [0.0]]), unit=True).round(12).tolist()
    [0.64, 0.0]
    """
    rows, columns = reference_rows(H), reference_rows(basis)
    if shift is not None:
        rows -= reference_rows(shift)
    if unit:
        rows = to_unit_norm(rows)
    projector = columns @ columns.T
    return np.asarray(np.sum((rows - rows @ projector) ** 2, axis=1))


@overload
def reference_nrc1(H: ArrayLike, n: int, convention: str = "nrc24") -> float: ...


@overload
def reference_nrc1(H: ArrayLike, n: Sequence[int] | None, convention: str = "nrc24") -> FloatArray: ...


def reference_nrc1(H: ArrayLike, n: int | Sequence[int] | None, convention: str = "nrc24") -> float | FloatArray:
    """NRC1: mean squared distance of the rows from their first n principal components.

    The components are taken from the rows one after the other, so every k costs no more than the largest one.
    Where the features vary in fewer than n directions, those directions are all the components there are. A zero row
    has residual 0 and stays in the mean; n = d is exactly 0.

    Parameters
    ----------
    H : (N, d) array or tensor
    n : int, sequence of ints, or None
        How many components; None for every number from 1 to d.
    convention : str
        See the table of `nrc_fast.testing`.

    Returns
    -------
    float or float64 array
        A float for an int; else one element for each number of components, element k - 1 for k components if
        n is None. NaN where all projected rows are zero.

    Raises
    ------
    ValueError
        If the convention is unknown or a number of components is not in 1..d.

    Examples
    --------
    >>> rows = np.array([[2.0, 1.0], [-2.0, 1.0]])
    >>> round(reference_nrc1(rows, 1), 12), round(reference_nrc1(rows, 1, "id25"), 12)
    (0.2, 0.0)
    """
    rows = reference_rows(H)
    d = rows.shape[1]
    single = isinstance(n, int | np.integer)
    numbers = np.arange(1, d + 1) if n is None else np.atleast_1d(np.asarray(n))
    if np.any((numbers < 1) | (numbers > d)):
        msg = f"n must lie between 1 and d = {d}, got {n}"
        raise ValueError(msg)
    rest = _projected_rows(rows, convention)
    by_k = np.full(d, math.nan)
    if rest.any():
        total = np.sum(rest**2) if convention == "variance" else len(rows)
        components = _principal_components(about_mean(rows) if _CONVENTIONS[convention][0] else rows)
        for k in range(1, int(numbers.max()) + 1):
            component = components[:, k - 1 : k]  # empty where the features vary in fewer directions
            rest = rest - (rest @ component) @ component.T
            by_k[k - 1] = np.sum(rest**2) / total if k < d else 0.0
    return float(by_k[int(numbers[0]) - 1]) if single else by_k[numbers - 1]


def reference_nrc2(H: ArrayLike, W: ArrayLike, convention: str = "nrc24") -> float:
    """NRC2: mean squared distance of the rows from the row space of the weights.

    The rank of W counts singular values above ``sigma_1 * max(n, d) * eps`` with the eps of float64, whatever the dtype
    of W: the weights are what is stored. A zero row has residual 0 and stays in the mean; rank d gives exactly 0.

    Parameters
    ----------
    H : (N, d) array or tensor
    W : (n, d) array or tensor
    convention : str
        See the table of `nrc_fast.testing`; the basis is always that of W.

    Returns
    -------
    float
        NaN where W or all projected rows are zero.

    Raises
    ------
    ValueError
        If the convention is unknown.

    Examples
    --------
    >>> round(reference_nrc2(np.array([[3.0, 4.0], [0.0, 0.0]]), np.array([[2.0, 0.0]])), 12)
    0.32
    """
    rows = _projected_rows(reference_rows(H), convention)
    weights = reference_rows(W)
    if not rows.any() or not weights.any():
        return math.nan
    _, singular_values, directions = np.linalg.svd(weights / np.abs(weights).max(), full_matrices=False)
    rank = np.count_nonzero(singular_values > singular_values[0] * max(weights.shape) * EPSILON)
    if rank == weights.shape[1]:
        return 0.0
    total = np.sum(rows**2) if convention == "variance" else len(rows)
    return float(np.sum(reference_residuals(rows, directions[:rank].T)) / total)
