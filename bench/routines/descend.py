"""Full-batch gradient descent on the UFM: ours, by linear images, against descent on every entry of H with torch."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from harness import Contender, Problem

SHAPES = [(1_000, 32), (10_000, 64)]  # samples x features
DTYPES = ["float64"]
TARGETS, PROBLEMS, STEPS, RATE = 3, 8, 100, 0.1


def problems(shapes: list[tuple[int, int]], dtypes: list[str]) -> Iterator[Problem]:
    """One for each shape and dtype: a batch of problems that differ in their penalty."""
    for samples, d in shapes:
        for dtype in dtypes:
            yield _problem(samples, d, dtype)


def _problem(samples: int, d: int, dtype: str) -> Problem:
    from nrc_fast import ufm

    rng = np.random.default_rng(0)
    Y = rng.standard_normal((samples, TARGETS)) @ rng.standard_normal((TARGETS, TARGETS))
    H = rng.standard_normal((samples, d)) / np.sqrt(d)
    W = rng.standard_normal((TARGETS, d)) / np.sqrt(d)
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
    contenders = [
        Contender("nrc_fast.ufm.descend", ours),
        Contender("torch, every entry of H", lambda: explicit(Y, H, W, penalties, dtype)),
    ]
    return Problem(
        name="descend",
        ours=contenders[0].name,
        contenders=contenders,
        error=lambda weights: float(np.linalg.norm(weights - reference) / np.linalg.norm(reference)),
        facts={"rows": samples, "d": d, "dtype": dtype, "k": TARGETS, "problems": PROBLEMS, "steps": STEPS},
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
