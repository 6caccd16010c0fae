"""The balance of a head from its definition, with 60 digits, on what is stored."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import mpmath
import numpy as np

DIGITS = 60


def exact_matrix(H: Any, W: Any, b: Any, Y: Any, residual: Callable[[Any, Any], Any] | None = None) -> Any:
    """``(1/M) sum r (W h)^T`` as a matrix of mpmath; `residual` gives r of the lists f and y, by default y - f."""
    residual = residual or (lambda f, y: [target - output for target, output in zip(y, f, strict=True)])
    rows, weights, targets = (_exact(matrix) for matrix in (H, W, Y))
    with mpmath.workdps(DIGITS):
        bias = [mpmath.mpf(float(value)) for value in np.ravel(np.asarray(b, dtype=np.float64))]
        n = len(weights)
        total = mpmath.zeros(n, n)
        for row, target in zip(rows, targets, strict=True):
            image = [mpmath.fdot(zip(weight, row, strict=True)) for weight in weights]
            left = residual([value + offset for value, offset in zip(image, bias, strict=True)], target)
            for j in range(n):
                for k in range(n):
                    total[j, k] += left[j] * image[k]
        return total / len(rows)


def exact_numbers(matrix: Any, W: Any) -> dict[str, Any]:
    """Distance, decay and asymmetry of a balance, as numbers of mpmath."""
    weights = _exact(W)
    with mpmath.workdps(DIGITS):
        n = len(weights)
        gram = mpmath.matrix(n, n)
        for j in range(n):
            for k in range(n):
                gram[j, k] = mpmath.fdot(zip(weights[j], weights[k], strict=True))
        sizes = [mpmath.mnorm(part, "f") for part in (matrix, gram)]
        trace = [sum(part[j, j] for j in range(n)) for part in (matrix, gram)]
        return {
            "distance": mpmath.mnorm(matrix / sizes[0] - gram / sizes[1], "f") ** 2,
            "decay": trace[0] / trace[1],
            "asymmetry": mpmath.mnorm(matrix - matrix.T, "f") / sizes[0],
        }


def _exact(matrix: Any) -> list[list[Any]]:
    return [[mpmath.mpf(float(value)) for value in row] for row in np.asarray(matrix, dtype=np.float64)]
