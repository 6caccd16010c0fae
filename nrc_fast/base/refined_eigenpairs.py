"""Eigenbases of symmetric matrices to about 30 digits, and matrices in them.

In a basis V that is nearly orthonormal, ``V^T S V`` in arithmetic of pairs, freed of what V lacks by ``V^T V``, is
similar to S, and bounds count every rounding at its worst. What it has beside its diagonal tells how V is to be turned:
the eigenbasis is a pair too, and what S is in it is then seen again.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from nrc_fast.base.arrays import FloatArray
from nrc_fast.base.blas_threads import few_blas_threads
from nrc_fast.base.double_double import UNIT, Pair, added, exactly, two_sum
from nrc_fast.base.exact_products import UNIT_ROUNDOFF, product
from nrc_fast.base.linalg import EPSILON, from_lower, scale_to_unit

__all__ = ["InBasis", "InEigenbasis", "in_basis", "in_eigenbasis", "jacobi_rotations", "refined_basis"]

# Turns of vectors up to which the third order is far below a rounding.
LARGEST_TURN = 2.0**-20
SWEEPS = 12
SMALLEST = 1e-300  # of matrices whose largest entry is about 1: what products lose where they underflow


@dataclass(frozen=True, eq=False)
class InBasis:
    """A symmetric matrix S in a basis V, made orthonormal: ``G^(-1/2) V^T S V G^(-1/2)`` with ``G = V^T V``.

    Attributes
    ----------
    matrix : pair of (..., n, n) float64 arrays
    errors : (..., n, n) float64 array
        Bounds of the errors of its entries.
    skew : (..., n, n) float64 array
        G - 1.
    """

    matrix: Pair
    errors: FloatArray
    skew: FloatArray

    @property
    def beside(self) -> FloatArray:
        """Bounds of the entries off the diagonal, and of the errors on it."""
        sizes = np.abs(self.matrix.high) + np.abs(self.matrix.low)
        return np.where(np.eye(sizes.shape[-1]) > 0.0, 0.0, sizes) + self.errors


def in_basis(matrices: Sequence[Pair], vectors: Pair) -> list[InBasis]:
    """Symmetric matrices in a basis that is orthonormal up to some roundings.

    Parameters
    ----------
    matrices : sequence of pairs of (..., n, n) float64 arrays
        Whose largest entries are about 1.
    vectors : pair of (..., n, n) float64 arrays
        V, one in each column.

    Examples
    --------
    >>> tilted = exactly(np.array([[1.0, 1e-9], [-1e-9, 1.0]]))
    >>> found = in_basis([exactly(np.diag([2.0, 1.0]))], tilted)[0]
    >>> found.matrix.high.tolist(), bool(found.errors.max() < 1e-25)
    ([[2.0, 1e-09], [1e-09, 1.0]], True)
    """
    n, count = vectors.high.shape[-1], len(matrices)
    transposed = Pair(*(np.ascontiguousarray(np.swapaxes(part, -1, -2)) for part in vectors))
    columns = [np.concatenate(parts, axis=-1) for parts in zip(*matrices, vectors, strict=True)]
    images, off = product(transposed, Pair(columns[0], columns[1]))
    left = [np.concatenate(np.split(part[..., : count * n], count, axis=-1), axis=-2) for part in images]
    both, off_again = product(Pair(left[0], left[1]), vectors)
    of_images, of_both = (errors.of_rows @ errors.of_columns for errors in (off, off_again))
    skew = (images.high[..., count * n :] - np.eye(n)) + images.low[..., count * n :]
    sizes, of_skew = np.abs(vectors.high), of_images[..., count * n :] + UNIT * np.abs(skew)
    found = []
    for index in range(count):
        block = slice(index * n, (index + 1) * n)
        rounding = of_images[..., block] @ sizes + of_both[..., block, :]
        found.append(_orthonormal(Pair(*(part[..., block, :] for part in both)), rounding, skew, of_skew))
    return found


def _orthonormal(inner: Pair, rounding: FloatArray, skew: FloatArray, of_skew: FloatArray) -> InBasis:
    """By the series of the inverse root, up to the third power of the skew."""
    n = skew.shape[-1]
    image = skew @ inner.high
    second = skew @ image
    change = -0.5 * image + 0.375 * second
    change = change + np.swapaxes(change, -1, -2) + 0.25 * (image @ skew)
    off, sizes = np.abs(skew), np.abs(inner.high)
    mixed = off @ sizes
    third = off @ (off @ mixed)
    errors = of_skew @ sizes + 2.0 * n * EPSILON * mixed + third
    errors = errors + np.swapaxes(errors, -1, -2) + off @ mixed @ off
    errors = (rounding + errors) * (1.0 + 16.0 * n * EPSILON) + SMALLEST
    return InBasis(added(inner, exactly(change)), errors, skew)


def refined_basis(vectors: FloatArray, seen: InBasis) -> Pair:
    """The eigenbasis next to a basis, from the matrix in it; not turned within eigenvalues that tie.

    Parameters
    ----------
    vectors : (..., n, n) float64 array
        V, one in each column.
    seen : InBasis
        What `in_basis` gives of the matrix and V.

    Examples
    --------
    >>> matrix = exactly(np.array([[2.0, 1e-9], [1e-9, 1.0]]))
    >>> basis = refined_basis(np.eye(2), in_basis([matrix], exactly(np.eye(2)))[0])
    >>> float(np.abs(in_basis([matrix], basis)[0].matrix.high[0, 1])) < 1e-25
    True
    """
    diagonal = Pair(*(np.diagonal(part, axis1=-2, axis2=-1) for part in seen.matrix))
    gaps = [part[..., np.newaxis, :] - part[..., :, np.newaxis] for part in diagonal]
    gap = gaps[0] + gaps[1]
    beside = np.where(np.eye(vectors.shape[-1]) > 0.0, 0.0, seen.matrix.high)
    is_clear = np.abs(beside) < LARGEST_TURN * np.abs(gap)
    turn = np.divide(beside, gap, out=np.zeros_like(beside), where=is_clear)
    turn = 0.5 * (turn - np.swapaxes(turn, -1, -2))
    halved = -0.5 * seen.skew
    change = turn + halved + 0.5 * (turn @ turn) + 1.5 * (halved @ halved) + halved @ turn
    return two_sum(vectors, vectors @ change)


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
    whole = Pair(scaled, np.ldexp(from_lower(symmetric.low), -exponent))
    n = len(scaled)
    with few_blas_threads(n):
        vectors = np.ascontiguousarray(np.linalg.eigh(scaled)[1][:, ::-1])
        basis = refined_basis(vectors, in_basis([whole], exactly(vectors))[0])
        found, other = in_basis([whole, matrix], basis)
    values = Pair(*(part.diagonal() for part in found.matrix))
    order = np.argsort(-values.high, kind="stable")
    error, matrix_error = ((1.0 + 4.0 * n * UNIT_ROUNDOFF) * _norm(part) for part in (found.beside, other.errors))
    return InEigenbasis(
        values=Pair(*(np.ldexp(part[order], exponent) for part in values)),
        error=float(np.ldexp(error, exponent)),
        matrix=Pair(*(part[np.ix_(order, order)] for part in other.matrix)),
        matrix_error=matrix_error,
    )


def _norm(matrix: FloatArray) -> float:
    return float(np.sqrt(np.vdot(matrix, matrix)))


def jacobi_rotations(matrix: FloatArray) -> FloatArray:
    """Eigenvectors of nearly diagonal matrices (B, n, n) by Jacobi's rotations, which keep the digits of small ones.

    Examples
    --------
    >>> matrix = np.array([[[1.0, 1e-12], [1e-12, 4e-24]]])
    >>> vectors = jacobi_rotations(matrix)
    >>> bool(abs(vectors.swapaxes(1, 2) @ matrix @ vectors)[0, 0, 1] < 1e-27)
    True
    """
    a, n = matrix.copy(), matrix.shape[-1]
    vectors: FloatArray = np.broadcast_to(np.eye(n), a.shape).copy()
    for _ in range(SWEEPS):
        roots = np.sqrt(np.abs(np.diagonal(a, axis1=1, axis2=2)))
        least = 0.125 * EPSILON * roots[:, :, np.newaxis] * roots[:, np.newaxis] + UNIT
        if not np.any((np.abs(a) > least) & (np.eye(n) == 0.0)):
            break
        for p in range(n - 1):
            for q in range(p + 1, n):
                _rotate(a, vectors, p, q)
    return vectors


def _rotate(a: FloatArray, vectors: FloatArray, p: int, q: int) -> None:
    both, first, second = a[:, p, q].copy(), a[:, p, p].copy(), a[:, q, q].copy()
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        ratio = (second - first) / (2.0 * both)
        tangent = np.where(ratio < 0.0, -1.0, 1.0) / (np.abs(ratio) + np.sqrt(1.0 + ratio**2))
    tangent = np.where(both == 0.0, 0.0, tangent)[:, np.newaxis]
    cosine = 1.0 / np.sqrt(1.0 + tangent**2)
    sine = cosine * tangent
    for matrix in (a, a.swapaxes(1, 2), vectors):
        one, other = matrix[:, :, p].copy(), matrix[:, :, q].copy()
        matrix[:, :, p], matrix[:, :, q] = cosine * one - sine * other, sine * one + cosine * other
    a[:, p, p], a[:, q, q] = first - tangent[:, 0] * both, second + tangent[:, 0] * both
    a[:, p, q] = a[:, q, p] = 0.0
