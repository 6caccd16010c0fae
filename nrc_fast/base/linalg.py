"""Bases, square roots and eigenvalues in float64, with their signs fixed.

Everything here is small (n x n or d x d), so numpy's LAPACK is the right tool. Two rules hold throughout:
a sign that LAPACK leaves open is fixed, so that equal inputs give equal bases on every machine, and no
result depends on the units of the data.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from nrc_fast.base.arrays import FloatArray
from nrc_fast.base.blas_threads import few_blas_threads

__all__ = [
    "EPSILON",
    "RowSpace",
    "clipped_spectrum",
    "covariance_spectrum",
    "eigh_descending",
    "fix_signs",
    "from_lower",
    "long_norm",
    "orthonormalize",
    "positive_sqrt",
    "row_space",
    "row_space_and_inverse",
    "scale_to_unit",
    "scaled_norm",
]

EPSILON = float(np.finfo(np.float64).eps)
# Of each dtype that features, weights and targets may have.
EPSILONS = {"float64": EPSILON, "float32": 2.0**-23, "float16": 2.0**-10, "bfloat16": 2.0**-7}

# Columns of a triangle that are mirrored at a time, so that both sides stay in the cache.
MIRRORED_COLUMNS = 128

# Powers of two up to which squares of numbers, and sums of them, are float64 numbers by far.
SAFE_EXPONENT = 200

# Singular values of a matrix of lower rank come out as zero up to this many roundings of the largest.
ROUNDED_ZERO = 4.0

# Entries that tie for the largest one in exact arithmetic, as in (1, -1)/sqrt(2), come back a few roundings
# apart, in an order that depends on the LAPACK build. sqrt(eps) is far above such roundings.
_TIE = EPSILON**0.5


def fix_signs(columns: FloatArray) -> FloatArray:
    """Flip columns so that the largest entry of each is positive; the first one decides where several tie."""
    magnitudes = np.abs(columns)
    deciding = np.argmax(magnitudes >= (1.0 - _TIE) * magnitudes.max(axis=-2, keepdims=True), axis=-2, keepdims=True)
    negative = np.take_along_axis(columns, deciding, axis=-2) < 0.0
    return np.where(negative, -columns, columns)


def eigh_descending(matrix: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Eigenvalues of a symmetric matrix, largest first, and eigenvectors with fixed signs.

    ``matrix = vectors @ diag(values) @ vectors.T``. Only the lower triangle is read. Each eigenvector is
    turned so that its largest entry in magnitude is positive; where entries tie (within sqrt(eps), because
    exact ties do not survive rounding) the first of them is.

    Parameters
    ----------
    matrix : (..., d, d) float64 array
        Symmetric; the entries above the diagonal are not looked at.

    Returns
    -------
    values : (..., d) float64 array
        Descending.
    vectors : (..., d, d) float64 array
        Orthonormal columns, in the order of `values`.

    Raises
    ------
    numpy.linalg.LinAlgError
        If the eigenvalue iteration does not converge (non-finite entries).

    Examples
    --------
    >>> values, vectors = eigh_descending(np.array([[2.0, 0.0], [1.0, 2.0]]))
    >>> [round(float(value), 12) for value in values]
    [3.0, 1.0]
    >>> bool(np.all(vectors[0] > 0))
    True
    """
    with few_blas_threads(matrix.shape[-1]):
        return in_descending_order(*np.linalg.eigh(matrix, UPLO="L"))


def in_descending_order(values: FloatArray, vectors: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Eigenvalues and eigenvectors that ascend, as LAPACK gives them, put into descending order, with fixed signs."""
    return values[..., ::-1].copy(), fix_signs(vectors[..., ::-1])


def from_lower(lower: FloatArray) -> FloatArray:
    """The symmetric matrix of a lower triangle, whatever lies above its diagonal.

    Examples
    --------
    >>> from_lower(np.array([[1.0, 0.0], [2.0, 3.0]])).tolist()
    [[1.0, 2.0], [2.0, 3.0]]
    """
    symmetric: FloatArray = lower.copy()
    for first in range(0, len(lower), MIRRORED_COLUMNS):
        last = min(first + MIRRORED_COLUMNS, len(lower))
        symmetric[first:last, last:] = lower[last:, first:last].T
        square = symmetric[first:last, first:last]
        square[:] = np.tril(square) + np.tril(square, -1).T
    return symmetric


def covariance_spectrum(covariance: FloatArray, epsilon: float = EPSILON) -> tuple[FloatArray, FloatArray]:
    """Eigenvalues (descending, never negative) and eigenvectors of a covariance.

    An eigenvalue of an n x n matrix is known to about ``n * epsilon * lambda_1``. What lies below is set to zero,
    so that a singular covariance has the eigenvalue 0 and not 1e-17, whose root is already 3e-9.

    Parameters
    ----------
    covariance : (..., n, n) float64 array
        Symmetric positive semidefinite; only the lower triangle is read.
    epsilon : float
        Rounding unit of the dtype in which the covariance was stored.

    Returns
    -------
    values : (..., n) float64 array
        Descending and >= 0.
    vectors : (..., n, n) float64 array
        Orthonormal columns, in the order of `values`, with the signs that `eigh_descending` fixes.

    Raises
    ------
    numpy.linalg.LinAlgError
        If the eigenvalue iteration does not converge (non-finite entries).

    Examples
    --------
    >>> values, _ = covariance_spectrum(np.array([[0.1, 0.3], [0.3, 0.9]]))
    >>> round(float(values[0]), 12), float(values[1])
    (1.0, 0.0)
    """
    values, vectors = eigh_descending(covariance)
    return clipped_spectrum(values, epsilon), vectors


def clipped_spectrum(values: FloatArray, epsilon: float = EPSILON) -> FloatArray:
    """Eigenvalues of a covariance, descending, with those that cannot be told from 0 set to it.

    Examples
    --------
    >>> clipped_spectrum(np.array([2.0, 1.0, -1e-17])).tolist()
    [2.0, 1.0, 0.0]
    """
    floor = values.shape[-1] * epsilon * np.maximum(values[..., :1], 0.0)
    return np.where(values > floor, values, 0.0)


def positive_sqrt(matrix: FloatArray) -> FloatArray:
    """Symmetric positive semidefinite square root, ``root @ root == matrix``.

    This is the root that NRC3 asks for (arXiv 2409.04180, section 3.1), not a Cholesky factor. Eigenvalues
    that rounding has made negative count as zero.

    Parameters
    ----------
    matrix : (n, n) float64 array
        Symmetric positive semidefinite; only the lower triangle is read.

    Returns
    -------
    (n, n) float64 array
        The root, symmetric.

    Raises
    ------
    numpy.linalg.LinAlgError
        If the eigenvalue iteration does not converge (non-finite entries).

    Examples
    --------
    >>> positive_sqrt(np.array([[4.0, 0.0], [0.0, 9.0]])).tolist()
    [[2.0, 0.0], [0.0, 3.0]]
    """
    values, vectors = eigh_descending(matrix)
    # X diag(v) X^T from two different factors is symmetric only up to rounding.
    product = (vectors * np.sqrt(np.maximum(values, 0.0))) @ vectors.T
    root: FloatArray = 0.5 * (product + product.T)
    return root


def scale_to_unit(array: FloatArray) -> tuple[FloatArray, int]:
    """Scale by a power of two so that the largest magnitude lies in [0.5, 1).

    ``array == scaled * 2.0**exponent``. A power of two changes no digit, and sums of squares of the scaled
    entries neither overflow nor vanish. An array of zeros comes back as it is, with exponent 0.

    Parameters
    ----------
    array : float64 array of any shape
        Finite entries.

    Returns
    -------
    scaled : float64 array of the same shape
    exponent : int

    Examples
    --------
    >>> scaled, exponent = scale_to_unit(np.array([6.0, -3.0]))
    >>> scaled.tolist(), exponent
    ([0.75, -0.375], 3)
    """
    exponent = math.frexp(np.abs(array).max(initial=0.0))[1]
    scaled: FloatArray = np.ldexp(array, -exponent)
    return scaled, exponent


def scaled_norm(array: FloatArray) -> tuple[float, int]:
    """Frobenius norm as a number of moderate size and a power of two, ``norm * 2.0**exponent``, for any scale.

    Examples
    --------
    >>> scaled_norm(np.array([3.0, 4.0]))
    (5.0, 0)
    >>> scaled_norm(np.array([3e200, 4e200]))[1] > 600
    True
    """
    largest = max(float(array.max(initial=0.0)), -float(array.min(initial=0.0)))
    if 2.0**-SAFE_EXPONENT < largest < 2.0**SAFE_EXPONENT:
        return float(np.linalg.norm(array)), 0
    scaled, exponent = scale_to_unit(array)
    return float(np.linalg.norm(scaled)), exponent


def long_norm(array: FloatArray) -> float:
    """Frobenius norm of an array whose squares may leave the range of float64, infinite where it does so itself.

    Examples
    --------
    >>> np.linalg.norm(np.array([3e-200, 4e-200])).item(), round(1e200 * long_norm(np.array([3e-200, 4e-200])), 12)
    (0.0, 5.0)
    """
    with np.errstate(over="ignore"):
        return float(np.ldexp(*scaled_norm(array)))


@dataclass(frozen=True)
class RowSpace:
    """The row space of a matrix of weights W, as float64 finds it.

    Attributes
    ----------
    basis : (rank, d) float64 array
        Orthonormal rows; ``basis @ basis.T`` is the identity. Shape (0, d) for weights that are all zero.
    singular_values : (rank,) float64 array
        The singular values of W that count, largest first, relative to the largest.
    error : float
        Bound of the sine of the angle between this row space and that of W in exact arithmetic; at most 1, which it is
        where a singular value that counts as zero is too large to be the rounding of one.
    """

    basis: FloatArray
    singular_values: FloatArray
    error: float


def row_space(weights: FloatArray) -> RowSpace:
    """The row space of a matrix of weights, with its singular values and the error of its basis.

    The basis holds the right singular vectors whose singular value is above ``sigma_1 * max(n, d) * eps``, with
    fixed signs and eps that of float64, in which they are found: weights that were stored in fewer digits are
    what is stored. Rank-deficient weights are therefore fine, unlike with Gram-Schmidt or ``inv(W @ W.T)``.
    The basis Q is off by what it leaves of the weights over the smallest singular value s that counts: a vector of the
    row space is ``a^T W`` of length 1, so that a is at most 1/s long, and Q leaves ``a^T (W - W Q^T Q)`` of it.

    Parameters
    ----------
    weights : (n, d) float64 array
        W, of any scale, 1e-200 as well as 1e200.

    Returns
    -------
    RowSpace

    Raises
    ------
    numpy.linalg.LinAlgError
        If the singular value iteration does not converge (non-finite entries).

    Examples
    --------
    >>> space = row_space(np.array([[3.0, 4.0], [6.0, 8.0]]))
    >>> space.basis.round(12).tolist(), space.singular_values.tolist()
    ([[0.6, 0.8]], [1.0])
    """
    scaled, _ = scale_to_unit(weights)  # so that no scale depends on what LAPACK does about it
    _, singular_values, rows = np.linalg.svd(scaled, full_matrices=False)
    rounding = max(weights.shape) * EPSILON
    counts = singular_values > np.max(singular_values, initial=0.0) * rounding
    basis: FloatArray = fix_signs(rows[counts].T).T
    relative = singular_values[counts] / np.max(singular_values[counts], initial=0.0)
    # A basis of all d directions misses none, whatever its angle.
    error = 0.0 if len(basis) in (0, weights.shape[1]) else _missed(scaled, basis, float(singular_values[counts][-1]))
    if (singular_values[~counts] > ROUNDED_ZERO * EPSILON * np.max(singular_values, initial=0.0)).any():
        error = 1.0
    return RowSpace(basis, relative, error)


def _missed(weights: FloatArray, basis: FloatArray, smallest: float) -> float:
    """Bound of the sine of the angle between the row space of the weights and a basis, from what that leaves of them.

    What rounding does to their products stays in the span of the basis; each subtraction adds a rounding.
    """
    left = float(np.linalg.norm(weights - (weights @ basis.T) @ basis))
    left += 0.5 * EPSILON * (2.0 + len(basis)) * float(np.linalg.norm(weights))
    return min(left / smallest, 1.0)


def row_space_and_inverse(weights: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Orthonormal rows Q that span the row space of the weights, and C with the pseudo-inverse ``W^+ = Q^T C^T``.

    With ``W = A S Q``, C is ``A S^-1 = W Q^T S^-2``, where S are the norms of the columns of W Q^T.

    Parameters
    ----------
    weights : (n, d) float64 array
        W, of any rank and scale.

    Returns
    -------
    basis : (rank, d) float64 array
        Q, the orthonormal rows that `row_space` finds.
    inverse : (n, rank) float64 array
        C.

    Raises
    ------
    numpy.linalg.LinAlgError
        If the singular value iteration does not converge (non-finite entries).

    Examples
    --------
    >>> basis, inverse = row_space_and_inverse(np.array([[3.0, 4.0]]))
    >>> basis.round(12).tolist(), inverse.round(12).tolist()
    ([[0.6, 0.8]], [[0.2]])
    """
    basis = row_space(weights).basis
    scaled, exponent = scale_to_unit(weights)
    coordinates = scaled @ basis.T
    inverse: FloatArray = np.ldexp(coordinates / np.sum(coordinates**2, axis=0), -exponent)
    return basis, inverse


def orthonormalize(columns: FloatArray) -> FloatArray:
    """Orthonormal columns with the same leading spans: the Q of a QR factorisation with positive diagonal.

    Parameters
    ----------
    columns : (d, k) float64 array
        k <= d, linearly independent.

    Returns
    -------
    (d, k) float64 array
        The first j columns span what the first j columns of the input span, for every j.

    Raises
    ------
    numpy.linalg.LinAlgError
        If LAPACK reports an error.

    Examples
    --------
    >>> orthonormalize(np.array([[3.0, 1.0], [4.0, 1.0]])).round(12).tolist()
    [[0.6, 0.8], [0.8, -0.6]]
    """
    basis, triangle = np.linalg.qr(columns)
    return np.where(np.diagonal(triangle) < 0.0, -basis, basis)
