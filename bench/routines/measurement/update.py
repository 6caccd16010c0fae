"""What a call costs: one small batch into statistics."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from cases import Case
from features import random_features
from harness import Contender, Problem
from references import centered_gram, column_means
from rivals import contender

SUITES = {name: [Case(256, 64), Case(256, 256), Case(1024, 64)] for name in ("short", "full")}


def problem(case: Case) -> Problem:
    """The same batch again and again; the covariance of the batch is what must come out."""
    import nrc_fast

    H = random_features(case)
    plain, both = nrc_fast.FeatureStatistics(case.d, unit_rows=False), nrc_fast.FeatureStatistics(case.d)
    sums: dict[str, Any] = {"gram": np.zeros((case.d, case.d)), "sum": np.zeros(case.d), "count": 0}
    reference = centered_gram(H, column_means(H)) / case.rows

    def by_hand() -> None:
        sums["gram"] += H.T @ H
        sums["sum"] += H.sum(axis=0)
        sums["count"] += len(H)

    def covariance() -> np.ndarray:
        mean = sums["sum"] / sums["count"]
        return np.asarray(sums["gram"] / sums["count"] - np.outer(mean, mean))

    def intel(library: Any) -> Callable[[], Any]:
        fitted = library.IncrementalEmpiricalCovariance(copy=False)
        return lambda: fitted.partial_fit(H)

    def error(result: Any) -> float:
        found = covariance() if result is None else getattr(result, "covariance_", None)
        found = result.covariance if found is None else found
        return float(np.linalg.norm(found - reference) / np.linalg.norm(reference))

    return Problem(
        name="update",
        contenders=[
            Contender("nrc_fast update", lambda: both.update(H)),
            Contender("nrc_fast update, unit_rows=False", lambda: plain.update(H)),
            Contender("numpy H.T @ H and sums", by_hand),
            contender("scikit-learn-intelex IncrementalEmpiricalCovariance.partial_fit", "sklearnex.covariance", intel),
        ],
        error=error,
        facts=case.facts(),
        plain=by_hand,
    )
