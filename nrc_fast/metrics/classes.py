"""How far NC1 to NC4 can be from their definitions on the stored rows: first order in the errors of the moments."""

from __future__ import annotations

import math

import numpy as np

from nrc_fast.base.linalg import EPSILON, FloatArray

__all__ = ["cdnv_bound", "duality_bounds", "simplex_bounds", "variability_bounds"]


def _ratio(error: float, size: float) -> float:
    """An error relative to what it belongs to, which may itself be smaller by the error; inf where nothing is left."""
    return error / (size - error) if error < size else math.inf


def variability_bounds(
    values: dict[str, float], within: FloatArray, centred: FloatArray, counts: FloatArray, errors: tuple[float, float]
) -> dict[str, float]:
    """Bounds of NC1 in its variants.

    Parameters
    ----------
    values : mapping of str to float
        What `classes.variability` gave.
    within, centred, counts : float64 arrays
        As there.
    errors : pair of float
        Of the norm of `within`, and of every row of `centred`.
    """
    classes, d = centred.shape
    within_error, all_means = errors[0], errors[1] * classes**0.5
    size = float(np.linalg.norm(centred))
    spread, between = float(np.trace(within)), size**2 / classes
    between_error = (2.0 * size + all_means) * all_means / classes + 4.0 * EPSILON * between
    scales = np.linalg.svd(centred, compute_uv=False)[: classes - 1]
    found = {}
    turn = _ratio(all_means + 4.0 * max(centred.shape) * EPSILON * float(scales[0]), float(scales[-1]))
    # The pseudo-inverse is off by twice the relative error of its smallest scale, and turns what it is multiplied by.
    mixed = within_error + 2.0 * turn * float(np.linalg.norm(within, 2))
    with np.errstate(divide="ignore", invalid="ignore"):
        inverse = float(np.sum(1.0 / scales**2)) * classes
    papyan = inverse * mixed * (1.0 + turn) ** 2 + values["nc1_sum"] * ((1.0 + turn) ** 2 - 1.0)
    found["nc1_sum"] = papyan if math.isfinite(papyan) else math.inf
    found["nc1"] = found["nc1_sum"] / classes
    left = between - between_error
    found["nc1_ratio"] = (within_error + values["nc1_ratio"] * between_error) / left if left > 0.0 else math.inf
    whole = spread + between
    share = (between * within_error + spread * between_error) / whole**2 if whole > 0.0 else math.inf
    found["nc1_share"] = min(share + 4.0 * EPSILON, 1.0)
    total = within + (centred.T * (counts / counts.sum())) @ centred
    eigenvalues = np.linalg.eigvalsh(total)
    kept = eigenvalues[eigenvalues > EPSILON * d * eigenvalues[-1]]
    total_error = 2.0 * within_error + (2.0 * size + all_means) * all_means
    loss = 2.0 * len(kept) * _ratio(total_error, float(kept[0])) if len(kept) == d else math.inf
    found["nc1_total"] = min(loss, float(d)) / float(counts.sum())
    return found


def cdnv_bound(means: FloatArray, variances: FloatArray, variance_errors: FloatArray, mean_error: float) -> float:
    """Bound of the class-distance normalised variance: mean over pairs, as the value."""
    total, classes = 0.0, len(means)
    with np.errstate(divide="ignore", invalid="ignore"):
        for k in range(classes - 1):
            distances = np.linalg.norm(means[k + 1 :] - means[k], axis=1)
            sums, errors = variances[k] + variances[k + 1 :], variance_errors[k] + variance_errors[k + 1 :]
            relative = 2.0 * mean_error / distances + 2.0 * EPSILON
            usable = relative < 0.25
            first_order = (errors + 6.0 * relative * sums) / (2.0 * distances**2)
            total += float(np.sum(np.where(usable, first_order, math.inf)))
    return total / (classes * (classes - 1) / 2)


def simplex_bounds(values: dict[str, float], centred: FloatArray, mean_error: float) -> dict[str, float]:
    """Bounds of NC2 of the class means, every one of which is off by `mean_error`."""
    classes = len(centred)
    norms, size = np.linalg.norm(centred, axis=1), float(np.linalg.norm(centred))
    shortest = _ratio(mean_error, float(norms.min())) + 4.0 * EPSILON
    gram = float(np.linalg.norm(centred @ centred.T))
    all_means = mean_error * classes**0.5
    gram_error = (2.0 * size + all_means) * all_means + 4.0 * centred.shape[1] * EPSILON * size**2
    logarithms = 4.0 * EPSILON * float(np.abs(np.log(norms)).max()) if norms.all() else math.inf
    return {
        "nc2_equinorm": _ratio(mean_error, float(norms.mean())) * (1.0 + values["nc2_equinorm"]) + 4.0 * EPSILON,
        "nc2_equiangular": 4.0 * shortest,
        "nc2_log_norms": 2.0 * shortest + logarithms,
        "nc2_cosines": 4.0 * shortest,
        "nc2_etf": 2.0 * _ratio(gram_error, gram),
    }


def duality_bounds(
    values: dict[str, float], weights: FloatArray, bias: FloatArray, centred: FloatArray, mean: FloatArray, error: float
) -> dict[str, float]:
    """Bounds of NC2 of the weights, NC3 and the bias; the weights are exact, and every mean is off by `error`."""
    classes, d = weights.shape
    size, head = float(np.linalg.norm(centred)), float(np.linalg.norm(weights))
    rounding = 4.0 * (classes + d) * EPSILON
    turn = 2.0 * _ratio(error * classes**0.5, size) + rounding
    product = float(np.linalg.norm(weights @ centred.T))
    product_error = head * (error * classes**0.5 + d * EPSILON * size)
    offset = head * (error + 2.0 * EPSILON * float(np.linalg.norm(mean)))
    offset += d**0.5 * EPSILON * (head * float(np.linalg.norm(mean)) + float(np.linalg.norm(bias)))
    gram = float(np.linalg.norm(weights @ weights.T))
    return {
        "nc2_etf_weights": rounding * head**2 / gram if gram > 0.0 else math.nan,
        "nc3": turn,
        "nc3_squared": (2.0 * values["nc3"] + turn) * turn,
        "nc3_etf": 2.0 * _ratio(product_error, product) + rounding,
        "bias_offset": offset,
    }
