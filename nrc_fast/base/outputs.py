"""Files that are written: none of those that are read, nor one that holds what would be lost."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TypeAlias

__all__ = ["require_apart", "require_text_place"]

# Of a file that is to be replaced by text: what is looked at.
LOOKED_AT = 4096

# What all names of a file share.
Identity: TypeAlias = "str | tuple[int, int]"


def require_apart(outputs: Mapping[str, str | Path | None], inputs: Iterable[str | Path]) -> None:
    """Check that what is written is no file that is read, and that no two outputs are one file.

    A file is the same under every spelling of its path, and behind links of both kinds. In a folder that is read,
    such as one of zarr, nothing is written.

    Parameters
    ----------
    outputs : mapping of str to path or None
        What options are called, and the files that they name.
    inputs : iterable of paths

    Raises
    ------
    ValueError
        Two are the same; the message names the option and the file.
    """
    read: dict[Identity, str | Path] = {}
    folders: dict[str, str | Path] = {}
    for path in inputs:
        read |= dict.fromkeys(_identities(path), path)
        if Path(path).is_dir():
            folders[os.path.realpath(path)] = path
    written: dict[Identity, str] = {}
    for option, output in outputs.items():
        if output is None:
            continue
        own = _identities(output)
        above = [str(folder) for folder in Path(os.path.realpath(output)).parents]
        for path in (*(read[one] for one in own if one in read), *(folders[one] for one in above if one in folders)):
            msg = f"{option} is {output}, which would replace what is read from {path}; give another path"
            raise ValueError(msg)
        for other in (written[one] for one in own if one in written):
            msg = f"{option} and {other} are one file, {output}; give each a path of its own"
            raise ValueError(msg)
        written |= dict.fromkeys(own, option)


def _identities(path: str | Path) -> list[Identity]:
    """What other names of the file have in common with this one; nothing for what is no file, such as /dev/null."""
    found: list[Identity] = [os.path.realpath(path)]
    try:
        status = Path(path).stat()
    except OSError:
        return found
    if not (stat.S_ISREG(status.st_mode) or stat.S_ISDIR(status.st_mode)):
        return []
    return [*found, (status.st_dev, status.st_ino)]


def require_text_place(path: str | Path) -> None:
    """Check that a text file replaces nothing but text: not features by a slip of the hand.

    Raises
    ------
    ValueError
        The file is there, and is no text.
    """
    if not Path(path).is_file():
        return
    with Path(path).open("rb") as file:
        if b"\0" in file.read(LOOKED_AT):
            msg = f"{path} holds something else than text, which would be lost; remove it, or give another path"
            raise ValueError(msg)
