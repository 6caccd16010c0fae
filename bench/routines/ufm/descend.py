"""Full-batch gradient descent on the UFM: ours, by linear images, against descent on every entry of H with torch."""

from __future__ import annotations

import numpy as np
from cases import Case
from harness import Contender, Problem
from rivals import contender

SUITES = {name: [Case(1_000, 32, "float64", k=3), Case(10_000, 64, "float64", k=3)] for name in ("short", "full")}
PROBLEMS, STEPS, RATE = 8, 100, 0.1


def problem(case: Case) -> Problem:
    """A batch of problems that differ in their penalty; `rows` are the samples."""
    from nrc_fast import ufm

    samples, d, n, dtype = case.rows, case.d, case.k or 1, case.dtype
    rng = np.random.default_rng(0)
    Y = rng.standard_normal((samples, n)) @ rng.standard_normal((n, n))
    H = rng.standard_normal((samples, d)) / np.sqrt(d)
    W = rng.standard_normal((n, d)) / np.sqrt(d)
    penalties = np.logspace(-3, -1, PROBLEMS)

    def ours() -> np.ndarray:
        found = ufm.descend(
            Y,
            steps=STEPS,
            lambda_W=penalties,
            lambda_H=penalties,
            lr_W=RATE,
            lr_b=RATE,
            lr_H=RATE * samples,
            weights=W,
            features=H,
            dtype=dtype,
            progress=False,
        )
        return np.asarray(found.weights, dtype=np.float64)

    reference = explicit(Y, H, W, penalties, "float64")
    return Problem(
        name="descend",
        contenders=[
            Contender("nrc_fast.ufm.descend", ours),
            contender("torch, every entry of H", "torch", lambda _: lambda: explicit(Y, H, W, penalties, dtype)),
        ],
        error=lambda weights: float(np.linalg.norm(weights - reference) / np.linalg.norm(reference)),
        facts=case.facts() | {"problems": PROBLEMS, "steps": STEPS},
        plain=lambda: explicit(Y, H, W, penalties, dtype),
        tiny=1e-12,
    )


def explicit(Y: np.ndarray, H: np.ndarray, W: np.ndarray, penalties: np.ndarray, dtype: str) -> np.ndarray:
    """What one would write: gradients of the loss by H, W and b, for all penalties at once."""
    import torch

    kind = getattr(torch, dtype)
    targets, lambdas = torch.from_numpy(Y).to(kind), torch.from_numpy(penalties).to(kind)[:, None, None]
    features = torch.from_numpy(H).to(kind).expand(len(penalties), -1, -1).clone()
    weights = torch.from_numpy(W).to(kind).expand(len(penalties), -1, -1).clone()
    bias = torch.zeros(len(penalties), 1, Y.shape[1], dtype=kind)
    for _ in range(STEPS):
        errors = (features @ weights.mT + bias - targets) / len(Y)
        by_features = errors @ weights + lambdas / len(Y) * features
        by_weights = errors.mT @ features + lambdas * weights
        features -= RATE * len(Y) * by_features
        weights -= RATE * by_weights
        bias -= RATE * errors.sum(1, keepdim=True)
    return weights.double().numpy()
