"""The gamma at which NRC3 is smallest: the closed form against a grid of 1000 values; the error is that of gamma."""

from __future__ import annotations

from cases import Case
from harness import Contender, Problem
from rivals import gamma_grid
from routines.measurement.nrc3 import GRID, SUITES, at_the_minimum

__all__ = ["SUITES", "problem"]


def problem(case: Case) -> Problem:
    """A head of n = k targets."""
    import nrc_fast

    W, sigma, gamma = at_the_minimum(case.d, case.k or 2)
    head = W @ W.T
    return Problem(
        name="nrc3_gamma",
        contenders=[
            Contender("nrc_fast.nrc3_gamma(W, covariance=S)", lambda: nrc_fast.nrc3_gamma(W, covariance=sigma)),
            Contender(GRID, lambda: gamma_grid(head, sigma)[1]),
        ],
        error=lambda found: abs(found / gamma - 1.0),
        facts=case.facts(),
        tiny=1e-12,
    )
