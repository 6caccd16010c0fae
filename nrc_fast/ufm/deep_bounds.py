"""Bounds of the errors of every number of a deep minimum."""

from __future__ import annotations

import numpy as np

from nrc_fast.base.arrays import FloatArray, IntArray
from nrc_fast.base.linalg import EPSILON
from nrc_fast.metrics.deep_directions import (
    Directions,
    factor_singular_values,
    gram_eigenvalues,
    largest_ratio,
    root_of_product,
    solve_directions,
    threshold,
)
from nrc_fast.ufm.bounds import LEAST, Ends, apart, around, interval_of, matrix_error
from nrc_fast.ufm.eigenvalues import Spectrum
from nrc_fast.ufm.inputs import Batched, BatchedInt, plain, plain_counts

__all__ = ["Sides", "deep_bounds", "deep_rank_range"]

# Relative errors of a root of a product, and of what follows from it, in units of eps.
OF_RATIO = 3.0
OF_SHARE = 3.0


class Sides:
    """Directions at both ends of what their variances may be.

    Parameters
    ----------
    values : Ends
        These variances, (..., n).
    penalties : (..., m + 1) float64 array
    roundings : float
        Relative error of each penalty, in units of eps.

    Examples
    --------
    >>> sides = Sides(Ends(np.array([1.0]), np.array([4.0])), np.array([1.0, 0.25]))
    >>> [round(part.item(), 12) for part in sides.shares]
    [0.25, 0.5]
    """

    def __init__(self, values: Ends, penalties: FloatArray, roundings: float = 0.0) -> None:
        self.penalties, self.layers, self.values = penalties, penalties.shape[-1] - 1, values
        self._off = (OF_RATIO + roundings) * EPSILON
        # The ratio falls with the variance.
        self.low: Directions = solve_directions(values.low, penalties, stretch=1.0 + self._off)
        self.high: Directions = solve_directions(values.high, penalties, stretch=1.0 - self._off)

    @property
    def shares(self) -> Ends:
        """What is lost: less of larger variances."""
        off = OF_SHARE * EPSILON
        return Ends(self.high.share * (1.0 - off), np.minimum(self.low.share * (1.0 + off), 1.0))

    @property
    def squares(self) -> Ends:
        """Squared errors, ``lambda t^2``, which may be too small for float64."""
        low, high = ((value * share) * share for value, share in zip(self.values, self.shares, strict=True))
        return Ends(np.maximum(low - LEAST, 0.0), high + LEAST)

    @property
    def captured(self) -> Ends:
        """What is left of the variances without these, ``lambda (1 - t^2)``."""
        low, high = (
            (value * (1.0 - share)) * (1.0 + share) for value, share in zip(self.values, self.shares[::-1], strict=True)
        )
        return Ends(low * (1.0 - 4.0 * EPSILON), high * (1.0 + 4.0 * EPSILON))

    @property
    def factors(self) -> Ends:
        """Singular values of layers and features; they rise with the variance."""
        off = OF_SHARE * EPSILON
        low, high = (
            factor_singular_values(value, self.penalties, share)
            for value, share in zip(self.values, self.shares[::-1], strict=True)
        )
        return Ends(low * (1.0 - off), high * (1.0 + off))

    @property
    def losses(self) -> Ends:
        """Halves of squared errors and of what is paid; they too rise with the variance."""
        m, off = self.layers, (2.0 * OF_SHARE + 2.0) * EPSILON
        ends = []
        for value, side, sign in zip(self.values, (self.low, self.high), (-1.0, 1.0), strict=True):
            loss = 0.5 * (value * side.share) * side.share + 0.5 * (m + 1) * side.energy
            ends.append(loss * (1.0 + sign * off))
        return Ends(ends[0], ends[1])

    @property
    def grams(self) -> Ends:
        """Products of the squares of all layers' singular values."""
        off = OF_SHARE * EPSILON
        low, high = (
            gram_eigenvalues(value, self.penalties, share)
            for value, share in zip(self.values, self.shares[::-1], strict=True)
        )
        return Ends(low * (1.0 - off), high * (1.0 + off))

    @property
    def rank(self) -> tuple[FloatArray, FloatArray]:
        """How many directions are kept for sure, and how many may be."""
        most, off = largest_ratio(self.layers), self._off
        return (
            np.asarray(np.count_nonzero(self.low.ratio < most * (1.0 - off), axis=-1)),
            np.asarray(np.count_nonzero(self.high.ratio < most * (1.0 + off), axis=-1)),
        )

    def gram_slopes(self) -> FloatArray:
        """Divided differences of the Gram's eigenvalues by those of the targets.

        Between directions that are both kept these rise like a power of at most m/(m - 1) of the variance, and for one
        layer like its root; else there is only the quotient.
        """
        m, grams, values = self.layers, self.grams, self.values

        def pairs(part: FloatArray) -> tuple[FloatArray, FloatArray]:
            return part[..., :, np.newaxis], part[..., np.newaxis, :]

        larger, smaller = np.maximum(*pairs(grams.high)), np.minimum(*pairs(grams.low))
        least = np.minimum(*pairs(values.low))
        gap = np.maximum(*pairs(values.low)) - np.minimum(*pairs(values.high))
        is_kept = np.minimum(*pairs(grams.low)) > 0.0
        local = 2.0 * larger
        if m == 1:
            factors = [self.penalties[..., i, np.newaxis] for i in range(2)]
            local = 0.5 * np.maximum(*pairs(root_of_product([factors[1], values.high, factors[0]], [1, 1, -1], 2)))
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
            slopes = np.where(is_kept, local / least, np.inf)
            quotients = np.where(gap > 0.0, (larger - smaller) / gap, np.inf)
        return np.where(larger > 0.0, np.minimum(slopes, quotients), 0.0)


def deep_rank_range(spectrum: Spectrum, penalties: FloatArray, rank: IntArray) -> tuple[BatchedInt, BatchedInt]:
    """The least and the largest rank that errors leave open."""
    least, most = Sides(interval_of(spectrum), penalties).rank
    return plain_counts(np.minimum(least, rank)), plain_counts(np.maximum(most, rank))


def deep_bounds(
    spectrum: Spectrum, penalties: FloatArray, numbers: dict[str, FloatArray], *, mean_error: float
) -> dict[str, Batched]:
    """Absolute bounds by the names of the numbers, for `gram` of the Frobenius norm of its error.

    Parameters
    ----------
    spectrum : Spectrum
        Of the targets.
    penalties : (..., m + 1) float64 array
    numbers : dict of str to array
        Of a `DeepMinimum`.
    mean_error : float
        Bound of the error of the mean of the targets.
    """
    sides = Sides(interval_of(spectrum), penalties)
    m, n = sides.layers, spectrum.values.shape[-1]
    rounding = 4.0
    shares, values, grams, factors = sides.shares, sides.values, sides.grams, sides.factors
    least, most = sides.rank
    predicted = Ends(*(np.sqrt(value) * (1.0 - share) for value, share in zip(values, shares[::-1], strict=True)))
    layers = Ends(*(part[..., :-1, :] for part in factors))
    features = Ends(*(part[..., -1, :] for part in factors))
    jumps = Ends(*(np.sqrt(part) * ((m - 1) / m) for part in values))
    thresholds = Ends(*(threshold(part, m) for part in values))
    products = around(numbers["penalty_product"], (m + 2.0) * EPSILON)
    rank = numbers["rank"]
    found: dict[str, FloatArray] = {
        "rank": np.maximum(most - rank, rank - least),
        "loss": apart(numbers["loss"], sides.losses.summed(), rounding),
        "mse": apart(numbers["mse"], sides.squares.summed(), rounding + 2.0),
        "error_share": apart(numbers["error_share"], shares, 1.0),
        "prediction_singular_values": apart(numbers["prediction_singular_values"], predicted, 4.0)
        + EPSILON * np.sqrt(values.high),
        "layer_singular_values": apart(numbers["layer_singular_values"], layers, 4.0),
        "feature_singular_values": apart(numbers["feature_singular_values"], features, 4.0),
        "penalty_product": apart(numbers["penalty_product"], products, 0.0),
        "thresholds": apart(numbers["thresholds"], thresholds, 8.0),
        "jumps": apart(numbers["jumps"], jumps, 3.0),
        "bias": np.abs(numbers["bias"]) * EPSILON + np.asarray(mean_error),
        "gram": matrix_error(
            spectrum,
            numbers["gram_values"],
            apart(numbers["gram_values"], grams, 4.0),
            sides.gram_slopes(),
            most=np.broadcast_to(grams.high.max(axis=-1)[..., np.newaxis, np.newaxis], (*grams.high.shape, n)),
        ),
    }
    return {name: plain(np.array(part)) for name, part in found.items()}
