"""The product of a few vectors with the centred Gram matrix, which is not formed: what one step of iteration reads."""

from __future__ import annotations

from typing import Any

import numpy as np
from cases import DTYPES, Case
from features import as_wide, item_size, random_features
from harness import Contender, Problem
from limits import Pass
from references import centered_product
from rivals import contender

SHAPES = [(20_000, 4096), (20_000, 16_384), (400_000, 256)]
SUITES = {
    "short": [Case(20_000, 4096, k=10)],
    "full": [
        *(Case(rows, d, k=10) for rows, d in SHAPES),
        *(Case(20_000, 4096, dtype, k=10) for dtype in DTYPES if dtype != "float32"),
        *(Case(20_000, 4096, k=k) for k in (1, 20, 40)),
    ],
}


def problem(case: Case) -> Problem:
    """``V sum (h - s)(h - s)^T`` for k vectors and a shift near the mean."""
    from nrc_fast.kernels import calls
    from nrc_fast.kernels.inputs import as_rows

    H, k = random_features(case), case.k or 1
    vectors = np.linalg.qr(np.random.default_rng(1).standard_normal((case.d, k)))[0].T.copy()
    shift = np.asarray(as_wide(H[:1000]).mean(axis=0), dtype=np.float64)
    rows = as_rows(H, "H")
    reference = centered_product(H, vectors, shift)
    flops, size = 4.0 * case.rows * case.d * k, float(case.rows) * case.d * item_size(H)
    return Problem(
        name="gram_product",
        contenders=[
            Contender("nrc_fast", lambda: calls.gram_product(rows, vectors, shift).image),
            *_rivals(H, vectors, shift),
        ],
        error=lambda image: float(np.linalg.norm(np.asarray(image) - reference) / np.linalg.norm(reference)),
        facts=case.facts(),
        passes=[Pass(flops, size, "float64")],
        tiny=1e-12,
    )


def _rivals(H: Any, vectors: np.ndarray, shift: np.ndarray) -> list[Contender]:
    def in_numpy() -> Any:
        centered = as_wide(H).astype(np.float64) - shift
        return (centered.T @ (centered @ vectors.T)).T

    def in_torch(torch: Any) -> Any:
        rows = torch.from_numpy(H) if isinstance(H, np.ndarray) else H
        dtype = torch.promote_types(rows.dtype, torch.float32)
        directions, offset = torch.from_numpy(vectors).to(dtype), torch.from_numpy(shift).to(dtype)

        def product() -> Any:
            centered = rows.to(dtype) - offset
            return ((centered @ directions.T).T @ centered).double().numpy()

        return product

    return [
        Contender("numpy, X^T (X V^T) of a float64 copy", in_numpy),
        contender("torch, the same in float32 for rows that are not float64", "torch", in_torch),
    ]
