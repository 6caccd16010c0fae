"""Linear CKA of features and targets: from d x n moments, against N x N kernels as published code computes it."""

from __future__ import annotations

from typing import Any

import numpy as np
from cases import Case
from features import as_wide, item_size, random_features, random_head, wide_chunks
from harness import Contender, Problem
from limits import Pass
from references import centered_gram, column_means
from rivals import contender

SUITES = {
    "short": [Case(4_000, 256, k=3), Case(400_000, 256, k=3)],
    # The memory of N x N kernels ends near 20,000 samples; there one call takes minutes (--limit 1000).
    "full": [Case(4_000, 256, k=3), Case(20_000, 256, k=3), Case(400_000, 256, k=3)],
}
KERNEL_PRODUCTS = 7  # of N x N matrices


def problem(case: Case) -> Problem:
    """CKA of all features with k targets."""
    from nrc_fast import FeatureStatistics
    from nrc_fast.metrics.targets import linear_cka

    H, k = random_features(case), case.k or 1
    Y = random_head(H, k)[2]
    truth = _in_float64(H, Y)

    def added_up() -> FeatureStatistics:
        return FeatureStatistics(case.d, n_targets=k, unit_rows=False).update(H, Y)

    def ours() -> float:
        statistics = added_up()
        return linear_cka(statistics.covariance, statistics.target_covariance, statistics.cross_covariance)

    arithmetic = "float64" if case.dtype == "float64" else "float32"
    return Problem(
        name="cka",
        contenders=[
            Contender("nrc_fast, moments of FeatureStatistics", ours),
            Contender("nrc_fast, with all else that a report holds", lambda: added_up().report().cka),
            Contender("numpy, moments", lambda: with_moments(as_wide(H), Y)),
            contender(
                "N x N kernels of the Deep NRC code, written anew, all features",
                "torch",
                lambda torch: lambda: with_kernels(torch, as_wide(H), Y),
                flops=KERNEL_PRODUCTS * 2.0 * case.rows**3,
            ),
        ],
        error=lambda value: abs(value / truth - 1.0),
        facts=case.facts(),
        passes=[
            Pass(
                float(case.rows) * case.d * (case.d + 1 + 2 * k),
                float(case.rows) * case.d * item_size(H),
                arithmetic,
            )
        ],
        plain=lambda: with_moments(as_wide(H), Y),
        tiny=1e-12,
    )


def _in_float64(H: Any, Y: np.ndarray) -> float:
    targets = Y.astype(np.float64)
    means, target_means = column_means(H), targets.mean(axis=0)
    cross = np.zeros((H.shape[1], Y.shape[1]))
    for first, part in wide_chunks(H):
        cross += (part - means).T @ (targets[first : first + len(part)] - target_means)
    sigma = (targets - target_means).T @ (targets - target_means)
    return float(np.linalg.norm(cross) ** 2 / (np.linalg.norm(centered_gram(H, means)) * np.linalg.norm(sigma)))


def with_moments(H: np.ndarray, Y: np.ndarray) -> float:
    """The best form that a user of numpy may write."""
    features, targets = H - H.mean(axis=0), Y - Y.mean(axis=0)
    norms = np.linalg.norm(features.T @ features) * np.linalg.norm(targets.T @ targets)
    return float(np.linalg.norm(features.T @ targets) ** 2 / norms)


def with_kernels(torch: Any, H: np.ndarray, Y: np.ndarray) -> float:
    """The kernels of all pairs of samples, centred from both sides by a matrix; traces of their products."""
    count = len(H)
    centering = torch.eye(count) - torch.full((count, count), 1.0 / count)
    centering = centering.to(torch.from_numpy(H[:1]).dtype)
    kernels = []
    for rows in (torch.from_numpy(H), torch.from_numpy(Y).to(centering.dtype)):
        kernels.append(centering @ (rows @ rows.T) @ centering)
    features, targets = kernels
    alignment = torch.trace(features @ targets)
    return float(alignment / torch.sqrt(torch.trace(features @ features) * torch.trace(targets @ targets)))
