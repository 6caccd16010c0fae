"""Memory that sums and workspaces take, whatever the number of rows."""

from __future__ import annotations

from nrc_fast import kernels
from nrc_fast.base.leading import EXTRA_VECTORS
from nrc_fast.sources import Source

__all__ = ["BLOCK_ROWS", "MOST_READS", "gram_memory", "krylov_memory"]

# Kernels work on blocks of 256 rows; a product with few vectors holds 64 in float64.
BLOCK_ROWS = 256
PRODUCT_ROWS = 64
# float64 arrays of d x d that are alive at the same time: sums (2), those of a chunk (2), the tiles of the threads
# that share them (2), and, when rows are no longer read, covariances, eigenvectors and workspaces of LAPACK.
SQUARE_ARRAYS = 8
# Tiles that threads have for themselves (gram.cpp) and the blocks that they pack.
WORKSPACE_BYTES = 80 << 20
# Reads of block Krylov iteration after which what was found has to do, where a matrix of d x d cannot be held.
MOST_READS = 40
# Arrays of all vectors that were multiplied: these, their images, and a copy as one more block comes.
KRYLOV_ARRAYS = 3
# Stacks of threads, small objects, and what allocators keep.
OVERHEAD_BYTES = 4 << 20


def gram_memory(source: Source) -> int:
    """Memory of moments and of their decomposition."""
    square, row = 8 * source.d * source.d, 8 * source.d
    tiles = min(kernels.thread_count() * square, WORKSPACE_BYTES)
    blocks = kernels.thread_count() * 2 * BLOCK_ROWS * row
    return SQUARE_ARRAYS * square + tiles + blocks + source.held_bytes + OVERHEAD_BYTES


def krylov_memory(source: Source, k: int) -> int:
    """Memory of block Krylov iteration for k components, at most."""
    row = 8 * source.d
    vectors = min(MOST_READS * (k + EXTRA_VECTORS), source.d)
    rows = kernels.thread_count() * PRODUCT_ROWS
    return (KRYLOV_ARRAYS * vectors + rows) * row + source.held_bytes + OVERHEAD_BYTES
