"""What the covariance alone tells: shares of the variance, ranks, the least error of a readout."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from nrc_fast.base.arrays import FloatArray
from nrc_fast.base.linalg import EPSILON
from nrc_fast.measurement.evidence import UNRESOLVED, Evidence
from nrc_fast.metrics.exact_spectra import exact_effective_rank, exact_shares, exact_stable_rank
from nrc_fast.metrics.readouts import (
    exceeds,
    loaded_readout_error,
    readout_bound,
    regularized_readout_bound,
    regularized_readout_error,
)
from nrc_fast.metrics.residuals import resolved_rank
from nrc_fast.metrics.spectra import (
    effective_rank,
    effective_rank_bound,
    explained_variance_ratio,
    share_bounds,
    stable_rank,
    stable_rank_bound,
    stable_rank_from_norm,
)
from nrc_fast.passes.moments import Moments

__all__ = ["leading_spectrum_metrics", "readout_metric", "spectrum_metrics"]

# Variances of which a factor in float32 neither over- nor underflows.
SMALLEST_SINGLE, LARGEST_SINGLE = 1e-20, 1e20

Found = tuple[dict[str, Any], dict[str, Any]]  # values and bounds by name


def spectrum_metrics(evidence: Evidence) -> Found:
    """Shares of all components, effective and stable rank, with their bounds; of few rows from exact eigenvalues."""
    exact = evidence.exact_components(centered=True)
    if exact is not None:
        shares, of_shares = exact_shares(exact.values, exact.value_errors)
        effective, of_effective = exact_effective_rank(shares, of_shares)
        stable, of_stable = exact_stable_rank(exact.values, exact.value_errors)
        return _named(shares.high, effective, stable), _named(of_shares, of_effective, of_stable)
    moments = evidence.moments
    # None is set to 0 for being small: many small ones add up. The trace knows nothing of their roundings.
    eigenvalues, trace = np.maximum(moments.pairs().values, 0.0), moments.variance
    error, found = moments.covariance_error, explained_variance_ratio(eigenvalues, trace=trace)
    effective, stable = effective_rank(eigenvalues), stable_rank(eigenvalues)
    bounds = _named(
        share_bounds(eigenvalues, error, trace=trace),
        effective_rank_bound(effective, eigenvalues, error),
        stable_rank_bound(stable, float(eigenvalues[0]), moments.d, error),
    )
    return _named(found, effective, stable), bounds


def _named(shares: FloatArray, effective_rank: float, stable_rank: float) -> dict[str, Any]:
    return {"explained_variance_ratio": shares, "effective_rank": effective_rank, "stable_rank": stable_rank}


def leading_spectrum_metrics(evidence: Evidence, count: int) -> Found:
    """Shares of the leading components and the stable rank, with their bounds; the effective rank is left out."""
    moments = evidence.moments
    pairs, error = evidence.leading(count, centered=True)
    eigenvalues = np.zeros(count)
    rank = min(resolved_rank(pairs.values, pairs.d), count)
    eigenvalues[:rank] = pairs.values[:rank]
    largest = float(eigenvalues[0])
    off = error + pairs.distance(count)
    stable = stable_rank_from_norm(moments.matrix("covariance").norm, largest)
    values = {
        "explained_variance_ratio": explained_variance_ratio(eigenvalues, trace=pairs.trace),
        "effective_rank": math.nan,
        "stable_rank": stable,
    }
    bounds = {
        "explained_variance_ratio": share_bounds(eigenvalues, off, trace=pairs.trace),
        "stable_rank": stable_rank_bound(stable, largest, moments.d, off),
    }
    return values, bounds


def readout_metric(moments: Moments, *, whole_spectrum: bool) -> tuple[float, float]:
    """Least error of an affine readout from the directions that can be told from rounding, and its bound."""
    sigma, cross = moments.target_covariance, moments.cross_covariance
    variance, errors = float(np.trace(sigma)), (moments.covariance_error, moments.cross_error)
    if whole_spectrum:
        eigenvalues, loadings = moments.readable_values, moments.pairs().products(cross)
        value = loaded_readout_error(eigenvalues, loadings, sigma)
        return value, readout_bound(value, eigenvalues, np.linalg.norm(loadings, axis=1), variance, errors)
    # The factor is of a matrix that is off by roundings of its size besides.
    floor = max(UNRESOLVED * errors[0], 4.0 * moments.d * EPSILON * moments.variance)
    if not floor > 0.0:
        return variance, 0.0
    # The floor of float32 blocks is far above the rounding of a float32 factor.
    in_range = SMALLEST_SINGLE < moments.variance < LARGEST_SINGLE
    single = in_range and not moments.is_double
    covariance = moments.matrix("covariance")
    value, slope = regularized_readout_error(covariance, sigma, cross, floor, single_precision=single)
    is_resolved = exceeds(covariance, floor, single_precision=single)
    bound = regularized_readout_bound(
        value, slope, variance, moments.d, floor=floor, errors=errors, is_resolved=is_resolved
    )
    return value, bound
