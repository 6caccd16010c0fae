"""Files, patterns of files, and directories as tables: which reader is for which, and in which order."""

from __future__ import annotations

import glob
from collections.abc import Callable, Sequence
from dataclasses import replace
from os import PathLike, fspath
from pathlib import Path
from typing import TypeAlias

from nrc_fast.sources.formats.hdf5_files import open_hdf5
from nrc_fast.sources.formats.numpy_files import open_npy, open_npz
from nrc_fast.sources.formats.parquet_files import open_parquet
from nrc_fast.sources.formats.safetensors_files import open_safetensors, open_safetensors_index
from nrc_fast.sources.formats.torch_files import open_torch
from nrc_fast.sources.formats.zarr_arrays import is_zarr_directory, open_zarr
from nrc_fast.sources.shards import ShardedTable
from nrc_fast.sources.stored import Wanted, has_wildcards, natural_order
from nrc_fast.sources.table import Table

__all__ = ["PathOrPaths", "open_pair", "open_table"]

PathOrPaths: TypeAlias = str | PathLike[str] | Sequence[str | PathLike[str]]

# By what the name of a file ends with.
READERS: dict[str, Callable[[Path, Wanted], Table]] = {
    ".safetensors.index.json": open_safetensors_index,
    ".safetensors": open_safetensors,
    ".npy": open_npy,
    ".npz": open_npz,
    ".pt": open_torch,
    ".pth": open_torch,
    ".pth.tar": open_torch,
    ".ckpt": open_torch,
    ".bin": open_torch,
    ".h5": open_hdf5,
    ".hdf5": open_hdf5,
    ".parquet": open_parquet,
    ".zarr": open_zarr,
    ".zarr.zip": open_zarr,
}


def open_table(
    path: PathOrPaths,
    *,
    key: str | None = None,
    role: str = "H",
    verify: bool = True,
    noun: str | None = None,
    argument: str | None = None,
) -> Table:
    """Features or targets in files.

    Parameters
    ----------
    path : str, Path or a sequence of them
        A file (.npy, .npz, .pt, .pth, .ckpt, .safetensors, .safetensors.index.json, .h5, .hdf5, .parquet, .zarr.zip,
        and .bin and .pth.tar of torch), a directory of zarr, or a pattern such as 'features/*.safetensors'. ``**``
        stands for any number of directories. Files that match a pattern follow one another in natural order (h_2
        before h_10), those of a sequence as given.
    key : str, optional
        Which array of a file; not needed if it is the only one that fits. A pattern means all that match, in natural
        order: one after the other, except for the columns of parquet files, which lie side by side in the order of the
        file; files after the first one are read by the names of its columns.
    role : {"H", "Y"}
        Features are matrices; vectors of targets count as columns.
    verify : bool
        Whether checksums of .npz and .pt files are compared before the first read, see `nrc_fast.open`.
    noun, argument : str, optional
        What messages call it, and the argument that is its key; by default those of the role.

    Raises
    ------
    FileNotFoundError
        There is no such file, or none that matches.
    ValueError, TypeError
        The kind of file is unknown, the key is missing or ambiguous, what it names is no float matrix, or files differ
        in their widths or dtypes. The message names the file.
    OSError
        A file is damaged or truncated.
    ImportError
        The library for a format is missing; the message names the extra to install.
    """
    return _open(path, Wanted(key, role, verify=verify, noun=noun, argument=argument))


def open_pair(
    path: PathOrPaths,
    targets: PathOrPaths | None = None,
    key: str | None = None,
    target_key: str | None = None,
    *,
    verify: bool = True,
) -> tuple[Table, Table | None]:
    """Features and, if `targets` or `target_key` is given, targets.

    Parameters
    ----------
    path : str, Path or a sequence of them
        A file, a directory of zarr, or a pattern, see `open_table`.
    targets : str, Path or a sequence of them, optional
        Files of the targets; those of the features if only `target_key` is given.
    key, target_key : str, optional
        Which array of a file is which.
    verify : bool
        Whether checksums are compared, see `nrc_fast.open`.

    Raises
    ------
    FileNotFoundError, ValueError, TypeError, OSError, ImportError
        What `open_table` raises; also ValueError if features and targets in one file differ in their rows.
    """
    if targets is not None:
        return _open(path, Wanted(key, verify=verify)), _open(targets, Wanted(target_key, "Y", verify=verify))
    features = _open(path, Wanted(key, excluded=target_key, verify=verify))
    if target_key is None:
        return features, None
    pair = features, _open(path, Wanted(target_key, "Y", verify=verify))
    # Shards that differ could still add up to the same number of rows, and no row would have its target.
    shards = [table.shards if isinstance(table, ShardedTable) else [table] for table in pair]
    for ours, theirs in zip(*shards, strict=False):
        if ours.count != theirs.count:
            msg = f"{ours.name} has {ours.count} rows and {theirs.name} has {theirs.count}"
            raise ValueError(msg)
    return pair


def _open(path: PathOrPaths, wanted: Wanted) -> Table:
    if wanted.role not in ("H", "Y"):
        msg = f"role is {wanted.role!r}; 'H' or 'Y' is expected"
        raise ValueError(msg)
    if not isinstance(path, (str, PathLike)):
        name = f"{len(path)} files"
        files = [file for part in path for file in _files(part)]
        tables = _open_all(files, wanted)
        table = ShardedTable(name if len(path) != 1 else str(path[0]), tables)
        table.listed = tuple(map(str, files))
        return table
    tables = _open_all(_files(path), wanted)
    return tables[0] if len(tables) == 1 else ShardedTable(fspath(path), tables)


def _open_all(files: Sequence[Path], wanted: Wanted) -> list[Table]:
    """The tables of files, in which columns have the order of the first file that names them.

    Raises
    ------
    ValueError
        A file is there twice, also under another name or by a link.
    """
    _require_distinct(files)
    tables: list[Table] = []
    for file in files:
        names = (table.column_names for table in tables)
        common = next((columns for columns in names if columns is not None), None)
        tables.append(_open_one(file, replace(wanted, columns=common)))
    return tables


def _require_distinct(files: Sequence[Path]) -> None:
    seen: dict[tuple[int, int], Path] = {}
    for file in files:
        if not file.exists():
            continue  # an error of its own
        status = file.stat()
        other = seen.setdefault((status.st_dev, status.st_ino), file)
        if other is not file:
            also = "" if other == file else f", as {other} too"
            msg = f"{file} is listed more than once{also}; its rows would count as often"
            raise ValueError(msg)


def _files(path: str | PathLike[str]) -> list[Path]:
    text = fspath(path)
    if Path(text).exists() or not has_wildcards(text):
        return [Path(text)]
    found = sorted(glob.glob(text, recursive=True), key=natural_order)  # noqa: PTH207  Path.glob takes no absolute one
    paths = _without_inner_files([Path(match) for match in found])
    if not paths:
        msg = f"no file matches {text!r}"
        raise FileNotFoundError(msg)
    return paths


def _without_inner_files(paths: list[Path]) -> list[Path]:
    """Leave out plain directories, and what lies inside of zarr directories, as ``**`` finds them."""
    arrays = {path for path in paths if path.is_dir() and is_zarr_directory(path)}
    kept = [path for path in paths if path in arrays or not path.is_dir()]
    return [path for path in kept if arrays.isdisjoint(path.parents)]


def _named(table: Table, path: Path) -> Table:
    """A table that knows the file that was named: rows may lie in others, behind an index or links."""
    table.files = tuple(dict.fromkeys((path, *table.files)))
    return table


def _open_one(path: Path, wanted: Wanted) -> Table:
    if path.is_dir():
        if is_zarr_directory(path):
            return _named(open_zarr(path, wanted), path)
        msg = f"{path} is a directory and no zarr array or group; give a pattern such as '{path}/*.npy'"
        raise ValueError(msg)
    if not path.exists():
        msg = f"there is no file {path}"
        raise FileNotFoundError(msg)
    if not path.is_file():
        msg = f"{path} is no regular file; a pipe or a device cannot be read twice, or from the middle"
        raise ValueError(msg)
    for suffix, reader in READERS.items():
        if path.name.lower().endswith(suffix):
            return _named(reader(path, wanted), path)
    msg = f"{path} is of an unknown kind; {', '.join(READERS)} are supported"
    raise ValueError(msg)
