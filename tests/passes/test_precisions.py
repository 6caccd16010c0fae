"""Few rows are summed in float64 by themselves; what was asked for otherwise stays."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from nrc_fast.passes.precisions import SMALL, double_rows, working_precision


def reading(count: int | None, d: int, counts: list[float] | None = None) -> Any:
    team = None if counts is None else SimpleNamespace(gather=lambda _: np.array(counts)[:, None])
    return SimpleNamespace(source=SimpleNamespace(count=count, d=d), team=team)


@pytest.mark.parametrize(
    ("count", "d", "expected"),
    [(4000, 64, "highest"), (10_000, 100, "highest"), (10_001, 100, "high"), (None, 1, "high")],
)
def test_high_is_float64_for_few_rows(count: int | None, d: int, expected: str) -> None:
    assert (count is not None and count * d**2 <= SMALL) is (expected == "highest")
    assert working_precision(reading(count, d), "high") == expected


@pytest.mark.parametrize("precision", ["fast", "highest"])
def test_other_precisions_stay(precision: str) -> None:
    assert working_precision(reading(10, 4), precision) == precision
    assert working_precision(reading(10**9, 400), precision) == precision


def test_a_group_counts_the_rows_of_all() -> None:
    assert working_precision(reading(4000, 100, [4000, 6000]), "high") == "highest"
    assert working_precision(reading(4000, 100, [4000, 6001]), "high") == "high"
    assert working_precision(reading(4000, 100, [4000, np.inf]), "high") == "high"


@pytest.mark.parametrize("d", [1, 3, 64, 9_999, 10_000, 10_001, 10**6])
def test_as_many_first_rows_are_summed_in_float64_as_are_few(d: int) -> None:
    few = double_rows(d, "high")
    assert working_precision(reading(few, d), "high") == "highest"
    assert working_precision(reading(few + 1, d), "high") == "high"
    assert double_rows(d, "fast") == double_rows(d, "highest") == 0
