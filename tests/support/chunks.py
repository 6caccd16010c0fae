"""Rows as the sums of a pass take them."""

from __future__ import annotations

from typing import Any

import numpy as np

from nrc_fast.kernels.inputs import as_rows
from nrc_fast.sources import Chunk


def chunk(rows: Any) -> Chunk:
    """Features without targets."""
    return Chunk(as_rows(rows, "H"), None)


def draw() -> tuple[Any, Any, Any]:
    """Features, a few vectors and a shift."""
    rng = np.random.default_rng(0)
    return rng.standard_normal((300, 7)) + 5.0, rng.standard_normal((2, 7)), np.full(7, 4.0)
