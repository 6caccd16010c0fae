"""Bounds of the errors of what the UFM says before training."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from nrc_fast.base.arrays import FloatArray
from nrc_fast.base.linalg import EPSILON
from nrc_fast.ufm.bounds import LEAST, Ends, Thresholded, apart
from nrc_fast.ufm.correlations import Correlations
from nrc_fast.ufm.eigenvalues import Spectrum
from nrc_fast.ufm.inputs import Batched, plain
from nrc_fast.ufm.narrow_bounds import thresholded
from nrc_fast.ufm.spectral import left_within
from nrc_fast.ufm.targets import TargetMoments

__all__ = [
    "FloorNumbers",
    "directions_error",
    "floor_bounds",
    "has_certain_directions",
    "thresholds",
]


@dataclass(frozen=True, eq=False)
class FloorNumbers:
    """The numbers of an `ErrorFloor`."""

    c: float
    rank: int
    mse_floor: float
    r2_ceiling: float
    variance: float
    single_task_floor: float
    standardized_floor: float
    whitened_floor: float
    weight_decay: float
    critical_weight_decays: FloatArray


def thresholds(found: Spectrum, c: float, roundings: float, width: int | None = None) -> Thresholded:
    """Soft thresholding at c that is off by so many roundings, of the leading directions where there is a width.

    Examples
    --------
    >>> known = Spectrum(np.ones(1), np.eye(1), np.zeros(1), np.zeros((1, 1)), np.zeros((1, 1)))
    >>> [number.item() for number in thresholds(known, 0.5, 1.0).rank]
    [1, 1]
    """
    product = np.asarray(c)
    return thresholded(found, product, np.sqrt(product), np.ones(()), roundings=roundings, width=width)


def has_certain_directions(ends: Thresholded) -> bool:
    """Whether it is known which directions are kept, as it is where there is room for all.

    Examples
    --------
    >>> known = Spectrum(np.ones(2), np.eye(2), np.zeros(2), np.zeros((2, 2)), np.zeros((2, 2)))
    >>> [has_certain_directions(thresholds(known, 0.5, 1.0, width)) for width in (1, 2)]
    [False, True]
    """
    return bool(ends.is_certain.all())


def floor_bounds(
    numbers: FloorNumbers,
    moments: TargetMoments,
    found: Spectrum,
    *,
    correlations: Correlations | None,
    roundings: float,
    width: int | None = None,
) -> dict[str, Batched]:
    """Absolute bounds by the names of the numbers; of directions, of the length of the error of each.

    Parameters
    ----------
    numbers : FloorNumbers
    moments : TargetMoments
    found : Spectrum
        Of the covariance.
    correlations : Correlations, optional
        Of the moments.
    roundings : float
        Relative error of c, in units of eps.
    width : int, optional
        How many directions there is room for.
    """
    ends = thresholds(found, numbers.c, roundings, width)
    sum_rounding = 4.0
    least, most = ends.rank
    variances = np.diagonal(moments.covariance)
    errors = np.minimum(moments.covariance_error + EPSILON * variances, variances + moments.covariance_error)
    single = Ends(
        *(np.minimum(variances + sign * errors, c) for sign, c in zip((-1.0, 1.0), ends.threshold, strict=True))
    )
    captured, left, total = ends.captured.summed(), ends.residuals.summed(), ends.values.summed()
    shares = [
        part / (part + rest) if part > 0.0 else np.zeros(()) for part, rest in zip(captured, left[::-1], strict=True)
    ]
    whitened = [min(1.0, float(c[0])) * amount for c, amount in zip(ends.threshold, total, strict=True)]
    bounds: dict[str, Batched] = {
        "eigenvalues": found.errors,
        "directions": directions_error(found),
        "variance": plain(apart(np.asarray(numbers.variance), total, sum_rounding)),
        "rank": int(max(most - numbers.rank, numbers.rank - least)),
        "mse_floor": plain(apart(np.asarray(numbers.mse_floor), left, sum_rounding)),
        "r2_ceiling": plain(apart(np.asarray(numbers.r2_ceiling), Ends(shares[0], shares[1]), 6.0)),
        "single_task_floor": plain(apart(np.asarray(numbers.single_task_floor), single.summed(), sum_rounding)),
        "standardized_floor": _standardized_error(moments, correlations, numbers.c, roundings, width),
        "whitened_floor": plain(
            apart(np.asarray(numbers.whitened_floor), Ends(whitened[0], whitened[1]), sum_rounding)
        ),
        "critical_weight_decays": _decays_error(numbers, ends),
    }
    return bounds


def _standardized_error(
    moments: TargetMoments, found: Correlations | None, c: float, roundings: float, width: int | None
) -> float:
    if found is None:
        return 0.0
    ends = thresholds(found.spectrum, c, roundings, width)
    if not has_certain_directions(ends):
        return float("nan")
    residuals = left_within(found.spectrum.values, np.full(1, c), width)
    of_loads = found.loads_error @ residuals + len(residuals) * moments.covariance_error * residuals.max()
    return float(ends.residual_trace_error(residuals, found.loads) + of_loads + LEAST)


def _decays_error(numbers: FloorNumbers, ends: Thresholded) -> FloatArray:
    """By the roots of what the eigenvalues may be, over that of c."""
    if not numbers.c > 0.0:
        return np.full(len(numbers.critical_weight_decays), np.nan)
    sides = [np.sqrt(part / numbers.c) * numbers.weight_decay for part in ends.values]
    return apart(numbers.critical_weight_decays, Ends(sides[0], sides[1]), ends.roundings + 3.0)


def directions_error(found: Spectrum) -> FloatArray:
    """Bounds of the errors of directions, (n,), which turn by the entries beside their eigenvalues over the gaps.

    Where eigenvalues tie nothing is known of their directions.

    Examples
    --------
    >>> known = Spectrum(np.ones(1), np.eye(1), np.zeros(1), np.zeros((1, 1)), np.zeros((1, 1)))
    >>> bool(directions_error(known)[0] < 1e-15)
    True
    """
    n = found.values.shape[-1]
    apart_by = np.abs(found.values[:, np.newaxis] - found.values) - found.errors[:, np.newaxis] - found.errors
    with np.errstate(divide="ignore", invalid="ignore"):
        turns = np.where(apart_by > 0.0, 2.0 * found.mixing / apart_by, np.inf)
    turns = np.where(np.eye(n) > 0.0, 0.0, np.where(found.mixing > 0.0, turns, 0.0)) + found.skew
    return np.asarray(np.minimum(np.sqrt(np.sum(turns**2, axis=0)) + n * EPSILON, 2.0))
