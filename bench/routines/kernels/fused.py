"""What else one read of the features can add up beside the Gram matrix, as a multiple of the Gram matrix alone."""

from __future__ import annotations

from typing import Any

import numpy as np
from cases import Case
from features import as_wide, item_size, random_features, random_head
from harness import Contender, Problem
from limits import Pass
from references import centered_gram, column_means, gram, lower_triangle_error, unit_gram
from rivals import contender

SUITES = {
    "short": [Case(400_000, 256, k=3)],
    "full": [*(Case(rows, d, k=3) for rows, d in ((1_000_000, 64), (400_000, 256), (100_000, 1024)))],
}

ALONE = "nrc_fast gram alone"
SHIFTED = "nrc_fast gram, shift, sums, counts"
UNIT = "nrc_fast gram of unit rows instead"


def problem(case: Case) -> Problem:
    """Grams of rows as they are, shifted, scaled to norm 1, and with targets."""
    from nrc_fast.kernels import calls
    from nrc_fast.kernels.inputs import as_rows

    H = random_features(case)
    ours = as_rows(H, "H")
    targets = as_rows(random_head(H, case.k or 1)[2], "Y")
    shift = column_means(H)
    plain, centered, unit = gram(H), centered_gram(H, shift), unit_gram(H)
    origin = np.zeros(targets.columns)

    def torch_centered(torch: Any) -> Any:
        rows, means = torch.from_numpy(as_wide(H)), torch.from_numpy(shift.astype(as_wide(H).dtype))

        def multiply() -> Any:
            copy = rows - means
            return copy.T @ copy, centered

        return multiply

    def with_targets() -> Any:
        return calls.gram(ours, shift=shift, targets=targets, target_shift=origin).gram, centered

    flops = float(case.rows) * case.d * (case.d + 1)
    one = Pass(flops, float(case.rows) * case.d * item_size(H), "float64" if case.dtype == "float64" else "float32")
    two = Pass(2.0 * flops, one.bytes_read, one.arithmetic)
    return Problem(
        name="fused",
        contenders=[
            Contender(ALONE, lambda: (calls.gram(ours).gram, plain)),
            Contender(SHIFTED, lambda: (calls.gram(ours, shift=shift).gram, centered)),
            Contender("nrc_fast gram, shift, sums, counts, targets", with_targets),
            Contender(UNIT, lambda: (calls.gram(ours, plain=False, unit="raw").unit_gram, unit)),
            Contender("nrc_fast both grams", lambda: (calls.gram(ours, unit="raw").unit_gram, unit), passes=[two]),
            contender("torch, centred copy", "torch", torch_centered),
        ],
        error=lambda result: lower_triangle_error(*result),
        facts=case.facts(),
        passes=[one],
        plain=lambda: (as_wide(H).T @ as_wide(H), plain),
    )
