"""Files of arrays that commands are given."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TypeAlias

from nrc_fast.cli.printing import say
from nrc_fast.kernels.interface import Rows
from nrc_fast.sources import open_table
from nrc_fast.sources.stored import natural_order

__all__ = ["Commands", "load_matrix", "one_or_many"]

# Files of each order that a note shows.
SHOWN = 3
# Where commands add themselves: what `argparse.ArgumentParser.add_subparsers` gives.
Commands: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"


def one_or_many(paths: list[str]) -> str | list[str]:
    """A single path as it is, several as a list: a list of one would be taken for shards.

    Several in the order in which shells expand a pattern are what the same pattern gives in quotes: they are taken in
    natural order, and that is said. Any other order is the user's own, and is left to who pairs rows with targets.
    """
    if len(paths) == 1:
        return paths[0]
    natural = sorted(paths, key=natural_order)
    if paths != natural and paths == sorted(paths):
        _say_order(paths, natural)
        return natural
    return paths


def _say_order(given: list[str], natural: list[str]) -> None:
    first = next(place for place, (one, two) in enumerate(zip(given, natural, strict=True)) if one != two)
    shown = slice(max(first - 1, 0), first + SHOWN)
    before, after = (", ".join(Path(name).name for name in names[shown]) for names in (given, natural))
    text = (
        f"note: {len(given)} files came in the order of a shell (... {before} ...) and are taken in natural order "
        f"(... {after} ...), as a quoted pattern is"
    )
    say(text, file=sys.stderr)


def load_matrix(
    path: str | list[str], key: str | None, *, role: str = "Y", noun: str = "targets", argument: str = "key"
) -> Rows:
    """Read weights, a bias or targets, in the dtype that they have, from files of any kind that holds features.

    Parameters
    ----------
    path : path or list of paths
        Files, checkpoints of a training (.ckpt, .pth, pytorch_model.bin) too.
    key : str or None
        Its name inside the file; not needed for the only one that fits.
    role : {"Y", "H"}
        "H" for what is a matrix; "Y" for what may be a vector, which is a column.
    noun, argument : str
        What messages call it, and the option that is its key.

    Raises
    ------
    OSError, ValueError, TypeError
        The file is missing or damaged, or holds no such matrix.
    """
    table = open_table(path, key=key, role=role, noun=noun, argument=argument)
    return table.load(0, table.count)
