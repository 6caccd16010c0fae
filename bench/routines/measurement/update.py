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


class ByHand:
    """What a user writes without any library."""

    def __init__(self, d: int, *, unit_rows: bool) -> None:
        self.gram, self.unit_gram, self.sums = np.zeros((d, d)), np.zeros((d, d)), np.zeros(d)
        self.count, self.unit_rows = 0, unit_rows

    def update(self, H: np.ndarray) -> ByHand:
        """Add a batch."""
        self.gram += H.T @ H
        if self.unit_rows:
            U = H / np.linalg.norm(H, axis=1, keepdims=True)
            self.unit_gram += U.T @ U
        self.sums += H.sum(axis=0)
        self.count += len(H)
        return self

    @property
    def covariance(self) -> np.ndarray:
        """Of the batches."""
        mean = self.sums / self.count
        return np.asarray(self.gram / self.count - np.outer(mean, mean))


def problem(case: Case) -> Problem:
    """The same batch again and again; the covariance of the batch is what must come out."""
    import nrc_fast

    H = random_features(case)
    plain, both = nrc_fast.FeatureStatistics(case.d, unit_rows=False), nrc_fast.FeatureStatistics(case.d)
    hand, hand_both = ByHand(case.d, unit_rows=False), ByHand(case.d, unit_rows=True)
    reference = centered_gram(H, column_means(H)) / case.rows

    def intel(library: Any) -> Callable[[], Any]:
        fitted = library.IncrementalEmpiricalCovariance(copy=False)
        return lambda: fitted.partial_fit(H)

    def error(result: Any) -> float:
        found = getattr(result, "covariance_", None)
        found = result.covariance if found is None else found
        return float(np.linalg.norm(found - reference) / np.linalg.norm(reference))

    return Problem(
        name="update",
        contenders=[
            Contender("nrc_fast update", lambda: both.update(H)),
            Contender("nrc_fast update, unit_rows=False", lambda: plain.update(H)),
            Contender("numpy H.T @ H and sums", lambda: hand.update(H)),
            Contender("numpy H.T @ H, U.T @ U of unit rows and sums", lambda: hand_both.update(H)),
            contender("scikit-learn-intelex IncrementalEmpiricalCovariance.partial_fit", "sklearnex.covariance", intel),
        ],
        error=error,
        facts=case.facts(),
        plain=lambda: hand.update(H),
    )
