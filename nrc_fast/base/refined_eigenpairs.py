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
from nrc_fast.base.double_double import Pair
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
    values : (n,) float64 array
        Of S, descending; rounding may have made those of a singular one negative.
    error : float
        Bound of the Frobenius norm of ``S - V diag(values) V^T``, V orthonormal.
    matrix : (n, n) float64 array
        V^T M V.
    matrix_error : float
        Bound of the Frobenius norm of its error.
    """

    values: FloatArray
    error: float
    matrix: FloatArray
    matrix_error: float


def in_eigenbasis(symmetric: FloatArray, matrix: FloatArray) -> InEigenbasis:
    """The eigenvalues of S to a rounding, and M in its eigenbasis, which is not turned within eigenvalues that tie.

    Parameters
    ----------
    symmetric : (n, n) float64 array
        S, of any scale; only the lower triangle is read.
    matrix : (n, n) float64 array
        M, symmetric; between about 1e-100 and 1e100 in scale.

    Raises
    ------
    numpy.linalg.LinAlgError
        The eigenvalue iteration does not converge (non-finite entries).

    Examples
    --------
    >>> found = in_eigenbasis(np.array([[2.0, 1.0], [1.0, 2.0]]), np.array([[1.0, 0.0], [0.0, 3.0]]))
    >>> found.values.tolist(), np.abs(found.matrix).round(15).tolist(), found.error < 1e-15
    ([3.0, 1.0], [[2.0, 1.0], [1.0, 2.0]], True)
    """
    scaled, exponent = scale_to_unit(from_lower(symmetric))
    n = len(scaled)
    with few_blas_threads(n):
        vectors = np.ascontiguousarray(np.linalg.eigh(scaled)[1][:, ::-1])
        images, off = product(_exact(vectors.T), _exact(np.hstack([scaled, matrix, vectors])))
        lower = Pair(*(np.vstack([part[:, :n], part[:, n : 2 * n]]) for part in images))
        both, off_again = product(lower, _exact(vectors))
    of_images, of_both = (errors.of_rows @ errors.of_columns for errors in (off, off_again))
    skew = 0.5 * ((images.high[:, 2 * n :] - np.eye(n)) + images.low[:, 2 * n :])
    of_skew = _norm(skew)
    # S on the orthonormal vectors nearest to those of LAPACK.
    left = skew @ both.high[:n]
    low = both.low[:n] - (left + left.T)
    values = both.high[:n].diagonal() + low.diagonal()
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
        for first, whole in ((0, _norm(values)), (n, size))
    ]
    second = 4.0 * (of_skew + (n + 4.0) * UNIT_ROUNDOFF) * (of_skew + turned)
    error = (
        of_products[0] + second * _norm(values) + _norm(np.where(is_clear, 0.0, beside)) + 4.0 * turned * _norm(beside)
    )
    error += UNIT_ROUNDOFF * (1.0 + n * UNIT_ROUNDOFF) * _norm(values)
    matrix_error = of_products[1] + (second + (2.0 * turned) ** 3 / 6.0 + UNIT_ROUNDOFF) * size
    order = np.argsort(-values, kind="stable")
    return InEigenbasis(
        values=np.ldexp(values[order], exponent),
        error=float(np.ldexp(error * (1.0 + 16.0 * n * UNIT_ROUNDOFF), exponent)),
        matrix=found[np.ix_(order, order)],
        matrix_error=matrix_error * (1.0 + 16.0 * n * UNIT_ROUNDOFF),
    )


def _turned(matrix: Pair, skew: FloatArray, turn: FloatArray) -> FloatArray:
    """A matrix on vectors that are made orthonormal and turned, the turn to second order."""
    left, first = skew @ matrix.high, matrix.high @ turn
    first = first + first.T
    second = first @ turn
    moved: FloatArray = matrix.high + (matrix.low - (left + left.T) + first + 0.5 * (second + second.T))
    return moved


def _exact(matrix: FloatArray) -> Pair:
    return Pair(matrix, np.zeros_like(matrix))


def _norm(matrix: FloatArray) -> float:
    return float(np.sqrt(np.vdot(matrix, matrix)))
