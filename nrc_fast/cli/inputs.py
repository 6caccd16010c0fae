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


def load_matrix(path: str | list[str], key: str | None) -> Rows:
    """Read weights, a bias or targets, in the dtype that they have, from files of any kind that holds features.

    Raises
    ------
    OSError, ValueError, TypeError
        The file is missing or damaged, or holds no such matrix.
    """
    table = open_table(path, key=key, role="Y")
    return table.load(0, table.count)
