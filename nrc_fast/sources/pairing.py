"""Rows of features and of targets that are paired by their places: whether the files of both are in one order."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from nrc_fast.sources.shards import ShardedTable
from nrc_fast.sources.stored import natural_order
from nrc_fast.sources.table import Table

__all__ = ["require_one_order"]

MOST_SHOWN = 4


def require_one_order(features: Table, targets: Table) -> None:
    """Refuse files that were listed in an order in which their rows would get the targets of others.

    A shell and `sorted` put h_10 before h_2, `glob.glob` knows no order, and targets in one piece, or those that a
    pattern stands for, are in natural order. Files that are listed beside as many files of targets are taken as they
    are listed, unless the numbers in their names say otherwise; so are files beside targets in memory.

    Parameters
    ----------
    features, targets : Table

    Raises
    ------
    ValueError
        The files are in another order than their targets; the message shows both orders.
    """
    ours, theirs = _listed(features), _listed(targets)
    if ours and theirs and len(ours) == len(theirs):
        if not _fit(ours, theirs):
            raise ValueError(_explained(features, ours, "the targets are listed in another", theirs))
        return
    for table, other in ((features, targets), (targets, features)):
        names = _listed(table)
        expected = sorted(names, key=natural_order)
        if names == expected or (other.is_given and not _differ_in_numbers(names)):
            continue
        raise ValueError(_explained(table, names, f"{other.name} is taken to be in natural order", expected))


def _listed(table: Table) -> list[str]:
    """The files that were listed one by one, if there are several."""
    names = list(table.listed) if isinstance(table, ShardedTable) else []
    return names if len(names) > 1 else []


def _fit(ours: Sequence[str], theirs: Sequence[str]) -> bool:
    """Whether no number in the names of files says that the first belongs to another than the first, and so on."""
    numbers, others = (list(map(_numbers, names)) for names in (ours, theirs))
    if numbers != others and sorted(numbers) == sorted(others):
        return False
    return not (_differ_in_numbers(ours) and _differ_in_numbers(theirs)) or _ranks(ours) == _ranks(theirs)


def _numbers(name: str) -> list[int]:
    """The numbers in the name of a file or, where it has none, in that of its folder."""
    path = Path(name)
    found = re.findall(r"[0-9]+", path.stem) or re.findall(r"[0-9]+", path.parent.name)
    return [int(number) for number in found]


def _differ_in_numbers(names: Sequence[str]) -> bool:
    return len({re.sub(r"[0-9]+", "0", name) for name in names}) == 1


def _ranks(names: Sequence[str]) -> list[int]:
    return sorted(range(len(names)), key=lambda place: natural_order(names[place]))


def _explained(table: Table, names: Sequence[str], other: str, expected: Sequence[str]) -> str:
    pairs = enumerate(zip(names, expected, strict=True))
    first = next((place for place, (one, two) in pairs if one != two and _numbers(one) != _numbers(two)), 0)
    ours, theirs = (_shown(files, max(0, first - 1)) for files in (names, expected))
    return (
        f"{table.name} are listed in the order {ours}, and {other}: {theirs}. Rows would get the targets of others. "
        "Quote the pattern ('h_*.npy'), or list the files in natural order; where the targets do follow the order "
        "listed, give them in as many files in the same order, or as batches (H, Y)"
    )


def _shown(names: Sequence[str], first: int) -> str:
    """Some names from a place on, without the folder that all have."""
    folders = {Path(name).parent for name in names}
    short = [Path(name).name for name in names] if len(folders) == 1 else list(names)
    before, after = "..., " if first else "", ", ..." if len(short) > first + MOST_SHOWN else ""
    return before + ", ".join(short[first : first + MOST_SHOWN]) + after
