"""The Gram matrix of tall features: ours against the products that numpy, scipy and torch offer."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from harness import Contender, Problem, random_features, rows_of

SHAPES = [
    *((1_000_000, 16), (1_000_000, 64), (400_000, 100), (400_000, 128), (400_000, 256), (200_000, 512)),
    *((100_000, 1000), (100_000, 1024), (40_000, 2048), (16_000, 4096)),
]
DTYPES = ["float32", "float64", "bfloat16", "float16"]


def problems(shapes: list[tuple[int, int]], dtypes: list[str]) -> Iterator[Problem]:
    """One for each shape and dtype."""
    for rows, d in shapes:
        for dtype in dtypes:
            yield _problem(rows, d, dtype)


def _problem(rows: int, d: int, dtype: str) -> Problem:
    from nrc_fast import kernels

    H = random_features(rows, d, dtype)
    ours = kernels.as_rows(H, "H")
    contenders = [Contender("nrc_fast", lambda: kernels.gram(ours).gram), *_rivals(H, dtype)]
    reference = _reference(H)
    item = H.itemsize if isinstance(H, np.ndarray) else H.element_size()
    return Problem(
        name="gram",
        ours="nrc_fast",
        contenders=contenders,
        error=lambda result: _error(result, reference),
        flops=float(rows) * d * (d + 1),
        bytes_read=float(rows) * d * item,
        dtype="float64" if dtype == "float64" else "float32",
        facts={"rows": rows, "d": d, "dtype": dtype},
    )


def _rivals(H: Any, dtype: str) -> list[Contender]:
    import torch
    from scipy.linalg import blas

    tensor = H if not isinstance(H, np.ndarray) else torch.from_numpy(H)
    contenders = [Contender("torch.mm(H.T, H)", lambda: torch.mm(tensor.T, tensor))]
    if dtype in ("float32", "float64"):
        syrk = blas.dsyrk if dtype == "float64" else blas.ssyrk
        contenders += [
            Contender("numpy H.T @ H", lambda: H.T @ H),
            Contender("scipy syrk", lambda: syrk(1.0, H.T)),
        ]
    else:
        contenders.append(Contender("torch float32 copy, then mm", lambda: torch.mm(tensor.float().T, tensor.float())))
    return contenders


def _reference(H: Any) -> np.ndarray:
    total = np.zeros((H.shape[1], H.shape[1]))
    for first in range(0, len(H), 50_000):
        part = rows_of(H, first, first + 50_000)
        total += part.T @ part
    return total


def _error(result: Any, reference: np.ndarray) -> float:
    found = np.asarray(result if isinstance(result, np.ndarray) else result.double().numpy(), dtype=np.float64)
    # Kernels and syrk fill one triangle; which one differs.
    lower = np.tril(found) if np.any(np.tril(found, -1)) or found.shape[0] == 1 else np.tril(found.T)
    return float(np.linalg.norm(lower - np.tril(reference)) / np.linalg.norm(np.tril(reference)))
