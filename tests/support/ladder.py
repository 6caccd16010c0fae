"""Features of every size, offset and noise, and what a report says of them beside their exact numbers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nrc_fast import Report
from support.arrays import store
from support.exact_numbers import ExactNumbers, Interval

FloatArray = NDArray[np.float64]
LARGEST = 3e4  # what float16 holds


@dataclass(frozen=True)
class Rung:
    """One set of features: those of n targets and a noise, about an offset."""

    dtype: str
    offset: float
    noise: float
    count: int
    d: int
    tails: str = "normal"
    n: int = 2
    seed: int = 0

    def arrays(self) -> tuple[Any, FloatArray, FloatArray, FloatArray]:
        """H, Y, W and b, of a head that is nearly right."""
        rng = np.random.default_rng([self.seed, self.count, self.d])
        draw = rng.standard_normal if self.tails == "normal" else lambda size: rng.standard_t(2.0, size)
        Z, A = draw((self.count, self.n)), rng.standard_normal((self.n, self.d))
        mean = self.offset * rng.uniform(0.5, 1.5, self.d)
        H = store(np.clip(Z @ A + self.noise * draw((self.count, self.d)) + mean, -LARGEST, LARGEST), self.dtype)
        mixed = rng.standard_normal((self.n, self.n)) + 2.0 * np.eye(self.n)
        Y = Z @ mixed.T + 1e-3 * rng.standard_normal((self.count, self.n))
        W = np.asarray(mixed @ np.linalg.pinv(A).T + 1e-4 * rng.standard_normal((self.n, self.d)))
        return H, Y, W, -W @ mean


@dataclass(frozen=True)
class Finding:
    """A number with its bound and its error."""

    name: str
    value: float
    bound: float
    error: float

    @property
    def is_violated(self) -> bool:
        return not self.error <= self.bound


def findings(report: Report, exact: ExactNumbers) -> Iterator[Finding]:
    """Every number of a report that has a bound and an exact value."""
    wanted = dict(exact.numbers) | exact.alternatives[report.convention]
    wanted["nrc1_by_k"] = exact.by_k[report.convention]
    for name, bound in report.bounds.items():
        if name in wanted:
            yield from _pairs(name, getattr(report, name), bound, wanted[name])
    for convention, values in report.alternatives.items():
        bounds = report.alternative_bounds[convention]
        for name, value in values.items():
            yield from _pairs(f"{name} {convention}", value, bounds[name], exact.alternatives[convention][name])


def _pairs(name: str, value: Any, bound: Any, exact: Interval | list[Interval]) -> Iterator[Finding]:
    intervals = exact if isinstance(exact, list) else [exact]
    values, bounds = np.atleast_1d(value), np.atleast_1d(bound)
    for index, (one, limit, interval) in enumerate(zip(values, bounds, intervals, strict=False)):
        if np.isnan(one):
            continue
        label = name if len(values) == 1 else f"{name}[{index + 1}]"
        yield Finding(label, float(one), float(limit), float(interval.distance(float(one))))


def looseness(found: Mapping[str, list[Finding]]) -> dict[str, float]:
    """The median of bound over error of each metric, where there is an error."""
    return {
        name: float(np.median([one.bound / one.error for one in group if one.error > 0.0] or [1.0]))
        for name, group in found.items()
    }
