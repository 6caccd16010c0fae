"""Distance, implied decay and asymmetry of a balance, against 60 digits, and their laws."""

from __future__ import annotations

import math
from typing import Any

import mpmath
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.exact_balance import exact_numbers

from nrc_fast.metrics.head_balances import BalanceMatrix, BalanceNumbers, balance_from_moments, balance_numbers

NAMES = ("distance", "decay", "asymmetry")
SEEDS = st.integers(0, 10_000)


def numbers_of(matrix: Any, weights: Any, error: float = 0.0) -> BalanceNumbers:
    return balance_numbers(BalanceMatrix(np.asarray(matrix, dtype=np.float64), error), weights)


def draw(seed: int, n: int = 3, d: int = 5) -> tuple[Any, Any]:
    rng = np.random.default_rng(seed)
    return rng.standard_normal((n, n)), rng.standard_normal((n, d))


def exact(matrix: Any, weights: Any) -> dict[str, Any]:
    return exact_numbers(mpmath.matrix(np.asarray(matrix).tolist()), weights)


@pytest.mark.parametrize(("n", "d"), [(1, 4), (2, 1), (3, 5), (5, 3), (8, 64)])
@pytest.mark.parametrize("off", [0.0, 1e-14, 1e-9, 1e-3, 10.0])
def test_numbers_are_within_the_rounding_of_their_own(n: int, d: int, off: float) -> None:
    """Near balance too, where the distance is as small as 1e-28."""
    noise, weights = draw(n + d, n, d)
    matrix = 0.03 * (weights @ weights.T) + off * noise
    found, expected = numbers_of(matrix, weights), exact(matrix, weights)
    for name in NAMES:
        assert abs(getattr(found, name) - expected[name]) <= found.bounds[name], name
    assert found.bounds["decay"] <= 1e-13 * (1.0 + off)
    assert found.bounds["asymmetry"] <= 1e-14
    if off >= 1e-9:  # a small distance keeps its digits
        assert found.bounds["distance"] <= max(1e-4 * found.distance, 1e-27) or n == 1


@pytest.mark.parametrize("share", [1e-9, 1e-3, 0.3, 0.9, 3.0])
def test_bounds_hold_whatever_the_error_of_the_matrix_is(share: float) -> None:
    for seed in range(40):
        noise, weights = draw(seed)
        matrix = weights @ weights.T + (0.0 if seed % 2 else 0.5) * noise
        error = np.random.default_rng(seed + 99).standard_normal((3, 3))
        if seed % 3 == 0:
            error = error - error.T
        if seed % 5 == 0:
            error = -matrix  # towards zero
        size = share * float(np.linalg.norm(matrix))
        error *= 0.999 * size / np.linalg.norm(error)
        found, true = numbers_of(matrix, weights, size), exact(matrix + error, weights)
        for name in NAMES:
            assert abs(getattr(found, name) - true[name]) <= found.bounds[name], (name, seed)


def test_errors_tell_how_far_numbers_can_be_trusted() -> None:
    _, weights = draw(0)
    gram = weights @ weights.T
    sharp, loose = (numbers_of(gram, weights, error * float(np.linalg.norm(gram))) for error in (1e-6, 1e-2))
    assert sharp.bounds["distance"] == pytest.approx(1e-12, rel=0.01)
    assert loose.bounds["distance"] == pytest.approx(1e-4, rel=0.03)
    assert loose.bounds["decay"] == pytest.approx(3**0.5 * 1e-2 * np.linalg.norm(gram) / np.trace(gram), rel=1e-9)
    assert numbers_of(gram, weights, 1e9).bounds["distance"] == 4.0
    assert numbers_of(gram, weights, 1e9).bounds["asymmetry"] == 2.0


def test_what_is_not_defined_is_nan() -> None:
    matrix, weights = draw(1)
    of_nothing = numbers_of(matrix, np.zeros((3, 5)))
    assert all(math.isnan(getattr(of_nothing, name)) and math.isnan(of_nothing.bounds[name]) for name in NAMES)
    without = numbers_of(np.zeros((3, 3)), weights)
    assert (without.decay, math.isnan(without.distance), math.isnan(without.asymmetry)) == (0.0, True, True)
    assert BalanceMatrix(np.zeros((3, 3)), 0.0).relative_error == 0.0
    assert BalanceMatrix(np.zeros((3, 3)), 1.0).relative_error == math.inf
    assert BalanceMatrix(2.0 * np.eye(4), 1.0).relative_error == 0.25
    assert BalanceMatrix(2e-200 * np.eye(4), 1e-200).relative_error == 0.25
    beyond = BalanceMatrix(np.array([[math.inf]]), 1.0)
    assert math.isnan(beyond.relative_error)
    assert all(math.isnan(getattr(balance_numbers(beyond, np.ones((1, 2))), name)) for name in NAMES)


def test_one_output_is_balanced_by_definition_unless_the_decay_is_negative() -> None:
    weights = np.array([[3.0, 4.0]])
    found = numbers_of([[0.5]], weights)
    assert (found.distance, found.decay, found.asymmetry) == (0.0, 0.02, 0.0)
    assert numbers_of([[-0.5]], weights).distance == 4.0
    assert numbers_of([[-0.5]], weights).decay == -0.02


@given(seed=SEEDS, power=st.integers(-400, 400), other=st.integers(-300, 300))
def test_shapes_do_not_depend_on_scales(seed: int, power: int, other: int) -> None:
    matrix, weights = draw(seed)
    plain, scaled = numbers_of(matrix, weights), numbers_of(matrix * 2.0**other, weights * 2.0**power)
    assert (scaled.distance, scaled.asymmetry) == (plain.distance, plain.asymmetry)
    with np.errstate(over="ignore", under="ignore"):
        assert scaled.decay == np.ldexp(plain.decay, other - 2 * power)


@given(seed=SEEDS)
def test_numbers_do_not_depend_on_the_basis_of_outputs_and_features(seed: int) -> None:
    matrix, weights = draw(seed)
    rng = np.random.default_rng(seed + 1)
    outputs, features = (np.linalg.qr(rng.standard_normal((size, size)))[0] for size in (3, 5))
    order = rng.permutation(3)
    plain = numbers_of(matrix, weights)
    turned = numbers_of(outputs @ matrix @ outputs.T, outputs @ weights @ features)
    mixed = numbers_of(matrix[np.ix_(order, order)], weights[order])
    for name in NAMES:
        assert getattr(turned, name) == pytest.approx(getattr(plain, name), rel=1e-10, abs=1e-12), name
        assert getattr(mixed, name) == pytest.approx(getattr(plain, name), rel=1e-12), name


@given(seed=SEEDS)
def test_the_distance_is_at_least_what_the_asymmetry_makes_of_it(seed: int) -> None:
    matrix, weights = draw(seed)
    found = numbers_of(matrix, weights)
    assert found.distance >= (found.asymmetry / 2.0) ** 2 * (1.0 - 1e-12)


def test_moments_give_what_the_rows_do() -> None:
    rng = np.random.default_rng(3)
    H, Y = rng.standard_normal((50, 4)) + 2.0, rng.standard_normal((50, 2)) - 1.0
    W, b = rng.standard_normal((2, 4)), np.array([0.5, -3.0])
    about, targets = H - H.mean(axis=0), Y - Y.mean(axis=0)
    V = 0.25 * W
    image = W @ H.mean(axis=0)
    covariances = about.T @ about / 50, about.T @ targets / 50
    found = balance_from_moments(W, V, covariances, (Y.mean(axis=0) - b - image, 0.25 * image))
    expected = (Y - H @ W.T - b).T @ (H @ V.T) / 50
    np.testing.assert_allclose(found, expected, rtol=1e-12)
