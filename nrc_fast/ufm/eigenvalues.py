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
from nrc_fast.base.double_double import UNIT, Pair, exactly
from nrc_fast.base.kept_values import cached_property
from nrc_fast.base.linalg import EPSILON, fix_signs
from nrc_fast.base.refined_eigenpairs import in_basis, jacobi_rotations, refined_basis
from nrc_fast.metrics.rounding import decomposition_rounding

__all__ = ["Spectrum", "eigenvalue_errors", "long_basis", "spectrum", "spectrum_in_basis"]

# Sizes up to which V^T Sigma V costs no more than some milliseconds.
MOST_OUTPUTS = 32
# Errors of eigenvalues, relative to them, from which on the basis is mended.
ACCEPTED = 4.0 * EPSILON


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
    # Sums of an error and of what it is far below keep none of its digits.
    errors = (found + np.where(is_zero, np.abs(diagonal), 0.0)) * (1.0 + 4.0 * EPSILON)
    return Spectrum(
        values=np.ldexp(np.where(is_zero, 0.0, diagonal), exponents[..., 0]).reshape(*batch, n),
        vectors=fix_signs(turned.vectors).reshape(*batch, n, n),
        errors=np.ldexp(errors, exponents[..., 0]).reshape(*batch, n),
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
        turned = _seen(Pair(*(np.ldexp(part, -exponents) for part in flat)), columns)
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
        order = np.lexsort([-np.diagonal(part, axis1=1, axis2=2) for part in self.matrix[::-1]], axis=1)
        rows, columns = order[:, :, np.newaxis], order[:, np.newaxis, :]
        which = np.arange(len(order))[:, np.newaxis, np.newaxis]
        self.order = order
        self.vectors = self.vectors[which, np.arange(n)[:, np.newaxis], columns]
        along = [part[which, rows, columns] for part in (*self.matrix, self.uncertain, self.skew, self.beside)]
        self.matrix, self.uncertain, self.skew = Pair(along[0], along[1]), along[2], along[3]
        self.beside = along[4] + np.where(np.eye(n) > 0.0, self.uncertain, 0.0)
        self.diagonal = np.diagonal(self.matrix.high, axis1=1, axis2=2)

    @cached_property
    def errors(self) -> FloatArray:
        """Bounds of the errors of the diagonal as eigenvalues in descending order, (B, n)."""
        values = self.diagonal
        errors = eigenvalue_errors(self.matrix, self.uncertain) + np.abs(np.diagonal(self.matrix.low, axis1=1, axis2=2))
        # Where intervals overlap it is open which is the larger one.
        low, high = (-np.sort(-(values + sign * errors), axis=1) for sign in (-1.0, 1.0))
        return np.asarray(np.maximum(errors, np.maximum(high - values, values - low)))


def long_basis(matrix: Pair, vectors: FloatArray) -> Pair:
    """The eigenbasis next to a basis (..., n, n), to twice the digits up to 32 rows, beyond as it is.

    Examples
    --------
    >>> basis = long_basis(exactly(np.array([[2.0, 1e-20], [1e-20, 1.0]])), np.eye(2))
    >>> basis.high.tolist(), basis.low[0, 0].item()
    ([[1.0, -1e-20], [1e-20, 1.0]], -5e-41)
    """
    basis = exactly(vectors)
    return basis if vectors.shape[-1] > MOST_OUTPUTS else refined_basis(vectors, in_basis([matrix], basis)[0])


def eigenvalue_errors(matrix: Pair, uncertain: FloatArray) -> FloatArray:
    """Bounds of how far each number on the diagonal of nearly diagonal matrices is from an eigenvalue of its own.

    Parameters
    ----------
    matrix : pair of (..., n, n) float64 arrays
    uncertain : (..., n, n) float64 array
        Bounds of the errors of its entries.

    Returns
    -------
    (..., n) float64 array
        The least of three bounds.

    Examples
    --------
    >>> matrix = exactly(np.array([[1.0, 1e-9], [1e-9, 0.5]]))
    >>> eigenvalue_errors(matrix, np.zeros((2, 2))).round(20).tolist()
    [2e-18, 2e-18]
    """
    n = matrix.high.shape[-1]
    diagonal = np.diagonal(matrix.high, axis1=-2, axis2=-1)
    is_own = np.eye(n) > 0.0
    mixing = np.where(is_own, 0.0, np.abs(matrix.high)) + uncertain
    off = np.where(is_own, 0.0, mixing)
    whole, certain = (np.sqrt(np.sum(part**2, axis=(-2, -1)))[..., np.newaxis] for part in (off, uncertain))
    # Weyl, and relative to each: Sigma is D^(1/2) (1 + E) D^(1/2), and so are its eigenvalues.
    bounds = whole + certain
    roots = np.sqrt(np.maximum(diagonal, 0.0))
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        parts = mixing / roots[..., :, np.newaxis] / roots[..., np.newaxis, :]
        relative = np.sqrt(np.sum(parts**2, axis=(-2, -1)))
    relative = np.where(np.isfinite(relative) & (relative < 0.5), relative, np.inf)[..., np.newaxis]
    with np.errstate(invalid="ignore"):
        bounds = np.minimum(bounds, np.where(diagonal > 0.0, diagonal * relative, np.inf))
    # Kato and Temple: the square of a residual over the gap.
    apart = np.abs(diagonal[..., :, np.newaxis] - diagonal[..., np.newaxis, :]) + np.where(is_own, np.inf, 0.0)
    rounding = EPSILON * np.abs(diagonal).max(axis=-1, initial=0.0)[..., np.newaxis]
    gaps = apart.min(axis=-1) - 2.0 * (whole + rounding)
    with np.errstate(divide="ignore", invalid="ignore"):
        quadratic = np.where(gaps > 0.0, np.sum(off**2, axis=-1) / gaps, np.inf)
    return np.asarray(np.minimum(bounds, quadratic + certain) * (1.0 + 16.0 * EPSILON))


def _of_lapack(matrix: Pair) -> _Turned:
    n = matrix.high.shape[-1]
    values, vectors = np.linalg.eigh(matrix.high)
    rounding = decomposition_rounding(n)
    uncertain = np.full(matrix.high.shape, rounding / np.sqrt(n)) * values[:, -1:, np.newaxis]
    diagonal = values[:, :, np.newaxis] * np.eye(n)
    skew = np.full(matrix.high.shape, rounding)
    return _Turned(vectors, exactly(diagonal), uncertain, skew=skew, beside=uncertain)


def _seen(matrix: Pair, vectors: FloatArray) -> _Turned:
    found = in_basis([matrix], exactly(vectors))[0]
    return _Turned(vectors, found.matrix, found.errors, skew=0.5 * np.abs(found.skew), beside=found.beside)


def _mended(matrix: Pair) -> _Turned:
    """In LAPACK's basis, and where that leaves an eigenvalue without digits in one that is rotated once more."""
    vectors = np.linalg.eigh(matrix.high)[1]
    first = _seen(matrix, vectors)
    resolved = np.maximum(ACCEPTED * first.diagonal, 4.0 * UNIT)
    coarse = np.any((first.errors > resolved) & (first.diagonal > 0.0), axis=1)
    if not coarse.any():
        return first
    rough = Pair(*(part[coarse] for part in first.matrix))
    rotations = jacobi_rotations(rough.high)
    finer = in_basis([rough], exactly(rotations))[0]
    sizes = np.abs(rotations)
    n = matrix.high.shape[-1]
    before = (1.0 + 8.0 * n * EPSILON) * (sizes.swapaxes(1, 2) @ first.uncertain[coarse] @ sizes)
    parts = [part.copy() for part in (first.vectors, *first.matrix, first.uncertain, first.skew, first.beside)]
    parts[0][coarse] = parts[0][coarse] @ rotations
    parts[1][coarse], parts[2][coarse] = finer.matrix
    parts[3][coarse] = before + finer.errors
    # Eigenvalues are those of exact products of both rotations, and vectors are their products rounded.
    seen = in_basis([Pair(*(part[coarse] for part in matrix))], exactly(parts[0][coarse]))[0]
    parts[4][coarse], parts[5][coarse] = 0.5 * np.abs(seen.skew), seen.beside
    return _Turned(parts[0], Pair(parts[1], parts[2]), parts[3], skew=parts[4], beside=parts[5])
