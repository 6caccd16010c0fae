"""Features of every dtype with a decaying spectrum."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch


def stored_as(rows: np.ndarray, dtype: str) -> Any:
    """The rows in one of the four dtypes; bfloat16 as a tensor."""
    return torch.from_numpy(rows).to(torch.bfloat16) if dtype == "bfloat16" else rows.astype(dtype)


def spread_features(rng: np.random.Generator, rows: int, d: int) -> np.ndarray:
    """Features with a decaying spectrum, so that the components are well separated, and a mean."""
    scales = 0.7 ** np.arange(d) + 1e-3
    rotation = np.linalg.qr(rng.standard_normal((d, d)))[0]
    return (rng.standard_normal((rows, d)) * scales) @ rotation + 0.5


def largest_angle(one: np.ndarray, other: np.ndarray) -> float:
    """The sine of the largest angle between the spans of orthonormal rows."""
    return float(np.linalg.norm(one - one @ other.T @ other, 2))
