"""Imbalances and conditions against the same in many digits, their laws, and the bound of NRC2 that follows."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import nrc_fast as nrc
from nrc_fast.metrics.balances import condition, imbalance, product_condition, unit_imbalance

mp = pytest.importorskip("mpmath")


def exact(matrix: Any) -> Any:
    return mp.matrix(np.asarray(matrix, dtype=np.float64).tolist())


def size(matrix: Any) -> Any:
    return mp.sqrt(mp.fsum(entry**2 for entry in matrix))


def layers(seed: int) -> tuple[Any, Any]:
    """Random ones, near balance, of any condition and scale, in float32 too."""
    rng = np.random.default_rng(seed)
    n, d, p = (int(k) for k in rng.integers(1, 7, 3))
    values = 10.0 ** -rng.uniform(0, 8, d)
    turn = np.linalg.qr(rng.standard_normal((d, d)))[0]
    if seed % 3:
        lower = turn * values @ np.linalg.qr(rng.standard_normal((max(d, p), max(d, p))))[0][:d, :p]
        upper = rng.standard_normal((n, d))
    else:  # balanced to rounding
        lower = turn * values
        upper = np.linalg.qr(rng.standard_normal((d, d)))[0] @ (values[:, np.newaxis] * turn.T)
    scale = 10.0 ** rng.uniform(-30, 30)
    lower, upper = lower * scale, upper * scale
    if seed % 2:
        lower, upper = (part.astype(np.float32).astype(np.float64) for part in (lower, upper))
    return lower, upper


def within(found: Any, wanted: Any) -> bool:
    return bool(abs(mp.mpf(found.value) - wanted) <= mp.mpf(found.bound) + abs(wanted) * mp.mpf(10) ** -40)


@pytest.mark.parametrize("seed", range(24))
def test_within_bounds_of_many_digits(seed: int) -> None:
    lower, upper = layers(seed)
    found = imbalance(lower, upper)
    with mp.workdps(50):
        first, second = exact(lower), exact(upper)
        above, below = second.T * second, first * first.T
        assert within(found.frobenius, size(above - below))
        assert within(found.operator, max(abs(value) for value in mp.eigsy(above - below, eigvals_only=True)))
        assert within(found.relative, size(above - below) / (size(above) + size(below)))
        units = mp.matrix([above[j, j] for j in range(len(lower))]), mp.matrix([below[j, j] for j in range(len(lower))])
        assert within(unit_imbalance(lower, upper), size(units[0] - units[1]) / (size(units[0]) + size(units[1])))
        k = min(*lower.shape, *upper.shape)
        for matrix, one in ((second, condition(upper, k)), (second * first, product_condition([lower, upper], k))):
            singular = sorted(mp.svd_r(matrix, compute_uv=False), reverse=True)
            wanted = singular[0] / singular[k - 1]
            if math.isfinite(one.bound):
                assert within(one, wanted)
            else:
                assert wanted > 1e13
    total = np.linalg.norm(upper) ** 2 + np.linalg.norm(lower) ** 2
    assert found.frobenius.bound < 1e-13 * total
    assert found.operator.bound < 1e-13 * total


def test_by_hand() -> None:
    lower, upper = np.array([[3.0, 0.0], [0.0, 1.0]]), np.array([[1.0, 2.0]])
    found = imbalance(lower, upper)  # [[1, 2], [2, 4]] - diag(9, 1) = [[-8, 2], [2, 3]]
    assert found.frobenius.value == pytest.approx(math.sqrt(81.0), rel=1e-15)
    assert found.operator.value == pytest.approx((5.0 + math.sqrt(25.0 + 4 * 28.0)) / 2.0, rel=1e-14)
    assert found.relative.value == pytest.approx(9.0 / (5.0 + math.sqrt(82.0)), rel=1e-14)
    assert unit_imbalance(lower, upper).value == pytest.approx(math.hypot(8, 3) / (math.hypot(1, 4) + math.hypot(9, 1)))
    assert condition(lower, 2).value == 3.0
    assert product_condition([lower, np.diag([1.0, 0.5])], 2).value == pytest.approx(6.0)


def test_what_is_not_defined() -> None:
    zero = np.zeros((2, 2))
    found = imbalance(zero, zero)
    assert (found.frobenius.value, found.operator.value) == (0.0, 0.0)
    assert math.isnan(found.relative.value)
    assert math.isnan(unit_imbalance(zero, zero).value)
    assert math.isnan(condition(zero, 2).value)
    assert math.isnan(product_condition([zero, np.eye(2)], 2).value)
    singular = condition(np.diag([1.0, 0.0]), 2)
    assert (singular.value, singular.bound) == (math.inf, math.inf)
    near = condition(np.diag([1.0, 1e-17]), 2)
    assert near.bound == math.inf
    assert imbalance(zero, np.eye(2)).relative.value == 1.0


# ---- laws ----


@settings(max_examples=30)
@given(st.integers(0, 10**6), st.integers(1, 4))
def test_balanced_layers_have_the_condition_of_the_product_to_a_power(seed: int, m: int) -> None:
    """Singular values of each layer are those of the product to the power 1/m: kappa(W_L) = kappa(P)^(1/m)."""
    rng = np.random.default_rng(seed)
    values = 10.0 ** rng.uniform(-2, 0, 3)
    bases = [np.linalg.qr(rng.standard_normal((5, 5)))[0][:, :3] for _ in range(m + 1)]
    chain = [bases[k + 1] * values @ bases[k].T for k in range(m)]
    for lower, upper in pairwise(chain):
        assert imbalance(lower, upper).frobenius.value < 1e-14
    product = product_condition(chain, 3)
    for matrix in chain:
        one = condition(matrix, 3)
        assert abs(one.value**m - product.value) <= product.bound + 2 * m * one.bound * one.value ** (m - 1)


@settings(max_examples=30)
@given(st.integers(0, 10**6), st.floats(-3.0, 3.0))
def test_rotations_scales_and_orders_of_units_do_not_matter(seed: int, decade: float) -> None:
    rng = np.random.default_rng(seed)
    lower, upper = rng.standard_normal((4, 3)), rng.standard_normal((2, 4))
    one, scale = imbalance(lower, upper), 10.0**decade
    turns = [np.linalg.qr(rng.standard_normal((k, k)))[0] for k in (2, 4, 3)]
    other = imbalance(scale * turns[1] @ lower @ turns[2], scale * turns[0] @ upper @ turns[1].T)
    for name in ("frobenius", "operator"):
        assert getattr(other, name).value == pytest.approx(scale**2 * getattr(one, name).value, rel=1e-11)
    assert other.relative.value == pytest.approx(one.relative.value, rel=1e-11)
    order = rng.permutation(4)
    assert unit_imbalance(lower[order], upper[:, order]).value == pytest.approx(unit_imbalance(lower, upper).value)
    # Units scaled one way below and the other way above compute the same, and are another balance.
    assert imbalance(np.ldexp(lower, -700), np.ldexp(upper, -700)).relative == one.relative


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10**6), st.booleans(), st.floats(0.0, 1.0))
def test_the_bound_of_nrc2_holds(seed: int, has_bias: bool, closeness: float) -> None:
    """For any V, W and rows g, from random to balanced; by NRC2 of the features as the package measures it."""
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(seed)
    n, d, p = 2, 5, 4
    lower, upper = torch.nn.Linear(p, d, bias=has_bias).double(), torch.nn.Linear(d, n).double()
    basis, turn = (np.linalg.qr(rng.standard_normal((size, size)))[0] for size in (d, p))
    balanced = basis[:, :n] @ turn[:n]
    V = closeness * balanced + (1.0 - closeness) * rng.standard_normal((d, p))
    W = closeness * np.linalg.qr(rng.standard_normal((n, n)))[0] @ basis[:, :n].T + (
        1.0 - closeness
    ) * rng.standard_normal((n, d))
    G = rng.standard_normal((30, p)) + 0.5
    with torch.no_grad():
        lower.weight.copy_(torch.from_numpy(V))
        upper.weight.copy_(torch.from_numpy(W))
        if has_bias:
            lower.bias.copy_(torch.from_numpy((1.0 - closeness) * rng.standard_normal(d)))
        H = lower(torch.from_numpy(G)).numpy()
    found = nrc.balance(torch.nn.Sequential(lower, upper), G=G)
    nrc2 = nrc.nrc2(H, W, convention="raw")
    assert nrc2 <= found.nrc2_bound
    by_number = nrc.balance(torch.nn.Sequential(lower, upper), G=float(np.mean(np.sum(G**2, axis=1))))
    assert by_number.nrc2_bound == pytest.approx(found.nrc2_bound, rel=1e-12)
    if closeness == 1.0:
        assert found.nrc2_bound < 1e-13
