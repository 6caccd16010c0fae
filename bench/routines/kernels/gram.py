"""The Gram matrix of tall features: ours against the products that numpy, scipy and torch offer."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
from cases import DTYPES, Case
from features import as_wide, item_size, random_features
from harness import Contender, Problem
from limits import Pass
from references import gram as reference_gram
from references import lower_triangle_error
from rivals import contender

SHAPES = [
    *((1_000_000, 16), (1_000_000, 64), (640_000, 100), (500_000, 128), (400_000, 256), (200_000, 512)),
    *((100_000, 1000), (100_000, 1024), (40_000, 2048), (16_000, 4096)),
]
SUITES = {
    "short": [
        Case(400_000, 256),
        Case(400_000, 256, layout="strided"),
        Case(400_000, 256, "bfloat16"),
        Case(400_000, 256, "float16"),
        Case(1_000_000, 64),
        Case(100_000, 1024),
        Case(100_000, 1024, "float64"),
    ],
    "full": [
        *(Case(rows, d, dtype) for rows, d in SHAPES for dtype in DTYPES),
        *(Case(rows, d, layout="strided") for rows, d in SHAPES),
        # The same width from 64 MB to 2 GB.
        Case(62_500, 256),
        Case(2_000_000, 256),
    ],
}
# Products of 16-bit tensors without a kernel for them run at a small part of the peak: counted as so many times the
# operations, to leave the longest out.
NATIVE_FACTOR = 20.0


def problem(case: Case) -> Problem:
    """The Gram matrix of one set of features."""
    from nrc_fast.kernels import calls
    from nrc_fast.kernels.inputs import as_rows

    H = random_features(case)
    ours = as_rows(H, "H")
    flops = float(case.rows) * case.d * (case.d + 1)
    arithmetic = "float64" if case.dtype == "float64" else "float32"
    return Problem(
        name="gram",
        contenders=[Contender("nrc_fast", lambda: calls.gram(ours).gram), *_rivals(H, flops)],
        error=partial(lower_triangle_error, reference=reference_gram(H)),
        facts=case.facts(),
        passes=[Pass(flops, float(case.rows) * case.d * item_size(H), arithmetic)],
        plain=lambda: as_wide(H).T @ as_wide(H),
    )


def _rivals(H: Any, flops: float) -> list[Contender]:
    wide = str(H.dtype).removeprefix("torch.") in ("float32", "float64")

    def product(torch: Any) -> Any:
        tensor = torch.from_numpy(H) if isinstance(H, np.ndarray) else H
        return lambda: torch.mm(tensor.T, tensor)

    def product_of_copy(torch: Any) -> Any:
        tensor = torch.from_numpy(H) if isinstance(H, np.ndarray) else H

        def multiply() -> Any:
            copy = tensor.float()
            return torch.mm(copy.T, copy)

        return multiply

    if not wide:
        return [
            contender("torch.mm(H.T, H)", "torch", product, flops=2.0 * NATIVE_FACTOR * flops),
            contender("torch float32 copy, then mm", "torch", product_of_copy),
        ]

    def rank_update(blas: Any) -> Any:
        syrk = blas.dsyrk if H.dtype == np.float64 else blas.ssyrk
        return lambda: syrk(1.0, H.T)

    return [
        contender("torch.mm(H.T, H)", "torch", product),
        Contender("numpy H.T @ H", lambda: H.T @ H),
        contender("scipy dsyrk" if H.dtype == np.float64 else "scipy ssyrk", "scipy.linalg.blas", rank_update),
    ]
