"""Eigenvalues of target covariances with all their digits, the small ones too, each with a bound of its error.

LAPACK's eigenvalues are off by roundings of the largest, which may be all that there is of the smallest. Here its
eigenvectors V are taken as a basis only: ``V^T Sigma V`` in arithmetic of twice the digits, freed of the rounding of
V^T V, is diagonal up to its entries off the diagonal, and what these do to its eigenvalues is known (Weyl; Kato and
Temple; Demmel and Veselić 1992).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from nrc_fast.base.arrays import FloatArray, IntArray
from nrc_fast.base.blas_threads import few_blas_threads
from nrc_fast.base.double_double import UNIT, Pair, added, exactly, product
from nrc_fast.base.kept_values import cached_property
from nrc_fast.base.linalg import EPSILON, fix_signs
from nrc_fast.metrics.rounding import decomposition_rounding

__all__ = ["Spectrum", "spectrum", "spectrum_in_basis"]

# Sizes up to which V^T Sigma V costs no more than some milliseconds.
MOST_OUTPUTS = 32
SWEEPS = 12
# Errors of eigenvalues, relative to them, from which on the basis is mended.
ACCEPTED = 4.0 * EPSILON
SMALLEST = 1e-300  # of matrices whose largest entry is about 1: what products lose where they underflow


@dataclass(frozen=True, eq=False)
class Spectrum:
    """Eigenvalues and eigenvectors of symmetric positive semidefinite matrices Sigma, with their errors.

    Attributes
    ----------
    values : (..., n) float64 array
        Descending, never negative; what is less than the rounding of what was given is 0.
    vectors : (..., n, n) float64 array
        U, one eigenvector in each column.
    errors : (..., n) float64 array
        Bounds of the errors of the values, also of those that count as 0.
    mixing : (..., n, n) float64 array
        Bounds of the entries of ``U'^T Sigma U'`` off the diagonal, with the orthonormal vectors U' next to U.
    skew : (..., n, n) float64 array
        Bounds of the entries of X in ``U = (1 + X) U'``, U' orthonormal: what U lacks of an orthonormal basis.
    """

    values: FloatArray
    vectors: FloatArray
    errors: FloatArray
    mixing: FloatArray
    skew: FloatArray


def spectrum(matrix: Pair, noise: FloatArray, error: FloatArray, *, is_precise: bool = True) -> Spectrum:
    """Eigenvalues and eigenvectors of a symmetric matrix, or of a batch of them.

    Up to 32 rows the bounds are certified, and values have all their digits down to about 1e-24 of the largest; beyond
    they are LAPACK's, whose error is taken to grow like the root of the number of rows.

    Parameters
    ----------
    matrix : pair of (..., n, n) float64 arrays
        Sigma.
    noise : (..., n) float64 array
        Root mean square of the rounding of each output: eigenvalues up to ``(sum_i |u_i| noise_i)^2`` count as 0.
    error : (...) float64 array
        Bound of the norm of the error of the matrix.
    is_precise : bool
        Whether the values are to have all their digits; else they are LAPACK's, in a tenth of the time.

    Returns
    -------
    Spectrum

    Raises
    ------
    numpy.linalg.LinAlgError
        If the eigenvalue iteration does not converge (non-finite entries).

    Examples
    --------
    >>> matrix = np.array([[1.0, 1e-9], [1e-9, 2e-18]])
    >>> found = spectrum(Pair(matrix, np.zeros((2, 2))), np.zeros(2), np.zeros(()))
    >>> round(float(found.values[1]) / 1e-18, 6), bool(found.errors[1] < 1e-30)
    (1.0, True)
    """
    n, batch = matrix.high.shape[-1], matrix.high.shape[:-2]
    flat = Pair(*(np.reshape(part, (-1, n, n)) for part in matrix))
    exponents = np.frexp(np.abs(flat.high).max(axis=(1, 2), initial=0.0))[1][:, np.newaxis, np.newaxis]
    scaled = Pair(*(np.ldexp(part, -exponents) for part in flat))
    with few_blas_threads(n):
        turned = _mended(scaled) if is_precise and n <= MOST_OUTPUTS else _of_lapack(scaled)
    halves = np.ldexp(np.reshape(noise, (-1, 1, n)), -(exponents // 2))
    floors = np.ldexp((halves @ np.abs(turned.vectors))[:, 0] ** 2, -(exponents[:, 0] % 2))
    return _unscaled(turned, exponents, floors, np.broadcast_to(error, batch), batch)


def _unscaled(
    turned: _Turned, exponents: IntArray, floors: FloatArray, error: FloatArray, batch: tuple[int, ...]
) -> Spectrum:
    """Of matrices that were divided by powers of two; values up to the floors count as 0."""
    n = turned.vectors.shape[-1]
    given = np.ldexp(np.reshape(error, (-1, 1)), -exponents[..., 0])
    diagonal, found = turned.diagonal, turned.errors + given
    is_zero = diagonal <= floors
    return Spectrum(
        values=np.ldexp(np.where(is_zero, 0.0, diagonal), exponents[..., 0]).reshape(*batch, n),
        vectors=fix_signs(turned.vectors).reshape(*batch, n, n),
        errors=np.ldexp(found + np.where(is_zero, np.abs(diagonal), 0.0), exponents[..., 0]).reshape(*batch, n),
        mixing=np.ldexp(turned.beside + given[..., np.newaxis], exponents).reshape(*batch, n, n),
        skew=turned.skew.reshape(*batch, n, n),
    )


def spectrum_in_basis(matrix: Pair, vectors: FloatArray, error: FloatArray) -> tuple[Spectrum, IntArray]:
    """What a symmetric matrix is in a basis that is nearly one of its eigenvectors, and the order of these there.

    Parameters
    ----------
    matrix : pair of (..., n, n) float64 arrays
    vectors : (..., n, n) float64 array
        Nearly orthonormal, one in each column.
    error : (...) float64 array
        Bound of the norm of the error of the matrix.

    Returns
    -------
    spectrum : Spectrum
        Nothing counts as 0 that is not negative.
    order : (..., n) array of int
        Places in the basis of the values, which descend.

    Examples
    --------
    >>> found, order = spectrum_in_basis(Pair(np.diag([1.0, 4.0]), np.zeros((2, 2))), np.eye(2), np.zeros(()))
    >>> found.values.tolist(), order.tolist()
    ([4.0, 1.0], [1, 0])
    """
    n, batch = matrix.high.shape[-1], matrix.high.shape[:-2]
    flat = Pair(*(np.reshape(part, (-1, n, n)) for part in matrix))
    columns = np.reshape(np.broadcast_to(vectors, matrix.high.shape), (-1, n, n))
    exponents = np.frexp(np.abs(flat.high).max(axis=(1, 2), initial=0.0))[1][:, np.newaxis, np.newaxis]
    with few_blas_threads(n):
        image, uncertain, skew = _similar(Pair(*(np.ldexp(part, -exponents) for part in flat)), columns)
    turned = _Turned(columns, image, uncertain, skew=0.5 * np.abs(skew), beside=_beside(image, uncertain))
    found = _unscaled(turned, exponents, np.zeros((len(columns), n)), np.broadcast_to(error, batch), batch)
    return found, turned.order.reshape(*batch, n)


@dataclass(eq=False)
class _Turned:
    """``V^T Sigma V`` of a batch (B, n, n), in descending order, and how far it is from that of orthonormal vectors."""

    vectors: FloatArray
    matrix: Pair
    uncertain: FloatArray  # bounds of the errors of its entries
    skew: FloatArray
    beside: FloatArray  # bounds of what stands off the diagonal with the vectors as they are rounded

    def __post_init__(self) -> None:
        n = self.matrix.high.shape[-1]
        order = np.argsort(-np.diagonal(self.matrix.high, axis1=1, axis2=2), axis=1, kind="stable")
        rows, columns = order[:, :, np.newaxis], order[:, np.newaxis, :]
        which = np.arange(len(order))[:, np.newaxis, np.newaxis]
        self.order = order
        self.vectors = self.vectors[which, np.arange(n)[:, np.newaxis], columns]
        along = [part[which, rows, columns] for part in (*self.matrix, self.uncertain, self.skew, self.beside)]
        self.matrix, self.uncertain, self.skew = Pair(along[0], along[1]), along[2], along[3]
        self.beside = along[4] + np.where(np.eye(n) > 0.0, self.uncertain, 0.0)
        self.diagonal = np.diagonal(self.matrix.high, axis1=1, axis2=2)
        self.mixing = _beside(self.matrix, self.uncertain)

    @cached_property
    def errors(self) -> FloatArray:
        """Bounds of the errors of the diagonal as eigenvalues, (B, n); the least of three."""
        diagonal, n = self.diagonal, self.diagonal.shape[1]
        own = np.abs(np.diagonal(self.matrix.low, axis1=1, axis2=2))
        off = np.where(np.eye(n) > 0.0, 0.0, self.mixing)
        whole, uncertain = (np.sqrt(np.sum(part**2, axis=(1, 2)))[:, np.newaxis] for part in (off, self.uncertain))
        # Weyl, and relative to each: Sigma is D^(1/2) (1 + E) D^(1/2), and so are its eigenvalues.
        bounds = whole + uncertain
        roots = np.sqrt(np.maximum(diagonal, 0.0))
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
            relative = np.sqrt(np.sum((self.mixing / roots[:, :, np.newaxis] / roots[:, np.newaxis]) ** 2, axis=(1, 2)))
        relative = np.where(np.isfinite(relative) & (relative < 0.5), relative, np.inf)[:, np.newaxis]
        bounds = np.minimum(bounds, np.where(diagonal > 0.0, diagonal, np.inf) * relative)
        # Kato and Temple: the square of a residual over the gap.
        apart = np.abs(diagonal[:, :, np.newaxis] - diagonal[:, np.newaxis]) + np.where(np.eye(n) > 0.0, np.inf, 0.0)
        rounding = EPSILON * np.abs(diagonal).max(axis=1, initial=0.0)[:, np.newaxis]
        gaps = apart.min(axis=2) - 2.0 * (whole + rounding)
        with np.errstate(divide="ignore", invalid="ignore"):
            quadratic = np.where(gaps > 0.0, np.sum(off**2, axis=2) / gaps, np.inf)
        return np.asarray(np.minimum(bounds, quadratic + uncertain) * (1.0 + 16.0 * EPSILON) + own)


def _of_lapack(matrix: Pair) -> _Turned:
    n = matrix.high.shape[-1]
    values, vectors = np.linalg.eigh(matrix.high)
    rounding = decomposition_rounding(n)
    uncertain = np.full(matrix.high.shape, rounding / np.sqrt(n)) * values[:, -1:, np.newaxis]
    diagonal = values[:, :, np.newaxis] * np.eye(n)
    skew = np.full(matrix.high.shape, rounding)
    return _Turned(vectors, exactly(diagonal), uncertain, skew=skew, beside=uncertain)


def _mended(matrix: Pair) -> _Turned:
    """In LAPACK's basis, and where that leaves an eigenvalue without digits in one that is rotated once more."""
    vectors = np.linalg.eigh(matrix.high)[1]
    turned, uncertain, skew = _similar(matrix, vectors)
    beside = _beside(turned, uncertain)
    first = _Turned(vectors, turned, uncertain, skew=0.5 * np.abs(skew), beside=beside)
    resolved = np.maximum(ACCEPTED * first.diagonal, 4.0 * UNIT)
    coarse = np.any((first.errors > resolved) & (first.diagonal > 0.0), axis=1)
    if not coarse.any():
        return first
    rough = Pair(*(part[coarse] for part in first.matrix))
    rotations = _rotations(rough.high)
    finer, rounding, _ = _similar(rough, rotations)
    sizes = np.abs(rotations)
    n = matrix.high.shape[-1]
    before = (1.0 + 8.0 * n * EPSILON) * (sizes.swapaxes(1, 2) @ first.uncertain[coarse] @ sizes)
    parts = [part.copy() for part in (first.vectors, *first.matrix, first.uncertain, first.skew, first.beside)]
    parts[0][coarse] = parts[0][coarse] @ rotations
    parts[1][coarse], parts[2][coarse] = finer
    parts[3][coarse] = before + rounding
    # Eigenvalues are those of exact products of both rotations, and vectors are their products rounded.
    image, error, skew = _similar(Pair(*(part[coarse] for part in matrix)), parts[0][coarse])
    parts[4][coarse], parts[5][coarse] = 0.5 * np.abs(skew), _beside(image, error)
    return _Turned(parts[0], Pair(parts[1], parts[2]), parts[3], skew=parts[4], beside=parts[5])


def _beside(matrix: Pair, uncertain: FloatArray) -> FloatArray:
    return np.where(np.eye(matrix.high.shape[-1]) > 0.0, 0.0, np.abs(matrix.high)) + uncertain


def _similar(matrix: Pair, vectors: FloatArray) -> tuple[Pair, FloatArray, FloatArray]:
    """``S^(-1/2) V^T A V S^(-1/2)``, similar to A, with ``S = V^T V``; bounds of its entries' errors; and S - 1."""
    n = vectors.shape[-1]
    columns = exactly(vectors)
    rows = Pair(*(part.swapaxes(1, 2) for part in columns))
    inner = product(rows, product(matrix, columns))
    gram = product(rows, columns)
    skew = (gram.high - np.eye(n)) + gram.low
    image = skew @ inner.high
    second = skew @ image
    # The series of the inverse root, up to the third power of the skew.
    change = -0.5 * image + 0.375 * second
    change = change + change.swapaxes(1, 2) + 0.25 * (image @ skew)
    found = added(inner, exactly(change))
    sizes, off = np.abs(vectors), np.abs(skew)
    rounding = 4.0 * (n + 4.0) * UNIT * (sizes.swapaxes(1, 2) @ np.abs(matrix.high) @ sizes)
    mixed = off @ np.abs(inner.high)
    rounding += 4.0 * n * EPSILON * (mixed + mixed.swapaxes(1, 2)) + off @ (off @ mixed) + SMALLEST
    return found, rounding + rounding.swapaxes(1, 2), skew


def _rotations(matrix: FloatArray) -> FloatArray:
    """Eigenvectors of nearly diagonal matrices (B, n, n) by Jacobi's rotations, which keep the digits of small ones."""
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
