"""NRC1 from features in memory: ours against what users write, and against whole libraries.

All do the same work: principal components of the centred features, unit rows, mean residual on k components.
"""

from __future__ import annotations

import os

from cases import Case
from features import as_wide, item_size, random_features
from harness import Contender, Pass, Problem
from references import nrc1 as reference_nrc1
from rivals import numpy_basis, pipelines, plain_nrc1

SUITES = {
    "short": [Case(400_000, 256, k=3), Case(1_000_000, 64, k=3)],
    "full": [
        *(Case(400_000, 256, k=k) for k in (1, 3, 16, 64)),
        *(Case(400_000, 256, dtype, k=3) for dtype in ("float64", "bfloat16")),
        *(Case(rows, d, k=3) for rows, d in ((1_000_000, 64), (500_000, 128), (100_000, 1024), (40_000, 2048))),
        Case(400_000, 256, layout="strided", k=3),
    ],
}


def problem(case: Case) -> Problem:
    """NRC1 of one set of features."""
    H, k = random_features(case), case.k or 1
    truth = reference_nrc1(H, k)
    size, arithmetic = float(case.rows) * case.d * item_size(H), "float64" if case.dtype == "float64" else "float32"
    return Problem(
        name="nrc1",
        contenders=contenders(case),
        error=lambda value: abs(value / truth - 1.0),
        facts=case.facts(),
        # The statistics, then the residuals of unit rows, which need the basis.
        passes=[
            Pass(float(case.rows) * case.d * (case.d + 1), size, arithmetic),
            Pass(float(case.rows) * case.d * (2 * k + 2), size, arithmetic),
        ],
        plain=lambda: plain_nrc1(as_wide(H), numpy_basis(as_wide(H), k)),
        tiny=1e-12,
    )


def contenders(case: Case) -> list[Contender]:
    """Ours first."""
    import nrc_fast

    H, k = random_features(case), case.k or 1
    threads = len(os.sched_getaffinity(0))
    return [Contender("nrc_fast.nrc1(H, k)", lambda: nrc_fast.nrc1(H, k)), *pipelines(H, k, threads)]
