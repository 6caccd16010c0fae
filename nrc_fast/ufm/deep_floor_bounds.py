"""Bounds of the errors of what the UFM says of a linear network before training."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from nrc_fast.base.arrays import FloatArray
from nrc_fast.base.linalg import EPSILON
from nrc_fast.metrics.deep_directions import solve_directions, threshold
from nrc_fast.ufm.bounds import LEAST, Ends, apart, interval_of, turned_entries
from nrc_fast.ufm.correlations import Correlations
from nrc_fast.ufm.deep_bounds import Sides
from nrc_fast.ufm.eigenvalues import Spectrum
from nrc_fast.ufm.floor_bounds import directions_error
from nrc_fast.ufm.inputs import Batched, plain
from nrc_fast.ufm.targets import TargetMoments

__all__ = ["ROUNDINGS", "DeepFloorNumbers", "deep_floor_bounds"]

# In units of eps: of a penalty, from decays, and of a squared error, from what that does to the ratio and the share.
ROUNDINGS = 2.0
OF_SQUARE = 32.0


@dataclass(frozen=True, eq=False)
class DeepFloorNumbers:
    """The numbers of a `DeepErrorFloor`."""

    rank: int
    mse_floor: float
    r2_ceiling: float
    variance: float
    single_task_floor: float
    standardized_floor: float
    whitened_floor: float
    factor: float
    penalty: float
    error_share: FloatArray
    critical_weight_decays: FloatArray


def deep_floor_bounds(
    numbers: DeepFloorNumbers,
    moments: TargetMoments,
    found: Spectrum,
    *,
    correlations: Correlations | None,
    layers: int,
) -> dict[str, Batched]:
    """Absolute bounds by the names of the numbers; of directions, of the length of the error of each.

    Parameters
    ----------
    numbers : DeepFloorNumbers
    moments : TargetMoments
    found : Spectrum
        Of the covariance.
    correlations : Correlations, optional
        Of the moments.
    layers : int
        L.
    """
    penalties = np.full(layers, numbers.penalty)
    sides = Sides(interval_of(found), penalties, ROUNDINGS)
    rounding = 6.0
    least, most = sides.rank
    captured, left, total = sides.captured.summed(), sides.squares.summed(), sides.values.summed()
    shares = [
        part / (part + rest) if part > 0.0 else np.zeros(()) for part, rest in zip(captured, left[::-1], strict=True)
    ]
    variances = np.diagonal(moments.covariance)
    errors = moments.covariance_error + EPSILON * variances
    single = Sides(Ends(np.maximum(variances - errors, 0.0), variances + errors), penalties, ROUNDINGS).squares
    unit = Sides(Ends(np.ones(1), np.ones(1)), penalties, ROUNDINGS).squares
    whitened = Ends(*(part[0] * amount for part, amount in zip(unit, total, strict=True)))
    return {
        "eigenvalues": found.errors,
        "directions": directions_error(found),
        "variance": plain(apart(np.asarray(numbers.variance), total, rounding)),
        "rank": int(max(most - numbers.rank, numbers.rank - least)),
        "error_share": apart(numbers.error_share, sides.shares, 1.0),
        "mse_floor": plain(apart(np.asarray(numbers.mse_floor), left, rounding)),
        "r2_ceiling": plain(apart(np.asarray(numbers.r2_ceiling), Ends(shares[0], shares[1]), 8.0)),
        "single_task_floor": plain(apart(np.asarray(numbers.single_task_floor), single.summed(), rounding)),
        "standardized_floor": _standardized_error(moments, correlations, penalties),
        "whitened_floor": plain(apart(np.asarray(numbers.whitened_floor), whitened, rounding)),
        "critical_weight_decays": _decays_error(numbers, sides.values, layers),
    }


def _standardized_error(moments: TargetMoments, found: Correlations | None, penalties: FloatArray) -> float:
    """That of ``tr D R``, R the squared errors along correlations and D the variances.

    While a direction is kept ``lambda t^2`` changes by at most ``t^2`` times the change of lambda, and where it is
    dropped as lambda does; where one of two is, there is only the quotient.
    """
    if found is None:
        return 0.0
    spectrum, loads = found.spectrum, found.loads
    sides = Sides(interval_of(spectrum), penalties, ROUNDINGS)
    squares, values = sides.squares, sides.values
    is_kept, is_dropped = sides.low.share < 1.0, sides.high.share >= 1.0
    gaps = np.maximum(values.low[:, np.newaxis], values.low) - np.minimum(values.high[:, np.newaxis], values.high)
    with np.errstate(divide="ignore", invalid="ignore"):
        quotients = np.where(gaps > 0.0, np.maximum(squares.high[:, np.newaxis], squares.high) / gaps, np.inf)
    lost = sides.shares.high**2
    steepest = np.where(is_kept[:, np.newaxis] & is_kept, np.maximum(lost[:, np.newaxis], lost), np.inf)
    steepest = np.where(is_dropped[:, np.newaxis] & is_dropped, 1.0, steepest)
    slopes = np.minimum(steepest, quotients)
    middle = 0.5 * (squares.low + squares.high)
    most = np.maximum(squares.high[:, np.newaxis], squares.high)
    turned = turned_entries(spectrum, middle, slopes, most)
    by_slope = lost * (values.high - values.low) + OF_SQUARE * EPSILON * squares.high + LEAST
    by_slope = np.where(is_kept, by_slope, np.inf)
    seen = solve_directions(spectrum.values, penalties).share
    errors = np.minimum(by_slope, apart((spectrum.values * seen) * seen, squares, 0.0)) + 4.0 * EPSILON * squares.high
    off = float(errors @ loads + np.sqrt(loads) @ turned @ np.sqrt(loads))
    # The variances are known up to the error of the covariance.
    sizes = np.abs(spectrum.vectors)
    own = sizes**2 @ squares.high + ((sizes @ turned) * sizes).sum(axis=1)
    return off + float(found.loads_error @ squares.high) + 2.0 * float(own.sum()) * moments.covariance_error + LEAST


def _decays_error(numbers: DeepFloorNumbers, values: Ends, layers: int) -> FloatArray:
    low, high = (threshold(part, layers - 1, degree=layers) / numbers.factor for part in values)
    return apart(numbers.critical_weight_decays, Ends(low, high), ROUNDINGS + 10.0)
