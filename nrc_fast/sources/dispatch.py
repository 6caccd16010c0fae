"""Whatever a user calls features or targets, as a source."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from os import PathLike
from pathlib import Path
from typing import TypeAlias, TypeGuard

import numpy as np

from nrc_fast.base.arrays import Array
from nrc_fast.kernels.interface import Rows
from nrc_fast.kernels.no_arrays import is_of_datasets
from nrc_fast.kernels.placement import rows_in_place
from nrc_fast.sources.batches import Batch, BatchSource
from nrc_fast.sources.dataset_batches import DatasetBatches, is_dataset
from nrc_fast.sources.opening import PathOrPaths, open_pair, open_table
from nrc_fast.sources.source import Source, TableSource
from nrc_fast.sources.table import ArrayTable, DeviceTable, MappedTable, Table

__all__ = ["Features", "Targets", "as_source", "as_table", "is_batches", "open_source"]

# What users may call features, and what targets. Iterables other than sequences are read once.
Features: TypeAlias = "PathOrPaths | Array | Source | Rows | Iterable[Batch]"
Targets: TypeAlias = "PathOrPaths | Array | Source | Rows"


def open_source(
    features: Features,
    targets: Targets | None = None,
    *,
    key: str | None = None,
    target_key: str | None = None,
    verify: bool = True,
) -> Source:
    """Features, and targets where there are any, from files, arrays or batches, for `measure` and its like.

    Parameters
    ----------
    features : path, glob pattern, list of paths, array, tensor, iterable of batches, or data set of Hugging Face
        Files: .npy, .npz, .pt, .pth, .ckpt, .safetensors (and .safetensors.index.json), .h5, .hdf5, .zarr, .parquet.
        A pattern such as ``features/*.npy`` stands for its files in natural order (h_2 before h_10); a list for its
        files as they are listed, which must be natural order where the targets are in one piece. Batches: features,
        pairs of features and targets, or mappings; an iterator is read once, anything else for every pass. Of a data
        set `key` and `target_key` name the columns.
    targets : the same kinds, except batches, optional
    key : str, optional
        Name of the features inside files or batches; not needed where there is only one matrix. A pattern names
        several, one after the other in natural order; columns of parquet files lie side by side, in the file's order.
        Inside of .pt files keys and places are joined by dots: ``model.features``, ``0``, ``batches.*.h``.
    target_key : str, optional
        Name of the targets, in the files of the features unless `targets` is given.
    verify : bool
        Whether the checksums (CRC-32) that .npz and .pt files hold are compared, in a pass of its own before the first
        read: a file of the system's cache at about 3 GB/s. False reads such files as they are. Formats that are decoded
        (compressed .npz, parquet, HDF5 and zarr with checksums) compare theirs in any case while they are read; .npy,
        .safetensors and contiguous HDF5 have none.

    Returns
    -------
    Source
        Nothing but headers is read yet.

    Raises
    ------
    TypeError, ValueError, OSError
        A file is missing, damaged, of an unknown kind, or does not fit the others; the message names it.
    ImportError
        The library for a format is missing; the message names the extra to install.

    Examples
    --------
    >>> import numpy as np, nrc_fast as nrc
    >>> batches = [{"h": np.ones((3, 2)), "y": np.ones(3)}, {"h": np.zeros((1, 2)), "y": np.ones(1)}]
    >>> source = nrc.open(batches, key="h", target_key="y")
    >>> source.d, source.n_targets, source.rereadable
    (2, 1, True)
    """
    if _is_paths(features):
        if targets is None or _is_paths(targets):
            return TableSource(*open_pair(features, targets, key, target_key, verify=verify))
        return TableSource(open_table(features, key=key, verify=verify), as_table(targets, "Y"))
    if is_dataset(features):
        features = DatasetBatches(features)
    if is_batches(features):
        return _with_targets(BatchSource(features, key=key, target_key=target_key), targets)
    if key is not None or (target_key is not None and not _is_paths(targets)):
        msg = f"key is the name of an array inside files or batches; {type(features).__name__} has no names"
        raise TypeError(msg)
    if _is_paths(targets):
        return as_source(features, TableSource(open_table(targets, key=target_key, role="Y", verify=verify)))
    return as_source(features, targets)


def _is_paths(values: object) -> TypeGuard[PathOrPaths]:
    if isinstance(values, (list, tuple)):
        return len(values) > 0 and all(isinstance(value, (str, PathLike)) for value in values)
    return isinstance(values, (str, PathLike))


def as_source(features: Features, targets: Targets | None = None) -> Source:
    """Features, and targets if they are given, as a source.

    Parameters
    ----------
    features : Source, path or glob pattern, array, tensor, or iterable of batches
        Batches are features, pairs of features and targets, or mappings (see `nrc_fast.open` for their keys).
    targets : path or glob pattern, array or tensor, optional
        Not for sources and batches that hold targets themselves.

    Raises
    ------
    TypeError, ValueError, OSError
        Neither is understood, or they do not fit together.
    """
    if isinstance(features, Source):
        return _with_targets(features, targets)
    if is_dataset(features):
        features = DatasetBatches(features)
    if is_batches(features):
        return _with_targets(BatchSource(features), targets)
    table = as_table(features, "H")
    return TableSource(table, None if targets is None else as_table(targets, "Y"))


def _with_targets(source: Source, targets: Targets | None) -> Source:
    if targets is None:
        return source
    if source.n_targets:
        msg = f"{source.name} holds targets, and Y was given too; give one of them"
        raise ValueError(msg)
    if not isinstance(source, TableSource):
        msg = f"Y was given beside {source.name}; let every batch be a pair (H, Y)"
        raise TypeError(msg)
    if isinstance(targets, TableSource) and source.is_part and targets.rows == source.rows:
        return TableSource(source.features, targets.features, *source.rows)
    return TableSource(source.features, as_table(targets, "Y"), *source.rows)


def as_table(values: Features, role: str) -> Table:
    """A path, an array or a tensor as a table.

    Parameters
    ----------
    values : path or glob pattern, array, tensor or source
    role : {"H", "Y"}
        Features are matrices; vectors of targets count as columns.

    Raises
    ------
    TypeError, ValueError, OSError
        The values are not understood, or are only a part of a source.
    """
    if _is_paths(values):
        return open_table(values, role=role)
    if isinstance(values, TableSource):
        if values.is_part:
            first, last = values.rows
            msg = (
                f"{role} is rows {first} to {last - 1} of {values.name}; give features and targets together, as in "
                "nrc_fast.open(features, targets).share(rank, size)"
            )
            raise ValueError(msg)
        return values.features
    if is_batches(values):
        msg = f"{role} is a {type(values).__name__} of batches; give features and targets in the same batches"
        raise TypeError(msg)
    if type(values).__module__.partition(".")[0] == "dask":
        msg = f"{role} is a dask array; nrc_fast.integrations.dask takes it, block by block"
        raise TypeError(msg)
    rows = values if isinstance(values, Rows) else rows_in_place(values, role, vector_is_column=role == "Y")
    if not rows.backend.is_host:
        return DeviceTable(rows)
    is_mapped = isinstance(values, np.memmap) and values.mode in ("r", "r+", "w+")
    table = MappedTable(rows) if is_mapped and np.may_share_memory(rows.array, values) else ArrayTable(rows)
    if isinstance(values, np.memmap) and isinstance(values.filename, (str, PathLike)):
        table.files = (Path(values.filename),)
    return table


def is_batches(values: object) -> TypeGuard[Iterable[Batch]]:
    """Whether an object is an iterable of batches and no array, nor a nested list of numbers."""
    if isinstance(values, (str, bytes, PathLike, Rows, Mapping)) or _is_paths(values) or hasattr(values, "__array__"):
        return False
    if hasattr(values, "shape") or hasattr(values, "to_numpy") or is_of_datasets(values):
        return False
    if not isinstance(values, Iterable):
        return False
    if not isinstance(values, (list, tuple)):
        return True
    first = values[0] if values else None
    if isinstance(first, (list, tuple)):
        return len(first) > 0 and len(getattr(first[0], "shape", ())) > 0
    return isinstance(first, Mapping) or len(getattr(first, "shape", ())) == 2
