"""Projection residuals of unit rows on a basis: ours against the forms that people write."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from harness import Contender, Problem, random_features, rows_of

SHAPES = [(1_000_000, 64), (400_000, 128), (400_000, 256), (100_000, 1024), (40_000, 2048)]
DTYPES = ["float32", "float64", "bfloat16"]
COMPONENTS = [1, 3, 16, 32, 64]


def problems(shapes: list[tuple[int, int]], dtypes: list[str], components: list[int]) -> Iterator[Problem]:
    """One for each shape, dtype and number of vectors."""
    for rows, d in shapes:
        for dtype in dtypes:
            H = random_features(rows, d, dtype)
            for k in components:
                if k <= d:
                    yield _problem(H, rows, d, dtype, k)


def _problem(H: Any, rows: int, d: int, dtype: str, k: int) -> Problem:
    from nrc_fast import kernels

    basis = np.linalg.qr(np.random.default_rng(1).standard_normal((d, k)))[0].T.copy()
    ours = kernels.as_rows(H, "H")

    def measured(*, double_precision: bool) -> float:
        (sums,) = kernels.residual(ours, [kernels.Basis(basis)], double_precision=double_precision)
        return float(sums.unit[-1]) / rows

    contenders = [Contender("nrc_fast", lambda: measured(double_precision=True))]
    if dtype != "float64":
        contenders.append(Contender("nrc_fast, float32 arithmetic", lambda: measured(double_precision=False)))
    contenders += _rivals(H, basis)
    reference = _reference(H, basis)
    item = H.itemsize if isinstance(H, np.ndarray) else H.element_size()
    return Problem(
        name="residual",
        ours="nrc_fast",
        contenders=contenders,
        error=lambda value: abs(value / reference - 1.0),
        flops=float(rows) * d * (2 * k + 2),
        bytes_read=float(rows) * d * item,
        dtype="float64",
        facts={"rows": rows, "d": d, "dtype": dtype, "k": k},
    )


def _rivals(H: Any, basis: np.ndarray) -> list[Contender]:
    import torch

    tensor = H if not isinstance(H, np.ndarray) else torch.from_numpy(H)
    wide = tensor if tensor.dtype.itemsize >= 4 else tensor.float()
    vectors = torch.from_numpy(basis).to(wide.dtype)
    projector = vectors.T @ vectors

    def explicit() -> float:
        unit = torch.nn.functional.normalize(wide)
        rest = unit - (unit @ vectors.T) @ vectors
        return float((rest * rest).sum(1).mean(dtype=torch.float64))

    def with_projector() -> float:
        unit = torch.nn.functional.normalize(wide)
        return float(torch.norm(unit @ projector - unit).double() ** 2 / len(unit))

    return [
        Contender("torch X - (X V^T) V", explicit),
        Contender("torch X P - X, as the papers' code", with_projector),
    ]


def _reference(H: Any, basis: np.ndarray) -> float:
    total = 0.0
    for first in range(0, len(H), 50_000):
        unit = rows_of(H, first, first + 50_000)
        norms = np.linalg.norm(unit, axis=1, keepdims=True)
        unit /= np.where(norms > 0.0, norms, 1.0)
        rest = unit - (unit @ basis.T) @ basis
        total += float(np.sum(rest * rest))
    return total / len(H)
