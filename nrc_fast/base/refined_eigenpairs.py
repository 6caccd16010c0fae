"""The eigenbasis of a small symmetric matrix to more digits than LAPACK keeps, and another matrix in it.

With V from LAPACK, ``V^T S V`` and ``V^T V`` in arithmetic of pairs tell what V lacks to be orthonormal and to make S
diagonal. Both are taken off to first order, and what remains is of second order: bounds count it, and every rounding at
its worst.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from nrc_fast.base.arrays import FloatArray
from nrc_fast.base.blas_threads import few_blas_threads
from nrc_fast.base.double_double import Pair, exactly, two_sum
from nrc_fast.base.exact_products import UNIT_ROUNDOFF, product
from nrc_fast.base.linalg import from_lower, scale_to_unit

__all__ = ["InEigenbasis", "in_eigenbasis"]

# Turns of vectors up to which the third order is far below a rounding.
LARGEST_TURN = 2.0**-20


@dataclass(frozen=True, eq=False)
class InEigenbasis:
    """Eigenvalues of a symmetric matrix S, and another symmetric matrix M in its eigenbasis.

    Attributes
    ----------
    values : pair of (n,) float64 arrays
        Of S, descending; rounding may have made those of a singular one negative.
    error : float
        Bound of the Frobenius norm of ``S - V diag(values) V^T``, V orthonormal.
    matrix : pair of (n, n) float64 arrays
        V^T M V.
    matrix_error : float
        Bound of the Frobenius norm of its error.
    """

    values: Pair
    error: float
    matrix: Pair
    matrix_error: float


def in_eigenbasis(symmetric: Pair, matrix: Pair) -> InEigenbasis:
    """The eigenvalues of S as pairs, and M in its eigenbasis, which is not turned within eigenvalues that tie.

    Parameters
    ----------
    symmetric : pair of (n, n) float64 arrays
        S, of any scale; only the lower triangle is read.
    matrix : pair of (n, n) float64 arrays
        M, symmetric; between about 1e-100 and 1e100 in scale.

    Raises
    ------
    numpy.linalg.LinAlgError
        The eigenvalue iteration does not converge (non-finite entries).

    Examples
    --------
    >>> found = in_eigenbasis(exactly(np.array([[2.0, 1.0], [1.0, 2.0]])), exactly(np.diag([1.0, 3.0])))
    >>> found.values.high.tolist(), np.abs(found.matrix.high).round(15).tolist(), found.error < 1e-25
    ([3.0, 1.0], [[2.0, 1.0], [1.0, 2.0]], True)
    """
    scaled, exponent = scale_to_unit(from_lower(symmetric.high))
    rest = np.ldexp(from_lower(symmetric.low), -exponent)
    n = len(scaled)
    with few_blas_threads(n):
        vectors = np.ascontiguousarray(np.linalg.eigh(scaled)[1][:, ::-1])
        columns = Pair(np.hstack([scaled, matrix.high, vectors]), np.hstack([rest, matrix.low, np.zeros((n, n))]))
        images, off = product(exactly(vectors.T), columns)
        lower = Pair(*(np.vstack([part[:, :n], part[:, n : 2 * n]]) for part in images))
        both, off_again = product(lower, exactly(vectors))
    of_images, of_both = (errors.of_rows @ errors.of_columns for errors in (off, off_again))
    skew = 0.5 * ((images.high[:, 2 * n :] - np.eye(n)) + images.low[:, 2 * n :])
    of_skew = _norm(skew)
    # S on the orthonormal vectors nearest to those of LAPACK.
    left = skew @ both.high[:n]
    low = both.low[:n] - (left + left.T)
    values = two_sum(both.high[:n].diagonal(), low.diagonal())
    beside = both.high[:n] + low
    np.fill_diagonal(beside, 0.0)
    apart = np.subtract.outer(both.high[:n].diagonal(), both.high[:n].diagonal())
    apart = apart + np.subtract.outer(low.diagonal(), low.diagonal())
    is_clear = np.abs(beside) < LARGEST_TURN * np.abs(apart)
    turn = np.divide(-beside, apart, out=np.zeros_like(beside), where=is_clear)
    turned = _norm(turn)
    found, size = _turned(Pair(both.high[n:], both.low[n:]), skew, turn), _norm(both.high[n:])
    # Products, what is left out of the orthonormal vectors, and of their turn.
    of_skews = 4.0 * _norm(of_images[:, 2 * n :])
    of_products = [
        n**0.5 * _norm(of_images[:, first : first + n]) + _norm(of_both[first : first + n]) + of_skews * whole
        for first, whole in ((0, _norm(values.high)), (n, size))
    ]
    second = 4.0 * (of_skew + (n + 4.0) * UNIT_ROUNDOFF) * (of_skew + turned)
    error = (
        of_products[0]
        + second * _norm(values.high)
        + _norm(np.where(is_clear, 0.0, beside))
        + 4.0 * turned * _norm(beside)
    )
    matrix_error = of_products[1] + (second + (2.0 * turned) ** 3 / 6.0) * size
    order = np.argsort(-values.high, kind="stable")
    return InEigenbasis(
        values=Pair(*(np.ldexp(part[order], exponent) for part in values)),
        error=float(np.ldexp(error * (1.0 + 16.0 * n * UNIT_ROUNDOFF), exponent)),
        matrix=Pair(*(part[np.ix_(order, order)] for part in found)),
        matrix_error=matrix_error * (1.0 + 16.0 * n * UNIT_ROUNDOFF),
    )


def _turned(matrix: Pair, skew: FloatArray, turn: FloatArray) -> Pair:
    """A matrix on vectors that are made orthonormal and turned, the turn to second order."""
    left, first = skew @ matrix.high, matrix.high @ turn
    first = first + first.T
    second = first @ turn
    return two_sum(matrix.high, matrix.low - (left + left.T) + first + 0.5 * (second + second.T))


def _norm(matrix: FloatArray) -> float:
    return float(np.sqrt(np.vdot(matrix, matrix)))
