"""Batches of an iterable, such as a DataLoader, as chunks of even size."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from itertools import chain, islice
from typing import TypeAlias

from nrc_fast.base.arrays import Array
from nrc_fast.kernels.calls import beside
from nrc_fast.kernels.held import HeldRows
from nrc_fast.kernels.interface import Rows
from nrc_fast.kernels.placement import rows_in_place
from nrc_fast.sources.source import Chunk, Source, TableSource
from nrc_fast.sources.table import ITEM_SIZES, ArrayTable

__all__ = ["Batch", "BatchSource", "NoBatchesError"]

# One batch: features, features and targets, or a mapping that holds them under names.
Batch: TypeAlias = "Array | Sequence[Array] | Mapping[str, Array]"


class NoBatchesError(ValueError):
    """An iterable without batches."""


class BatchSource(Source):
    """Features and targets of batches.

    A batch is the features (B, d), a pair of features and targets, or a mapping that holds them under `key` and
    `target_key`. Small batches are copied together; never more than one chunk of them is held.

    Parameters
    ----------
    batches : iterable
        Read again for every pass, or only once if it is an iterator (a generator).
    key, target_key : str, optional
        For batches that are mappings.

    Raises
    ------
    NoBatchesError
        There is no first batch.
    ValueError
        The first batch has other parts than features and targets, or they are no matrices.
    TypeError
        What it holds are no arrays of floating-point numbers, or `key` is missing or of no use.
    """

    def __init__(self, batches: Iterable[Batch], *, key: str | None = None, target_key: str | None = None) -> None:
        self.name = f"{type(batches).__name__} of batches"
        self._batches = batches
        self._keys = (key, target_key)
        iterator = iter(batches)
        self.rereadable = iterator is not batches
        try:
            first = next(iterator)
        except StopIteration:
            msg = f"{self.name} is empty: no samples to measure"
            raise NoBatchesError(msg) from None
        # Starting an iterator may be expensive (workers of a DataLoader): the one just started serves the first pass.
        self._started: Iterator[Batch] | None = chain([first], iterator)
        self._begun: Iterator[Chunk] | None = None  # chunks of which some were looked at
        features, targets = self._pair(first, 0)
        self.d = features.columns
        self.dtype = features.dtype
        self.backend = features.backend
        self.n_targets = 0 if targets is None else targets.columns
        self._target_dtype = "float64" if targets is None else targets.dtype
        self.count = None

    @property
    def target_row_bytes(self) -> int:
        """Bytes of a row of targets; 0 without them."""
        return self.n_targets * ITEM_SIZES[self._target_dtype]

    @property
    def chunk_bytes_per_row(self) -> int:
        """Memory that a row takes: that of a copy, as small batches are copied together."""
        return self.row_bytes + self.target_row_bytes

    def chunks(self, rows: int, first: int = 0) -> Generator[Chunk, None, None]:
        """Chunks of `rows` rows; those before number `first` are read and dropped.

        Raises
        ------
        RuntimeError
            The batches were read already, and come from an iterator.
        TypeError, ValueError
            A batch is none, or is unlike the first.
        """
        begun, self._begun = self._begun, None
        yield from islice(begun or _Joiner(self, rows).chunks(self._pairs()), first, None)

    def few_rows(self, rows: int, most: int) -> TableSource | None:
        """The same rows in memory, once the batches have come to an end, where they are few; else None.

        They are copied: whoever gives batches may use their memory for those that follow. The chunks that were looked
        at are the first ones that `chunks` gives next.
        """
        if not self.backend.is_host:
            return None
        chunks, room = _Joiner(self, rows).chunks(self._pairs()), most // max(self.d, self.n_targets)
        held: HeldRows | None = None
        seen: list[Chunk] = []
        for chunk in chunks:
            if chunk.first + chunk.features.count > room:
                self._begun = chain(seen, [chunk], chunks)
                return None
            if held is None:
                held = HeldRows(chunk.features, chunk.targets, room=room, name=self.name)
            held.append(chunk.features, chunk.targets)
            seen.append(_copied(chunk, held))
        if held is None:
            self._begun = chunks
            return None
        features, targets = held.part()
        return TableSource(_BatchTable(features, seen), None if targets is None else _BatchTable(targets, seen))

    def _pairs(self) -> Iterator[tuple[Rows, Rows | None]]:
        if self._started is not None:
            batches, self._started = self._started, None
        elif self.rereadable:
            batches = iter(self._batches)
        else:
            msg = f"{self.name} was read already and cannot be read again; keep its batches in a list or in files"
            raise RuntimeError(msg)
        for number, batch in enumerate(batches):
            features, targets = self._pair(batch, number)
            self._check(features, targets, number)
            yield features, targets

    def _pair(self, batch: Batch, number: int) -> tuple[Rows, Rows | None]:
        features, targets = self._unpack(batch, number)
        rows = rows_in_place(features, f"H of batch {number}")
        if targets is None:
            return rows, None
        return rows, beside(rows_in_place(targets, f"Y of batch {number}", vector_is_column=True), rows)

    def _unpack(self, batch: Batch, number: int) -> tuple[object, object]:
        """Features and targets of a batch, None where there are none.

        Raises
        ------
        TypeError
            It is a mapping and there is no key, or it is none and there is one.
        ValueError
            The mapping does not hold the keys, or there are more parts than features and targets.
        """
        key, target_key = self._keys
        if isinstance(batch, Mapping):
            if key is None:
                names = [str(name) for name in batch]
                line = f"nrc_fast.open(..., key={names[0]!r}, target_key=...)" if names else "key="
                msg = f"batch {number} is a mapping with keys {', '.join(names)}; name them with key=, as in {line}"
                raise TypeError(msg)
            missing = {name for name in (key, target_key) if name is not None and name not in batch}
            if missing:
                msg = f"batch {number} has no {', '.join(sorted(missing))}; it has {', '.join(map(str, batch))}"
                raise ValueError(msg)
            return batch[key], None if target_key is None else batch[target_key]
        if key is not None or target_key is not None:
            msg = (
                f"batch {number} is a {type(batch).__name__}, in which nothing has a name; leave out key and target_key"
            )
            raise TypeError(msg)
        if isinstance(batch, (tuple, list)):
            if len(batch) not in (1, 2):
                msg = f"batch {number} has {len(batch)} parts; features, or features and targets are expected"
                raise ValueError(msg)
            return batch[0], batch[1] if len(batch) == 2 else None
        return batch, None

    def _taken_for_batches(self) -> str:
        """What to do where two arrays in a list may be features and targets."""
        if not isinstance(self._batches, (list, tuple)) or len(self._batches) != 2:
            return ""
        return "; a list of arrays is one of batches: give features and targets as two arguments, or as [(H, Y)]"

    def _check(self, features: Rows, targets: Rows | None, number: int) -> None:
        """Check that a batch is like the first.

        Raises
        ------
        ValueError
            Its widths, dtypes or memory are others, or features and targets differ in their rows.
        """
        n_targets = 0 if targets is None else targets.columns
        target_dtype = self._target_dtype if targets is None else targets.dtype
        found = (features.columns, features.dtype, n_targets, target_dtype)
        if found != (self.d, self.dtype, self.n_targets, self._target_dtype):
            msg = (
                f"batch {number} has {features.columns} features of {features.dtype} and {n_targets} targets of "
                f"{target_dtype}; the first batch has {self.d} of {self.dtype} and {self.n_targets} of "
                f"{self._target_dtype}{self._taken_for_batches()}"
            )
            raise ValueError(msg)
        if features.backend != self.backend:
            places = f"{features.backend.place_name} and the first on {self.backend.place_name}"
            msg = f"batch {number} lies on {places}; put all in one place"
            raise ValueError(msg)
        if targets is not None and targets.count != features.count:
            msg = f"batch {number} has {features.count} rows of features and {targets.count} of targets"
            raise ValueError(msg)


class _Joiner:
    """Cuts batches into chunks of even size, copying only where a chunk holds parts of several batches."""

    def __init__(self, source: BatchSource, rows: int) -> None:
        self.source = source
        self.rows = rows
        self.first = 0
        self.origins: list[tuple[int, int, int]] = []  # row of the chunk, batch, row of the batch
        self.held: HeldRows | None = None

    def chunks(self, pairs: Iterable[tuple[Rows, Rows | None]]) -> Iterator[Chunk]:
        for number, (features, targets) in enumerate(pairs):
            at = 0
            while at < features.count:
                held = 0 if self.held is None else self.held.count
                step = min(self.rows - held, features.count - at)
                part = features.part(at, at + step), None if targets is None else targets.part(at, at + step)
                self.origins.append((held, number, at))
                at += step
                if step == self.rows:
                    yield self._chunk(part)
                    continue
                if self.held is None:
                    self.held = HeldRows(*part, room=self.rows, name=self.source.name)
                self.held.append(*part)
                if self.held.count == self.rows:
                    yield self._chunk(self.held.part())
        if self.held is not None:
            yield self._chunk(self.held.part())

    def _chunk(self, part: tuple[Rows, Rows | None]) -> Chunk:
        place = partial(_place, self.origins)
        chunk = Chunk(*part, first=self.first, locate=place, locate_targets=place)
        self.first += part[0].count
        self.held, self.origins = None, []
        return chunk


class _BatchTable(ArrayTable):
    """Rows that were copied from batches.

    Parameters
    ----------
    rows : Rows
    chunks : sequence of Chunk
        That they came in.
    """

    is_given = False

    def __init__(self, rows: Rows, chunks: Sequence[Chunk]) -> None:
        super().__init__(rows)
        self._chunks = chunks

    def locate(self, row: int) -> str:
        """The number of a row in its batch, in words."""
        chunk = next(chunk for chunk in reversed(self._chunks) if chunk.first <= row)
        assert chunk.locate is not None
        return chunk.locate(row - chunk.first)


def _copied(chunk: Chunk, held: HeldRows) -> Chunk:
    """A chunk whose rows are the copies of its own."""
    rows = chunk.first, chunk.first + chunk.features.count
    return replace(
        chunk, features=held.features.part(*rows), targets=None if held.targets is None else held.targets.part(*rows)
    )


def _place(origins: Sequence[tuple[int, int, int]], row: int) -> str:
    start, batch, at = max(origin for origin in origins if origin[0] <= row)
    return f"row {at + row - start} of batch {batch}"
