"""NRC3 at its best gamma: the closed form against a grid of 1000 values, as the authors' code searches it."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from harness import Contender, Problem

SHAPES = [(100_000, 2), (100_000, 8), (100_000, 32)]
DTYPES = ["float64"]
FEATURES = 256
GAMMA = 0.3  # of the smallest eigenvalue


def problems(shapes: list[tuple[int, int]], dtypes: list[str]) -> Iterator[Problem]:
    """One for each number of targets: rows x n."""
    import nrc_fast

    del dtypes
    for rows, n in shapes:
        W, sigma = _at_the_minimum(n)
        head = W @ W.T
        contenders = [
            Contender("nrc_fast.nrc3(W, covariance=...)", lambda W=W, sigma=sigma: nrc_fast.nrc3(W, covariance=sigma)),
            Contender("grid of 1000 gammas", lambda head=head, sigma=sigma: grid(head, sigma)),
        ]
        # W W^T has the predicted shape: the true value is 0, and the error is the value itself.
        yield Problem(
            name="nrc3",
            ours=contenders[0].name,
            contenders=contenders,
            error=abs,
            facts={"rows": rows, "d": FEATURES, "dtype": "float64", "k": n},
        )


def _at_the_minimum(n: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    Y = rng.standard_normal((1000, n)) @ rng.standard_normal((n, n))
    sigma = np.cov(Y.T, bias=True)
    values, vectors = np.linalg.eigh(sigma)
    shape = np.sqrt(values) - np.sqrt(GAMMA * values[0])
    rotation = np.linalg.qr(rng.standard_normal((FEATURES, n)))[0].T
    return (vectors * np.sqrt(shape)) @ rotation, sigma


def grid(head: np.ndarray, sigma: np.ndarray) -> float:
    """The search of the code of arXiv 2409.04180, written anew."""
    values, vectors = np.linalg.eigh(sigma)
    root = (vectors * np.sqrt(values)) @ vectors.T
    shape = head / np.linalg.norm(head)
    best = np.inf
    for gamma in np.linspace(0.0, values[0], 1000):
        target = root - np.sqrt(gamma) * np.eye(len(root))
        norm = np.linalg.norm(target)
        if norm > 0.0:
            best = min(best, float(np.linalg.norm(shape - target / norm) ** 2))
    return best
