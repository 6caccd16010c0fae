"""Slopes of decay against the recurrence of descent itself, in many digits, and fitted lines against numpy's."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from nrc_fast.metrics.decay_slopes import decay_slope, fitted_slope, fitting_weights

mp = pytest.importorskip("mpmath")


def exact_slope(shrinkage: float, momentum: float, *, is_nesterov: bool) -> Any:
    """Two times the logarithm of the spectral radius of the matrix of one step, of (x, v)."""
    s, m = mp.mpf(shrinkage), mp.mpf(momentum)
    matrix = [[1 - s, -m], [s, m]]
    if is_nesterov:  # v <- m v + s x; x <- x - (s x + m v)
        matrix = [[1 - s - m * s, -m * m], [s, m]]
    trace = matrix[0][0] + matrix[1][1]
    determinant = matrix[0][0] * matrix[1][1] - matrix[0][1] * matrix[1][0]
    root = mp.sqrt(mp.mpc(trace**2 - 4 * determinant))
    return 2 * mp.log(max(abs((trace + root) / 2), abs((trace - root) / 2)))


@pytest.mark.parametrize("is_nesterov", [False, True])
@given(st.floats(1e-18, 1.9), st.floats(0.0, 0.999999))
@example(1e-3, 0.0)
@example(0.25, 0.25)  # both eigenvalues are 1/2
@example((1.0 - math.sqrt(0.9)) ** 2, 0.9)
@example((1.0 - math.sqrt(0.9)) ** 2 * (1.0 + 1e-12), 0.9)
@example((1.0 - math.sqrt(0.9)) ** 2 * (1.0 - 1e-15), 0.9)
@example(1.5, 0.0)
@example(1e-18, 0.999999)
@example(0.5, 0.9)
def test_slope_within_its_bound_of_the_recurrence(is_nesterov: bool, shrinkage: float, momentum: float) -> None:
    with mp.workdps(60):
        found = decay_slope(shrinkage, momentum, is_nesterov=is_nesterov)
        exact = exact_slope(shrinkage, momentum, is_nesterov=is_nesterov)
        assume(mp.isfinite(exact))  # all may go in one step
        assert abs(mp.mpf(found.value) - exact) <= mp.mpf(found.bound) + mp.mpf(10) ** -50
    if shrinkage < 1e-3 * (1.0 - momentum) ** 2:
        # The first order, and a bound that leaves nearly all digits of it.
        assert found.value == pytest.approx(-2.0 * shrinkage / (1.0 - momentum), rel=3e-3)
        assert found.bound < 1e-13 * abs(found.value)


@pytest.mark.parametrize("is_nesterov", [False, True])
@pytest.mark.parametrize("momentum", [0.0, 0.5, 0.9])
def test_slope_is_that_of_steps_of_torch(momentum: float, is_nesterov: bool) -> None:
    torch = pytest.importorskip("torch")
    if is_nesterov and not momentum:
        pytest.skip("torch knows none without momentum")
    weight = torch.ones(1, dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.SGD([weight], lr=0.1, momentum=momentum, nesterov=is_nesterov, weight_decay=0.02)
    weight.grad = torch.zeros_like(weight)
    sizes = []
    for _ in range(601):
        sizes.append(weight.item() ** 2)
        optimizer.step()
    slope = decay_slope(0.1 * 0.02, momentum, is_nesterov=is_nesterov).value
    assert math.log(sizes[600] / sizes[300]) / 300 == pytest.approx(slope, rel=1e-7)


@pytest.mark.parametrize(
    ("shrinkage", "momentum"),
    [(-1e-3, 0.0), (math.nan, 0.5), (math.inf, 0.5), (0.1, 1.0), (0.1, -0.1), (0.1, math.nan)],
)
def test_numbers_out_of_range_say_nothing(shrinkage: float, momentum: float) -> None:
    assert all(map(math.isnan, decay_slope(shrinkage, momentum)))


def test_no_decay_and_all_of_it() -> None:
    assert decay_slope(0.0, 0.9).value == 0.0
    assert decay_slope(1.0).value == -math.inf
    assert decay_slope(3.0).value == pytest.approx(2.0 * math.log(2.0))  # what descent with such a rate does


@given(st.lists(st.floats(-20.0, 0.0), min_size=3, max_size=12), st.integers(0, 10**6))
def test_fitted_line_is_that_of_least_squares(logarithms: list[float], seed: int) -> None:
    rng = np.random.default_rng(seed)
    steps = np.cumsum(rng.integers(1, 1000, len(logarithms))).tolist()
    values = np.exp(logarithms)
    bounds = values * 10.0 ** rng.uniform(-16, -1, len(values))
    found = fitted_slope(steps, values, bounds)
    assert found.value == pytest.approx(np.polyfit(steps, np.log(values), 1)[0], abs=1e-12)
    # The bound holds for values anywhere within theirs, and is reached where each goes the way that counts.
    worst = values + np.sign(fitting_weights(steps)) * -bounds
    moved = abs(float(np.polyfit(steps, np.log(worst), 1)[0]) - found.value)
    assert moved <= found.bound + 1e-12
    assert found.bound <= 1.3 * moved + 1e-12
    # Twice as large values fall as fast, and half the pace is half the slope.
    assert fitted_slope(steps, 2.0 * values, 2.0 * bounds).value == pytest.approx(found.value, abs=1e-12)
    assert fitted_slope([2 * step for step in steps], values, bounds).value == pytest.approx(found.value / 2, abs=1e-12)


def test_values_that_are_not_resolved_have_no_line() -> None:
    for steps, values, bounds in (
        ([0, 1], [1.0, 1e-9], [0.0, 1e-8]),
        ([0, 1], [1.0, 0.0], [0.0, 0.0]),
        ([0, 1], [1.0, math.nan], [0.0, 0.0]),
        ([3, 3], [1.0, 1.0], [0.0, 0.0]),
        ([], [], []),
    ):
        assert all(map(math.isnan, fitted_slope(steps, values, bounds)))
