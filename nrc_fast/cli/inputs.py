"""Files of arrays that commands are given."""

from __future__ import annotations

import argparse
from typing import TypeAlias

from nrc_fast.kernels.interface import Rows
from nrc_fast.sources import open_table

__all__ = ["Commands", "load_matrix", "one_or_many"]

# Where commands add themselves: what `argparse.ArgumentParser.add_subparsers` gives.
Commands: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"


def one_or_many(paths: list[str]) -> str | list[str]:
    """A single path as it is, several as a list: a list of one would be taken for shards."""
    return paths[0] if len(paths) == 1 else paths


def load_matrix(path: str | list[str], key: str | None, *, role: str = "Y") -> Rows:
    """Read weights, a bias or targets, in the dtype that they have, from files of any kind that holds features.

    Parameters
    ----------
    path : path or list of paths
        Files, checkpoints of a training (.ckpt, .pth, pytorch_model.bin) too.
    key : str or None
        Its name inside the file; not needed for the only one that fits.
    role : {"Y", "H"}
        "H" for what is a matrix; "Y" for what may be a vector, which is a column.

    Raises
    ------
    OSError, ValueError, TypeError
        The file is missing or damaged, or holds no such matrix.
    """
    table = open_table(path, key=key, role=role)
    return table.load(0, table.count)
