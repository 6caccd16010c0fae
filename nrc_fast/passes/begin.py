"""Sizes of chunks, memory, and the passes that a measurement will make, before anything is read."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from nrc_fast import kernels
from nrc_fast.base.processes import Team
from nrc_fast.kernels.cuda.device import device_of
from nrc_fast.metrics.conventions import Convention
from nrc_fast.passes.checkpoint import Checkpoint, require_writable
from nrc_fast.passes.reading import AHEAD, Reading
from nrc_fast.passes.runs import ALWAYS_DOUBLE_VECTORS
from nrc_fast.sources import NoBatchesError, Source, as_source
from nrc_fast.sources.placed import placed_source

__all__ = ["Plan", "begin_reading", "parse_memory", "plan_reading"]

UNITS = {"": 1, "k": 1000, "m": 1000**2, "g": 1000**3, "t": 1000**4}
UNITS |= {unit + "i": 1024**power for power, unit in enumerate("kmgt", start=1)}

CHUNK_BYTES = 64 << 20
# What chunks may take together where the user has set no limit.
MOST_CHUNK_BYTES = 1 << 30
# Kernels work on blocks of 256 rows and add up segments of 4096.
BLOCK_ROWS = 256
SEGMENT_ROWS = 4096
# float64 arrays of d x d that are alive at the same time: sums (2), those of a chunk (2), the tiles of the threads
# that share them (2), and, when rows are no longer read, covariances, eigenvectors and workspaces of LAPACK.
SQUARE_ARRAYS = 8
# Tiles that threads have for themselves (gram.cpp) and the blocks that they pack.
WORKSPACE_BYTES = 80 << 20
# Stacks of threads, small objects, and what allocators keep.
OVERHEAD_BYTES = 4 << 20


def parse_memory(memory: str | int | None) -> int | None:
    """Bytes from a number or a text such as "2GiB", "500 MB" or "1e9".

    Raises
    ------
    ValueError
        It is no positive number of bytes.

    Examples
    --------
    >>> parse_memory("2GiB"), parse_memory("1.5 kB"), parse_memory(4096)
    (2147483648, 1500, 4096)
    """
    if memory is None:
        return None
    match = re.fullmatch(r"\s*([0-9.]+(?:e[0-9]+)?)\s*([kmgt]i?)?b?\s*", str(memory).lower())
    try:
        size = int(float(match[1]) * UNITS[match[2] or ""]) if match else 0
    except (ValueError, OverflowError):
        size = 0
    if size <= 0:
        msg = f"memory is {memory!r}; a number of bytes such as '2GiB' or '500MB' is expected"
        raise ValueError(msg)
    return size


def fixed_bytes(source: Source) -> int:
    """Memory of sums and workspaces, whatever the number of rows."""
    square = 8 * source.d * source.d
    tiles = kernels.thread_count() * square
    blocks = kernels.thread_count() * 8 * 2 * BLOCK_ROWS * source.d
    return SQUARE_ARRAYS * square + min(tiles, WORKSPACE_BYTES) + blocks + source.held_bytes + OVERHEAD_BYTES


def bytes_per_row(source: Source, nonfinite: str) -> int:
    """Memory that each row of a chunk takes, over all chunks that are alive at the same time."""
    # One that is computed with, some that wait, one that is being read, and one that the allocator keeps.
    alive = AHEAD + 3 if source.reads_ahead else 1
    # Rows that are not finite are taken out of a copy in memory.
    copies = 2 * source.row_bytes if nonfinite == "skip" else 0
    return alive * source.chunk_bytes_per_row + copies


def _rows_of_chunk(source: Source, memory: int | None, nonfinite: str, wanted: int | None) -> int:
    """Rows of a chunk: many enough that adding up d x d sums costs little beside them, within the memory.

    Raises
    ------
    ValueError
        The memory does not hold the sums and a few rows, or not as many as are wanted.
    """
    if wanted is not None and wanted < 1:
        msg = f"chunk_rows is {wanted}; at least one row is expected"
        raise ValueError(msg)
    # At least four times as many rows as columns, whatever they weigh.
    rows = wanted or max((source.chunk_bytes or CHUNK_BYTES) // source.row_bytes, 4 * source.d, BLOCK_ROWS)
    per_row = bytes_per_row(source, nonfinite)
    limit = MOST_CHUNK_BYTES if memory is None else memory - fixed_bytes(source)
    if per_row and rows * per_row > limit:
        rows = limit // per_row
    least_rows = wanted or BLOCK_ROWS
    if memory is not None and (limit <= 0 or rows < least_rows):
        least = fixed_bytes(source) + least_rows * per_row
        msg = f"memory is {memory / 2**20:.1f} MiB; {source.d} features need at least {-(-least // 2**20)} MiB"
        raise ValueError(msg)
    if wanted is not None:
        return wanted
    step = SEGMENT_ROWS if rows >= SEGMENT_ROWS else BLOCK_ROWS
    return max(rows // step * step, BLOCK_ROWS)


def begin_reading(
    features: Any,
    targets: Any = None,
    *,
    device: Any = None,
    nonfinite: str = "raise",
    memory: str | int | None = None,
    chunk_rows: int | None = None,
    progress: bool | None = None,
    team: Team | None = None,
    checkpoint: str | Path | None = None,
    checkpoint_every: float = 60.0,
    identity: Mapping[str, Any] | None = None,
) -> Reading:
    """What users give as features and targets, ready for passes.

    Raises
    ------
    TypeError, ValueError, OSError
        It is not understood, has no rows, or does not fit the memory or the checkpoint.
    RuntimeError
        The device cannot be used, or is not the one that the features lie on.
    """
    ordered = device_of(device)
    if checkpoint is not None:
        require_writable(Path(checkpoint))
    if team is None:
        source = as_source(features, targets)
        if source.count == 0:
            msg = f"{source.name} has shape (0, {source.d}): no samples to measure"
            raise ValueError(msg)
        rereadable, is_double = source.rereadable, source.dtype == "float64"
    else:
        source, rereadable, is_double = _agreed_source(features, targets, team)
    if device is not None:
        source = placed_source(source, ordered)
    rows = _rows_of_chunk(source, parse_memory(memory), nonfinite, chunk_rows)
    saved = None
    if checkpoint is not None:
        place = [0, 1] if team is None else [team.rank, team.size]
        known = {"source": source.fingerprint(), "chunk rows": rows, "nonfinite": nonfinite, "process": place}
        path = Path(checkpoint)
        if team is not None and team.size > 1:
            path = path.with_name(f"{path.stem}.{team.rank}{path.suffix}")
        saved = Checkpoint(path, known | dict(identity or {}), checkpoint_every)
    reading = Reading(source, rows, nonfinite=nonfinite, team=team, checkpoint=saved, progress=progress)
    reading.rereadable, reading.is_double = rereadable, is_double
    return reading


def _agreed_source(features: Any, targets: Any, team: Team) -> tuple[Source, bool, bool]:
    """The source of this process, whether those of all can be read again, and whether all are float64.

    Every process enters, whatever became of its own source; what one raises, all raise.
    """
    source, failure = None, None
    try:
        source = as_source(features, targets)
    except NoBatchesError:
        pass  # a process may well have no rows, and the others know how wide they are
    except Exception as error:
        failure = error
    team.require_success(failure)
    has_rows = source is not None and source.count != 0
    facts = [0.0] * 5
    if source is not None:
        facts = [1.0, source.d, source.n_targets, source.rereadable, source.dtype == "float64" or not has_rows]
    table = team.gather(facts)
    known = table[table[:, 0] > 0.0]
    if len(known) == 0:
        msg = "no process of the group has rows; there is nothing to measure"
        raise ValueError(msg)
    if (known[:, 1:3] != known[0, 1:3]).any():
        listed = ", ".join(f"process {rank}: {row[1]:.0f} and {row[2]:.0f}" for rank, row in enumerate(table) if row[0])
        msg = f"the processes have different numbers of features and targets ({listed})"
        raise ValueError(msg)
    if source is None:
        d, n_targets = int(known[0, 1]), int(known[0, 2])
        source = as_source(np.empty((0, d)), np.empty((0, n_targets)) if n_targets else None)
    return source, bool(known[:, 3].all()), bool(known[:, 4].all())


@dataclass(frozen=True)
class Plan:
    """What a measurement will read, and what it needs.

    Attributes
    ----------
    source : str
    rows : int or None
        None where only reading tells.
    chunk_rows : int
    bytes_per_pass : int or None
    passes : tuple of (str, str)
        What each pass is for, and when it is made.
    memory : int
        Bytes beyond what the process holds already, at most. Pages of the system's file cache are not counted.
    """

    __module__ = "nrc_fast"

    source: str
    rows: int | None
    chunk_rows: int
    bytes_per_pass: int | None
    passes: tuple[tuple[str, str], ...]
    memory: int

    def __str__(self) -> str:
        rows = "unknown" if self.rows is None else f"{self.rows:,}"
        size = "unknown" if self.bytes_per_pass is None else format_bytes(self.bytes_per_pass)
        lines = [
            f"{self.source}: rows {rows}, {size} in a pass, chunks of {self.chunk_rows:,} rows",
            f"memory: up to {format_bytes(self.memory)} beyond what the process holds",
        ]
        lines += [f"pass {number}: {title} ({when})" for number, (title, when) in enumerate(self.passes, start=1)]
        return "\n".join(lines)

    def to_dict(self) -> dict[str, Any]:
        """The same as numbers, lists and strings."""
        return {name: getattr(self, name) for name in self.__dataclass_fields__} | {
            "passes": [list(entry) for entry in self.passes]
        }


def plan_reading(
    reading: Reading, convention: Convention, *, k: int, precision: str, nonfinite: str, has_bias: bool
) -> Plan:
    """The plan of a measurement with k components."""
    source = reading.source
    passes = [("statistics", "always")]
    if reading.rereadable:
        is_double = reading.is_double or precision == "highest"
        if convention.unit_rows and convention.centered_rows:
            passes.append(("centered unit rows", "always"))
        if not is_double:
            passes.append(("statistics", "again, if the first rows lie far from the others"))
            passes.append(("statistics", "in float64, if a component cannot be told from rounding"))
            passes.append(("refinement", "if the features are collapsed"))
        passes.append(("residuals", "always"))
        if not reading.is_double and k > ALWAYS_DOUBLE_VECTORS:
            passes.append(("residuals", "in float64, if float32 loses digits"))
        if has_bias and source.n_targets:
            passes.append(("prediction errors", "if the bound of the MSE asks for it"))
    row_bytes = source.row_bytes + source.target_row_bytes
    rows = reading.chunk_rows if source.count is None else min(reading.chunk_rows, source.count)
    return Plan(
        source=source.name,
        rows=source.count,
        chunk_rows=reading.chunk_rows,
        bytes_per_pass=None if source.count is None else source.count * row_bytes,
        passes=tuple(passes),
        memory=fixed_bytes(source) + rows * bytes_per_row(source, nonfinite),
    )


def format_bytes(size: int) -> str:
    """A number of bytes in units of 1024.

    Examples
    --------
    >>> format_bytes(1536), format_bytes(3 << 30)
    ('1.5 KiB', '3.0 GiB')
    """
    value, units = float(size), ["B", "KiB", "MiB", "GiB", "TiB", "PiB"]
    while value >= 1024.0 and len(units) > 1:
        value /= 1024.0
        units.pop(0)
    return f"{value:.1f} {units[0]}"
