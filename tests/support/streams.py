"""Features, targets and weights that are drawn, and the ways to give them a part at a time."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

import nrc_fast as nrc


def draw(seed: int, rows: int, d: int, n: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    W = rng.standard_normal((n, d))
    H = rng.standard_normal((rows, d)) * 0.7 ** np.arange(d) + 0.3
    return H, H @ W.T + 0.1 * rng.standard_normal((rows, n)), W


def same_report(one: nrc.Report, other: nrc.Report) -> bool:
    return one.to_json() == other.to_json()


def shards(folder: Path, stem: str, array: np.ndarray, cuts: list[int]) -> str:
    """Files stem_0.npy, stem_1.npy, ... and the pattern for them."""
    for number, part in enumerate(np.split(array, cuts)):
        np.save(folder / f"{stem}_{number}.npy", part)
    return str(folder / f"{stem}_*.npy")


def generated(H: np.ndarray, Y: np.ndarray | None, size: int, alive: list[int] | None = None) -> Iterator[Any]:
    for first in range(0, len(H), size):
        if alive is not None:
            alive.append(first)
        yield H[first : first + size] if Y is None else (H[first : first + size], Y[first : first + size])
