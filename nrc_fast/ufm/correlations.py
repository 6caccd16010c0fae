"""The correlations of outputs: their eigenvalues, and the variance of raw targets along their directions.

Correlations are quotients of pairs, and so is their eigenbasis: of what is computed in it the last roundings are left.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from nrc_fast.base.arrays import FloatArray
from nrc_fast.base.blas_threads import few_blas_threads
from nrc_fast.base.double_double import UNIT, Pair, exactly, square_root, times, two_sum
from nrc_fast.base.exact_products import sums_along
from nrc_fast.base.linalg import EPSILON
from nrc_fast.base.refined_eigenpairs import in_basis
from nrc_fast.ufm.eigenvalues import Spectrum, long_basis, spectrum
from nrc_fast.ufm.targets import TargetMoments

__all__ = ["Correlations", "correlations_of"]

# Relative error of a load, in units of eps: of an entry and its square, of a variance, of their product, of the sum.
OF_LOADS = 3.0


@dataclass(frozen=True, eq=False)
class Correlations:
    """Correlations of the outputs that have a variance, k of them.

    Attributes
    ----------
    spectrum : Spectrum
        Their eigenvalues, and bounds of what is mixed in a basis of pairs, of which these are the rounded vectors.
    variances : (k,) float64 array
    loads : (k,) float64 array
        Variance of the raw targets that the squares of each direction hold.
    loads_error : (k,) float64 array
        Bounds of their errors, but for those of the variances as they are known.
    """

    spectrum: Spectrum
    variances: FloatArray
    loads: FloatArray
    loads_error: FloatArray


def correlations_of(moments: TargetMoments) -> Correlations | None:
    """The correlations of targets; None if none has a variance.

    Examples
    --------
    >>> found = correlations_of(TargetMoments(np.array([[4.0, 1.0], [1.0, 1.0]]), np.zeros(2)))
    >>> (found.spectrum.values.tolist(), found.loads.round(12).tolist()) if found else None
    ([1.5, 0.5], [2.5, 2.5])
    """
    covariance, _ = moments.second_moment(about_mean=True)
    kept = np.diagonal(covariance.high) > 0.0
    if not kept.any():
        return None
    covariance = Pair(*(part[np.ix_(kept, kept)] for part in covariance))
    variances, n = np.diagonal(covariance.high), int(kept.sum())
    shape = _over_roots(covariance)
    noise = np.full(n, np.sqrt(n * moments.epsilon))
    error = 16.0 * UNIT * float(np.sqrt(np.sum(shape.high**2))) + 2.0 * moments.covariance_error / float(
        variances.min()
    )
    found = spectrum(shape, noise, np.asarray(error))
    with few_blas_threads(n):
        basis = long_basis(shape, found.vectors)
        seen = in_basis([shape], basis)[0]
    loads = sums_along(basis.high**2 * variances[:, np.newaxis], axis=0)
    # What the basis lacks of an orthonormal one.
    turned, total = float(np.sqrt(np.sum(seen.skew**2))) + n * UNIT, float(variances.sum())
    return Correlations(
        spectrum=replace(found, mixing=seen.beside + error, skew=np.zeros_like(found.skew)),
        variances=variances,
        loads=loads,
        loads_error=OF_LOADS * EPSILON * loads + turned * (2.0 * np.sqrt(loads) * np.sqrt(total) + turned * total),
    )


def _over_roots(covariance: Pair) -> Pair:
    """A covariance over the standard deviations of both sides, in pairs."""
    halves = np.frexp(np.diagonal(covariance.high))[1] // 2
    scaled = Pair(*(np.ldexp(part, -halves[:, np.newaxis] - halves) for part in covariance))
    inverse = _inverse(square_root(Pair(*(np.diagonal(part) for part in scaled))))
    rows, columns = (Pair(*(np.expand_dims(part, axis) for part in inverse)) for axis in (1, 0))
    return times(times(scaled, rows), columns)


def _inverse(a: Pair) -> Pair:
    first = 1.0 / a.high
    product = times(a, exactly(first))
    return two_sum(first, first * ((1.0 - product.high) - product.low))
