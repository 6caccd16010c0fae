"""Plain references for the tests of `nrc_fast.ufm`: the loss as it is written, with explicit features."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

EPS = float(np.finfo(np.float64).eps)


def covariance_with(eigenvalues: Any, seed: int) -> Any:
    values = np.asarray(eigenvalues, dtype=float)
    basis = np.linalg.qr(np.random.default_rng(seed).standard_normal((len(values), len(values))))[0]
    product = (basis * values) @ basis.T
    return 0.5 * (product + product.T)


def targets_with(covariance: Any, rows: int, mean: Any, seed: int) -> Any:
    """Targets whose covariance and mean are those given, up to rounding."""
    n = len(covariance)
    noise = np.random.default_rng(seed).standard_normal((rows, n))
    white = np.linalg.qr(noise - noise.mean(axis=0))[0] * math.sqrt(rows)
    values, vectors = np.linalg.eigh(covariance)
    return white * np.sqrt(np.maximum(values, 0.0)) @ vectors.T + np.asarray(mean)


def loss_and_gradients(H: Any, W: Any, b: Any, Y: Any, lambda_W: float, lambda_H: float, lambda_b: float = 0.0) -> Any:
    """The loss of the UFM and its gradients by H, W and b."""
    rows = len(Y)
    errors = H @ W.T + b - Y
    loss = (
        np.sum(errors**2) / (2 * rows)
        + lambda_H * np.sum(H**2) / (2 * rows)
        + lambda_W * np.sum(W**2) / 2
        + lambda_b * np.sum(b**2) / 2
    )
    gradients = (
        (errors @ W + lambda_H * H) / rows,
        errors.T @ H / rows + lambda_W * W,
        errors.sum(axis=0) / rows + lambda_b * b,
    )
    return loss, gradients


def optimise(
    Y: Any, d: int, lambda_W: float, lambda_H: float, *, bias: bool = True, lambda_b: float = 0.0, seed: int = 0
) -> Any:
    """L-BFGS on every entry of H, W and b from a random start: loss, W and b."""
    from scipy.optimize import minimize

    rows, n = Y.shape
    rng = np.random.default_rng(seed)

    def split(x: Any) -> Any:
        return x[: rows * d].reshape(rows, d), x[rows * d : rows * d + n * d].reshape(n, d), x[rows * d + n * d :]

    def objective(x: Any) -> Any:
        H, W, b = split(x)
        scaled = math.sqrt(rows)  # so that features and weights are steps of one size
        loss, (by_H, by_W, by_b) = loss_and_gradients(scaled * H, W, b, Y, lambda_W, lambda_H, lambda_b)
        return loss, np.concatenate([scaled * by_H.ravel(), by_W.ravel(), by_b * bias])

    start = 0.3 * rng.standard_normal(rows * d + n * d + n)
    start[-n:] *= bias
    options = {"maxiter": 20000, "maxfun": 40000, "ftol": 1e-16, "gtol": 1e-11, "maxcor": 30}
    found = minimize(objective, start, jac=True, method="L-BFGS-B", options=options)
    _, W, b = split(found.x)
    return found.fun, W, b
