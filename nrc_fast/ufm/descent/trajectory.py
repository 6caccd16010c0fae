"""Metrics of states of gradient descent on the UFM, from T, W, b and the moments K of ``Z = [H0, Y, 1]``.

With ``K = C^T C`` the D = d + n + 1 rows of ``F = C T^T`` have the same second moments as the M rows of the features,
and ``E = C Q^T`` those of the errors: sums of squares of F and E cancel nowhere, so that values fall to the square of
the rounding, 1e-30 of the energy, and not to 1e-16 as differences of moments do.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from nrc_fast.base.arrays import FloatArray
from nrc_fast.base.linalg import EPSILON
from nrc_fast.kernels.arrays import PlacedArray
from nrc_fast.kernels.interface import Backend
from nrc_fast.metrics.alignment import HeadAlignment
from nrc_fast.ufm.geometry import least_distance
from nrc_fast.ufm.solution import nonzero

__all__ = ["METRICS", "States", "epsilon_of", "measure_states", "relative_gradient", "square_factors"]

METRICS = (
    *("loss", "mse", "nrc1", "nrc2", "nrc3"),
    *("weight_norm_squared", "feature_norm_squared", "balance", "distance"),
)


@dataclass(frozen=True, eq=False)
class States:
    """States of P problems in float64, and what their metrics depend on; every array has P as its first axis.

    Transforms, weights, biases and the roots of K lie in the memory of the backend; the others are numpy arrays.
    """

    transforms: PlacedArray  # (P, d, D)
    weights: PlacedArray  # (P, n, d)
    biases: PlacedArray  # (P, n)
    plain: PlacedArray  # (P, D, D): C with C^T C = K
    centered: PlacedArray  # (P, D, D): C with C^T C the centred K
    penalties: FloatArray  # (P, 3): lambda_W, lambda_H, lambda_b
    covariances: FloatArray  # (P, n, n): of the targets, or their second moment where there is no bias
    predicted: FloatArray  # (P, n, n): weights of the predicted minimum up to a rotation; NaN where there is none
    epsilon: float  # of the weights
    has_bias: bool
    backend: Backend


def _errors(states: States) -> PlacedArray:
    """E, (P, D, n): rows that stand for the errors of the samples."""
    n, d = states.weights.shape[-2:]
    residual = states.weights @ states.transforms
    residual[..., list(range(n)), list(range(d, d + n))] -= 1.0
    residual[..., -1] += states.biases
    return states.plain @ residual.swapaxes(-1, -2)


def _rows(root: PlacedArray, states: States) -> PlacedArray:
    return root @ states.transforms.swapaxes(-1, -2)


def _squares(part: PlacedArray, states: States) -> FloatArray:
    """Sums over all axes but the first, (P,), on the host."""
    return np.asarray(states.backend.fetch((part**2).sum(axis=tuple(range(1, part.ndim)))))


def relative_gradient(states: States) -> FloatArray:
    """The largest of the gradients by W, H and b, each relative to the terms that cancel in it, (P,)."""
    errors, rows = _errors(states), _rows(states.plain, states)
    weights, biases = states.weights, states.biases
    lambda_W, lambda_H, lambda_b = (states.backend.place(part) for part in np.ascontiguousarray(states.penalties.T))
    ones = states.plain[..., -1]
    transposed = errors.swapaxes(-1, -2)
    pulls = transposed @ rows, errors @ weights, (transposed @ ones[..., None])[..., 0]
    terms = lambda_W[:, None, None] * weights, lambda_H[:, None, None] * rows, lambda_b[:, None] * biases
    error, feature, weight = (np.sqrt(_squares(part, states)) for part in (errors, rows, weights))
    scales = error * feature, error * weight, error
    found = [
        np.sqrt(_squares(pull + term, states)) / nonzero(scale + np.sqrt(_squares(term, states)))
        for pull, term, scale in zip(pulls, terms, scales, strict=True)
    ]
    return np.asarray(np.max(found if states.has_bias else found[:2], axis=0))


def measure_states(states: States, names: tuple[str, ...]) -> dict[str, FloatArray]:
    """The metrics of these names for every problem, (P,) each."""
    values: dict[str, FloatArray] = {}
    lambda_W, lambda_H, lambda_b = states.penalties.T
    mse, weight = _squares(_errors(states), states), _squares(states.weights, states)
    rows = _rows(states.plain, states)
    feature = _squares(rows, states)
    values["mse"], values["weight_norm_squared"], values["feature_norm_squared"] = mse, weight, feature
    values["loss"] = 0.5 * (mse + lambda_W * weight + lambda_H * feature + lambda_b * _squares(states.biases, states))
    if "nrc1" in names or "nrc2" in names:
        centered = _rows(states.centered, states)
        values["nrc1"], values["nrc2"] = _nrc1(centered, states), _nrc2(centered, states)
    if "nrc3" in names:
        values["nrc3"] = _nrc3(states)
    if "balance" in names:
        heads = states.weights.swapaxes(-1, -2) @ states.weights
        grams = rows.swapaxes(-1, -2) @ rows
        by_H, by_W = (states.backend.place(part)[:, None, None] for part in (lambda_H, lambda_W))
        difference = by_H * grams - by_W * heads
        values["balance"] = np.sqrt(_squares(difference, states))
    if "distance" in names:
        values["distance"] = _distance(states)
    return {name: values[name] for name in names}


def _nrc1(centered: PlacedArray, states: States) -> FloatArray:
    n = states.weights.shape[-2]
    energies = states.backend.singular_values(centered) ** 2
    total = energies.sum(axis=-1)
    return np.asarray(energies[..., n:].sum(axis=-1) / np.where(total > 0.0, total, np.nan))


def _nrc2(centered: PlacedArray, states: States) -> FloatArray:
    _, sizes, bases = np.linalg.svd(states.backend.fetch(states.weights), full_matrices=False)
    floor = sizes[..., :1] * max(states.weights.shape[-2:]) * states.epsilon
    bases = states.backend.place(np.where((sizes > floor)[..., np.newaxis], bases, 0.0))
    outside = centered - (centered @ bases.swapaxes(-1, -2)) @ bases
    total = _squares(centered, states)
    total = np.where((total > 0.0) & (sizes[..., 0] > 0.0), total, np.nan)
    return _squares(outside, states) / total


def _nrc3(states: States) -> FloatArray:
    weights = states.backend.fetch(states.weights)
    grams = weights @ np.swapaxes(weights, -1, -2)
    gammas = states.penalties[:, 0] * states.penalties[:, 1]
    return np.array(
        [
            HeadAlignment(gram, covariance).nrc3(float(gamma))
            for gram, covariance, gamma in zip(grams, states.covariances, gammas, strict=True)
        ]
    )


def _distance(states: States) -> FloatArray:
    known = np.isfinite(states.predicted[:, 0, 0])
    heads = square_factors(states.backend.fetch(states.weights))
    distance = least_distance(heads, np.where(known[:, None, None], states.predicted, 0.0))
    return np.where(known, distance, np.nan)


def square_factors(weights: FloatArray) -> FloatArray:
    """Matrices (P, n, n) with the Grams of weights (P, n, d), which is all that counts up to a rotation.

    Examples
    --------
    >>> np.abs(square_factors(np.array([[[3.0], [4.0]]]))).round(12).tolist()
    [[[3.0, 0.0], [4.0, 0.0]]]
    """
    n = weights.shape[-2]
    factors = np.swapaxes(np.linalg.qr(np.swapaxes(weights, -1, -2), mode="r"), -1, -2)
    return np.pad(factors, ((0, 0), (0, 0), (0, n - factors.shape[-1])))


def epsilon_of(dtype: str) -> float:
    """Rounding unit of the weights.

    Examples
    --------
    >>> epsilon_of("float32") == 2.0**-23
    True
    """
    return EPSILON if dtype == "float64" else 2.0**-23
