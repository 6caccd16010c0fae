"""A ladder of targets, conditions and offsets for numbers of the UFM, beside their values to 60 digits."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import mpmath as mp
import numpy as np

from nrc_fast import ufm
from support.exact_ufm import (
    Comparison,
    Problem,
    exact_deep,
    exact_deep_floor,
    exact_error_floor,
    exact_minimum,
    exact_threshold,
    exactly,
)

OUTPUTS = (1, 2, 3, 4, 5, 6, 7, 8)
CONDITIONS = (1.0, 1e3, 1e6, 1e9, 1e12, 1e15, 1e18)
OFFSETS = (0.0, 1.0, 30.0, 1e4)
# Where c is: at an eigenvalue, a little beside it, above the smallest, between two, above all, and far below all.
PLACES = ("at", "beside", "above the smallest", "between", "above", "below", "far below")


@dataclass(frozen=True)
class Rung:
    """Targets of one size, condition and offset, given themselves or by their moments."""

    n: int
    condition: float
    offset: float
    place: str
    given: str = "Y"
    seed: int = 0

    def problem(self) -> LadderProblem:
        return LadderProblem(self)

    def c(self, values: list[Any]) -> float:
        """lambda_W lambda_H."""
        rng = np.random.default_rng([self.seed, 1, self.n])
        one, largest = float(values[int(rng.integers(len(values)))]), float(values[0])
        least = float(values[-1])
        found = {
            "at": one,
            "beside": one * (1.0 + 1e-9 * rng.uniform(-1.0, 1.0)),
            "above the smallest": 3.0 * least,
            "between": math.sqrt(one) * math.sqrt(largest) * rng.uniform(0.3, 0.9),
            "above": 1.5 * largest,
            "below": 0.1 * least,
            "far below": 1e-30 * largest,
        }[self.place]
        return found or 1e-30 * largest


class LadderProblem(Problem):
    """Targets with these eigenvalues, log-uniform, some of which tie, in a basis of their own."""

    def __init__(self, rung: Rung) -> None:
        rng = np.random.default_rng([rung.seed, rung.n, int(math.log10(rung.condition)), int(rung.offset)])
        n = self.n = rung.n
        values = np.sort(rung.condition ** -rng.uniform(0.0, 1.0, n))[::-1]
        values[0] = 1.0
        if n > 1:
            values[-1] = 1.0 / rung.condition
        if n > 3 and rung.seed % 2:
            values[1] = values[0]
        rotation = np.linalg.qr(rng.standard_normal((n, n)))[0] if rung.seed % 5 < 4 else np.eye(n)
        count = int(n + rng.integers(2, 16))
        noise = rng.standard_normal((count, n))
        rows = np.linalg.qr(noise - noise.mean(axis=0))[0] * np.sqrt(count * values) @ rotation.T
        center = rung.offset * rng.uniform(0.5, 1.5, n)
        if rung.given == "Y":
            self._measure(rows + center)
        else:
            covariance = rows.T @ rows / count
            covariance = 0.5 * (covariance + covariance.T)
            self.given = {"covariance": covariance, "mean": center}
            self.covariance, self.mean = exactly(covariance), exactly(center[:, np.newaxis])

    def _measure(self, targets: Any) -> None:
        count = len(targets)
        self.given = {"Y": targets}
        matrix = exactly(targets)
        self.mean = mp.matrix([mp.fsum(matrix[:, j]) / count for j in range(self.n)])
        for i in range(count):
            matrix[i, :] -= self.mean.T
        self.covariance = matrix.T * matrix / count


def rungs(
    outputs: tuple[int, ...], conditions: tuple[float, ...], offsets: tuple[float, ...], *, every: int = 1
) -> Iterator[Rung]:
    """One of so many of all steps, places and ways to give targets in turn."""
    steps = itertools.product(outputs, conditions, offsets)
    for index, (n, condition, offset) in enumerate(itertools.islice(steps, 0, None, every)):
        place = PLACES[(index * 3 + index // 7) % len(PLACES)]
        yield Rung(n, condition, offset, place, ("Y", "covariance")[index // 2 % 2], index)


def compare_minimum(compared: Comparison, rung: Rung, *, bias: bool, width: int | None) -> None:
    problem = rung.problem()
    c = rung.c(problem.spectrum(about_mean=bias)[0])
    lambda_W = 10.0 ** np.random.default_rng([rung.seed, 2]).uniform(-6.0, 6.0)
    d = None if width is None else max(1, rung.n - width)
    found = ufm.minimum(**problem.given, lambda_W=lambda_W, lambda_H=c / lambda_W, bias=bias, d=d)
    exact = exact_minimum(problem, lambda_W, c / lambda_W, bias=bias, d=d)
    if np.isnan(found.cosines).any() and np.diagonal(found.gram).min() <= found.bounds["gram"]:
        exact.pop("cosines", None)  # a row of W may be 0
    compared.add(str(rung), found, exact)


def compare_floor(compared: Comparison, rung: Rung, *, width: int | None) -> None:
    problem = rung.problem()
    problem.given.pop("mean", None)
    c = rung.c(problem.spectrum(about_mean=True)[0])
    d = None if width is None else max(1, rung.n - width)
    if rung.seed % 3:
        decay = math.sqrt(c)
        found = ufm.predict(**problem.given, weight_decay=decay, feature_decay=2.0 * decay, d=d)
        product = exactly(decay) * exactly(2.0 * decay) * mp.mpf(problem.n) ** 2 / 4
        exact = exact_error_floor(problem, product, d)
    else:
        found, exact = ufm.predict(**problem.given, c=c, d=d), exact_error_floor(problem, exactly(c), d)
    if math.isnan(found.standardized_floor):
        del exact["standardized_floor"]  # what is kept of correlations that tie is open
    compared.add(str(rung), found, exact)


def compare_deep(compared: Comparison, rung: Rung, *, bias: bool) -> None:
    problem, rng = rung.problem(), np.random.default_rng([rung.seed, 3])
    m = int(rng.integers(1, 5))
    product = exact_threshold(exactly(rung.c(problem.spectrum(about_mean=bias)[0])), m)
    spread = rng.uniform(-6.0, 6.0, m + 1)
    logarithm = mp.log10(product) / (m + 1)
    penalties = [float(10 ** (logarithm + exactly(part))) for part in spread - spread.mean()]
    found = ufm.deep(**problem.given, lambda_W=penalties[:-1], lambda_H=penalties[-1], bias=bias)
    compared.add(str(rung), found, exact_deep(problem, penalties, bias=bias))


def compare_deep_floor(compared: Comparison, rung: Rung) -> None:
    problem = rung.problem()
    problem.given.pop("mean", None)
    layers = 2 + rung.seed % 4
    product = exact_threshold(exactly(rung.c(problem.spectrum(about_mean=True)[0])), layers - 1)
    decay = float(product ** (mp.mpf(1) / layers))
    found = ufm.predict(**problem.given, weight_decay=decay, layers=layers)
    compared.add(str(rung), found, exact_deep_floor(problem, exactly(decay), layers))


def compare_report(compared: Comparison, rung: Rung, *, width: int | None) -> None:
    """What a report says of the UFM, from a covariance."""
    problem = rung.problem()
    covariance = problem.given.get("covariance")
    if covariance is None:
        covariance = np.array(problem.covariance.tolist(), dtype=np.float64)
        problem.covariance = exactly(covariance)
    c = rung.c(problem.spectrum(about_mean=True)[0])
    d = None if width is None else max(1, rung.n - width)
    found = ufm.predicted_spectrum(covariance, c, d=d)
    exact = exact_minimum(problem, 1.0, c, bias=True, d=d)
    compared.add(str(rung), _Ranged(found), {name: exact[name] for name in exact if hasattr(found, name)})


class _Ranged:
    def __init__(self, prediction: Any) -> None:
        self._prediction = prediction
        bound = prediction.bounds["rank"]
        self.rank_range = (max(prediction.rank - bound, 0), prediction.rank + bound)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._prediction, name)
