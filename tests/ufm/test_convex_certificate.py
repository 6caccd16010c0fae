"""The duality gap of minima, recomputed with 50 digits from what `convex` hands out and the formulas of the dual."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from nrc_fast.ufm import convex
from nrc_fast.ufm.convex_certificate import certificate
from nrc_fast.ufm.convex_losses import Squared
from nrc_fast.ufm.convex_newton import Problem


def cost_and_conjugate(name: str, f: Any, u: Any, y: Any, mp: Any) -> tuple[Any, Any]:
    """l(f, y) and l*(u, y) by their definitions."""

    def entropy(p: Any) -> Any:
        return p * mp.log(p) if p > 0 else mp.mpf(0)

    if name == "cross_entropy":
        p = [value + (k == y) for k, value in enumerate(u)]
        assert abs(sum(p) - 1) < 1e-14
        return mp.log(sum(mp.exp(v) for v in f)) - f[y], sum(map(entropy, p))
    if name == "logistic":
        costs = [mp.log(1 + mp.exp(v)) - t * v for v, t in zip(f, y, strict=True)]
        p = [value + t for value, t in zip(u, y, strict=True)]
        return sum(costs), sum(entropy(v) + entropy(1 - v) for v in p)
    errors = [v - t for v, t in zip(f, y, strict=True)]
    linear = sum(v * t for v, t in zip(u, y, strict=True))
    if name == "absolute":
        assert max(abs(v) for v in u) <= 1
        return sum(abs(e) for e in errors), linear
    limit = mp.inf if name == "squared" else mp.mpf(0.5)
    assert max(abs(v) for v in u) <= limit
    costs = [e**2 / 2 if abs(e) <= limit else limit * abs(e) - limit**2 / 2 for e in errors]
    return sum(costs), linear + sum(v**2 for v in u) / 2


def exact_gap(found: Any, Y: Any, mp: Any) -> tuple[Any, Any]:
    """F and F - D."""
    name, root_c = found.given.name, mp.sqrt(mp.mpf(found.lambda_W) * mp.mpf(found.lambda_H))
    weights = [mp.mpf(float(w)) for w in found.given.weights]
    shares = [w / sum(weights) for w in weights]
    f, bias = found.predictions(Y), [mp.mpf(float(v)) for v in found.bias]
    rows = [[mp.mpf(float(v)) for v in row] for row in f]
    duals = [[mp.mpf(float(v)) for v in row] for row in found.gradients]
    A = mp.matrix(
        [[mp.sqrt(p) * (v - b) for v, b in zip(row, bias, strict=True)] for p, row in zip(shares, rows, strict=True)]
    )
    G = mp.matrix([[mp.sqrt(p) * v for v in row] for p, row in zip(shares, duals, strict=True)])
    assert mp.svd_r(G, compute_uv=False)[0] <= root_c * (1 + mp.mpf(1e-15))
    nuclear = sum(mp.svd_r(A, compute_uv=False))
    terms = [cost_and_conjugate(name, *parts, mp) for parts in zip(rows, duals, Y, strict=True)]
    loss = sum(p * term[0] for p, term in zip(shares, terms, strict=True)) + root_c * nuclear
    dual = -sum(p * term[1] for p, term in zip(shares, terms, strict=True))
    means = [sum(p * row[k] for p, row in zip(shares, duals, strict=True)) for k in range(len(bias))]
    assert max(abs(mean) for mean in means) < 1e-13
    return loss, loss - dual


@pytest.mark.parametrize("c", [1e-4, 0.02])
@pytest.mark.parametrize("name", ["squared", "huber", "absolute", "cross_entropy", "logistic"])
def test_the_gap_is_what_it_says(name: Any, c: float) -> None:
    mpmath = pytest.importorskip("mpmath")
    rng = np.random.default_rng(2)
    Y: Any = np.unique(np.round(rng.standard_normal((7, 2)) * [1.0, 30.0], 3).astype(np.float32), axis=0)
    if name == "cross_entropy":
        Y = np.arange(4)
    if name == "logistic":
        Y = np.array([[0, 0, 1], [0, 1, 0], [1, 0, 0], [1, 1, 0], [1, 1, 1]])
    options = {"delta": 0.5} if name == "huber" else {}
    weights = rng.uniform(0.5, 3.0, len(Y))
    found = convex(Y, loss=name, lambda_W=0.1, lambda_H=c / 0.1, weights=weights, **options)
    with mpmath.workdps(50):
        loss, gap = exact_gap(found, Y, mpmath.mp)
        # What hands out the arrays rounds them once more, relative to the targets.
        rounding = 8e-16 * float(loss + abs(mpmath.mpf(float(np.abs(found.predictions(Y)).max()))))
        assert abs(found.loss - loss) <= rounding
        assert -rounding <= gap <= found.gap + 4 * rounding
        assert found.gap <= (1e-6 if name == "absolute" else 1e-10) * float(loss)
        assert found.relative_gap == found.gap / found.loss


def test_a_point_away_from_the_minimum_has_the_gap_of_its_distance() -> None:
    """One output, one direction: z = t y has the loss (1 - t)^2 v/2 + s t sqrt(v), v the variance."""
    targets = np.array([[-1.0], [1.0], [-2.0], [2.0]])
    problem = Problem(Squared(), targets, np.full(4, 0.25), has_bias=True)
    variance, s = 2.5, 0.4
    best = s * variance**0.5 - 0.5 * s**2
    for t in (0.3, 0.9, 1.2):
        found = certificate(problem, s, t * targets, np.zeros(1), (t - 1.0) * targets)
        value = 0.5 * (1.0 - t) ** 2 * variance + s * t * variance**0.5
        assert found.loss == pytest.approx(value, rel=1e-14)
        assert found.gap >= value - best
        norm = abs(t - 1.0) * variance**0.5
        scaled = min(1.0, s / norm) * norm
        assert found.gap == pytest.approx(value + 0.5 * scaled**2 - scaled * variance**0.5 * np.sign(1 - t), rel=1e-12)
