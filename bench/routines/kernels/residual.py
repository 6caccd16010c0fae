"""Projection residuals of unit rows on a basis: ours against the forms that people write."""

from __future__ import annotations

from typing import Any

import numpy as np
from cases import DTYPES, Case
from features import as_wide, item_size, random_features
from harness import Contender, Problem
from limits import Pass
from references import unit_residual
from rivals import contender, plain_nrc1, torch_rows

SHAPES = [
    *((1_000_000, 16), (1_000_000, 64), (640_000, 100), (500_000, 128), (400_000, 256), (200_000, 512)),
    *((100_000, 1000), (100_000, 1024), (40_000, 2048), (16_000, 4096)),
]
PROJECTOR = "torch X P - X, as the papers' code"
MOST_PROJECTED = 3
COMPONENTS = [1, 3, 16, 32, 64]
SUITES = {
    "short": [
        Case(400_000, 256, k=3),
        Case(400_000, 256, k=1),
        Case(400_000, 256, k=32),
        Case(400_000, 256, "bfloat16", k=3),
        Case(400_000, 256, layout="strided", k=3),
        Case(500_000, 128, k=3),
        Case(100_000, 1024, k=3),
        Case(100_000, 1024, "float64", k=3),
    ],
    "full": [
        *(Case(rows, d, k=k) for rows, d in SHAPES for k in COMPONENTS if k <= d),
        *(Case(rows, d, dtype, k=3) for rows, d in SHAPES for dtype in DTYPES if dtype != "float32"),
        *(Case(400_000, 256, dtype, k=k) for dtype in DTYPES if dtype != "float32" for k in COMPONENTS if k != 3),
        *(Case(rows, d, layout="strided", k=3) for rows, d in SHAPES),
    ],
}


def problem(case: Case) -> Problem:
    """The mean residual of the unit rows on k vectors."""
    from nrc_fast.kernels import calls
    from nrc_fast.kernels.inputs import as_rows
    from nrc_fast.kernels.results import Basis

    H, k = random_features(case), case.k or 1
    basis = np.linalg.qr(np.random.default_rng(1).standard_normal((case.d, k)))[0].T.copy()
    ours = as_rows(H, "H")

    def measured(*, double_precision: bool) -> float:
        (sums,) = calls.residual(ours, [Basis(basis)], double_precision=double_precision)
        return float(sums.unit[-1]) / case.rows

    # The norm and one projection: what the expanded form needs. An explicit residual projects back as well.
    flops, size = float(case.rows) * case.d * (2 * k + 2), float(case.rows) * case.d * item_size(H)
    contenders = [Contender("nrc_fast", lambda: measured(double_precision=True), passes=[Pass(flops, size, "float64")])]
    if case.dtype != "float64":
        single = [Pass(flops, size, "float32")]
        contenders.append(
            Contender("nrc_fast, float32 arithmetic", lambda: measured(double_precision=False), passes=single)
        )
    reference = unit_residual(H, basis)
    vectors = basis.astype(as_wide(H).dtype)
    return Problem(
        name="residual",
        contenders=[*contenders, *_rivals(H, vectors)],
        error=lambda value: abs(value / reference - 1.0),
        facts=case.facts(),
        passes=[Pass(flops, size, "float64" if case.dtype == "float64" else "float32")],
        plain=lambda: plain_nrc1(as_wide(H), vectors),
        # Arithmetic in float32 rounds the basis first, which the plain form may or may not be lucky with.
        tiny=1e-12 if case.dtype == "float64" else 2.0**-24,
    )


def _rivals(H: Any, basis: np.ndarray) -> list[Contender]:
    def rows_of(torch: Any) -> Any:
        rows = torch.from_numpy(H) if isinstance(H, np.ndarray) else H
        return rows if rows.dtype.itemsize >= 4 else rows.float()

    def explicit(torch: Any) -> Any:
        vectors = torch.from_numpy(basis)

        def residual() -> float:
            unit = torch.nn.functional.normalize(torch_rows(torch, H))
            rest = unit - (unit @ vectors.T) @ vectors
            return float((rest * rest).sum(1).mean(dtype=torch.float64))

        return residual

    def expanded(torch: Any) -> Any:
        vectors = torch.from_numpy(basis)

        def residual() -> float:
            rows = torch_rows(torch, H)
            squares = (rows * rows).sum(1)
            return float((1.0 - ((rows @ vectors.T) ** 2).sum(1) / squares).mean(dtype=torch.float64))

        return residual

    def with_projector(torch: Any) -> Any:
        vectors = torch.from_numpy(basis)
        projector = vectors.T @ vectors

        def residual() -> float:
            unit = torch.nn.functional.normalize(torch_rows(torch, H))
            return float(torch.norm(unit @ projector - unit).double() ** 2 / len(unit))

        return residual

    return [
        contender("torch X - (X V^T) V", "torch", explicit),
        contender("torch, norms less those of X V^T", "torch", expanded),
        Contender(PROJECTOR, absent=f"takes as long as for k = {MOST_PROJECTED}: its projector is d x d")
        if len(basis) > MOST_PROJECTED
        else contender(PROJECTOR, "torch", with_projector, flops=2.0 * len(H) * H.shape[1] ** 2),
    ]
