"""Principal bases from leading pairs that were found: how far these may be from the exact ones."""

from __future__ import annotations

import numpy as np

from nrc_fast.base.arrays import FloatArray
from nrc_fast.base.leading import LeadingPairs
from nrc_fast.base.linalg import EPSILON
from nrc_fast.measurement.row_components import RowComponents
from nrc_fast.metrics.angles import leading_angle_bound
from nrc_fast.metrics.grounds import FLOAT64_SUMS
from nrc_fast.metrics.residuals import PrincipalBasis, resolved_rank

__all__ = ["COLLAPSED", "angles_of", "basis_of_rows", "losses_of", "rounding_of_mean"]

# Below this share of the variance outside the basis, features count as collapsed and float32 does not suffice.
COLLAPSED = 1e-4


def basis_of_rows(found: RowComponents, k: int, disturbance: float) -> PrincipalBasis:
    """The leading k components of rows, whose matrix may be off by a disturbance in norm besides."""
    pairs = found.pairs
    rank = min(k, resolved_rank(pairs.values, pairs.d))
    error, total = found.covariance_error + disturbance, pairs.trace
    return PrincipalBasis(
        vectors=np.ascontiguousarray(pairs.vectors[:rank]),
        mean=found.mean,
        mean_error=EPSILON + rounding_of_mean(found.mean, total),
        angles=angles_of(pairs, k, error),
        losses=losses_of(pairs, k, error),
        collapsed=pairs.outside(k) <= COLLAPSED * total,
        spread=total**0.5,
        grounds=FLOAT64_SUMS | found.grounds,
    )


def angles_of(pairs: LeadingPairs, k: int, error: float) -> FloatArray:
    """Bounds of the angles of the leading 1, ..., k vectors, where their matrix is off by an error in norm."""
    return np.array([leading_angle_bound(pairs, j, error) for j in range(1, k + 1)])


def losses_of(pairs: LeadingPairs, k: int, error: float) -> FloatArray:
    """What exact components may hold beyond those found: in the sum of their eigenvalues, and in that along these."""
    return np.array([j * (2.0 * error + pairs.distance(j)) for j in range(1, k + 1)])


def rounding_of_mean(mean: FloatArray, variance: float) -> float:
    """Rounding of the mean to a float64 number, relative to the spread of the features."""
    return EPSILON * float(np.linalg.norm(mean)) / variance**0.5 if variance > 0.0 else 0.0
