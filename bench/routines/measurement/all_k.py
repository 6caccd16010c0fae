"""NRC1 for every number of components at once, against the loops over k that published code runs."""

from __future__ import annotations

from typing import Any

import numpy as np
from cases import Case
from features import as_wide, random_features
from harness import Contender, Problem
from rivals import authors_nrc1, contender, projector_loop

SUITES = {
    "short": [Case(2_000, 96, "float64"), Case(20_000, 96, "float64"), Case(20_000, 256, "float64")],
    "full": [
        *(Case(rows, d, "float64") for rows, d in ((2_000, 96), (20_000, 96), (20_000, 256))),
        *(Case(rows, d, "float32") for rows, d in ((20_000, 96), (20_000, 256))),
    ],
}


def problem(case: Case) -> Problem:
    """NRC1 for k = 1, ..., d."""
    import nrc_fast
    from nrc_fast.testing import reference_nrc1

    H = random_features(case)
    numbers = range(1, case.d + 1)
    reference = reference_nrc1(H, None)
    work = 2.0 * case.rows * case.d**3

    def error(values: Any) -> float:
        # k = d leaves nothing.
        return float(np.abs(np.asarray(values)[:-1] / reference[:-1] - 1.0).max())

    return Problem(
        name="all_k",
        contenders=[
            Contender("nrc_fast.nrc1(H, None)", lambda: nrc_fast.nrc1(H, None)),
            Contender(
                "all-k loop of nc-toolbox, written anew", lambda: projector_loop(as_wide(H), numbers), flops=work
            ),
            contender(
                "code of arXiv 2409.04180, written anew, every k",
                "sklearn.decomposition",
                lambda library: lambda: authors_nrc1(library, as_wide(H), numbers),
                flops=work,
            ),
        ],
        error=error,
        facts=case.facts(),
        plain=lambda: projector_loop(as_wide(H), numbers),
        tiny=1e-12,
    )
