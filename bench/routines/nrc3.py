"""NRC3 at its best gamma: the closed form against a grid of 1000 values, as the authors' code searches it."""

from __future__ import annotations

import numpy as np
from cases import Case
from harness import Contender, Problem
from rivals import gamma_grid

SUITES = {name: [Case(100_000, 256, "float64", k=k) for k in (2, 3, 8, 32)] for name in ("short", "full")}
SHARE = 0.3  # gamma, of the smallest eigenvalue


def problem(case: Case) -> Problem:
    """W W^T has the predicted shape at a known gamma: the error is that of the gamma that is found."""
    import nrc_fast

    W, sigma = _at_the_minimum(case.d, case.k or 2)
    head = W @ W.T
    truth = SHARE * float(np.linalg.eigvalsh(sigma)[0])

    def ours() -> tuple[float, float]:
        return nrc_fast.nrc3(W, covariance=sigma), nrc_fast.nrc3_gamma(W, covariance=sigma)

    return Problem(
        name="nrc3",
        contenders=[
            Contender("nrc_fast.nrc3 and nrc3_gamma(W, covariance=S)", ours),
            Contender("grid of 1000 gammas, code of arXiv 2409.04180 written anew", lambda: gamma_grid(head, sigma)),
        ],
        error=lambda found: abs(found[1] / truth - 1.0),
        facts=case.facts(),
        tiny=1e-12,
    )


def _at_the_minimum(d: int, n: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    Y = rng.standard_normal((1000, n)) @ rng.standard_normal((n, n))
    sigma = np.cov(Y.T, bias=True)
    values, vectors = np.linalg.eigh(sigma)
    shape = np.sqrt(values) - np.sqrt(SHARE * values[0])
    rotation = np.linalg.qr(rng.standard_normal((d, n)))[0].T
    return (vectors * np.sqrt(shape)) @ rotation, sigma
