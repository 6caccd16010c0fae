"""NRC3 at its best gamma: the closed form against a grid of 1000 values, as the authors' code searches it.

W W^T has the predicted shape, so that the true NRC3 is 0: the error is the value itself.
"""

from __future__ import annotations

import numpy as np
from cases import Case
from harness import Contender, Problem
from rivals import gamma_grid

__all__ = ["GRID", "SUITES", "at_the_minimum", "problem"]

SUITES = {name: [Case(100_000, 256, "float64", k=k) for k in (2, 3, 8, 32)] for name in ("short", "full")}
GRID = "grid of 1000 gammas, code of arXiv 2409.04180 written anew"
SHARE = 0.3  # gamma, of the smallest eigenvalue
SMALLEST = 0.01  # eigenvalue of the covariance of the targets; the largest is 1


def problem(case: Case) -> Problem:
    """A head of n = k targets."""
    import nrc_fast

    W, sigma, _ = at_the_minimum(case.d, case.k or 2)
    head = W @ W.T
    return Problem(
        name="nrc3",
        contenders=[
            Contender("nrc_fast.nrc3(W, covariance=S)", lambda: nrc_fast.nrc3(W, covariance=sigma)),
            Contender(GRID, lambda: gamma_grid(head, sigma)[0]),
        ],
        error=abs,
        facts=case.facts(),
        # Squares of differences of the size of rounding, times the condition of the root.
        tiny=1e-24,
    )


def at_the_minimum(d: int, n: int) -> tuple[np.ndarray, np.ndarray, float]:
    """Weights, covariance of the targets, and the gamma at which NRC3 is 0."""
    rng = np.random.default_rng(0)
    values = np.geomspace(SMALLEST, 1.0, n)
    vectors = np.linalg.qr(rng.standard_normal((n, n)))[0]
    gamma = SHARE * SMALLEST
    shape = np.sqrt(values) - np.sqrt(gamma)
    rotation = np.linalg.qr(rng.standard_normal((d, n)))[0].T
    sigma = (vectors * values) @ vectors.T
    return (vectors * np.sqrt(shape)) @ rotation, (sigma + sigma.T) / 2.0, gamma
