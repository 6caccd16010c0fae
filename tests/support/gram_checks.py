"""Gram passes of rows that are split into three bfloat16 numbers: what they must give, and what their tiles read."""

from __future__ import annotations

from typing import Any

import numpy as np

__all__ = ["SIZES", "SPLIT_TOLERANCE", "check", "check_gram", "check_sums", "tile_columns", "unit_rows"]

SIZES = {"float32": 4, "float16": 2, "bfloat16": 2}
# Of an element, relative to the sum of the magnitudes of its products: see test_gram.py.
SPLIT_TOLERANCE = 18 * 2.0**-23


def unit_rows(rows: Any) -> Any:
    """Rows of norm 1, and zeros as they are."""
    norms = np.linalg.norm(rows, axis=1, keepdims=True)
    return np.divide(rows, norms, out=np.zeros_like(rows), where=norms > 0)


def check(found: Any, left: Any, right: Any, limit: float) -> None:
    """Sums of products of two arrays, each relative to the magnitudes that it adds."""
    assert np.isfinite(found).all()
    assert (np.abs(found - left.T @ right) <= limit * (np.abs(left).T @ np.abs(right))).all()


def check_gram(found: Any, rows: Any, limit: float = SPLIT_TOLERANCE) -> None:
    """The lower triangle of a Gram matrix, and nothing above it."""
    assert not np.triu(found, 1).any()
    check(found + np.tril(found, -1).T, rows, rows, limit)


def check_sums(sums: Any, rows: Any, units: Any = None, limit: float = SPLIT_TOLERANCE) -> None:
    """The Gram matrix and the column sums of a pass, and the Gram matrix of unit rows where those are given."""
    check_gram(sums.gram, rows, limit)
    check(sums.column_sums[None], np.ones((len(rows), 1)), rows, 2.0**-46)
    if units is not None:
        check_gram(sums.unit_gram, units, limit)


def tile_columns(d: int) -> int:
    """Columns that the tiles of a lower triangle read: both sides of each, where they differ."""
    widths = [min(128, d - first) for first in range(0, d, 128)]
    return sum(w if r == c else w + widths[c] for r, w in enumerate(widths) for c in range(r + 1))
