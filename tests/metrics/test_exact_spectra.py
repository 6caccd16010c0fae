"""Shares and ranks of eigenvalues in twice the digits, beside decimals."""

from __future__ import annotations

import math
from decimal import Decimal, localcontext
from typing import Any

import numpy as np
import pytest

from nrc_fast.base.double_double import Pair, two_sum
from nrc_fast.metrics.exact_spectra import exact_effective_rank, exact_shares, exact_stable_rank


def exact_numbers(values: list[Decimal]) -> tuple[list[Decimal], Decimal, Decimal]:
    total = sum(values)
    shares = [value / total for value in values]
    entropy = -sum(share * share.ln() for share in shares if share > 0)
    return shares, entropy.exp(), sum(value**2 for value in values) / values[0] ** 2


def within(value: Any, wanted: Decimal, bound: Any) -> bool:
    return abs(Decimal(float(value)) - wanted) <= Decimal(float(bound))


@pytest.mark.parametrize("d", [1, 2, 17, 64])
@pytest.mark.parametrize("decay", [1.0, 0.7, 1e-3])
@pytest.mark.parametrize("size", [0.0, 1e-18, 1e-6])
def test_bounds_hold_and_are_some_roundings(d: int, decay: float, size: float) -> None:
    rng = np.random.default_rng(d)
    high = np.sort(rng.uniform(0.5, 1.0, d) * decay ** np.arange(d))[::-1].copy()
    eigenvalues = two_sum(high, high * rng.uniform(-1.0, 1.0, d) * 2.0**-54)
    with localcontext() as context:
        context.prec = 60
        values = [Decimal(a) + Decimal(b) for a, b in zip(*(part.tolist() for part in eigenvalues), strict=True)]
        # What is measured is off by up to `size` of the largest.
        off = size * float(high[0]) * rng.uniform(-1.0, 1.0, d)
        found = two_sum(eigenvalues.high, eigenvalues.low + off)
        shares, effective, stable = exact_numbers(values)
        errors = np.full(d, size * float(high[0]) * (1.0 + 1e-9))
        parts, bounds = exact_shares(found, errors)
        assert all(within(part, share, bound) for part, share, bound in zip(parts.high, shares, bounds, strict=True))
        assert within(*_with(exact_effective_rank(parts, bounds), effective))
        assert within(*_with(exact_stable_rank(found, errors), stable))
    if size == 0.0:
        assert (bounds <= 1.1 * 2.0**-53 * parts.high).all()
        assert (
            exact_effective_rank(parts, bounds)[1] <= (5.0 * math.log(d) + 2.0) * 2.0**-53 * float(effective) + 1e-300
        )
        assert exact_stable_rank(found, errors)[1] <= 4.0 * 2.0**-53 * float(stable)


def _with(found: tuple[float, float], wanted: Decimal) -> tuple[float, Decimal, float]:
    return found[0], wanted, found[1]


def test_eigenvalues_that_are_rounding() -> None:
    eigenvalues = Pair(np.array([1.0, -1e-30, 1e-31]), np.zeros(3))
    errors = np.array([1e-25, 1e-29, 1e-29])
    parts, bounds = exact_shares(eigenvalues, errors)
    assert parts.high[1] == 0.0
    assert (bounds[1:] >= 1e-29).all()
    value, bound = exact_effective_rank(parts, bounds)
    assert value == 1.0
    largest = [Decimal(1), Decimal("0.9e-29"), Decimal("1.01e-29")]
    with localcontext() as context:
        context.prec = 60
        assert within(value, exact_numbers(largest)[1], bound)
    assert bound < 1e-15
    assert math.isnan(exact_stable_rank(Pair(np.zeros(2), np.zeros(2)), np.ones(2))[0])
