"""Features, targets and heads to measure, the same in every run."""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from typing import Any

import numpy as np
from cases import Case

__all__ = ["as_wide", "item_size", "random_features", "random_head", "wide_chunks"]

CHUNK_ROWS = 100_000
LATENT = 8  # strong directions
SLOPE = 0.01  # of the leaky ReLU: no row is zero, on which definitions and rivals differ


def random_features(case: Case) -> Any:
    """Features (N, d) as of a leaky ReLU layer with a few strong directions; bfloat16 as a torch tensor."""
    # What else the case says does not change its features.
    return _features(Case(case.rows, case.d, case.dtype, case.layout))


@lru_cache(maxsize=1)
def _features(case: Case) -> Any:
    rng = np.random.default_rng(0)
    directions = rng.standard_normal((LATENT, case.d), dtype=np.float32)
    whole = _empty(case)
    H = whole[:, 1 : case.d + 1] if case.layout == "strided" else whole
    for first in range(0, case.rows, CHUNK_ROWS):
        count = min(CHUNK_ROWS, case.rows - first)
        part = rng.standard_normal((count, LATENT), dtype=np.float32) @ directions
        part += rng.standard_normal((count, case.d), dtype=np.float32)
        np.maximum(part, SLOPE * part, out=part)
        H[first : first + count] = part if isinstance(H, np.ndarray) else _tensor(part)
    return H


def _empty(case: Case) -> Any:
    """Memory of the case; three more columns if it is strided."""
    shape = (case.rows, case.d + 3 * (case.layout == "strided"))
    if case.dtype != "bfloat16":
        return np.zeros(shape, dtype=case.dtype)
    import torch

    return torch.zeros(shape, dtype=torch.bfloat16)


def _tensor(array: np.ndarray) -> Any:
    import torch

    return torch.from_numpy(array)


def random_head(H: Any, n: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Weights (n, d), bias (n,) and targets (N, n) that the head meets but for some noise, in float32 or float64."""
    rng = np.random.default_rng(1)
    dtype = np.float64 if str(H.dtype) == "float64" else np.float32
    W = (rng.standard_normal((n, H.shape[1])) / H.shape[1]).astype(dtype)
    b = rng.standard_normal(n).astype(dtype)
    parts = [part.astype(dtype) @ W.T + b for _, part in wide_chunks(H)]
    Y = np.concatenate(parts)
    Y += 0.1 * rng.standard_normal(Y.shape, dtype=np.float32)
    return W, b, Y


def item_size(H: Any) -> int:
    """Bytes of one number."""
    return int(H.itemsize if isinstance(H, np.ndarray) else H.element_size())


def as_wide(H: Any) -> np.ndarray:
    """What a user of numpy or scikit-learn gives them: float32 and float64 as they are, others copied to float32."""
    if not isinstance(H, np.ndarray):
        return np.asarray(H.float().numpy())
    return H if H.dtype.itemsize >= 4 else H.astype(np.float32)


def wide_chunks(H: Any, count: int = 4096) -> Iterator[tuple[int, np.ndarray]]:
    """The rows in float64, some at a time, each with the index of its first row.

    Sums over short chunks round less than those of anybody who adds up all rows at once.
    """
    for first in range(0, len(H), count):
        part = H[first : first + count]
        yield first, np.asarray(part if isinstance(part, np.ndarray) else part.float().numpy(), dtype=np.float64)
