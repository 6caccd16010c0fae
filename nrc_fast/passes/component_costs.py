"""What the two ways to leading components cost, as estimated before anything is read."""

from __future__ import annotations

from dataclasses import astuple, dataclass

from nrc_fast.base.leading import EXTRA_VECTORS, LEAST_FEATURES
from nrc_fast.base.processes import Team
from nrc_fast.passes.memory_needs import BLOCK_ROWS, gram_memory
from nrc_fast.sources import Source

__all__ = ["MOST_SQUARE_BYTES", "ComponentCosts", "component_costs"]

# In float32 multiply-adds: one in float64; reading a byte of memory, and of what is stored; the shares of the peak that
# the Gram and the product with few vectors reach. Of two cores with AVX-512, as bench/routines/kernels measures.
FLOAT64 = 2.0
MEMORY_BYTE = 5.0
STORED_BYTE = 50.0
GRAM_EFFICIENCY = 0.7
PRODUCT_EFFICIENCY = 0.6
# What spectra as those of trained networks need: reads of the rows, and products with a matrix that is known.
TYPICAL_READS = 6
TYPICAL_PRODUCTS = 10
# Times that a matrix of d x d goes through memory besides: sums of chunks, the covariance, workspaces.
MATRIX_COPIES = 10
# What matrices of d x d may take where the user has set no limit.
MOST_SQUARE_BYTES = 12 << 30
# Chunks that are alive at the same time, at most.
CHUNKS_ALIVE = 8
# Rows of a source that does not know how many it has.
UNKNOWN_ROWS = 100_000


@dataclass(frozen=True)
class ComponentCosts:
    """Estimated work of both ways to k leading components, in float32 multiply-adds.

    Attributes
    ----------
    product : float
        One read of block Krylov iteration: products of the rows with k + 7 vectors in float64.
    gram : float
        The Gram matrix, and the leading part of its decomposition.
    gram_fits : bool
        Whether matrices of d x d may be held.
    is_wide : bool
        Whether there are so many features that leading pairs cost less than all.
    is_stored : bool
        Whether rows lie somewhere. What makes them anew, such as a loader, may take any time for each read.
    """

    product: float
    gram: float
    gram_fits: bool
    is_wide: bool
    is_stored: bool

    @property
    def rows(self) -> float:
        """The way without a matrix, for a spectrum like those of trained networks."""
        return TYPICAL_READS * self.product

    @property
    def prefers_rows(self) -> bool:
        """Whether the way without a matrix is begun with."""
        return not self.gram_fits or (self.is_wide and self.is_stored and self.rows < self.gram)

    def is_worth(self, reads: float) -> bool:
        """Whether so many more reads of the rows cost less than to begin anew with the Gram."""
        return not self.gram_fits or reads * self.product <= self.gram

    def agreed(self, team: Team | None) -> ComponentCosts:
        """The costs of a group of processes, each of which has estimated those of its own rows.

        All wait for the slowest, and go the way on which none lacks memory.
        """
        if team is None:
            return self
        table = team.gather(astuple(self))
        product, gram = (float(column.max()) for column in table.T[:2])
        gram_fits, is_wide, is_stored = (bool(column.all()) for column in table.T[2:])
        return ComponentCosts(product, gram, gram_fits=gram_fits, is_wide=is_wide, is_stored=is_stored)


def component_costs(source: Source, k: int, memory: int | None = None) -> ComponentCosts:
    """The costs of k components of a source.

    Parameters
    ----------
    source : Source
    k : int
    memory : int, optional
        Bytes that may be used.
    """
    d, vectors = source.d, k + EXTRA_VECTORS
    count = UNKNOWN_ROWS if source.count is None else source.count
    byte = STORED_BYTE if source.reads_ahead else MEMORY_BYTE
    is_double = source.dtype == "float64"
    read = count * source.row_bytes * byte
    product = max(count * d * 2.0 * vectors * FLOAT64 / PRODUCT_EFFICIENCY, read)
    multiplied = count * d * (d / 2.0) * (FLOAT64 if is_double else 1.0) / GRAM_EFFICIENCY
    matrix = TYPICAL_PRODUCTS * max(8.0 * MEMORY_BYTE, vectors * FLOAT64) + MATRIX_COPIES * 8.0 * MEMORY_BYTE
    # Rows that are not float64 need one more read, in which float32 blocks are made good.
    gram = max(multiplied, read) + d * d * matrix + (0.0 if is_double else product)
    few_rows = CHUNKS_ALIVE * BLOCK_ROWS * source.chunk_bytes_per_row
    return ComponentCosts(
        product=product,
        gram=gram,
        gram_fits=gram_memory(source) + few_rows <= (MOST_SQUARE_BYTES if memory is None else memory),
        is_wide=d >= LEAST_FEATURES * vectors,
        is_stored=source.is_stored,
    )
