"""What is said of rounding, beside sums that are added up in that way."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import numpy as np
import pytest

from nrc_fast.metrics.rounding import addition_rounding, block_rounding, square_sum_rounding


def relative_error(addends: np.ndarray[Any, Any]) -> float:
    """Of adding numbers up one after the other in their type."""
    exact = sum(map(Fraction, addends.astype(np.float64).tolist()))
    found = Fraction(float(np.add.accumulate(addends)[-1]))
    return float(abs(found - exact) / exact)


@pytest.mark.parametrize(("dtype", "kind"), [(np.float64, "double"), (np.float32, "single")])
@pytest.mark.parametrize("count", [1, 2, 3, 5, 15, 16, 17, 33, 64])
def test_chains_of_equal_and_of_random_squares(count: int, dtype: Any, kind: str) -> None:
    rng = np.random.default_rng(count)
    worst = 0.0
    for _ in range(200):
        for addends in (np.full(count, rng.uniform(0.5, 1.0)), rng.standard_normal(count) ** 2):
            worst = max(worst, relative_error(addends.astype(dtype)) / block_rounding(kind, count))
    assert worst <= 1.0
    assert count < 2 or worst > 0.3  # equal addends come near


def test_equal_addends_come_near_the_bound_of_a_block() -> None:
    rng = np.random.default_rng(0)
    worst = max(relative_error(np.full(256, rng.uniform(0.5, 1.0), dtype=np.float32)) for _ in range(300))
    assert 0.9 * block_rounding("single", 256) < worst <= 1.02 * block_rounding("single", 256)


def test_float64_chains_are_short() -> None:
    assert block_rounding("double", 256) < 1.2 * block_rounding("double", 64)
    assert addition_rounding(1.0) == 1.25 * 2.0**-53


def test_sums_of_squares_count_chunks_and_not_rows() -> None:
    assert square_sum_rounding(5) - square_sum_rounding(1) == 4 * 2.0**-53


@pytest.mark.parametrize(("capability", "nearest"), [(75, 0.8), (80, 0.8), (90, 0.3)])
def test_tensor_cores_of_all_cards_stay_within_their_bound(cuda_core: Any, capability: int, nearest: float) -> None:
    """Of float16 rows, multiplied as they are; 1749 / 1024 has the square of which the models of cards cut most."""
    backend = cuda_core.Emulation()
    backend.core.configure(capability=capability, multiprocessors=1)
    rng = np.random.default_rng(7)
    plain = np.where(rng.random((2048, 8)) < 0.5, 0.7, 1.3)
    plain[:, 0] = 1749 / 1024
    plain[:, 1] = rng.standard_normal(2048)
    rows = cuda_core.stored(plain, "float16")
    found = cuda_core.gram(backend, rows).gram
    exact = rows.values.T @ rows.values
    error = np.abs(found - np.tril(exact)) / np.sqrt(np.outer(exact.diagonal(), exact.diagonal()))
    assert nearest * block_rounding("device", 256) < error.max() <= block_rounding("device", 256)
