"""Numbers of the UFM from their formulas in arithmetic of many digits (mpmath), and problems to try them on."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

import mpmath as mp
import numpy as np

# Of the range of products of penalties, beside which eigenvalues of matrices must keep their digits.
DIGITS = 60
SHARES = ("r2", "cka", "cosines", "explained_variance_ratio", "head_gram_shape")  # of 1


class Problem:
    """Targets, or their covariance, of some condition, with exact moments.

    Attributes
    ----------
    given : dict
        The arguments that describe the targets.
    covariance, mean : mpmath matrices
        Of these, exactly.
    """

    def __init__(self, rng: np.random.Generator, index: int) -> None:
        n = int(rng.integers(1, 9))
        condition = 10.0 ** rng.uniform(0, 18)
        values = np.sort(condition ** -rng.uniform(0, 1, n))[::-1]
        values[0] = 1.0
        if n > 1:
            values[-1] = 1.0 / condition
        if n > 2 and index % 4 == 0:
            values[1] = values[0]
        rotation = np.linalg.qr(rng.standard_normal((n, n)))[0] if index % 5 else np.eye(n)
        count = int(rng.integers(n + 2, 24))
        noise = rng.standard_normal((count, n))
        rows = np.linalg.qr(noise - noise.mean(axis=0))[0] * np.sqrt(count * values) @ rotation.T
        rows *= 10.0 ** rng.uniform(-20, 20)
        if index % 7 == 0:
            rows *= 10.0 ** rng.uniform(-6, 6, n)
        self.n = n
        center = (index % 3) * np.abs(rows).max() * rng.standard_normal(n)
        if index % 2:
            covariance = rows.T @ rows / count
            covariance = 0.5 * (covariance + covariance.T)
            self.given: dict[str, Any] = {"covariance": covariance, "mean": center}
            self.covariance, self.mean = exactly(covariance), exactly(center[:, np.newaxis])
        else:
            targets = rows + center
            self.given = {"Y": targets}
            matrix = exactly(targets)
            self.mean = mp.matrix([mp.fsum(matrix[:, j]) / count for j in range(n)])
            for i in range(count):
                matrix[i, :] -= self.mean.T
            self.covariance = matrix.T * matrix / count

    def spectrum(self, *, about_mean: bool) -> tuple[list[Any], Any]:
        """Eigenvalues, descending, and eigenvectors in columns."""
        matrix = self.covariance if about_mean else self.covariance + self.mean * self.mean.T
        values, vectors = mp.eigsy(matrix)
        order = sorted(range(self.n), key=lambda j: -values[j])
        columns = mp.matrix(self.n, self.n)
        for place, j in enumerate(order):
            columns[:, place] = vectors[:, j]
        return [max(values[j], mp.mpf(0)) for j in order], columns


def exactly(array: Any) -> Any:
    """A float64 number or matrix with all its digits."""
    if np.ndim(array) == 0:
        return mp.mpf(float(array))
    return mp.matrix(np.asarray(array, dtype=np.float64).tolist())


def size(matrix: Any) -> Any:
    return mp.sqrt(mp.fsum(entry**2 for entry in matrix))


def along(vectors: Any, values: list[Any]) -> Any:
    return vectors * mp.diag(values) * vectors.T


def exact_minimum(
    problem: Problem, lambda_W: float, lambda_H: float, *, bias: bool, d: int | None = None
) -> dict[str, Any]:
    """Of features of width d, which hold the leading d directions alone; of any width from n on if None."""
    n, covariance = problem.n, problem.covariance
    values, vectors = problem.spectrum(about_mean=bias)
    c = exactly(lambda_W) * exactly(lambda_H)
    root, scale = mp.sqrt(c), mp.sqrt(exactly(lambda_H) / exactly(lambda_W))
    has_room = [d is None or j < d for j in range(n)]
    kept = [max(mp.sqrt(v) - root, mp.mpf(0)) if room else mp.mpf(0) for v, room in zip(values, has_room, strict=True)]
    residual = [min(v, c) if room else v for v, room in zip(values, has_room, strict=True)]
    gram = along(vectors, kept)
    plain = bias or not any(problem.mean)
    variance = sum(values) if plain else sum(covariance[i, i] for i in range(n))
    found = {
        "rank": sum(value > 0 for value in kept),
        "mse": sum(residual),
        "loss": sum(residual) / 2 + root * sum(kept),
        "r2": 1 - sum(residual) / variance,
        "weight_norm_squared": scale * sum(kept),
        "feature_norm_squared": sum(kept) / scale,
        "weight_singular_values": [mp.sqrt(scale * a) for a in kept],
        "bias": list(problem.mean) if bias else [mp.mpf(0)] * n,
        "gram": scale * gram,
        "residual_covariance": along(vectors, residual),
        "head_gram_shape": gram / size(gram) if any(kept) else gram,
    }
    if any(kept):
        lengths = [mp.sqrt(abs(gram[i, i])) for i in range(n)]
        if min(lengths) > mp.mpf(10) ** (10 - DIGITS / 2) * max(lengths):
            found["cosines"] = [[gram[i, j] / lengths[i] / lengths[j] for j in range(n)] for i in range(n)]
        half = along(vectors, [mp.sqrt(a / v) if a > 0 else mp.mpf(0) for a, v in zip(kept, values, strict=True)])
        features = half * covariance * half
        spectrum = sorted(mp.eigsy(features, eigvals_only=True), reverse=True)
        found["explained_variance_ratio"] = [value / sum(spectrum) for value in spectrum]
        found["cka"] = size(covariance * half) ** 2 / (size(features) * size(covariance))
    return found


def exact_error_floor(problem: Problem, c: Any, d: int | None = None) -> dict[str, Any]:
    n, covariance = problem.n, problem.covariance
    values, _ = problem.spectrum(about_mean=True)
    variances = [covariance[i, i] for i in range(n)]
    correlations = mp.matrix(n, n)
    for i in range(n):
        for j in range(n):
            correlations[i, j] = covariance[i, j] / mp.sqrt(variances[i] * variances[j])
    shares, vectors = mp.eigsy(correlations)
    room = n if d is None else min(d, n)
    leading = sorted(range(n), key=lambda j: -shares[j])[:room]
    left = [min(max(share, mp.mpf(0)), c) if j in leading else share for j, share in enumerate(shares)]
    standardized = mp.fsum(left[j] * vectors[i, j] ** 2 * variances[i] for i in range(n) for j in range(n))
    mse = sum(min(value, c) for value in values[:room]) + sum(values[room:])
    found = {
        "eigenvalues": values,
        "variance": sum(values),
        "rank": sum(value > c for value in values[:room]),
        "mse_floor": mse,
        "r2_ceiling": sum(max(value - c, mp.mpf(0)) for value in values[:room]) / sum(values),
        "single_task_floor": sum(min(value, c) for value in variances),
        "standardized_floor": standardized,
    }
    return found if room < n else found | {"whitened_floor": min(c, mp.mpf(1)) * sum(values)}


def exact_threshold(value: Any, m: int) -> Any:
    return value**m * mp.mpf(max(m - 1, 1)) ** (m - 1) / mp.mpf(m) ** (2 * m)


def exact_deep(problem: Problem, penalties: list[float], *, bias: bool) -> dict[str, Any]:
    values, vectors = problem.spectrum(about_mean=bias)
    found = exact_deep_numbers(values, [exactly(penalty) for penalty in penalties])
    return found | {"gram": along(vectors, found.pop("gram_values"))}


def exact_deep_numbers(values: list[Any], exact: list[Any]) -> dict[str, Any]:
    """Of directions of these variances, with penalties of which the last is lambda_H."""
    m = len(exact) - 1
    product = mp.fprod(exact)
    shares = [exact_share(value, product, m) for value in values]
    energies = [value * share * (1 - share) for value, share in zip(values, shares, strict=True)]
    layers = mp.fprod(exact[:-1])
    return {
        "rank": sum(share < 1 for share in shares),
        "mse": sum(v * t**2 for v, t in zip(values, shares, strict=True)),
        "loss": sum(v * t**2 / 2 + (m + 1) * e / 2 for v, t, e in zip(values, shares, energies, strict=True)),
        "error_share": shares,
        "prediction_singular_values": [mp.sqrt(v) * (1 - t) for v, t in zip(values, shares, strict=True)],
        "layer_singular_values": [[mp.sqrt(e / penalty) for e in energies] for penalty in exact[:-1]],
        "feature_singular_values": [mp.sqrt(e / exact[-1]) for e in energies],
        "penalty_product": product,
        "thresholds": [exact_threshold(value, m) for value in values],
        "jumps": [mp.sqrt(value) * (m - 1) / m for value in values],
        "gram_values": [e**m / layers for e in energies],
    }


def exact_share(value: Any, product: Any, m: int) -> Any:
    """What predictions lose of a direction, t; 1 where it is dropped."""
    if not product < exact_threshold(value, m):
        return mp.mpf(1)
    exponent = mp.mpf(m - 1) / (m + 1)
    wanted = (product / value**m) ** (mp.mpf(1) / (m + 1))
    share = wanted
    for _ in range(30 if m > 1 else 0):
        left = (1 - share) ** exponent
        share -= (share * left - wanted) * (1 - share) / (left * (1 - share * (1 + exponent)))
    return share


def exact_deep_floor(problem: Problem, decay: Any, layers: int) -> dict[str, Any]:
    """Of a linear network with the loss ``torch_mse``."""
    n, covariance = problem.n, problem.covariance
    values, _ = problem.spectrum(about_mean=True)
    product, m = (decay * n / 2) ** layers, layers - 1

    def square(value: Any) -> Any:
        return max(value, mp.mpf(0)) * exact_share(max(value, mp.mpf(0)), product, m) ** 2

    variances = [covariance[i, i] for i in range(n)]
    correlations = mp.matrix(n, n)
    for i in range(n):
        for j in range(n):
            correlations[i, j] = covariance[i, j] / mp.sqrt(variances[i] * variances[j])
    shares, vectors = mp.eigsy(correlations)
    mse = sum(square(value) for value in values)
    return {
        "eigenvalues": values,
        "variance": sum(values),
        "rank": sum(exact_share(value, product, m) < 1 for value in values),
        "error_share": [exact_share(value, product, m) for value in values],
        "mse_floor": mse,
        "r2_ceiling": 1 - mse / sum(values),
        "single_task_floor": sum(square(value) for value in variances),
        "standardized_floor": mp.fsum(
            square(shares[j]) * vectors[i, j] ** 2 * variances[i] for i in range(n) for j in range(n)
        ),
        "whitened_floor": square(mp.mpf(1)) * sum(values),
        "critical_weight_decays": [exact_threshold(value, m) ** (mp.mpf(1) / layers) * 2 / n for value in values],
    }


class Comparison:
    """Errors beside their bounds: how many are larger, and the medians of the ratios where the rank is determined."""

    def __init__(self) -> None:
        self.violations: list[str] = []
        self.ratios: dict[str, list[float]] = defaultdict(list)

    def add(self, where: str, found: Any, exact: dict[str, Any]) -> None:
        """Compare all numbers of an object that has `bounds` and `rank_range` with exact ones."""
        least, most = found.rank_range
        if not least <= exact["rank"] <= most:
            self.violations.append(f"{where}: rank {exact['rank']} is not in {least} to {most}")
        for name, wanted in exact.items():
            value, bound = getattr(found, name), found.bounds[name]
            if np.isnan(value).any() and least == 0 < most:
                continue  # it is open whether this is defined
            if isinstance(wanted, mp.matrix):
                self._one((where, name), (size(exactly(value) - wanted), size(wanted)), bound, counts=least == most)
                continue
            flat = np.ravel(np.array(wanted, dtype=object))
            for one, number, limit in zip(flat, np.ravel(value), np.ravel(bound), strict=True):
                self._one((where, name), (abs(exactly(number) - one), abs(one)), limit, counts=least == most)

    def _one(self, place: tuple[str, str], error_and_size: tuple[Any, Any], bound: float, *, counts: bool) -> None:
        (where, name), (error, wanted) = place, error_and_size
        if error <= mp.mpf(10) ** (10 - DIGITS) * (1 if name in SHARES else wanted):
            return  # this reference knows no more
        if not error <= exactly(bound):
            self.violations.append(f"{where}: {name} is off by {float(error):.3g}, with a bound of {bound:.3g}")
        if counts:
            self.ratios[name].append(float(exactly(bound) / error))

    def medians(self) -> dict[str, float]:
        return {name: float(np.median(ratios)) for name, ratios in self.ratios.items() if len(ratios) > 9}


def exact_penalised(problem: Any, lambda_W: float, lambda_H: float, lambda_b: float) -> dict[str, Any]:
    """With a penalised bias, for any mean: the fixed point of a proximal map, which has no closed form in general.

    The predictions Z about the bias minimise ``|(Z - Y) D^(1/2)|^2/2 + sqrt(c) |Z|_*``, Y the root of the covariance
    and the mean in n + 1 columns, D = diag(1, ..., 1, kappa).
    """
    n, covariance, mean = problem.n, problem.covariance, problem.mean
    c, penalty = exactly(lambda_W) * exactly(lambda_H), exactly(lambda_b)
    root, scale, kappa = mp.sqrt(c), mp.sqrt(exactly(lambda_H) / exactly(lambda_W)), penalty / (1 + penalty)
    values, vectors = problem.spectrum(about_mean=True)
    roots = along(vectors, [mp.sqrt(value) for value in values])
    Y, Z, last = mp.matrix(n, n + 1), mp.matrix(n, n + 1), mp.inf
    Y[:, :n], Y[:, n] = roots, mean
    while last > mp.mpf(10) ** -40 * size(Y):
        target = Y.copy()
        target[:, n] = (1 - kappa) * Z[:, n] + kappa * mean
        squares, U = mp.eigsy(target * target.T)
        lengths = [mp.sqrt(max(square, mp.mpf(0))) for square in squares]
        shares = [max(length - root, mp.mpf(0)) / length if length > 0 else mp.mpf(0) for length in lengths]
        before, Z = Z, along(U, shares) * target
        last = size(Z - before)
    r = [length * share for length, share in zip(lengths, shares, strict=True)]
    bias = (mean - Z[:, n]) / (1 + penalty)
    errors = Z - Y
    errors[:, n] += bias
    gram, total = along(U, r), sum(r)
    second = errors * errors.T
    mse, variance = sum(second[i, i] for i in range(n)), sum(covariance[i, i] for i in range(n))
    found = {
        "rank": sum(value > mp.mpf(10) ** -30 * size(Y) for value in r),
        "mse": mse,
        "loss": mse / 2 + root * total + penalty * size(bias) ** 2 / 2,
        "r2": 1 - mse / variance,
        "weight_norm_squared": scale * total,
        "feature_norm_squared": total / scale,
        "bias": list(bias),
        "gram": scale * gram,
        "residual_covariance": second,
        "head_gram_shape": gram / size(gram) if total > 0 else gram,
    }
    if total > 0:
        # H^T H is Z^T (Z Z^T)^(-1/2) Z over the scale; its centered part has the features' spectrum.
        centred = Z[:, :n]
        inverse = along(U, [1 / value if value > 0 else mp.mpf(0) for value in r])
        features = centred.T * inverse * centred
        found["explained_variance_ratio"] = sorted(mp.eigsy(features, eigvals_only=True), reverse=True)
        spread = sum(found["explained_variance_ratio"])
        found["explained_variance_ratio"] = [value / spread for value in found["explained_variance_ratio"]]
        inner = sum(features[i, j] * covariance[i, j] for i in range(n) for j in range(n))
        found["cka"] = inner / (size(features) * size(covariance))
        lengths = [mp.sqrt(abs(gram[i, i])) for i in range(n)]
        if min(lengths) > 0:
            found["cosines"] = [[gram[i, j] / lengths[i] / lengths[j] for j in range(n)] for i in range(n)]
    return found
