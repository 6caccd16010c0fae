"""Sums over rows in .npz files, which machines exchange and later versions read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from nrc_fast.base.arrays import FloatArray
from nrc_fast.base.npz import load_arrays, save_arrays
from nrc_fast.passes.shifted_sums import ShiftedSums

__all__ = ["load_sums", "save_sums"]

# In files of format 1 counts and magnitudes are shorter; `ShiftedSums.restore` reads them too.
FORMAT = 2


def save_sums(path: Path, sums: ShiftedSums, *, options: dict[str, Any]) -> None:
    """Write sums, with options of whoever holds them, all or nothing.

    Raises
    ------
    OSError
        The file cannot be written.
    """
    names = ("d", "n_targets", "unit_rows", "precision")
    header = {"kind": "statistics", "format": FORMAT} | {name: getattr(sums, name) for name in names}
    save_arrays(path, header | {"options": options}, sums.arrays())


def load_sums(path: Path) -> tuple[dict[str, Any], dict[str, FloatArray]]:
    """Header and arrays of a file that `save_sums` wrote.

    Raises
    ------
    OSError
        The file is missing or damaged.
    ValueError
        It holds something else, or was written by a newer version.
    """
    return load_arrays(path, "statistics", FORMAT)
