"""Bounds of the errors of every number of a minimum of the UFM."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from nrc_fast.base.arrays import BoolArray, FloatArray
from nrc_fast.base.linalg import EPSILON
from nrc_fast.ufm.bounds import Ends, Thresholded, apart, length_of, shares_error
from nrc_fast.ufm.correlated_features import CorrelatedFeatures
from nrc_fast.ufm.inputs import Batched, plain
from nrc_fast.ufm.narrow_bounds import thresholded
from nrc_fast.ufm.penalised_bounds import Moved, PenalisedBias, moved_by
from nrc_fast.ufm.spectral import Shrinkage
from nrc_fast.ufm.targets import TargetMoments

__all__ = [
    "NUMBERS",
    "PREDICTED",
    "Solved",
    "has_certain_directions",
    "minimum_bounds",
    "prediction_bounds",
    "rank_range",
]


@dataclass(frozen=True, eq=False)
class Solved:
    """A minimum whose numbers get bounds; see `Minimum` for the fields.

    Attributes
    ----------
    numbers : dict of str to float or array
        All that `NUMBERS` names.
    width : int or None
        How many directions there is room for, where they are fewer than n.
    correlated : CorrelatedFeatures or None
        The features where centred targets are correlated along the directions.
    """

    moments: TargetMoments
    shrinkage: Shrinkage
    c: Batched
    root_c: FloatArray
    scale: FloatArray
    numbers: dict[str, FloatArray]
    width: int | None = None
    correlated: CorrelatedFeatures | None = None


NUMBERS = (
    *("rank", "loss", "mse", "r2", "weight_norm_squared", "feature_norm_squared", "weight_singular_values", "bias"),
    *("gram", "head_gram_shape", "residual_covariance", "cosines", "explained_variance_ratio", "cka"),
)
# Numbers whose bounds a prediction has.
PREDICTED = ("rank", "mse", "r2", "explained_variance_ratio", "cka", "head_gram_shape", "residual_covariance")
MATRICES = ("gram", "head_gram_shape", "residual_covariance")  # whose bounds are of norms
LEAST_NORM = 1e-300  # up to which an error is that of numbers that underflow


def _ends(found: Solved) -> Thresholded | None:
    if found.shrinkage.spectrum is None:
        return None
    return thresholded(found.shrinkage.spectrum, np.asarray(found.c), found.root_c, found.scale, width=found.width)


def rank_range(found: Solved) -> tuple[Batched, Batched]:
    """The least and the largest rank that the errors of eigenvalues and of c leave open."""
    ends, rank = _ends(found), found.numbers["rank"]
    least, most = _penalised_rank(found, _moved(found)[1]) if ends is None else ends.rank
    return plain(np.minimum(least, rank)), plain(np.maximum(most, rank))


def has_certain_directions(found: Solved) -> BoolArray:
    """Whether it is known which directions are kept where there is room for fewer than n, (...)."""
    ends = _ends(found)
    return np.ones(np.shape(found.numbers["rank"]), dtype=bool) if ends is None else ends.is_certain


def minimum_bounds(found: Solved) -> dict[str, Batched]:
    """Absolute bounds by the names of the numbers, for matrices of the Frobenius norm of their errors.

    NaN where the number is, and infinite where it is beyond float64.
    """
    ends = _ends(found)
    with np.errstate(over="ignore"):
        return _with_nan(found, _of_penalised(found) if ends is None else _of_thresholded(found, ends))


def _of_thresholded(found: Solved, ends: Thresholded) -> dict[str, FloatArray]:
    n = found.moments.n
    kept, scale = ends.kept, ends.scales
    total = Ends(*(part[..., np.newaxis] for part in kept.summed()))
    weights = Ends(*(side * amount for side, amount in zip(scale, total, strict=True)))
    features = Ends(*(amount / side for side, amount in zip(scale[::-1], total, strict=True)))
    roots = Ends(*(np.sqrt(side) * np.sqrt(part) for side, part in zip(scale, kept, strict=True)))
    half_loss = ends.losses.summed()
    least, most = rank_range(found)
    gram = np.asarray(ends.gram_error(found.shrinkage.kept))
    size = length_of(np.asarray(found.shrinkage.kept))
    shape = np.broadcast_to(_shape_error(gram, size, n), np.shape(found.numbers["rank"]))
    rounding = 4.0
    bounds: dict[str, FloatArray] = {
        "rank": np.maximum(most - found.numbers["rank"], found.numbers["rank"] - least),
        "loss": apart(found.numbers["loss"], half_loss, rounding),
        "mse": apart(found.numbers["mse"], ends.residuals.summed(), rounding),
        "r2": _of_r2(found, ends),
        "weight_norm_squared": apart(found.numbers["weight_norm_squared"], _first(weights), rounding),
        "feature_norm_squared": apart(found.numbers["feature_norm_squared"], _first(features), rounding),
        "weight_singular_values": apart(found.numbers["weight_singular_values"], roots, 6.0),
        "bias": np.abs(found.numbers["bias"]) * EPSILON + np.asarray(found.moments.mean_error)[..., np.newaxis],
        "gram": gram * found.scale * (1.0 + 4.0 * EPSILON) + 4.0 * EPSILON * size * found.scale,
        "head_gram_shape": shape,
        "residual_covariance": ends.residual_error(found.shrinkage.residual_values),
        "cosines": _of_cosines(found, ends.gram_entries_error(np.asarray(found.shrinkage.kept))),
    }
    if found.shrinkage.is_diagonal:
        bounds["explained_variance_ratio"] = shares_error(found.numbers["explained_variance_ratio"], kept)
        bounds["cka"] = _of_cka(found, ends)
    else:
        assert found.correlated is not None
        bounds["explained_variance_ratio"] = found.correlated.shares_error
        bounds["cka"] = found.correlated.cka_error
    return bounds


def _with_nan(found: Solved, bounds: dict[str, FloatArray]) -> dict[str, Batched]:
    for name, bound in bounds.items():
        if name not in ("rank", *MATRICES):
            bounds[name] = np.where(np.isnan(found.numbers[name]), np.nan, bound)
    return {name: plain(np.array(bounds[name])) for name in NUMBERS if name in bounds}


def prediction_bounds(found: Solved, precise: Solved) -> dict[str, Batched]:
    """Bounds of the numbers that a `nrc_fast.ufm.Prediction` has, for a free bias.

    Parameters
    ----------
    found, precise : Solved
        From eigenvalues of LAPACK, whose own bounds hold too, and from those with all digits, beside which its errors
        are seen.
    """
    own, better = _prediction_bounds(found), _prediction_bounds(precise)
    for name in PREDICTED[1:]:
        difference = np.abs(found.numbers[name] - precise.numbers[name])
        if name in MATRICES:
            difference = length_of(difference.reshape(*difference.shape[:-2], found.moments.n**2))
        rounding = 2.0 * EPSILON * difference  # a difference of rounded numbers
        # Where one of both is not defined it is open whether the other is.
        own[name] = plain(np.fmin(own[name], difference + rounding + better[name]))
    return own


def _prediction_bounds(found: Solved) -> dict[str, Batched]:
    ends, n = _ends(found), found.moments.n
    assert ends is not None
    kept = np.asarray(found.shrinkage.kept)
    least, most = rank_range(found)
    return _with_nan(
        found,
        {
            "rank": 1.0 * np.maximum(most - found.numbers["rank"], found.numbers["rank"] - least),
            "mse": apart(found.numbers["mse"], ends.residuals.summed(), 4.0),
            "r2": _of_r2(found, ends),
            "explained_variance_ratio": shares_error(found.numbers["explained_variance_ratio"], ends.kept),
            "cka": _of_cka(found, ends),
            "head_gram_shape": _shape_error(np.asarray(ends.gram_error(kept)), length_of(kept), n),
            "residual_covariance": ends.residual_error(found.shrinkage.residual_values),
        },
    )


# ---- a penalised bias ----


def _moved(found: Solved) -> tuple[PenalisedBias, Moved]:
    moments, shrinkage = found.moments, found.shrinkage
    assert shrinkage.kappa is not None
    spectrum, order = moments.in_basis(shrinkage.vectors)
    values = np.take_along_axis(shrinkage.values, order, axis=-1)
    length = length_of(moments.mean)
    solved = PenalisedBias(spectrum, values, np.asarray(shrinkage.values[..., 0]), length, shrinkage.kappa)
    return solved, moved_by(solved, shrinkage.kept, found.root_c, np.asarray(moments.mean_error))


def _penalised_rank(found: Solved, moved: Moved) -> tuple[FloatArray, FloatArray]:
    """By singular values of the predictions, and of what thresholding leaves, which are sqrt(c) where one is kept."""
    shrinkage, root = found.shrinkage, found.root_c[..., np.newaxis]
    least = shrinkage.kept > np.asarray(moved.whole)[..., np.newaxis]
    left = np.sqrt(shrinkage.values) + np.zeros(shrinkage.kept.shape)
    mean = np.asarray(shrinkage.kappa) * length_of(found.moments.mean)
    left[..., 0] = np.hypot(left[..., 0], mean)
    most = left + np.asarray(moved.of_errors)[..., np.newaxis] > root * (1.0 - 4.0 * EPSILON)
    return np.asarray(np.count_nonzero(least, axis=-1)), np.asarray(np.count_nonzero(most, axis=-1))


def _of_penalised(found: Solved) -> dict[str, FloatArray]:
    solved, moved = _moved(found)
    n, numbers, shrinkage = found.moments.n, found.numbers, found.shrinkage
    kappa, scale, kept = solved.kappa, found.scale, np.asarray(shrinkage.kept)
    grams, rounding = np.asarray(moved.of_roots), (n + 8.0) * EPSILON
    total, size = np.sqrt(n) * np.asarray(moved.whole), length_of(kept)
    of_errors = 2.0 * np.sqrt(numbers["mse"]) * moved.of_errors + moved.of_errors**2 + rounding * numbers["mse"]
    left = np.sqrt(numbers["mse"] + kappa * solved.length**2)  # what is left of the targets is no more
    roots = Ends(
        *(np.sqrt(np.asarray(scale))[..., np.newaxis] * np.sqrt(part) for part in _of_width(kept, moved.whole))
    )
    gram = grams + rounding * size
    least, most = rank_range(found)
    variance = shrinkage.values.sum(axis=-1)
    of_variance = np.abs(solved.values - solved.spectrum.values).sum(axis=-1) + solved.spectrum.errors.sum(axis=-1)
    with np.errstate(divide="ignore", invalid="ignore"):
        share = numbers["mse"] / variance
        of_r2 = (of_errors + share * of_variance) / np.maximum(variance - of_variance, 0.0) + EPSILON * (1.0 + share)
    features = -np.sort(-np.asarray(shrinkage.feature_values), axis=-1)
    spread = length_of(features)
    entries = np.broadcast_to(gram[..., np.newaxis, np.newaxis], numbers["gram"].shape)
    with np.errstate(invalid="ignore"):
        of_loss = left * moved.targets + moved.targets**2 + rounding * numbers["loss"]
        of_loss = of_loss + (left + found.root_c + kappa * length_of(numbers["bias"])) * moved.solution
    of_bias = (1.0 - kappa) * moved.whole + found.moments.mean_error + rounding * solved.length
    return {
        "rank": np.maximum(most - numbers["rank"], numbers["rank"] - least),
        "loss": np.where(np.isnan(of_loss), rounding * numbers["loss"], of_loss),
        "mse": of_errors,
        "r2": of_r2,
        "weight_norm_squared": scale * total + rounding * numbers["weight_norm_squared"],
        "feature_norm_squared": total / scale + rounding * numbers["feature_norm_squared"],
        "weight_singular_values": apart(numbers["weight_singular_values"], roots, 6.0),
        "bias": np.broadcast_to(of_bias[..., np.newaxis], numbers["bias"].shape),
        "gram": gram * scale,
        "head_gram_shape": np.broadcast_to(_shape_error(gram, size, n), np.shape(numbers["rank"])),
        "residual_covariance": of_errors,
        "cosines": _of_cosines(found, entries),
        "explained_variance_ratio": shares_error(numbers["explained_variance_ratio"], _of_width(features, grams)),
        "cka": _cosine_error(
            numbers["cka"],
            _turned(np.asarray(shrinkage.values), np.asarray(solved.spectrum.errors) + 4.0 * EPSILON * solved.values)
            + grams / np.where(spread > 0.0, spread, 1.0),
            n,
        ),
    }


def _of_width(values: FloatArray, off: FloatArray) -> Ends:
    each = np.asarray(off)[..., np.newaxis]
    return Ends(np.maximum(values - each, 0.0), values + each)


def _first(ends: Ends) -> Ends:
    return Ends(ends.low[..., 0], ends.high[..., 0])


def _of_r2(found: Solved, ends: Thresholded) -> FloatArray:
    value, n = found.numbers["r2"], found.moments.n
    if found.shrinkage.is_diagonal:
        captured, left = ends.captured.summed(), ends.residuals.summed()
        with np.errstate(divide="ignore", invalid="ignore"):
            sides = [
                np.where(part > 0.0, part / (part + rest), 0.0) for part, rest in zip(captured, left[::-1], strict=True)
            ]
        return apart(value, Ends(sides[0], sides[1]), 6.0)
    variance = np.trace(found.moments.covariance, axis1=-2, axis2=-1)
    off = np.sqrt(n) * found.moments.covariance_error + n * EPSILON * variance
    mse = found.numbers["mse"]
    mse_error = apart(mse, ends.residuals.summed(), 8.0)
    with np.errstate(divide="ignore", invalid="ignore"):
        share = mse / variance
        bound = (mse_error + share * off) / np.maximum(variance - off, 0.0)
    return np.asarray(bound + EPSILON * (1.0 + share))


def _shape_error(error: FloatArray, size: FloatArray, n: int) -> FloatArray:
    """Of a matrix over its norm, by the norm of its own error; 1 where it may be 0, and 0 where it must be."""
    with np.errstate(divide="ignore", invalid="ignore"):
        relative = np.where(size > 0.0, error / size, np.where(error > LEAST_NORM, np.inf, 0.0))
    return np.where(size > 0.0, np.minimum(2.0 * relative, 2.0) + (n + 4.0) * EPSILON, np.minimum(relative, 1.0))


def _of_cosines(found: Solved, entries: FloatArray) -> FloatArray:
    """From bounds of the errors of the Gram's entries, which cosines are over the roots of two of its diagonal."""
    # Of the Gram over its scale, beside which it stays in the range of float64.
    lengths = np.sum(found.shrinkage.vectors**2 * found.shrinkage.kept[..., np.newaxis, :], axis=-1)
    errors = np.diagonal(entries, axis1=-2, axis2=-1)
    least = np.maximum(lengths - errors, 0.0)
    cosines = np.abs(np.nan_to_num(found.numbers["cosines"]))
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        shares = np.where(least > 0.0, np.minimum(errors / least, 4.0), 4.0)  # cosines are off by no more than 2
        roots = np.sqrt(least)
        both = np.nan_to_num(entries / roots[..., :, np.newaxis] / roots[..., np.newaxis, :], nan=2.0)
    found_bound = both + 0.5 * cosines * (shares[..., :, np.newaxis] + shares[..., np.newaxis, :])
    return np.asarray(np.minimum(found_bound + 8.0 * EPSILON, 2.0))


def _of_cka(found: Solved, ends: Thresholded) -> FloatArray:
    """The cosine of the angle between two vectors, each of which turns by its error over its length at most."""
    values, kept = np.asarray(found.shrinkage.values), np.asarray(found.shrinkage.kept)
    turned = _turned(values, apart(values, ends.values, 0.0)) + _turned(kept, apart(kept, ends.kept, 0.0))
    return _cosine_error(found.numbers["cka"], turned, values.shape[-1])


def _cosine_error(cosine: FloatArray, turned: FloatArray, n: int) -> FloatArray:
    """Of the cosine of the angle between vectors of n numbers whose relative errors add up to so much."""
    turned = 1.25 * turned  # an angle by its sine, up to 1/2
    cosine = np.minimum(cosine, 1.0)
    sine = np.sqrt((1.0 - cosine) * (1.0 + cosine) + 8.0 * n * EPSILON)
    bound = np.where(turned < 0.5, sine * turned + turned**2, 1.0)
    return np.asarray(np.minimum(bound + (n + 3.0) * EPSILON, 1.0))


def _turned(values: FloatArray, errors: FloatArray) -> FloatArray:
    largest = values.max(axis=-1, keepdims=True)
    with np.errstate(divide="ignore", invalid="ignore"):
        relative = np.sqrt(np.sum((errors / largest) ** 2, axis=-1) / np.sum((values / largest) ** 2, axis=-1))
    return np.where(np.isnan(relative), np.inf, relative)
