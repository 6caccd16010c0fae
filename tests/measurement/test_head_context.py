"""What `nrc3_context` gives, against 50 digits and random heads that are drawn as matrices."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import nrc_fast as nrc
from nrc_fast.base.linalg import orthonormalize
from nrc_fast.metrics.alignment import HeadAlignment
from nrc_fast.metrics.head_context import head_context
from nrc_fast.testing import reference_nrc3

mp = pytest.importorskip("mpmath")

NUMBERS = ("nrc3", "gamma", "at_zero", "gamma_share", "outside", "quantile", "untrained")


def exact_numbers(W: Any, Y: Any) -> dict[str, float]:
    """NRC3 at its best gamma and at 0, that gamma and its share of lambda_min, and what is outside, to 50 digits."""
    with mp.workdps(50):
        rows, n = mp.matrix(np.asarray(Y, dtype=float).tolist()), len(W)
        count = rows.rows
        mean = [mp.fsum(rows[i, j] for i in range(count)) / count for j in range(n)]
        centred = mp.matrix(count, n)
        for i in range(count):
            for j in range(n):
                centred[i, j] = rows[i, j] - mean[j]
        values, vectors = mp.eigsy(centred.T * centred / count)
        head = mp.matrix(np.asarray(W, dtype=float).tolist())
        rotated = vectors.T * (head * head.T) * vectors
        norm = mp.sqrt(mp.fsum(rotated[i, j] ** 2 for i in range(n) for j in range(n)))
        diagonal = [rotated[i, i] / norm for i in range(n)]
        outside = 1 - mp.fsum(part**2 for part in diagonal)
        roots = [mp.sqrt(value) for value in values]

        def nrc3(shift: Any) -> Any:
            target = [root - shift for root in roots]
            size = mp.sqrt(mp.fsum(part**2 for part in target))
            return outside + mp.fsum((g - part / size) ** 2 for g, part in zip(diagonal, target, strict=True))

        # One bracket of the minimum by a search over shifts: no closed form.
        low, high = mp.mpf(0), roots[0] * (1 - mp.mpf("1e-30"))
        grid = [low + (high - low) * k / 60 for k in range(61)]
        best = min(range(61), key=lambda k: nrc3(grid[k]))
        low, high = grid[max(best - 1, 0)], grid[min(best + 1, 60)]
        for _ in range(120):
            first, second = low + (high - low) / 3, high - (high - low) / 3
            low, high = (low, second) if nrc3(first) < nrc3(second) else (first, high)
        shift = min((grid[0], (low + high) / 2), key=nrc3)
        return {
            "nrc3": float(nrc3(shift)),
            "gamma": float(shift**2),
            "at_zero": float(nrc3(mp.mpf(0))),
            "gamma_share": float(shift**2 / values[0]),
            "outside": float(outside),
        }


def a_head(kind: str, seed: int) -> tuple[Any, Any]:
    """Weights and targets of some kind."""
    rng = np.random.default_rng(seed)
    Y = rng.standard_normal((30, 3)) @ rng.standard_normal((3, 3))
    if kind == "ill conditioned":
        Y = Y * np.array([1.0, 1e-3, 1e-5])
    if kind == "offset":
        Y = Y + 1e5
    if kind in ("collapsed", "single"):
        sigma = np.cov(Y, rowvar=False, bias=True)
        values, vectors = np.linalg.eigh(sigma)
        gram = (vectors * (np.sqrt(values) - 0.6 * math.sqrt(values[0]))) @ vectors.T
        W = np.linalg.cholesky(gram) @ orthonormalize(rng.standard_normal((3, 8)).T).T
        W = W + 1e-4 * rng.standard_normal(W.shape)
    else:
        W = rng.standard_normal((3, 8))
    if kind == "single":
        return W.astype(np.float32), Y.astype(np.float32)
    return W, Y


@pytest.mark.parametrize("kind", ["random", "ill conditioned", "offset", "collapsed", "single"])
def test_bounds_hold_what_50_digits_give(kind: str) -> None:
    for seed in range(2):
        W, Y = a_head(kind, seed)
        context = nrc.nrc3_context(W, Y)
        exact = exact_numbers(W, Y)
        for name, expected in exact.items():
            slack = 1e-15 * abs(expected) if name in ("gamma", "gamma_share") else 0.0  # of the search
            assert abs(getattr(context, name) - expected) <= context.bounds[name] + slack, name
        if kind in ("random", "collapsed"):
            assert all(context.bounds[name] < 1e-10 for name in exact)
        if kind in ("collapsed", "single"):
            assert 0.2 < context.gamma_share < 0.6
            assert context.quantile == 0.0
            assert context.bounds["quantile"] < 1e-3


@pytest.mark.parametrize("error", [1e-9, 1e-4, 1e-2])
def test_changes_of_sigma_within_its_error_stay_in_the_bounds(error: float) -> None:
    rng = np.random.default_rng(6)
    sigma = np.diag([4.0, 2.0, 0.5])
    # Gamma inside, near lambda_min, 0, and where it leaves 0.
    for strengths in ([1.6, 0.9, 0.35], [1.6, 0.9, 0.02], [1.0, 1.0, 1.0], np.diag(sigma) ** 0.5):
        gram = np.diag(strengths) + (0.0 if strengths[0] == 2.0 else 0.02)
        values, bounds = head_context(HeadAlignment(gram, sigma), error, features=3)
        for _ in range(30):
            change = rng.standard_normal((3, 3))
            change = error * (change + change.T) / np.linalg.norm(change + change.T)
            others, _ = head_context(HeadAlignment(gram, sigma + change), 0.0, features=3)
            for name in ("nrc3", "nrc3_at_zero", "gamma_share", "head_outside", "nrc3_quantile"):
                assert abs(others[name] - values[name]) <= bounds[name], name
        # The smallest eigenvalue alone, up and down.
        for sign in (-1.0, 1.0):
            others, _ = head_context(HeadAlignment(gram, sigma + sign * np.diag([0.0, 0.0, error])), 0.0, features=3)
            assert abs(others["gamma_share"] - values["gamma_share"]) <= bounds["gamma_share"]


def test_it_gives_what_nrc3_and_its_gamma_do() -> None:
    W, Y = a_head("random", 5)
    context = nrc.nrc3_context(W, Y)
    assert (context.nrc3, context.bounds["nrc3"]) == nrc.nrc3(W, Y, return_bound=True)
    assert (context.gamma, context.bounds["gamma"]) == nrc.nrc3_gamma(W, Y, return_bound=True)
    assert context.at_zero == nrc.nrc3(W, Y, gamma=0.0)
    assert (context.n, context.d, context.draws, context.seed) == (3, 8, 10_000, 0)
    report = nrc.measure(np.random.default_rng(1).standard_normal((30, 8)), Y, W)
    flat = (report.nrc3_at_zero, report.gamma_share, report.head_outside, report.nrc3_quantile, report.nrc3_untrained)
    assert flat == pytest.approx(
        (context.at_zero, context.gamma_share, context.outside, context.quantile, context.untrained), rel=1e-9
    )
    assert all(report.bounds[name] >= 0.0 for name in ("nrc3_at_zero", "gamma_share", "head_outside", "nrc3_quantile"))


def test_the_quantile_is_that_of_explicit_heads() -> None:
    _, Y = a_head("random", 2)
    rng = np.random.default_rng(11)
    others = np.array([reference_nrc3(W, Y) for W in rng.standard_normal((100, 3, 8))])
    for W in rng.standard_normal((4, 3, 8)):
        context = nrc.nrc3_context(W, Y)
        expected = float(np.mean(others < context.nrc3))
        assert abs(context.quantile - expected) < 4.5 * math.sqrt(0.25 / 100)
        assert context.untrained_low < context.untrained < context.untrained_high
    assert np.median(others) == pytest.approx(context.untrained, rel=0.2)


@given(
    seed=st.integers(0, 2**32 - 1),
    n=st.integers(2, 4),
    scale=st.sampled_from([1e-9, 1.0, 1e6]),
    weight=st.sampled_from([1e-100, 1.0, 1e50]),
)
def test_turns_scales_and_orders_change_nothing(seed: int, n: int, scale: float, weight: float) -> None:
    rng = np.random.default_rng(seed)
    W, Y = rng.standard_normal((n, n + 3)), rng.standard_normal((20, n)) * np.linspace(2.0, 1.0, n)
    plain = nrc.nrc3_context(W, Y, draws=500)
    basis = orthonormalize(rng.standard_normal((n + 3, n + 3)))
    turn = orthonormalize(rng.standard_normal((n, n)))  # of the outputs, in weights and targets alike
    order = rng.permutation(n)
    for factor, weights, targets in (
        (scale, weight * (W @ basis), scale * Y),
        (1.0, turn @ W, Y @ turn.T),
        (1.0, W[order], Y[:, order]),
    ):
        other = nrc.nrc3_context(weights, targets, draws=500)
        for name in NUMBERS:
            units = factor**2 if name == "gamma" else 1.0
            value, bound = getattr(plain, name) * units, plain.bounds[name] * units + other.bounds[name]
            assert abs(getattr(other, name) - value) <= bound + 1e-9 * abs(value), name


def test_it_is_the_same_at_every_call() -> None:
    W, Y = a_head("random", 4)
    first = nrc.nrc3_context(W, Y)
    assert nrc.nrc3_context(W, Y) == first
    other = nrc.nrc3_context(W, Y, seed=7)
    assert other.untrained != first.untrained
    assert abs(other.untrained - first.untrained) <= first.bounds["untrained"] + other.bounds["untrained"]
    covariance = np.cov(Y, rowvar=False, bias=True)
    assert nrc.nrc3_context(W, covariance=covariance).quantile == first.quantile
    assert nrc.nrc3_context(W, Y, draws=50).draws == 50


def test_fewer_features_than_targets_are_compared_with_as_few() -> None:
    rng = np.random.default_rng(8)
    context = nrc.nrc3_context(rng.standard_normal((4, 2)), covariance=np.diag([4.0, 3.0, 2.0, 1.0]))
    assert 0.0 < context.quantile < 1.0
    assert context.untrained > 0.3  # two of four directions are missing


def test_one_target_and_targets_without_variance_have_no_context() -> None:
    for W, sigma in ((np.ones((1, 4)), np.eye(1)), (np.zeros((2, 4)), np.eye(2)), (np.ones((2, 4)), np.zeros((2, 2)))):
        context = nrc.nrc3_context(W, covariance=sigma)
        numbers = [getattr(context, name) for name in (*NUMBERS, "untrained_low") if "untrained" not in name]
        assert all(map(math.isnan, numbers))
        assert "NRC3 is not defined" in context.verdict[0]
    singular = nrc.nrc3_context(np.eye(2, 4), covariance=np.diag([1.0, 0.0]))
    assert math.isnan(singular.gamma_share)
    assert singular.gamma == 0.0
    assert 0.0 < singular.quantile < 1.0


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"draws": 0}, ValueError, "draws is 0; a whole number from 1 on is expected"),
        ({"draws": 2.5}, TypeError, "draws is 2.5; a whole number is expected"),
        ({"seed": -1}, ValueError, "seed is -1; a whole number from 0 on is expected"),
        ({"covariance": np.eye(2), "Y": np.ones((3, 2))}, ValueError, "give either the targets Y or their covariance"),
        ({"covariance": np.eye(3)}, ValueError, "covariance has shape"),
    ],
)
def test_what_is_asked_for_is_checked(options: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        nrc.nrc3_context(np.eye(2), **({"covariance": np.eye(2)} | options))


def test_a_context_goes_to_json_and_comes_back() -> None:
    W, Y = a_head("collapsed", 1)
    context = nrc.nrc3_context(W, Y)
    assert nrc.NRC3Context.from_dict(json.loads(context.to_json())) == context
    with pytest.raises(ValueError, match="the mapping holds no context of NRC3: "):
        nrc.NRC3Context.from_dict({"n": 2})
