"""Columns of parquet files: one column of lists, or many columns of numbers."""

from __future__ import annotations

import json
import re
from bisect import bisect_right
from collections.abc import Generator
from itertools import accumulate
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from nrc_fast.base.arrays import StoredArray
from nrc_fast.base.forks import Guard
from nrc_fast.base.json_values import JSONValue
from nrc_fast.base.kept_values import cached_property
from nrc_fast.kernels.cpu.rows import HostRows
from nrc_fast.kernels.interface import Rows
from nrc_fast.sources.formats.parquet_pages import largest_pages
from nrc_fast.sources.stored import Wanted, import_library, matching, matrix_shape, reading, stored_name
from nrc_fast.sources.table import FileStamp, Table, storage_dtype

if TYPE_CHECKING:
    import pyarrow
    from pyarrow.parquet import ParquetFile

__all__ = ["open_parquet"]

ARROW_DTYPES = {"double": "float64", "float": "float32", "halffloat": "float16"}
# Decoded at a time beside the rows that are asked for, and read ahead for each column.
BATCH_BYTES = 1 << 20
BUFFER_BYTES = 1 << 16
# Each column has one page as it is stored, one decoded, and a dictionary; a batch its values and levels, and buffers of
# twice their size.
PAGES, BATCHES = 3, 5
# What writers put into a page, or into a dictionary, unless they are told otherwise.
PAGE_BYTES = 1 << 20


def open_parquet(path: Path, wanted: Wanted) -> Table:
    """A column of lists that have one length, or columns of numbers side by side.

    The key is the name of a column, or a pattern: the columns that match it, in the order of the file. Without a key it
    is the only column of lists, else all float columns, in the order of the file. Files after the first one are read by
    the names of its columns. The index of a pandas frame is a column only where the key is its whole name. Pages are
    decoded in order, with bounded memory; a read elsewhere starts at the first row of a row group. bfloat16 is unknown
    to parquet.

    Raises
    ------
    TypeError, ValueError
        The columns are missing or ambiguous, hold other things than floats, or are not those of the files before.
    OSError
        The file is missing, damaged or truncated.
    """
    parquet = import_library("pyarrow.parquet", "parquet")
    stamp = FileStamp(path)
    # Of columns nothing is asked here: what is wrong there would end the process.
    with reading(path), parquet.ParquetFile(path.absolute()) as file:
        schema = file.schema_arrow
        groups = [file.metadata.row_group(group) for group in range(file.metadata.num_row_groups)]
        sizes = [group.num_rows for group in groups]
        group_bytes = max((group.total_byte_size for group in groups), default=0)
    if sum(sizes) != file.metadata.num_rows or min(sizes, default=0) < 0:
        msg = f"{path} is damaged: its row groups have {sum(sizes)} rows, and it has {file.metadata.num_rows}"
        raise OSError(msg)
    columns, is_side_by_side = _columns(path, schema, wanted)
    columns = _in_common_order(path, schema, columns, wanted.columns)
    name = stored_name(path, wanted.key or (None if is_side_by_side else columns[0]))
    dtype = _common_dtype(path, schema, columns)
    if is_side_by_side:
        shape: tuple[int, ...] = (sum(sizes), len(columns))
    else:
        kind = _type(schema, columns[0])
        shape = (sum(sizes), *_list_length(stamp, name, columns[0], kind, sum(sizes)))
    count, width = matrix_shape(name, shape, dtype, wanted.role)
    return _ColumnsTable(
        stamp=stamp, name=name, fields=columns, shape=(count, width), dtype=dtype, sizes=sizes, group_bytes=group_bytes
    )


def _columns(path: Path, schema: pyarrow.Schema, wanted: Wanted) -> tuple[list[str], bool]:
    """Names of the columns that are meant, and whether they are columns of the matrix rather than one of lists."""
    index = _index_names(path, schema)
    names = [name for name in schema.names if name not in index]
    if wanted.key is not None:
        found = _matching_columns(schema, names, wanted.key)
        lists = [name for name in found if _is_list(schema, name)]
        if not found or (lists and len(found) > 1):
            problem = f"has no column {wanted.key!r}" if not found else f"has lists in {', '.join(lists)}; name one"
            raise ValueError(_explained(path, schema, problem))
        # A pattern means a matrix, even if it is one column wide.
        return found, not lists and (found != [wanted.key])
    if wanted.excluded is not None:
        left_out = _matching_columns(schema, names, wanted.excluded)
        names = [name for name in names if name not in left_out]
    lists = [name for name in names if _is_list(schema, name)]
    if len(lists) == 1:
        return lists, False
    floats = [name for name in names if str(_type(schema, name)) in ARROW_DTYPES]
    if lists or not floats:
        problem = f"has {len(lists)} columns of lists; name one with key=" if lists else "has no column of floats"
        raise ValueError(_explained(path, schema, problem))
    return floats, True


def _matching_columns(schema: pyarrow.Schema, names: list[str], pattern: str) -> list[str]:
    """The column of that very name, an index too; else the columns that match, in the order of the file."""
    if pattern in schema.names:
        return [pattern]
    found = set(matching(names, pattern))
    return [name for name in names if name in found]


def _index_names(path: Path, schema: pyarrow.Schema) -> set[str]:
    """Columns that hold the index of a pandas frame: those of its metadata, and those with a name that it gives them.

    Other writers drop the metadata and keep the columns. A range as an index has no column.
    """
    found = {name for name in schema.names if re.fullmatch(r"__index_level_\d+__", name)}
    with reading(path):
        metadata = json.loads((schema.metadata or {}).get(b"pandas", b"{}"))
        return found | {name for name in metadata.get("index_columns", []) if isinstance(name, str)}


def _in_common_order(
    path: Path, schema: pyarrow.Schema, columns: list[str], common: tuple[str, ...] | None
) -> list[str]:
    """The columns in the order of the files before, which must have the same."""
    for name in columns:
        if schema.names.count(name) > 1:
            raise ValueError(_explained(path, schema, f"has two columns that are called {name!r}; rename one"))
    if common is None or columns == list(common):
        return columns
    missing, more = [name for name in common if name not in columns], [name for name in columns if name not in common]
    if missing or more:
        texts = [f"has no column {name!r}, which they have" for name in missing[:1]]
        texts += [f"has a column {name!r}, which they have not" for name in more[:1]]
        problem = f"does not fit the files before it: it {' and '.join(texts)}. Name what all have by a key"
        raise ValueError(_explained(path, schema, problem))
    return list(common)


def _explained(path: Path, schema: pyarrow.Schema, problem: str) -> str:
    return f"{path} {problem}. Its columns are " + ", ".join(f"{field.name} ({field.type})" for field in schema)


def _type(schema: pyarrow.Schema, name: str) -> pyarrow.DataType:
    return schema.types[schema.names.index(name)]


def _is_list(schema: pyarrow.Schema, name: str) -> bool:
    kind = str(_type(schema, name))
    return kind.startswith(("list<", "large_list<", "fixed_size_list<"))


def _common_dtype(path: Path, schema: pyarrow.Schema, columns: list[str]) -> str:
    found: dict[str, str] = {}
    for name in columns:
        kind = _type(schema, name)
        text = str(kind.value_type if _is_list(schema, name) else kind)
        found.setdefault(ARROW_DTYPES.get(text, text), name)
    if len(found) > 1:
        texts = ", ".join(f"{name} is {dtype}" for dtype, name in found.items())
        msg = f"the columns of {path} differ in their dtypes: {texts}; name those that belong together by a key"
        raise TypeError(msg)
    return next(iter(found))


def _list_length(stamp: FileStamp, name: str, column: str, kind: pyarrow.DataType, count: int) -> tuple[int, ...]:
    if hasattr(kind, "list_size"):
        return (kind.list_size,)
    if not hasattr(kind, "value_type"):
        return ()
    if count == 0:
        msg = f"{name} has no rows, and its type does not say how long its lists are"
        raise ValueError(msg)
    with reading(name), _file(stamp) as file:
        first = next(file.iter_batches(batch_size=1, columns=[column])).column(column)[0].as_py()
    if first is None:
        msg = f"row 0 of {name} is null"
        raise ValueError(msg)
    return (len(first),)


def _file(stamp: FileStamp) -> ParquetFile:
    parquet = import_library("pyarrow.parquet", "parquet")
    # Without a buffer whole row groups would be read into memory. Checksums of pages are optional in the format.
    # "~" would be taken for a home where it begins a path.
    return parquet.ParquetFile(
        stamp.path.absolute(), buffer_size=BUFFER_BYTES, pre_buffer=False, page_checksum_verification=True
    )


class _ColumnsTable(Table):
    """Columns of a parquet file, decoded in order. The file is open between the first row that is read and the last."""

    def __init__(
        self,
        stamp: FileStamp,
        name: str,
        fields: list[str],
        shape: tuple[int, int],
        dtype: str,
        sizes: list[int],
        group_bytes: int,
    ) -> None:
        self.stamp = stamp
        self.name = name
        self.count, self.columns = shape
        self.dtype = dtype
        self._fields = fields
        self.column_names = tuple(fields)
        self._group_bytes = group_bytes
        self._starts = [0, *accumulate(sizes)][:-1]
        self._batches: Generator[StoredArray, None, None] | None = None
        self._held = self._nothing()
        self._at = 0  # row that comes next
        self._guard = Guard()

    @property
    def held_bytes(self) -> int:
        """Batches, and pages of every column: many columns side by side take much."""
        batch = min(BATCH_BYTES, self.count * self.row_bytes)
        buffers = len(self._fields) * min(BUFFER_BYTES, self._group_bytes)
        return BATCHES * batch + buffers + PAGES * self._page_bytes

    @cached_property
    def _page_bytes(self) -> int:
        """Bytes of the largest pages of all columns, or of a row group where pages cannot be looked at."""
        largest = largest_pages(self.stamp.path, self._fields)
        if largest is None:
            return self._group_bytes
        # What pyarrow has freed it keeps: as much as usual pages take, also where those are smaller.
        least = min(PAGE_BYTES, self._group_bytes)
        return sum(max(size, least) for size in largest.values())

    def read(self, first: int, last: int) -> Rows:
        """Rows `first` to `last` in memory.

        Raises
        ------
        OSError
            The file has changed or is damaged.
        ValueError
            A value is null, or a list has another length; the message names the row.
        """
        self.stamp.check()
        out = np.empty((last - first, self.columns), storage_dtype(self.dtype))
        with self._guard.lock:
            if self._guard.was_forked():  # not closed: another thread of the parent may have been in it
                self._batches, self._held = None, self._nothing()
            try:
                self._go_to(first)
                self._take(out)
            except BaseException:
                self._close()
                raise
            if self._at == self.count:
                self._close()
        return HostRows(self.name, out, self.dtype)

    def fingerprint(self) -> list[JSONValue]:
        """Path, size, time and columns."""
        return [*self.stamp.fingerprint(), self._fields, self.count, self.columns, self.dtype]

    def _go_to(self, row: int) -> None:
        group = bisect_right(self._starts, row) - 1
        if self._batches is None or row < self._at or self._starts[group] > self._at:
            self._close()
            self._at = self._starts[group] if self._starts else 0
            self._batches = self._decoded(group)
        while self._at < row:
            self._next(row - self._at)

    def _take(self, out: StoredArray) -> None:
        done = 0
        while done < len(out):
            part = self._next(len(out) - done)
            out[done : done + len(part)] = part
            done += len(part)

    def _next(self, most: int) -> StoredArray:
        """At most so many of the rows that come next."""
        while len(self._held) == 0:
            assert self._batches is not None
            self._held = self._nothing()  # its memory is free before the next batch is decoded
            self._held = next(self._batches)
        part, self._held = self._held[:most], self._held[most:]
        self._at += len(part)
        return part

    def _decoded(self, group: int) -> Generator[StoredArray, None, None]:
        row = self._starts[group]
        with reading(f"row {row} of {self.name}"):
            file = _file(self.stamp)
        with file:
            batches = file.iter_batches(
                batch_size=max(1, BATCH_BYTES // self.row_bytes),
                row_groups=range(group, len(self._starts)),
                columns=self._fields,
                use_threads=False,
            )
            while row < self.count:
                with reading(f"row {row} of {self.name}"):
                    batch = next(batches)
                    columns = [batch.column(name) for name in self._fields]
                fault = _first_fault(columns, self.columns)
                good = len(batch) if fault is None else fault[0]
                yield _matrix([column.slice(0, good) for column in columns], self.columns)
                if fault is not None:
                    msg = f"row {row + good} of {self.name} {fault[1]}"
                    raise ValueError(msg)
                row += good

    def _close(self) -> None:
        if self._batches is not None:
            self._batches.close()
            self._batches = None
        self._held = self._nothing()

    def _nothing(self) -> StoredArray:
        return np.empty((0, self.columns), storage_dtype(self.dtype))


def _matrix(columns: list[pyarrow.Array], width: int) -> StoredArray:
    if not hasattr(columns[0], "flatten"):
        return np.stack([column.to_numpy() for column in columns], axis=1)
    (lists,) = columns
    matrix: StoredArray = lists.flatten().to_numpy().reshape(len(lists), width)
    return matrix


def _first_fault(columns: list[pyarrow.Array], width: int) -> tuple[int, str] | None:
    """The first row of a batch that is no row of the matrix, and why."""
    null = "is null or holds a null; drop such rows or fill them in"
    faults = [(_first_null(column), null) for column in columns if column.null_count]
    if hasattr(columns[0], "flatten"):
        (lists,) = columns
        values = lists.flatten()
        if values.null_count:
            parents = import_library("pyarrow.compute", "parquet").list_parent_indices(lists)
            faults.append((parents[_first_null(values)].as_py(), null))
        if hasattr(lists, "offsets"):
            lengths = np.diff(lists.offsets.to_numpy())
            row = int(np.argmax(lengths != width))
            if lengths[row] != width:
                faults.append((row, f"has {lengths[row]} values; {width} are expected, as in row 0"))
    # The first reason of several for the same row: a null has no length, and is named as a null.
    return min(faults, key=lambda fault: fault[0], default=None)


def _first_null(values: pyarrow.Array) -> int:
    return int(np.argmax(values.is_null().to_numpy(zero_copy_only=False)))
