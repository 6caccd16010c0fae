"""The conditions of collapse of one layer, from the moments of its features."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from nrc_fast.base.arrays import FloatArray, StoredArray
from nrc_fast.base.leading import LeadingPairs
from nrc_fast.base.linalg import EPSILON, long_norm, scale_to_unit
from nrc_fast.base.symmetric import SymmetricMatrix
from nrc_fast.kernels.inputs import as_matrix
from nrc_fast.measurement.extent import Extent
from nrc_fast.measurement.feature_statistics import FeatureStatistics
from nrc_fast.measurement.spectrum_metrics import readout_metric
from nrc_fast.metrics.angles import angle_bound, leading_angle_bound
from nrc_fast.metrics.grounds import DECOMPOSITION, Grounds, grounds_of_components
from nrc_fast.metrics.rounding import decomposition_rounding
from nrc_fast.metrics.spectra import (
    explained_variance_ratio,
    stable_rank,
    stable_rank_bound,
    stable_rank_from_norm,
    tail_bound,
)
from nrc_fast.metrics.targets import cka_bound, linear_cka
from nrc_fast.passes.moments import Moments
from nrc_fast.reports.bound_kinds import sorted_grounds
from nrc_fast.reports.layers import LayerCollapse

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["layer_collapse"]


def layer_collapse(
    statistics: FeatureStatistics,
    weights: StoredArray | Tensor | None = None,
    *,
    n: int | None = None,
    name: str = "",
) -> LayerCollapse:
    r"""The conditions of Deep NRC from statistics of features and targets.

    Parameters
    ----------
    statistics : FeatureStatistics
        With targets. Their Gram matrix of unit rows is not needed.
    weights : (outputs, d) or (outputs, d, ...) array or tensor, optional
        Of the layer that takes the features; those of a convolution are flattened to (d, outputs times pixels).
    n : int, optional
        How many components count as signal, by default the target dimension, at most d.
    name : str

    Returns
    -------
    LayerCollapse
        What is not defined (no variance, W = 0) is NaN.

    Raises
    ------
    ValueError
        There are no rows or no targets, the weights do not fit, or n is not in 1..d.

    References
    ----------
    arXiv 2603.23805 (Deep Neural Regression Collapse), section 3. The paper's code truncates the features to their
    first columns instead of projecting them, and reads out without an intercept; here both are as in its text, with
    centred features and targets.

    Examples
    --------
    >>> from nrc_fast import FeatureStatistics
    >>> rng = np.random.default_rng(0)
    >>> Y = rng.standard_normal((500, 2))
    >>> W = rng.standard_normal((2, 8))
    >>> layer = layer_collapse(FeatureStatistics(8, n_targets=2).update(Y @ W, Y), W)
    >>> layer.noise_fraction < 1e-14, round(layer.weight_alignment, 12), layer.linear_mse < 1e-12
    (True, 1.0, True)
    """
    if statistics.count == 0 or statistics.n_targets == 0:
        msg = f"the statistics have {statistics.count} rows and {statistics.n_targets} targets; both are needed"
        raise ValueError(msg)
    moments, d = statistics.moments, statistics.d
    signal = min(statistics.n_targets, d) if n is None else n
    if not 1 <= signal <= d:
        msg = f"n is {n}; a number of components between 1 and d = {d} is expected"
        raise ValueError(msg)
    whole = Extent().has_whole_spectrum(d)
    pairs, error = moments.leading(signal, whole=whole), moments.covariance_error
    leading, turned = pairs.vectors[:signal].T, leading_angle_bound(pairs, signal, error)
    error += pairs.distance(signal)
    eigenvalues = _signal_and_noise(pairs, moments.matrix("covariance"), signal)
    # What lies outside, not 1 minus what lies inside: it keeps its digits near collapse.
    shares = explained_variance_ratio(eigenvalues)
    sigma, cross = moments.target_covariance, moments.cross_covariance
    aligned = linear_cka(np.diag(eigenvalues[:signal]), sigma, leading.T @ cross)
    linear_mse, readout_bound = readout_metric(moments, whole_spectrum=whole)
    rank_of_features = stable_rank_from_norm(moments.matrix("covariance").norm, float(eigenvalues[0]))
    values = {
        "noise_fraction": float(np.sum(shares[signal:])) if not math.isnan(shares[0]) else math.nan,
        "signal_alignment": aligned,
        "linear_mse": linear_mse,
        "feature_stable_rank": rank_of_features,
    }
    found = {
        "noise_fraction": tail_bound(eigenvalues, signal, error),
        "signal_alignment": _signal_bound(aligned, moments, (eigenvalues[:signal], leading), turned),
        "linear_mse": readout_bound,
        "feature_stable_rank": stable_rank_bound(rank_of_features, float(eigenvalues[0]), d, error),
    }
    of_weights, bounds_of_weights = _weight_conditions(weights, leading, turned)
    bounds = found | bounds_of_weights
    grounds = moments.grounds | grounds_of_components(is_whole=pairs.is_whole)
    own: dict[str, Grounds] = {"weight_stable_rank": DECOMPOSITION, "weight_alignment": grounds | DECOMPOSITION}
    return LayerCollapse(
        name=name,
        d=d,
        n=signal,
        **values,
        **of_weights,
        bounds=bounds,
        bound_grounds=sorted_grounds({name: own.get(name, grounds) for name in bounds}),
    )


def _signal_and_noise(pairs: LeadingPairs, covariance: SymmetricMatrix, signal: int) -> FloatArray:
    """Eigenvalues of the signal, and the sum of all others behind them where there are any."""
    values, vectors = np.maximum(pairs.values[:signal], 0.0), pairs.vectors[:signal]
    return np.append(values, [covariance.outside(vectors)] if signal < pairs.d else [])


def _signal_bound(value: float, moments: Moments, signal: tuple[FloatArray, FloatArray], turned: float) -> float:
    """Turned components change what the projected features share with the targets."""
    sigma, cross = moments.target_covariance, moments.cross_covariance
    own, targets, both = signal[0], sigma, signal[1].T @ cross
    errors = (
        moments.covariance_error + decomposition_rounding(moments.d) * long_norm(own),
        moments.target_error,
        turned * long_norm(cross) + moments.cross_error,
    )
    return cka_bound(value, (long_norm(own), long_norm(targets), long_norm(both)), errors)


def _weight_conditions(
    weights: StoredArray | Tensor | None, leading: FloatArray, turned: float
) -> tuple[dict[str, float], dict[str, float]]:
    """Alignment of the weights with the features' leading components, the weights' stable rank, and their bounds."""
    names = ("weight_alignment", "weight_stable_rank")
    if weights is None:
        return dict.fromkeys(names, math.nan), {}
    d, signal = leading.shape
    shape = tuple(np.shape(weights))
    if len(shape) < 2 or shape[1] != d:
        msg = f"the weights have shape {shape} and the layer is given {d} features; (outputs, {d}) is expected"
        raise ValueError(msg)
    # (outputs, d, pixels...) -> (d, outputs * pixels), whose left singular vectors lie in the space of the features.
    columns = weights.reshape(shape[0], d, -1)
    columns = columns.swapaxes(0, 1).reshape(d, -1)
    matrix, _ = scale_to_unit(as_matrix(columns, "weights")[0])
    inputs, values, _ = np.linalg.svd(matrix, full_matrices=False)
    if not values.size or values[0] == 0.0:
        return dict.fromkeys(names, math.nan), {}
    used = inputs[:, : min(signal, inputs.shape[1])]
    cosines = np.linalg.svd(leading.T @ used, compute_uv=False)
    # Where W has fewer outputs than there are components, the missing angles are right ones.
    found = float(np.sum(np.minimum(cosines, 1.0)) / signal), stable_rank(values)
    rounding = max(matrix.shape) * EPSILON * float(values[0])
    scales = np.append(values, np.zeros(d - len(values)))
    angle = turned + angle_bound(scales, used.shape[1], rounding) + 4.0 * signal * EPSILON
    limits = min(angle, 1.0), stable_rank_bound(found[1], float(values[0]), len(values), rounding)
    return dict(zip(names, found, strict=True)), dict(zip(names, limits, strict=True))
