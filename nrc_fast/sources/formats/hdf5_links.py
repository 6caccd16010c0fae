"""Links of HDF5 files: HDF5 opens whatever they lead to, and would wait for a pipe for ever."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from nrc_fast.sources.stored import import_library
from nrc_fast.sources.table import require_regular

if TYPE_CHECKING:
    from h5py import File, Group

__all__ = ["require_openable"]

# HDF5 goes through no more links, one after the other.
MOST_LINKS = 16
# HDF5 reads the environment once, too.
LINK_FOLDERS = os.environ.get("HDF5_EXT_PREFIX", "")


def require_openable(group: Group | File, key: str, depth: int = 0) -> None:
    """Check that links on the way from a group to a name lead to regular files. Names that lead nowhere pass.

    Raises
    ------
    OSError
        One leads to a pipe, a socket, a device or a folder.
    """
    h5py = import_library("h5py", "hdf5")
    current = group.file["/"] if key.startswith("/") else group
    parts = [part for part in key.split("/") if part not in ("", ".")]
    for place, part in enumerate(parts):
        link = current.get(part, getlink=True)
        if isinstance(link, (h5py.SoftLink, h5py.ExternalLink)) and depth < MOST_LINKS:
            _follow(current, link, depth)
        if place == len(parts) - 1:
            return
        try:
            current = current[part]
        except (KeyError, OSError, RuntimeError):
            return
        if not isinstance(current, h5py.Group):
            return


def _follow(group: Group, link: object, depth: int) -> None:
    h5py = import_library("h5py", "hdf5")
    if isinstance(link, h5py.SoftLink):
        require_openable(group, link.path, depth + 1)
        return
    assert isinstance(link, h5py.ExternalLink)
    found = [path for path in _places(link.filename, Path(group.file.filename)) if path.exists()]
    for path in found:
        require_regular(path)
    if found:
        try:
            file = h5py.File(found[0], "r")
        except OSError:  # which whoever opens the link says
            return
        with file:
            require_openable(file, link.path, depth + 1)


def _places(name: str, home: Path) -> list[Path]:
    """Where HDF5 looks for a file."""
    folders = [folder for folder in LINK_FOLDERS.split(":") if folder]
    folders = [*folders, str(home.resolve().parent), ""]
    places = [Path(name)] if Path(name).is_absolute() else []
    rest = Path(name).name if places else name
    return [*places, *(Path(folder, rest) for folder in folders)]
