"""How many rows a chunk may have in the memory that there is."""

from __future__ import annotations

from nrc_fast.passes.ahead import AHEAD
from nrc_fast.passes.component_costs import component_costs
from nrc_fast.passes.memory_needs import BLOCK_ROWS, gram_memory, krylov_memory
from nrc_fast.sources import Source

__all__ = ["rows_of_chunk"]

CHUNK_BYTES = 64 << 20
# What chunks may take together where the user has set no limit.
MOST_CHUNK_BYTES = 1 << 30
# Rows that passes over products with vectors add up before such segments are added; large chunks are multiples of it.
SEGMENT_ROWS = 4096
# float64 numbers for each row: squares of features and targets, scaled ones, and what is left of both by a basis; or,
# without targets, squares, what is left, and how far the rows may be turned.
ROW_SQUARES = 6


def fixed_bytes(source: Source, memory: int | None = None, components: int | None = None) -> int:
    """Memory of sums and workspaces, whatever the number of rows.

    Parameters
    ----------
    source : Source
    memory : int, optional
        Bytes that may be used.
    components : int, optional
        How many leading components are wanted, if nothing else of the moments is.
    """
    if components is None or not source.rereadable:
        return gram_memory(source)
    # Where the Gram fits, it may be gone over to.
    fits = component_costs(source, components, memory).gram_fits
    return gram_memory(source) if fits else krylov_memory(source, components)


def bytes_per_row(source: Source, nonfinite: str) -> int:
    """Memory that each row of a chunk takes, over all chunks that are alive at the same time."""
    # One that is computed with, some that wait, one that is being read, and one that the allocator keeps.
    alive = AHEAD + 3 if source.reads_ahead else 1
    # Rows that are not finite are taken out of a copy in memory.
    copies = 2 * source.row_bytes if nonfinite == "skip" else 0
    return alive * source.chunk_bytes_per_row + copies + ROW_SQUARES * 8


def rows_of_chunk(
    source: Source, memory: int | None, nonfinite: str, wanted: int | None, *, components: int | None = None
) -> int:
    """Rows of a chunk: many enough that adding up d x d sums costs little beside them, within the memory.

    Parameters
    ----------
    source : Source
    memory : int or None
        Bytes that may be used.
    nonfinite : {"raise", "skip"}
    wanted : int or None
        Rows that a chunk must have.
    components : int, optional
        How many leading components are wanted, if nothing else of the moments is.

    Raises
    ------
    ValueError
        The memory does not hold the sums and a few rows, or not as many as are wanted.
    """
    if wanted is not None and wanted < 1:
        msg = f"chunk_rows is {wanted}; at least one row is expected"
        raise ValueError(msg)
    per_row = bytes_per_row(source, nonfinite)
    # Several times as many rows as columns, whatever they weigh, and many more where they stay in place.
    many = (4 if source.chunk_bytes_per_row else 16) * source.d
    rows = wanted or max((source.chunk_bytes or CHUNK_BYTES) // source.row_bytes, many, BLOCK_ROWS)
    fixed = fixed_bytes(source, memory, components)
    limit = MOST_CHUNK_BYTES if memory is None else memory - fixed
    if per_row and rows * per_row > limit:
        rows = limit // per_row
    least_rows = wanted or BLOCK_ROWS
    if memory is not None and (limit <= 0 or rows < least_rows):
        least = fixed + least_rows * per_row
        msg = f"memory is {memory / 2**20:.1f} MiB; {source.d} features need at least {-(-least // 2**20)} MiB"
        raise ValueError(msg)
    if wanted is not None:
        return wanted
    step = SEGMENT_ROWS if rows >= SEGMENT_ROWS else BLOCK_ROWS
    return max(rows // step * step, BLOCK_ROWS)
