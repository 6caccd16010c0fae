"""NRC3 of depth m and the exponent of a head, from their formulas in arithmetic of many digits (mpmath)."""

from __future__ import annotations

from typing import Any

import mpmath as mp
import numpy as np


def exactly(array: Any) -> Any:
    return mp.matrix(np.asarray(array, dtype=np.float64).tolist())


def rotated(W: Any, covariance: Any) -> tuple[list[Any], Any]:
    """Eigenvalues of the covariance, descending, and W W^T over its norm in their basis."""
    weights = exactly(W)
    values, vectors = mp.eigsy(exactly(covariance))
    order = sorted(range(len(covariance)), key=lambda j: -values[j])
    basis = mp.matrix([[vectors[i, j] for j in order] for i in range(len(covariance))])
    gram = (basis.T * weights) * (basis.T * weights).T
    return [values[j] for j in order], gram / mp.sqrt(mp.fsum(entry**2 for entry in gram))


def lost(ratio: Any, m: int) -> Any:
    """The smaller root t of ``t (1 - t)^((m - 1)/(m + 1)) = r``, by Newton's steps from below."""
    power, t = mp.mpf(m - 1) / (m + 1), ratio
    for _ in range(60):
        left = (1 - t) ** power
        step = (ratio - t * left) * (1 - t) / (left * (1 - t * (1 + power)))
        t += step
        if abs(step) <= t * mp.mpf(10) ** (5 - mp.mp.dps):
            break
    return t


def deep_shape(values: list[Any], gamma: Any, m: int) -> list[Any]:
    """Eigenvalues of the Gram of the last of m layers, over their norm."""
    power = mp.mpf(1) / (m + 1)
    entries = [v**power * (1 - lost((gamma / v**m) ** power, m)) ** (2 * power) if v > 0 else mp.mpf(0) for v in values]
    norm = mp.sqrt(mp.fsum(entry**2 for entry in entries))
    return [entry / norm for entry in entries]


def exact_deep_nrc3(values: list[Any], gram: Any, gamma: Any, m: int) -> Any:
    shape, n = deep_shape(values, gamma, m), len(values)
    return mp.fsum((gram[i, j] - (shape[i] if i == j else 0)) ** 2 for i in range(n) for j in range(n))


def largest_gamma(smallest: Any, m: int) -> Any:
    return smallest**m * mp.mpf(m - 1) ** (m - 1) / mp.mpf(m) ** (2 * m)


def exact_best(values: list[Any], gram: Any, m: int, *, points: int = 24) -> tuple[Any, Any]:
    """The smallest NRC3 and its gamma: a grid of ``gamma^(1/(m + 1))``, then golden sections around its best point."""
    most = largest_gamma(values[-1], m)

    def at(share: Any) -> Any:
        return exact_deep_nrc3(values, gram, most * share ** (m + 1), m)

    grid = [mp.mpf(k) / points for k in range(points + 1)]
    found = [at(share) for share in grid]
    best = found.index(min(found))
    low, high = grid[max(best - 1, 0)], grid[min(best + 1, points)]
    golden = (mp.sqrt(5) - 1) / 2
    first, second = high - golden * (high - low), low + golden * (high - low)
    at_first, at_second = at(first), at(second)
    for _ in range(60):
        if at_first <= at_second:
            high, second, at_second = second, first, at_first
            first = high - golden * (high - low)
            at_first = at(first)
        else:
            low, first, at_first = first, second, at_second
            second = low + golden * (high - low)
            at_second = at(second)
    share = min((mp.mpf(0), mp.mpf(1), (low + high) / 2), key=at)
    return at(share), most * share ** (m + 1)


def exact_power_law(W: Any, covariance: Any) -> dict[str, Any]:
    """The slope of the line through all logarithms, and what it leaves of W W^T."""
    values, gram = rotated(W, covariance)
    n = len(values)
    x, y = [mp.log(value) for value in values], [mp.log(gram[j, j]) for j in range(n)]
    middle = mp.fsum(x) / n
    slope = mp.fsum((a - middle) * b for a, b in zip(x, y, strict=True)) / mp.fsum((a - middle) ** 2 for a in x)
    power = [mp.e ** (slope * (a - x[0])) for a in x]
    norm = mp.sqrt(mp.fsum(entry**2 for entry in power))
    overlap = mp.fsum(gram[j, j] * power[j] / norm for j in range(n))
    outside = mp.fsum(gram[i, j] ** 2 for i in range(n) for j in range(n) if i != j)
    along = mp.fsum((gram[j, j] - overlap * power[j] / norm) ** 2 for j in range(n))
    return {"exponent": slope, "residual_share": outside + along, "outside_share": outside}
