"""Dask arrays, measured block by block on dask's own scheduler: chunk, combine, aggregate."""

from __future__ import annotations

import copy
import math
from collections.abc import Generator
from functools import partial
from typing import TYPE_CHECKING, TypedDict, overload

import numpy as np

from nrc_fast.base.arrays import Array, FloatArray, StoredArray, WholeNumbers
from nrc_fast.base.listing import listing
from nrc_fast.base.options import ByK, NonFinite, Precision, Spectrum, require_precision, require_tolerance
from nrc_fast.kernels.arrays import DTYPES
from nrc_fast.kernels.counts import SHIFT_ROWS
from nrc_fast.kernels.errors import NonFiniteRowsError
from nrc_fast.kernels.inputs import as_rows
from nrc_fast.measurement.assembly import Wishes, report_of
from nrc_fast.measurement.evidence import gathered
from nrc_fast.measurement.explicit_metrics import nrc1_of_reading
from nrc_fast.measurement.extent import extent_of
from nrc_fast.measurement.feature_statistics import FeatureStatistics
from nrc_fast.measurement.head import Head
from nrc_fast.measurement.precision import with_bound
from nrc_fast.metrics.conventions import Convention, ConventionName, needs_unit_rows, resolve_convention
from nrc_fast.metrics.prediction import PenaltyProduct
from nrc_fast.passes.moments import Moments
from nrc_fast.passes.reading import Reading, add_finite
from nrc_fast.passes.shifted_sums import ShiftedSums
from nrc_fast.passes.sums import Sums
from nrc_fast.reports.features import Report
from nrc_fast.sources import Chunk, Source

if TYPE_CHECKING:
    from dask.array import Array as DaskArray
    from typing_extensions import Unpack

__all__ = ["collect", "measure", "nrc1"]

__dir__ = listing(__name__, __all__)

# How many partial sums are combined at a time.
FAN_IN = 8
# Layers of the graph of blocks that only have to be fetched: what dask begins with, and how it takes blocks of it.
STORED_LAYERS = 2


class _Options(TypedDict, total=False):
    convention: ConventionName | Convention
    precision: Precision
    nonfinite: NonFinite
    rtol: float


@overload
def nrc1(H: DaskArray, n: int, **options: Unpack[_Options]) -> float: ...


@overload
def nrc1(H: DaskArray, n: WholeNumbers | None, **options: Unpack[_Options]) -> FloatArray: ...


def nrc1(
    H: DaskArray,
    n: int | WholeNumbers | None,
    *,
    convention: ConventionName | Convention = "nrc24",
    precision: Precision = "high",
    nonfinite: NonFinite = "raise",
    rtol: float = 1e-3,
) -> float | FloatArray:
    """`nrc_fast.nrc1` of a dask array: leading components by block Krylov iteration, or from the Gram.

    Blocks that have to be computed make every pass as dear as the first, so that the way with more passes is only gone
    where the d x d Gram does not fit: ``H.persist()`` keeps them.

    Parameters
    ----------
    H : (N, d) dask array
        Blocks of rows are read where dask puts them; what travels is n + 7 vectors of d numbers for each block, or the
        Gram.
    n, convention, precision, nonfinite, rtol
        What is asked for, see `nrc_fast.nrc1`.

    Returns
    -------
    float or float64 array
        A float for an int, else one element for each number of components.

    Raises
    ------
    TypeError
        H is no dask array of floats.
    ValueError, RuntimeError
        Rows or options cannot be used, see `nrc_fast.nrc1`.

    Examples
    --------
    >>> import numpy as np, dask.array as da
    >>> H = np.array([[2.0, 1.0], [-2.0, 1.0]])
    >>> round(nrc1(da.from_array(H, chunks=(1, 2)), 1), 12)
    0.2
    """
    require_tolerance(rtol)
    require_precision(precision)
    chosen = resolve_convention(convention)
    reading = _BlockReading(_Blocks(H, None), nonfinite)
    values, bounds, energy = nrc1_of_reading(reading, n, chosen, precision=precision, rtol=rtol)
    with_bound("NRC1", values, bounds, return_bound=n is None, largest=energy)
    return float(values[0]) if n is not None and np.ndim(n) == 0 else values


def measure(
    H: DaskArray,
    Y: DaskArray | None = None,
    W: Array | None = None,
    b: Array | None = None,
    *,
    n: int | None = None,
    convention: ConventionName | Convention = "nrc24",
    penalties: PenaltyProduct | None = None,
    precision: Precision = "high",
    nonfinite: NonFinite = "raise",
    rtol: float = 1e-3,
    by_k: ByK = "leading",
    spectrum: Spectrum = "auto",
) -> Report:
    """`nrc_fast.measure` of a dask array: every pass is a graph that dask carries out.

    Parameters
    ----------
    H : (N, d) dask array
        Blocks of rows are measured where dask puts them; only sums travel.
    Y : (N, n) or (N,) dask array, optional
        With the same blocks of rows, or it is given them.
    W, b, n, convention, penalties, precision, nonfinite, rtol, by_k, spectrum
        The last layer and what is asked for, see `nrc_fast.measure`.

    Returns
    -------
    Report

    Raises
    ------
    TypeError
        H or Y is no dask array of floats.
    ValueError, RuntimeError
        Rows or options cannot be used, see `nrc_fast.measure`.

    Examples
    --------
    >>> import numpy as np, dask.array as da
    >>> H = np.random.default_rng(0).standard_normal((1000, 6))
    >>> report = measure(da.from_array(H, chunks=(300, 6)), n=2)
    >>> report.samples, 0.5 < report.nrc1 < 0.7
    (1000, True)
    """
    require_tolerance(rtol)
    require_precision(precision)
    chosen = resolve_convention(convention)
    reading = _BlockReading(_Blocks(H, Y), nonfinite)
    head = Head(W, b, n, d=reading.source.d, n_targets=reading.source.n_targets)
    extent = extent_of(by_k, spectrum)
    unit_rows = extent.all_k and needs_unit_rows(chosen)
    evidence = gathered(reading, unit_rows=unit_rows, precision=precision)
    return report_of(evidence, head, Wishes(chosen, rtol, extent, penalties))


def collect(
    H: DaskArray,
    Y: DaskArray | None = None,
    *,
    unit_rows: bool = True,
    precision: Precision = "high",
    nonfinite: NonFinite = "raise",
) -> FeatureStatistics:
    """`nrc_fast.FeatureStatistics` of a dask array, from one pass.

    Parameters
    ----------
    H : (N, d) dask array
        Features.
    Y : (N, n) or (N,) dask array, optional
        Targets.
    unit_rows, precision, nonfinite
        What is added up and how, see `nrc_fast.FeatureStatistics`.

    Returns
    -------
    FeatureStatistics

    Raises
    ------
    TypeError, ValueError
        H or Y is no dask array of floats, or a row is not finite.
    """
    blocks = _Blocks(H, Y)
    statistics = FeatureStatistics(
        blocks.d, n_targets=blocks.n_targets, unit_rows=unit_rows, precision=precision, nonfinite=nonfinite
    )
    moments = Moments(blocks.d, n_targets=blocks.n_targets, unit_rows=unit_rows, precision=precision)
    _BlockReading(blocks, nonfinite).run("statistics", moments)
    return statistics.restore(moments.arrays())


class _Blocks(Source):
    """Blocks of rows of dask arrays."""

    def __init__(self, H: DaskArray, Y: DaskArray | None) -> None:
        features, targets = _rows_in_blocks(H, "H"), None if Y is None else _rows_in_blocks(Y, "Y")
        if targets is not None and targets.chunks[0] != features.chunks[0]:
            if np.isnan([*targets.chunks[0], *features.chunks[0]]).any() or len(targets) != len(features):
                msg = (
                    f"H and Y have blocks of {features.chunks[0]} and {targets.chunks[0]} rows, which cannot be matched"
                )
                raise ValueError(msg)
            targets = targets.rechunk({0: features.chunks[0]})
        self.name = "dask array"
        self.d = int(features.shape[1])
        self.n_targets = 0 if targets is None else int(targets.shape[1])
        self.dtype = features.dtype.name
        self.count = None if math.isnan(sum(features.chunks[0])) else len(features)
        self.rereadable = True
        self.is_stored = len(features.dask.layers) <= STORED_LAYERS
        self.features = features.to_delayed().ravel()
        self.targets = [None] * len(self.features) if targets is None else targets.to_delayed().ravel()

    @property
    def target_row_bytes(self) -> int:
        """Dask holds the targets."""
        return 0

    @property
    def chunk_bytes_per_row(self) -> int:
        """Dask holds the blocks."""
        return 0

    def chunks(self, rows: int, first: int = 0) -> Generator[Chunk, None, None]:
        """Blocks go to the workers, not through here."""
        raise NotImplementedError

    def sample(self, count: int) -> FloatArray:
        """The first finite rows of blocks that are spread over all of them."""
        from dask.base import compute
        from dask.delayed import delayed

        places = np.unique(np.linspace(0, len(self.features) - 1, count).astype(np.int64))
        first_rows = delayed(_first_rows)
        blocks = compute(*[first_rows(self.features[place], -(-count // len(places))) for place in places])
        return np.concatenate([_chunk(block, None).finite().features.to_float64() for block in blocks])


def _rows_in_blocks(array: DaskArray, name: str) -> DaskArray:
    import dask.array

    if not isinstance(array, dask.array.Array):
        msg = f"{name} is a {type(array).__name__}; a dask array is expected (dask.array.from_array)"
        raise TypeError(msg)
    if name == "Y" and array.ndim == 1:
        array = array[:, np.newaxis]
    if array.ndim != 2 or array.shape[1] == 0:
        msg = f"{name} has shape {array.shape}; a matrix with one row per sample is expected"
        raise ValueError(msg)
    if array.dtype.name not in DTYPES:
        msg = f"{name} has dtype {array.dtype.name}; {', '.join(DTYPES)} are supported. Convert it with astype"
        raise TypeError(msg)
    return array.rechunk({1: -1})


class _BlockReading(Reading):
    """Passes as graphs: sums of each block, combined in a fixed tree."""

    source: _Blocks

    def __init__(self, source: _Blocks, nonfinite: str) -> None:
        super().__init__(source, 1, nonfinite=nonfinite)

    @property
    def is_alone(self) -> bool:
        """Each block is added up by itself."""
        return False

    def of(self, source: Source) -> None:
        """Blocks are read where dask puts them, and by nobody else."""

    def run(self, title: str, sums: Sums) -> None:  # noqa: ARG002 - dask has a progress bar of its own
        """Make a pass over all blocks.

        Raises
        ------
        ValueError
            A row is not finite.
        """
        from dask.base import compute
        from dask.delayed import delayed

        pairs = list(zip(self.source.features, self.source.targets, strict=True))
        if isinstance(sums, ShiftedSums):
            self._fix_shift(sums)
        add = delayed(partial(_sums_of_block, copy.deepcopy(sums), self.skips))
        combine = delayed(sums.combined)
        parts = [add(number, *pair) for number, pair in enumerate(pairs)]
        while len(parts) > 1:
            parts = [combine(parts[first : first + FAN_IN]) for first in range(0, len(parts), FAN_IN)]
        if parts:
            (total,) = compute(*parts)
            sums.restore(total)

    def _fix_shift(self, sums: ShiftedSums) -> None:
        """The mean of the first rows that there are, as every block must subtract the same."""
        from dask.base import compute
        from dask.delayed import delayed

        first_rows = delayed(_first_rows)
        for pair in zip(self.source.features, self.source.targets, strict=True):
            chunk = _chunk(*compute(*[first_rows(block, SHIFT_ROWS) for block in pair]))
            if self.skips:
                chunk = chunk.finite()
            if chunk.features.count:
                sums.begin(chunk, None)
                return


def _first_rows(block: StoredArray | None, count: int) -> StoredArray | None:
    return None if block is None else block[:count]


def _chunk(features: StoredArray, targets: StoredArray | None) -> Chunk:
    rows = as_rows(features, "H")
    return Chunk(rows, None if targets is None else as_rows(targets, "Y", vector_is_column=True))


def _sums_of_block(
    empty: Sums, skips: bool, number: int, features: StoredArray, targets: StoredArray | None
) -> dict[str, FloatArray]:
    sums, chunk = copy.deepcopy(empty), _chunk(features, targets)
    try:
        add_finite(sums, chunk, skips=skips)
    except NonFiniteRowsError as error:
        where = f"row {error.first} of block {number}"
        raise error.located(where) from error
    return sums.arrays()
