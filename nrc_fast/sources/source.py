"""A source gives features, and targets where there are any, as a stream of chunks."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Generator
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from nrc_fast.base.arrays import FloatArray
from nrc_fast.base.json_values import JSONValue
from nrc_fast.kernels.cpu.backend import CPU
from nrc_fast.kernels.interface import Backend, Rows
from nrc_fast.sources.pairing import require_one_order
from nrc_fast.sources.table import ITEM_SIZES, Table

__all__ = ["Chunk", "Source", "TableSource"]

# Rows of a sample that are taken together where a table decodes many to give one.
NEIGHBOURS = 8


@dataclass(frozen=True)
class Chunk:
    """Some rows of the features, and of the targets where there are any.

    Attributes
    ----------
    features, targets : Rows
        The targets are in memory; the features may be in a file.
    first : int
        Number of the first row in its source.
    locate, locate_targets : callable
        Say in words where row i of the chunk and its targets are.
    skipped : int
        Rows that were left out because they are not finite.
    """

    features: Rows
    targets: Rows | None
    first: int = 0
    locate: Callable[[int], str] | None = None
    locate_targets: Callable[[int], str] | None = None
    skipped: int = 0

    @property
    def has_finite_targets(self) -> bool:
        """Whether no target is NaN or infinite; true without targets."""
        return self.targets is None or self.targets.is_finite

    def finite(self) -> Chunk:
        """The chunk without rows that hold NaN or infinite values: a copy if there are any."""
        features = self.features.loaded()
        keep = features.finite_rows()
        if self.targets is not None:
            keep &= self.targets.finite_rows()
        if keep.all():
            return self
        targets = None if self.targets is None else self.targets.take(keep)
        skipped = self.skipped + int(np.count_nonzero(~keep))
        return replace(
            self, features=features.take(keep), targets=targets, locate=None, locate_targets=None, skipped=skipped
        )


class Source(ABC):
    """Features (N, d) and, if known, targets (N, n), as chunks of rows.

    Attributes
    ----------
    name : str
    d, n_targets : int
        Widths; `n_targets` is 0 without targets.
    dtype : str
        The dtype of the features.
    count : int or None
        Number of rows; None where only reading tells.
    rereadable : bool
        Whether its rows can be read again.
    """

    __module__ = "nrc_fast"

    name: str
    d: int
    n_targets: int
    dtype: str
    count: int | None
    rereadable: bool

    chunk_bytes: int | None = None  # of features, that should be read at a time
    is_stored: bool = False  # whether rows lie somewhere, or are made anew at every reading
    backend: Backend = CPU  # in whose memory chunks lie
    files: tuple[Path, ...] = ()  # that rows are read from

    def __repr__(self) -> str:
        rows = "rows that reading counts" if self.count is None else f"{self.count:,} rows"
        targets = f", {self.n_targets:,} targets" if self.n_targets else ""
        once = "" if self.rereadable else ", read once"
        return f"<Source {self.name}: {rows}, {self.d:,} features of {self.dtype}{targets}{once}>"

    @property
    def row_bytes(self) -> int:
        """Bytes of a row of features."""
        return self.d * ITEM_SIZES[self.dtype]

    @property
    @abstractmethod
    def target_row_bytes(self) -> int:
        """Bytes of a row of targets; 0 without them."""

    @property
    @abstractmethod
    def chunk_bytes_per_row(self) -> int:
        """Memory that a row of a chunk takes."""

    @property
    def held_bytes(self) -> int:
        """Memory that reading takes beside the chunks."""
        return 0

    @property
    def reads_ahead(self) -> bool:
        """Whether chunks should be asked for on a thread of their own while others are computed with."""
        return False

    def copying(self, rows: int) -> str:  # noqa: ARG002 - nothing is copied
        """How chunks of so many rows are copied to where they are computed with, in words; empty where they are not."""
        return ""

    @abstractmethod
    def chunks(self, rows: int, first: int = 0) -> Generator[Chunk, None, None]:
        """Chunks of `rows` rows, the last one shorter, from chunk number `first` on.

        Raises
        ------
        OSError
            Rows cannot be read; the message names the file.
        """

    def sample(self, count: int) -> FloatArray:
        """Up to `count` finite rows of the features in float64: the first ones, where others cannot be reached.

        Raises
        ------
        OSError
            Rows cannot be read; the message names the file.
        """
        with closing(self.chunks(count)) as chunks:
            first = next(chunks, None)
        return np.empty((0, self.d)) if first is None else first.finite().features.to_float64()

    def few_rows(self, rows: int, most: int) -> Source | None:  # noqa: ARG002 - they are counted, or have to be read
        """The same rows in memory, with their number, where only reading tells that they are few; else None.

        What has been read for the answer is not lost: it comes again with the next `chunks`.

        Parameters
        ----------
        rows : int
            How many rows the chunks that are asked for next will have.
        most : int
            Numbers of features, and of targets, up to which they are few.
        """
        return None

    def release(self, chunk: Chunk) -> None:  # noqa: B027 - nothing to give back by default
        """A chunk is no longer needed."""

    def share(self, rank: int, size: int) -> Source:
        """Part `rank` of `size` nearly equal parts.

        Raises
        ------
        TypeError
            The source cannot be divided: what it reads is no table.
        """
        msg = f"{self.name} cannot be shared out over {size} processes; give each process its own part ({rank=})"
        raise TypeError(msg)

    def fingerprint(self) -> list[JSONValue]:
        """What tells the source from another or a changed one; goes through JSON unchanged.

        Raises
        ------
        TypeError
            The source cannot be recognised later: it consists neither of arrays nor of files.
        """
        msg = f"{self.name} cannot be recognised in a later run; checkpoints need arrays or files"
        raise TypeError(msg)


def _locator(table: Table, start: int) -> Callable[[int], str]:
    return lambda row: table.locate(start + row)


class TableSource(Source):
    """Features and targets in tables.

    Parameters
    ----------
    features : Table
    targets : Table, optional
    first, last : int, optional
        The rows that are meant; all if not given.

    Raises
    ------
    ValueError
        The tables differ in their number of rows, or in the order of their files.
    """

    def __init__(self, features: Table, targets: Table | None = None, first: int = 0, last: int | None = None) -> None:
        if targets is not None and targets.count != features.count:
            msg = (
                f"{features.name} has {features.count} rows and {targets.name} has {targets.count}; "
                "one per sample is expected in both"
            )
            raise ValueError(msg)
        if targets is not None:
            require_one_order(features, targets)
        self.features = features
        self.targets = targets
        self.files = (*features.files, *(() if targets is None else targets.files))
        self.name = features.name
        self.d = features.columns
        self.n_targets = 0 if targets is None else targets.columns
        self.dtype = features.dtype
        self.chunk_bytes, self.backend = features.chunk_bytes, features.backend
        self._first = first
        self._last = features.count if last is None else last
        self.count: int = self._last - self._first
        self.rereadable = True
        self.is_stored = True

    @property
    def target_row_bytes(self) -> int:
        """Bytes of a row of targets; 0 without them."""
        return 0 if self.targets is None else self.targets.row_bytes

    @property
    def chunk_bytes_per_row(self) -> int:
        """Memory that a row of features and targets takes; targets in files are always loaded."""
        targets = 0 if self.targets is None or not self.targets.reads else self.targets.row_bytes
        return self.features.chunk_bytes_per_row + targets

    @property
    def held_bytes(self) -> int:
        """Memory that reading features and targets takes beside the chunks."""
        return sum(table.held_bytes for table in (self.features, self.targets) if table is not None)

    @property
    def reads_ahead(self) -> bool:
        """Whether one of the tables reads."""
        return self.features.reads or (self.targets is not None and self.targets.reads)

    def chunks(self, rows: int, first: int = 0) -> Generator[Chunk, None, None]:
        """Chunks of `rows` rows from chunk number `first` on."""
        for start in range(self._first + first * rows, self._last, rows):
            stop = min(start + rows, self._last)
            targets = None if self.targets is None else self.targets.load(start, stop)
            yield Chunk(
                self.features.read(start, stop),
                targets,
                first=start - self._first,
                locate=_locator(self.features, start),
                locate_targets=None if self.targets is None else _locator(self.targets, start),
            )

    def sample(self, count: int) -> FloatArray:
        """Up to `count` finite rows of the features in float64, spread over all of them."""
        together = 1 if self.features.chunk_bytes is None else min(NEIGHBOURS, self.count)
        places = np.linspace(self._first, self._last - together, max(count // together, 1)).astype(np.int64)
        parts = [self.features.load(int(place), int(place) + together) for place in np.unique(places)]
        rows = np.concatenate([part.take(part.finite_rows()).to_float64() for part in parts])
        self.features.release(self._first, self._last)
        return rows

    def release(self, chunk: Chunk) -> None:
        """Give back the pages of mapped files."""
        first = self._first + chunk.first
        for table in (self.features, self.targets):
            if table is not None:
                table.release(first, first + chunk.features.count)

    @property
    def rows(self) -> tuple[int, int]:
        """First and last row of the tables that are meant."""
        return self._first, self._last

    @property
    def is_part(self) -> bool:
        """Whether the tables hold other rows too."""
        return self.count != self.features.count

    def share(self, rank: int, size: int) -> TableSource:
        """Rows that make up part `rank` of `size`: nearly the same number of bytes for each."""
        total = self.count
        first, last = (self._first + total * part // size for part in (rank, rank + 1))
        return TableSource(self.features, self.targets, first, last)

    def fingerprint(self) -> list[JSONValue]:
        """Fingerprints of the tables, and the range of rows."""
        targets = None if self.targets is None else self.targets.fingerprint()
        return [self.features.fingerprint(), targets, self._first, self._last]
