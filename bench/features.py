"""Features, targets and heads to measure, the same in every run."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
from cases import Case

__all__ = ["as_wide", "item_size", "random_features", "random_head", "wide_chunks"]

CHUNK_ROWS = 100_000  # of kind "layer"
CHUNK_NUMBERS = 2**24  # of the others, which are wide: 64 MB in float32
LATENT = 8  # strong directions
SLOPE = 0.01  # of the leaky ReLU: no row is zero, on which definitions and rivals differ
COLLAPSED_TO = 3
NOISE = 0.01  # of collapsed features, relative to what is strong
OFFSET = 0.5  # length of the mean, relative to that of a deviation

Parts = Iterator[np.ndarray]
_drawn: dict[Case, Any] = {}  # those asked for last


def random_features(case: Case) -> Any:
    """Features (N, d) of the kind of the case; bfloat16 as a torch tensor."""
    # What else the case says does not change its features.
    case = replace(case, k=None)
    if case not in _drawn:
        _drawn.clear()  # first: two sets may not fit into memory
        _drawn[case] = _features(case)
    return _drawn[case]


def _features(case: Case) -> Any:
    whole = _empty(case)
    H = whole[:, 1 : case.d + 1] if case.layout == "strided" else whole
    first = 0
    for part in {"layer": _layer, "collapsed": _collapsed, "power": _power}[case.kind](case.rows, case.d):
        H[first : first + len(part)] = part if isinstance(H, np.ndarray) else _tensor(part)
        first += len(part)
    return H


def _counts(rows: int, most: int) -> Iterator[int]:
    """The rows of each part."""
    for first in range(0, rows, most):
        yield min(most, rows - first)


def _layer(rows: int, d: int) -> Parts:
    """A leaky ReLU layer with a few strong directions."""
    rng = np.random.default_rng(0)
    directions = rng.standard_normal((LATENT, d), dtype=np.float32)
    for count in _counts(rows, CHUNK_ROWS):
        part = rng.standard_normal((count, LATENT), dtype=np.float32) @ directions
        part += rng.standard_normal((count, d), dtype=np.float32)
        np.maximum(part, SLOPE * part, out=part)
        yield part


def _collapsed(rows: int, d: int) -> Parts:
    """Three directions, the mean among them but for as much as the noise."""
    rng = np.random.default_rng(0)
    basis = np.linalg.qr(rng.standard_normal((d, min(COLLAPSED_TO, d))))[0].T * np.sqrt(d)
    mean = (OFFSET * basis[0] + NOISE * rng.standard_normal(d)).astype(np.float32)
    directions = basis.astype(np.float32)
    for count in _counts(rows, max(1, CHUNK_NUMBERS // d)):
        part = rng.standard_normal((count, d), dtype=np.float32)
        part *= np.float32(NOISE)
        part += rng.standard_normal((count, len(directions)), dtype=np.float32) @ directions
        part += mean
        yield part


def _power(rows: int, d: int) -> Parts:
    """Eigenvalues j^-1/2 in no order of frequency, turned by a cosine transform and random signs: O(d log d) a row."""
    from scipy.fft import dct

    rng = np.random.default_rng(0)
    deviations = rng.permutation(np.arange(1.0, d + 1.0) ** -0.25).astype(np.float32)
    signs = rng.choice(np.array([-1.0, 1.0], dtype=np.float32), d)
    mean = rng.standard_normal(d) * (OFFSET * np.linalg.norm(deviations) / np.sqrt(d))
    for count in _counts(rows, max(1, CHUNK_NUMBERS // d)):
        part = rng.standard_normal((count, d), dtype=np.float32)
        part *= deviations
        part = dct(part, axis=1, norm="ortho", overwrite_x=True)
        part *= signs
        part += mean.astype(np.float32)
        yield part


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
