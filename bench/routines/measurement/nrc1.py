"""NRC1 from features in memory: ours against what users write, and against whole libraries.

All do the same work: principal components of the centred features, unit rows, mean residual on k components.
"""

from __future__ import annotations

import os
from functools import lru_cache
from typing import Any

import numpy as np
from cases import Case
from features import as_wide, item_size, random_features
from harness import Contender, Problem
from limits import Pass
from references import MOST_FEATURES, principal_components, unit_residual
from rivals import numpy_basis, pipelines, plain_nrc1

# Features of language and vision models, of either kind.
WIDE = {
    shape: [Case(*shape, k=3, kind=kind) for kind in ("collapsed", "power")]
    for shape in (
        (20_000, 2048),
        (20_000, 4096),
        (20_000, 16_384),
        (200_000, 4096),
    )
}
SUITES = {
    "short": [Case(400_000, 256, k=3), Case(1_000_000, 64, k=3), *WIDE[20_000, 4096]],
    "full": [
        *(Case(400_000, 256, k=k) for k in (1, 3, 16, 64)),
        *(Case(400_000, 256, dtype, k=3) for dtype in ("float64", "bfloat16")),
        *(Case(rows, d, k=3) for rows, d in ((1_000_000, 64), (500_000, 128), (100_000, 1024), (40_000, 2048))),
        Case(400_000, 256, layout="strided", k=3),
        *(case for cases in WIDE.values() for case in cases),
    ],
}


def problem(case: Case) -> Problem:
    """NRC1 of one set of features."""
    H, truth = random_features(case), exactly(case)[1]
    return Problem(
        name="nrc1",
        contenders=contenders(case),
        error=lambda value: abs(value / truth - 1.0),
        facts=case.facts(),
        passes=passes(case, item_size(H)),
        plain=lambda: plain_nrc1(as_wide(H), _plain_basis(case)),
        tiny=1e-12,
    )


def passes(case: Case, size: int) -> list[Pass]:
    """The statistics, then the residuals of unit rows, which need the basis.

    A covariance is not needed where the features are many: the least that finds its leading vectors is a product with
    as many vectors and back.
    """
    values, k = float(case.rows) * case.d, case.k or 1
    arithmetic = "float64" if case.dtype == "float64" else "float32"
    found = values * (4 * k if case.kind != "layer" else case.d + 1)
    return [Pass(found, values * size, arithmetic), Pass(values * (2 * k + 2), values * size, arithmetic)]


@lru_cache(maxsize=4)
def exactly(case: Case) -> tuple[np.ndarray, float]:
    """Principal components and NRC1 in float64; minutes where the features are many, and more than one routine asks."""
    H = random_features(case)
    basis = principal_components(H, case.k or 1)
    return basis, unit_residual(H, basis)


def _plain_basis(case: Case) -> Any:
    """In the dtype of the features; the rounded float64 one where all eigenvectors would take minutes."""
    H = as_wide(random_features(case))
    return numpy_basis(H, case.k or 1) if case.d <= MOST_FEATURES else exactly(case)[0].astype(H.dtype)


def contenders(case: Case) -> list[Contender]:
    """Ours first."""
    import nrc_fast

    H, k = random_features(case), case.k or 1
    threads = len(os.sched_getaffinity(0))
    return [Contender("nrc_fast.nrc1(H, k)", lambda: nrc_fast.nrc1(H, k)), *pipelines(H, k, threads)]
