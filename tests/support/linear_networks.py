"""Linear networks with weight decay, trained to their minimum with every product written out."""

from __future__ import annotations

import math
from typing import Any

import numpy as np


def whitened_inputs(rows: int, d: int, seed: int) -> Any:
    """Inputs with mean 0 and the identity as their covariance."""
    noise = np.random.default_rng(seed).standard_normal((rows, d))
    return np.linalg.qr(noise - noise.mean(axis=0))[0] * math.sqrt(rows)


def trained(X: Any, Y: Any, weight_decay: float, layers: int, *, seed: int = 0, width: int = 0) -> tuple[Any, float]:
    """Weights, the first layer first, and the loss ``|f(X) - Y|^2/(2M) + weight_decay/2 sum |W_l|^2`` by L-BFGS."""
    from scipy.optimize import minimize

    (rows, d), n = X.shape, Y.shape[1]
    sizes = [d, *[width or d] * (layers - 1), n]
    shapes = list(zip(sizes[1:], sizes[:-1], strict=True))
    cuts = np.cumsum([a * b for a, b in shapes])[:-1]

    def split(x: Any) -> Any:
        return [part.reshape(shape) for part, shape in zip(np.split(x, cuts), shapes, strict=True)]

    def objective(x: Any) -> Any:
        weights = split(x)
        outputs = [X]
        for W in weights:
            outputs.append(outputs[-1] @ W.T)
        errors = outputs[-1] - Y
        back, gradients = errors / rows, []
        for W, given in zip(weights[::-1], outputs[-2::-1], strict=True):
            gradients.append((back.T @ given + weight_decay * W).ravel())
            back = back @ W
        return np.sum(errors**2) / (2 * rows) + 0.5 * weight_decay * (x @ x), np.concatenate(gradients[::-1])

    x = 0.7 * np.random.default_rng(seed).standard_normal(sum(a * b for a, b in shapes)) / math.sqrt(d)
    options = {"maxiter": 20_000, "maxfun": 40_000, "maxcor": 40, "ftol": 0.0, "gtol": 1e-13}
    found = minimize(objective, x, jac=True, method="L-BFGS-B", options=options)
    return split(found.x), float(found.fun)
