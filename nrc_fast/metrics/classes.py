"""NC1 to NC4 of class means and covariances, each published variant under a name of its own, with their bounds.

The bounds say how far a number can be from its definition on the stored rows: first order in the errors of the moments.
"""

from __future__ import annotations

import math

import numpy as np

from nrc_fast.base.arrays import FloatArray
from nrc_fast.base.linalg import EPSILON, long_norm, scale_to_unit

__all__ = [
    "SMALLEST",
    "VARIANTS",
    "bias_offset_bound",
    "cdnv",
    "cdnv_bound",
    "duality",
    "duality_bounds",
    "simplex",
    "simplex_bounds",
    "variability",
    "variability_bounds",
]

# S_W: covariance within the classes (1/N). S_B = (1/K) sum (mu_k - mu)(mu_k - mu)^T. S_T: covariance of all rows.
# M: the centred class means as rows. E = (I - 11^T/K)/sqrt(K - 1): the simplex that collapse leads to.
VARIANTS = {
    "nc1": "tr(S_W S_B^+)/K: Papyan, Han, Donoho 2020; nc-toolbox, rhubarbwu/neural-collapse",
    "nc1_sum": "tr(S_W S_B^+), not divided by K: glbreeze/neural_collapse",
    "nc1_ratio": "tr S_W / tr S_B: Tirer, Huang, Niles-Weed 2023; quotient of rhubarbwu/neural-collapse",
    "nc1_share": "tr S_W / (tr S_W + tr S_B): Rangamani et al. 2023",
    "nc1_total": "tr(S_W S_T^+)/N: within-class measure of kowalski's code",
    "cdnv": "mean over pairs of (v_k + v_l)/(2 |mu_k - mu_l|^2), v_k the mean squared distance: Galanti et al. 2022",
    "cdnv_unbiased": "the same with v_k divided by n_k - 1: nc-toolbox",
    "nc2_equinorm": "std/mean of |mu_k - mu|: Papyan, Han, Donoho 2020",
    "nc2_equiangular": "mean over pairs of |cos + 1/(K - 1)|: Papyan, Han, Donoho 2020",
    "nc2_log_norms": "mean over pairs k < l of log |mu_k - mu| - log |mu_l - mu|, whose signs cancel: nc-toolbox",
    "nc2_cosines": "mean over pairs of cos + 1/(K - 1), whose signs cancel: nc-toolbox",
    "nc2_etf": "|M M^T/|M M^T| - E|: Zhu et al. 2021; etf of rhubarbwu/neural-collapse, nc2h of glbreeze",
    "nc2_etf_weights": "|W W^T/|W W^T| - E|: nc2w of glbreeze, W-etf of kowalski",
    "nc3": "|W/|W| - M/|M||: Papyan, Han, Donoho 2020; nc-toolbox",
    "nc3_squared": "its square: nc3 of glbreeze",
    "nc3_etf": "|W M^T/|W M^T| - E|: Zhu et al. 2021; dual of rhubarbwu, self_duality of kowalski, nc2 of glbreeze",
    "bias_offset": "|W mu + b|: kowalski, after Zhu et al. 2021",
    "nc4": "share of rows where argmax(W h + b) is not the class of the nearest mean",
    "accuracy": "share of rows where argmax(W h + b) is the label",
}


SMALLEST = 2.0**-1074  # of what float64 holds, and products that underflow lose


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
        What `variability` gave for the arrays.
    within : (d, d) float64 array
        Covariance within the classes (1/N).
    centred : (K, d) float64 array
        The centred class means as rows.
    counts : (K,) float64 array
        Rows of each class.
    errors : pair of float
        Bounds of the error of the norm of `within`, and of every row of `centred`.
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
    found["nc1_share"] = _share_bound(values["nc1_share"], (spread, within_error), (between, between_error), d)
    total = within + (centred.T * (counts / counts.sum())) @ centred
    eigenvalues = np.linalg.eigvalsh(total)
    kept = eigenvalues[eigenvalues > EPSILON * d * eigenvalues[-1]]
    total_error = 2.0 * within_error + (2.0 * size + all_means) * all_means
    loss = 2.0 * len(kept) * _ratio(total_error, float(kept[0])) if len(kept) == d else math.inf
    found["nc1_total"] = min(loss, float(d)) / float(counts.sum())
    return found


def _share_bound(share: float, part: tuple[float, float], other: tuple[float, float], d: int) -> float:
    """Of a share of two sums of d variances, which rises with the one and falls with the other; each with its error."""
    least, most = max(part[0] - part[1], 0.0), part[0] + part[1]
    fewest, others = max(other[0] - other[1], 0.0), other[0] + other[1]
    if least + fewest <= 0.0:
        return 1.0  # it is open whether there is anything to share
    away = max(most / (most + fewest) - share, share - least / (least + others), 0.0)
    # Sums of d variances are rounded in proportion to themselves.
    return min(away + (0.5 * d + 8.0) * EPSILON * share, 1.0)


def cdnv_bound(means: FloatArray, variances: FloatArray, variance_errors: FloatArray, mean_error: float) -> float:
    """Bound of the class-distance normalised variance `cdnv`: the mean of the bounds of its pairs of classes.

    Parameters
    ----------
    means : (K, d) float64 array
        The class means.
    variances, variance_errors : (K,) float64 arrays
        The mean squared distance of each class from its mean, and its error.
    mean_error : float
        Bound of the error of every mean.
    """
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
    """Bounds of NC2 of the class means, by the names of the numbers.

    Parameters
    ----------
    values : mapping of str to float
        What `simplex` gave for the means.
    centred : (K, d) float64 array
        The centred class means as rows.
    mean_error : float
        Bound of the error of every row.
    """
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
    values: dict[str, float], weights: FloatArray, centred: FloatArray, error: float
) -> dict[str, float]:
    """Bounds of NC2 of the weights and of NC3, by the names of the numbers.

    Parameters
    ----------
    values : mapping of str to float
        What `duality` gave for the arrays.
    weights : (K, d) float64 array
        Exact.
    centred : (K, d) float64 array
        The centred class means as rows.
    error : float
        Bound of the error of every mean.
    """
    classes, d = weights.shape
    scaled, _ = scale_to_unit(weights)
    size, head = float(np.linalg.norm(centred)), float(np.linalg.norm(scaled))
    rounding = 4.0 * (classes + d) * EPSILON
    turn = 2.0 * _ratio(error * classes**0.5, size) + rounding
    product = float(np.linalg.norm(scaled @ centred.T))
    product_error = head * (error * classes**0.5 + d * EPSILON * size)
    gram = float(np.linalg.norm(scaled @ scaled.T))
    return {
        "nc2_etf_weights": rounding * head**2 / gram if gram > 0.0 else math.nan,
        "nc3": turn,
        "nc3_squared": (2.0 * values["nc3"] + turn) * turn,
        "nc3_etf": 2.0 * _ratio(product_error, product) + rounding,
    }


def bias_offset_bound(weights: FloatArray, bias: FloatArray, mean: FloatArray, error: float) -> float:
    """Bound of the offset of the bias of `duality`; infinite where its terms leave the range of float64.

    Parameters
    ----------
    weights, bias : (K, d) and (K,) float64 arrays
        Exact.
    mean : (d,) float64 array
        The mean of all rows.
    error : float
        Bound of the error of every mean.

    Examples
    --------
    >>> bound = bias_offset_bound(np.eye(2), np.zeros(2), np.ones(2), 0.25)
    >>> round(bound, 12)
    0.353553390593
    """
    d = weights.shape[1]
    with np.errstate(over="ignore", under="ignore", invalid="ignore"):
        head, size, shift = (np.float64(long_norm(part)) for part in (weights, mean, bias))
        offset = head * (error + 2.0 * EPSILON * size) + (d**0.5 + 4.0) * EPSILON * (head * size + shift)
        return float(np.nan_to_num(offset + 4.0 * len(bias) * d * SMALLEST, nan=math.inf, posinf=math.inf))


def variability(within: FloatArray, centred: FloatArray, counts: FloatArray) -> dict[str, float]:
    """NC1 in all variants of `VARIANTS`, by their names: how far rows spread about the means of their classes.

    Parameters
    ----------
    within : (d, d) float64 array
        Covariance within the classes (1/N).
    centred : (K, d) float64 array
        The centred class means as rows.
    counts : (K,) float64 array
        Rows of each class.
    """
    (classes, d), total = centred.shape, float(counts.sum())
    spread, between = float(np.trace(within)), float(np.sum(centred**2)) / classes
    _, scales, directions = np.linalg.svd(centred, full_matrices=False)
    kept = scales > scales[0] * max(centred.shape) * EPSILON
    kept[classes - 1 :] = False  # the weighted sum of the rows is 0, up to a rounding that must not be divided by
    along = np.einsum("ij,jk,ik->i", directions[kept], within, directions[kept])
    papyan = float(np.sum(np.maximum(along, 0.0) / scales[kept] ** 2)) * classes if kept.any() else math.nan
    whole = within + (centred.T * (counts / total)) @ centred
    return {
        "nc1": papyan / classes,
        "nc1_sum": papyan,
        "nc1_ratio": spread / between if between > 0.0 else math.nan,
        "nc1_share": spread / (spread + between) if spread + between > 0.0 else math.nan,
        "nc1_total": min(max(float(np.trace(within @ np.linalg.pinv(whole, hermitian=True))), 0.0), d) / total,
    }


def cdnv(means: FloatArray, variances: FloatArray) -> float:
    """Class-distance normalised variance: mean over pairs of ``(v_k + v_l)/(2 |mu_k - mu_l|^2)``.

    Parameters
    ----------
    means : (K, d) float64 array
        The class means mu.
    variances : (K,) float64 array
        The mean squared distance v of each class from its mean.
    """
    total, classes = 0.0, len(means)
    with np.errstate(divide="ignore", invalid="ignore"):
        for k in range(classes - 1):
            distances = np.sum((means[k + 1 :] - means[k]) ** 2, axis=1)
            total += float(np.sum((variances[k] + variances[k + 1 :]) / (2.0 * distances)))
    return total / (classes * (classes - 1) / 2)


def _etf_distance(gram: FloatArray) -> float:
    """Distance of a K x K matrix over its norm from the simplex."""
    classes = len(gram)
    norm = float(np.linalg.norm(gram))
    simplex = (np.eye(classes) - 1.0 / classes) / math.sqrt(classes - 1)
    return float(np.linalg.norm(gram / norm - simplex)) if norm > 0.0 else math.nan


def simplex(centred: FloatArray) -> dict[str, float]:
    """NC2 of the class means in all variants of `VARIANTS`, by their names: how far they are from a simplex.

    Parameters
    ----------
    centred : (K, d) float64 array
        The centred class means as rows.
    """
    norms = np.linalg.norm(centred, axis=1)
    pairs = np.triu_indices(len(centred), 1)
    with np.errstate(divide="ignore", invalid="ignore"):
        unit = centred / norms[:, np.newaxis]
        excess = (unit @ unit.T)[pairs] + 1.0 / (len(centred) - 1)
        logs = np.log(norms)
        return {
            "nc2_equinorm": float(norms.std() / norms.mean()) if norms.any() else math.nan,
            "nc2_equiangular": float(np.mean(np.abs(excess))),
            "nc2_log_norms": float(np.mean(logs[pairs[0]] - logs[pairs[1]])),
            "nc2_cosines": float(np.mean(excess)),
            "nc2_etf": _etf_distance(centred @ centred.T),
        }


def duality(weights: FloatArray, bias: FloatArray, centred: FloatArray, mean: FloatArray) -> dict[str, float]:
    """NC2 of the weights, NC3 and the offset of the bias, by their names in `VARIANTS`.

    Parameters
    ----------
    weights : (K, d) float64 array
    bias : (K,) float64 array
    centred : (K, d) float64 array
        The centred class means as rows.
    mean : (d,) float64 array
        The mean mu of all rows.
    """
    scaled, _ = scale_to_unit(weights)
    norms = float(np.linalg.norm(scaled)), float(np.linalg.norm(centred))
    distance = float(np.linalg.norm(scaled / norms[0] - centred / norms[1])) if min(norms) > 0.0 else math.nan
    return {
        "nc2_etf_weights": _etf_distance(scaled @ scaled.T),
        "nc3": distance,
        "nc3_squared": distance**2,
        "nc3_etf": _etf_distance(scaled @ centred.T),
        "bias_offset": _offset(weights, bias, mean),
    }


def _offset(weights: FloatArray, bias: FloatArray, mean: FloatArray) -> float:
    """``|W mu + b|`` of any scale; infinite where it leaves the range of float64."""
    (head, one), (center, other), shift = scale_to_unit(weights), scale_to_unit(mean), scale_to_unit(bias)
    parts = [(array, exponent) for array, exponent in ((head @ center, one + other), shift) if array.any()]
    largest = max((exponent for _, exponent in parts), default=0)
    with np.errstate(over="ignore", under="ignore"):
        offset = sum((np.ldexp(array, exponent - largest) for array, exponent in parts), np.zeros(len(bias)))
        return float(np.ldexp(np.linalg.norm(offset), largest))
