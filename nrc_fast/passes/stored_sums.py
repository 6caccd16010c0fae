"""Sums over rows in .npz files, which machines exchange and later versions read."""

from __future__ import annotations

from collections.abc import Mapping
from operator import index
from pathlib import Path
from typing import Any

from nrc_fast.base.arrays import FloatArray
from nrc_fast.base.npz import save_arrays
from nrc_fast.base.npz_reading import load_arrays, require_own_place
from nrc_fast.passes.shifted_sums import ShiftedSums

__all__ = ["load_sums", "require_place_of_sums", "save_sums", "sizes_of_sums"]

# In files of formats 1 and 2 counts are shorter, in those of 1 magnitudes too; `ShiftedSums.restore` reads them.
FORMAT = 3
KIND = "statistics"


def save_sums(
    path: Path, sums: ShiftedSums, *, options: dict[str, Any], arrays: Mapping[str, FloatArray] | None = None
) -> None:
    """Write sums, with options of whoever holds them, all or nothing.

    Parameters
    ----------
    path : Path
    sums : ShiftedSums
    options : dict
    arrays : mapping to float64 arrays, optional
        In place of those of the sums, where more is to be written with them.

    Raises
    ------
    OSError
        The file cannot be written.
    ValueError
        There is a file that holds something else.
    """
    require_place_of_sums(path)
    names = ("d", "n_targets", "unit_rows", "precision")
    header = {"kind": KIND, "format": FORMAT} | {name: getattr(sums, name) for name in names}
    save_arrays(path, header | {"options": options}, sums.arrays() if arrays is None else arrays)


def require_place_of_sums(path: Path) -> None:
    """Check that sums can be written to a file, and would replace nothing but other sums.

    Raises
    ------
    OSError
        The file cannot be written.
    ValueError
        There is a file that holds something else.
    """
    require_own_place(path, KIND)


def load_sums(path: Path) -> tuple[dict[str, Any], dict[str, FloatArray]]:
    """Header and arrays of a file that `save_sums` wrote.

    Raises
    ------
    OSError
        The file is missing or damaged.
    ValueError
        It holds something else, or was written by a newer version.
    """
    return load_arrays(path, KIND, FORMAT)


def sizes_of_sums(header: Mapping[str, Any], arrays: Mapping[str, FloatArray]) -> tuple[int, int]:
    """How many features and targets sums that were loaded have.

    Raises
    ------
    LookupError, TypeError, ValueError
        The header does not say, or the arrays are of others.
    """
    d, n_targets = index(header["d"]), index(header["n_targets"])
    for name, size in {"gram": d, "target_gram": n_targets}.items():
        if arrays[name].shape != (size, size):
            msg = f"d is {d}, n_targets is {n_targets}, and {name} has shape {arrays[name].shape}"
            raise ValueError(msg)
    return d, n_targets
