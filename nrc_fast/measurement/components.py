"""Principal components of features: which passes they need, and how far to believe them.

Features that can be read again are read twice, and three times when they are collapsed: then a basis from a Gram with
float32 blocks is first refined by one step of subspace iteration in float64, and the residual is float64 too.
"""

from __future__ import annotations

import numpy as np

from nrc_fast.base.arrays import FloatArray
from nrc_fast.base.linalg import EPSILON, orthonormalize
from nrc_fast.metrics.residuals import PrincipalBasis, angle_bound, refined_angle_bound, resolved_rank
from nrc_fast.passes.moments import Moments
from nrc_fast.passes.reading import Reading
from nrc_fast.passes.runs import gather, gram_product

__all__ = ["principal_basis", "relative_mean_error", "spectrum_of"]

# Below this share of the variance outside the basis, features count as collapsed and float32 does not suffice.
COLLAPSED = 1e-4
# Eigenvalues up to this multiple of the error of their matrix cannot be told from it.
UNRESOLVED = 4.0


def principal_basis(reading: Reading, statistics: Moments, k: int, *, centered: bool) -> PrincipalBasis:
    """The leading k components.

    The source is read again where float32 blocks do not do: in float64 if the last component cannot be told from
    their rounding, and once, for a step of subspace iteration, if the features are collapsed.
    """
    eigenvalues, eigenvectors, error = spectrum_of(reading, statistics, centered=centered)
    if not statistics.is_double and eigenvalues[0] > 0.0 and eigenvalues[k - 1] <= UNRESOLVED * error:
        statistics = gather(reading, precision="highest")
        eigenvalues, eigenvectors, error = spectrum_of(reading, statistics, centered=centered)
    total = max(float(eigenvalues.sum()), 0.0)
    outside = float(np.maximum(eigenvalues[k:], 0.0).sum())
    collapsed = k < statistics.d and outside <= COLLAPSED * total
    rank = min(k, resolved_rank(eigenvalues))
    vectors = np.ascontiguousarray(eigenvectors[:, :rank].T)
    if not collapsed or statistics.is_double or rank == 0:
        angles = np.array([angle_bound(eigenvalues, j, error) for j in range(1, k + 1)])
        mean_error = relative_mean_error(statistics, total)
        return PrincipalBasis(vectors, eigenvalues, statistics.mean, mean_error, angles, collapsed)
    vectors, mean = _refine(reading, statistics, vectors, centered=centered)
    exact = 2.0 * EPSILON * statistics.d**0.5 * total
    angles = np.array([refined_angle_bound(eigenvalues, j, error, exact) for j in range(1, k + 1)])
    mean_error = EPSILON + _rounding_of_mean(mean, total)
    return PrincipalBasis(vectors, eigenvalues, mean, mean_error, angles, collapsed)


def relative_mean_error(statistics: Moments, variance: float) -> float:
    """Error of the mean of the moments relative to the spread of the features."""
    return statistics.mean_error / variance**0.5 if variance > 0.0 else 0.0


def _rounding_of_mean(mean: FloatArray, variance: float) -> float:
    """Rounding of the mean to a float64 number, relative to the spread of the features."""
    return EPSILON * float(np.linalg.norm(mean)) / variance**0.5 if variance > 0.0 else 0.0


def spectrum_of(
    reading: Reading | None, statistics: Moments, *, centered: bool
) -> tuple[FloatArray, FloatArray, float]:
    """Eigenvalues and vectors of the matrix whose components are asked for, and the bound of its error."""
    values, vectors = statistics.spectrum(centered=centered)
    if reading is not None:
        reading.same(values, vectors)
    return values, vectors, statistics.covariance_error + EPSILON * float(values.sum())


def _refine(
    reading: Reading, statistics: Moments, vectors: FloatArray, *, centered: bool
) -> tuple[FloatArray, FloatArray]:
    """V <- qr(X^T (X V)) in float64, and the mean in float64: one read."""
    shift = statistics.mean if centered else np.zeros(statistics.d)
    image, column_sums = gram_product(reading, vectors, shift)
    offset = column_sums / statistics.count
    if centered:
        # The rows were shifted by a mean that float32 blocks had left a little off.
        image = image - statistics.count * np.outer(vectors @ offset, offset)
    refined = np.ascontiguousarray(orthonormalize(image.T).T)
    reading.same(refined)
    return refined, shift + offset
