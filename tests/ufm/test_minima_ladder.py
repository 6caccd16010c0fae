"""Every bound of the UFM on a ladder of sizes, conditions, offsets and thresholds: it holds, and is worth reading.

The references have 80 digits. The short form takes some of the rungs, the whole ladder (endurance) all of them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

import pytest

mp = pytest.importorskip("mpmath")

from support.exact_ufm import DIGITS, Comparison  # noqa: E402 - mpmath may be missing
from support.minima_ladder import (  # noqa: E402
    CONDITIONS,
    OFFSETS,
    OUTPUTS,
    Rung,
    compare_deep,
    compare_deep_floor,
    compare_floor,
    compare_minimum,
    compare_report,
    rungs,
)

MOST = 100.0  # times the error that a bound is in the median
MOST_OF_MANY = 250.0  # of many outputs, whose sums are taken to round at their worst, number by number
KINDS: dict[str, Callable[[Comparison, Rung], None]] = {
    "minimum": partial(compare_minimum, bias=True, width=None),
    "minimum without a bias": partial(compare_minimum, bias=False, width=None),
    "narrow minimum": partial(compare_minimum, bias=True, width=1),
    "narrow minimum without a bias": partial(compare_minimum, bias=False, width=1),
    "error floor": partial(compare_floor, width=None),
    "narrow error floor": partial(compare_floor, width=1),
    "deep minimum": partial(compare_deep, bias=True),
    "deep minimum without a bias": partial(compare_deep, bias=False),
    "deep error floor": compare_deep_floor,
    "report": partial(compare_report, width=None),
    "narrow report": partial(compare_report, width=1),
}


@pytest.fixture(autouse=True)
def digits() -> Iterator[None]:
    with mp.workdps(DIGITS + 20):
        yield


def climb(kind: str, steps: Iterator[Rung], most: float) -> None:
    compared = Comparison()
    for rung in steps:
        KINDS[kind](compared, rung)
    medians = compared.medians()
    print(f"{kind}, bound / error:", {name: f"{ratio:.3g}" for name, ratio in medians.items()})
    assert not compared.violations, compared.violations
    assert medians
    assert max(medians.values()) < most, medians


@pytest.mark.parametrize("kind", list(KINDS))
def test_every_bound_holds(kind: str) -> None:
    climb(kind, rungs((1, 2, 3, 5, 8), CONDITIONS, OFFSETS, every=5), MOST)


@pytest.mark.endurance
@pytest.mark.parametrize("kind", list(KINDS))
def test_every_bound_holds_on_the_whole_ladder(kind: str) -> None:
    climb(kind, rungs(OUTPUTS, CONDITIONS, OFFSETS), MOST)


@pytest.mark.endurance
@pytest.mark.parametrize("kind", list(KINDS))
def test_every_bound_of_many_outputs_holds(kind: str) -> None:
    climb(kind, rungs((16, 32), CONDITIONS, OFFSETS, every=4), MOST_OF_MANY)
