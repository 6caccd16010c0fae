"""What a call costs: one small batch into statistics."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from harness import Contender, Problem, as_float64, random_features

SHAPES = [(256, 64), (256, 256), (1024, 64)]
DTYPES = ["float32"]


def problems(shapes: list[tuple[int, int]], dtypes: list[str]) -> Iterator[Problem]:
    """One for each shape and dtype."""
    import nrc_fast

    for rows, d in shapes:
        for dtype in dtypes:
            H = random_features(rows, d, dtype)
            plain = nrc_fast.FeatureStatistics(d, unit_rows=False)
            both = nrc_fast.FeatureStatistics(d)
            sums = {"gram": np.zeros((d, d)), "sum": np.zeros(d)}
            reference = np.cov(as_float64(H).T, bias=True)

            def by_hand(H: np.ndarray = H, sums: dict[str, np.ndarray] = sums) -> np.ndarray:
                sums["gram"] += H.T @ H
                sums["sum"] += H.sum(axis=0)
                return np.cov(H.T, bias=True)

            def add(statistics: nrc_fast.FeatureStatistics, H: np.ndarray = H) -> np.ndarray:
                return statistics.update(H).arrays()["gram"]

            def error(
                _: np.ndarray, both: nrc_fast.FeatureStatistics = both, reference: np.ndarray = reference
            ) -> float:
                return float(np.linalg.norm(both.covariance - reference) / np.linalg.norm(reference))

            both.update(H)
            yield Problem(
                name="update",
                ours="nrc_fast update, unit_rows=False",
                contenders=[
                    Contender("nrc_fast update, unit_rows=False", lambda s=plain: add(s)),
                    Contender("nrc_fast update", lambda s=both: add(s)),
                    Contender("numpy H.T @ H and sums", by_hand),
                ],
                error=error,
                facts={"rows": rows, "d": d, "dtype": dtype},
            )
