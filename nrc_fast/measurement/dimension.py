"""Intrinsic dimension by the two nearest neighbours, on subsamples, with its spread."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, overload

import numpy as np
from numpy.typing import NDArray

from nrc_fast.base.arrays import Array, FloatArray
from nrc_fast.base.exact_products import sums_along
from nrc_fast.base.libraries import require_library
from nrc_fast.base.linalg import EPSILON, scale_to_unit
from nrc_fast.measurement.precision import with_bound
from nrc_fast.sources import Features, Source, as_source

__all__ = ["IntrinsicDimension", "intrinsic_dimension", "intrinsic_dimension_by_size", "two_nn"]

# The estimate of the paper's data sets levels off above about this many rows (arXiv 2510.01105).
PLATEAU_ROWS = 10_000
REPEATS = 10
# Neighbours that are looked at, so that rounding of the search does not hide the two nearest.
CANDIDATES = 6
BLOCK_VALUES = 1 << 20  # of differences that are held at a time


@dataclass(frozen=True)
class IntrinsicDimension:
    """An intrinsic dimension with its spread over subsamples.

    Attributes
    ----------
    value : float
        Mean of the estimates.
    spread : float
        Their standard deviation; NaN for a single one. Subsamples share rows where there are few, which makes it too
        small.
    estimates : tuple of float
    rows : int
        Of each subsample.
    duplicates : int
        Rows, over all subsamples, that were left out because they lie on another row.
    """

    __module__ = "nrc_fast"

    value: float
    spread: float
    estimates: tuple[float, ...]
    rows: int
    duplicates: int

    def __str__(self) -> str:
        spread = "" if math.isnan(self.spread) else f" +- {self.spread:.2g} (sd of {len(self.estimates)} subsamples)"
        return f"intrinsic dimension {self.value:.3f}{spread}, {self.rows:,} rows each"


def two_nn(rows: Array) -> tuple[float, int]:
    r"""Intrinsic dimension by the ratio of the distances to the second and first neighbour.

    With ``mu_i = r_2/r_1`` sorted and ``F(mu_(i)) = i/M``, the slope of the line through the origin that fits the
    points ``(log mu_(i), -log(1 - F))``, i = 1..M-1.

    Parameters
    ----------
    rows : (M, d) array
        Computed with in float64.

    Returns
    -------
    dimension : float
        NaN for fewer than 3 different rows.
    duplicates : int
        Rows that are copies of another one. They are left out before neighbours are searched: a row whose two nearest
        neighbours are copies of each other would have mu = 1, and one that is a copy itself no mu at all. (The paper's
        code adds 1e-6 to both distances instead.)

    Raises
    ------
    ImportError
        scikit-learn is not installed.

    References
    ----------
    Facco, d'Errico, Rodriguez, Laio, "Estimating the intrinsic dimension of datasets by a minimal neighborhood
    information", Scientific Reports 2017; arXiv 2510.01105.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> dimension, duplicates = two_nn(rng.standard_normal((2000, 3)) @ rng.standard_normal((3, 20)))
    >>> 2.7 < dimension < 3.3, duplicates
    (True, 0)
    """
    value, duplicates, _ = _bounded_two_nn(rows)
    return value, duplicates


def _bounded_two_nn(rows: Array) -> tuple[float, int, float]:
    """What `two_nn` gives, and the bound of the dimension."""
    neighbors = require_library("sklearn.neighbors", "dimension")
    given = np.array(rows, dtype=np.float64)
    X = _distinct(given)
    duplicates = len(given) - len(X)
    if len(X) < 3:
        return math.nan, duplicates, math.nan
    exact, _ = scale_to_unit(X)
    X = exact - exact.mean(axis=0)
    scale = float(np.abs(X).max())
    X /= scale if scale > 0.0 else 1.0
    found = neighbors.NearestNeighbors(n_neighbors=min(CANDIDATES, len(X))).fit(X).kneighbors(X, return_distance=False)
    distances = _distances(exact, found)
    first, second = distances[:, 1], distances[:, 2]
    apart = first > 0.0  # squares of what rows differ by may be too small for float64
    count = int(np.count_nonzero(apart))
    duplicates += len(X) - count
    if count < 3:
        return math.nan, duplicates, math.nan
    logs = np.log(np.sort(second[apart] / first[apart]))[:-1]
    heights = -np.log1p(-np.arange(1, count) / count)
    energy = float(sums_along(logs**2, axis=0))
    if not energy > 0.0:
        return math.nan, duplicates, math.nan
    value = float(sums_along(logs * heights, axis=0)) / energy
    largest = scale * float(np.linalg.norm(X, axis=1).max())
    errors = _log_errors(distances[apart] / largest, X.shape[1], has_all=found.shape[1] == len(X))
    return value, duplicates, _slope_bound(value, logs, heights, errors)


def _distances(rows: FloatArray, found: NDArray[np.int64]) -> FloatArray:
    """Distances of rows (N, d) from some others each (N, k), ascending.

    Those from products of rows cancel where neighbours are close: these are of differences, and of rows as they are.
    """
    distances = np.empty(found.shape)
    step = max(BLOCK_VALUES // (found.shape[1] * rows.shape[1]), 1)
    for start in range(0, len(rows), step):
        block = slice(start, start + step)
        distances[block] = np.linalg.norm(rows[found[block]] - rows[block, np.newaxis], axis=2)
    return np.sort(distances, axis=1)


def _log_errors(distances: FloatArray, d: int, *, has_all: bool) -> FloatArray:
    """Bounds of the errors of log mu, from distances of candidates (N, k) over the largest norm of a centred row.

    Candidates are found by distances of rounded rows, whose squares are rounded in proportion to the largest norm.
    Where the last candidate, and so every other row, is further off than the second neighbour by more than that, both
    neighbours are known.
    """
    nearest, second, last = distances[:, 1], distances[:, 2], distances[:, -1]
    is_known = has_all | (last**2 - second**2 > 8.0 * (d + 8.0) * EPSILON)
    with np.errstate(over="ignore"):
        mistaken = EPSILON * (8.0 / nearest + 2.0 * (d + 4.0) / nearest**2)
    return np.asarray((d + 8.0) * EPSILON + np.where(is_known, 0.0, mistaken))


def _slope_bound(value: float, logs: FloatArray, heights: FloatArray, errors: FloatArray) -> float:
    """Bound of the slope of the line through the origin: to sort brings numbers that are off no further apart."""
    size, off = float(np.linalg.norm(logs)), float(np.linalg.norm(errors)) + 4.0 * EPSILON * float(np.linalg.norm(logs))
    left = size**2 - 2.0 * size * off
    if not left > 0.0:
        return math.inf
    moved = (off * float(np.linalg.norm(heights)) + value * (2.0 * size * off + off**2)) / left
    return moved + 8.0 * EPSILON * value  # of heights, products, sums and their quotient


def _distinct(rows: FloatArray) -> FloatArray:
    """The rows without copies, in their order."""
    values = np.ascontiguousarray(rows + 0.0)  # -0 is 0
    bits = values.view(np.dtype((np.void, values.itemsize * values.shape[1]))).ravel()
    return values[np.sort(np.unique(bits, return_index=True)[1])]


@overload
def intrinsic_dimension(
    H: Features, *, rows: int | None = ..., repeats: int = ..., seed: int = ..., return_bound: Literal[False] = ...
) -> IntrinsicDimension: ...


@overload
def intrinsic_dimension(
    H: Features, *, rows: int | None = ..., repeats: int = ..., seed: int = ..., return_bound: Literal[True]
) -> tuple[IntrinsicDimension, float]: ...


def intrinsic_dimension(
    H: Features, *, rows: int | None = None, repeats: int = REPEATS, seed: int = 0, return_bound: bool = False
) -> IntrinsicDimension | tuple[IntrinsicDimension, float]:
    """Intrinsic dimension of features, targets or predictions, by 2-NN on subsamples.

    Parameters
    ----------
    H : (N, d) array or tensor, path or source
        Only the rows of the subsamples are held; the host computes with them, wherever H lies.
    rows : int, optional
        Of each subsample, without replacement; by default half of them, and at most 10,000, where the estimate of the
        paper's data levels off (the paper itself takes 18,000).
    repeats : int
        Subsamples; one where `rows` is all there are.
    seed : int
    return_bound : bool
        Give ``(found, bound)``, with the bound of the rounding of ``found.value`` on the subsamples that were drawn:
        how well the rows of a sample are told apart, where ``found.spread`` is about other samples. Without it a value
        that is below its bound is warned of, see `nrc_fast.PrecisionWarning`.

    Returns
    -------
    IntrinsicDimension

    Raises
    ------
    ImportError
        scikit-learn is not installed.
    TypeError, ValueError
        H is no float matrix, `rows` or `repeats` is none, or the number of rows of H is not known before they are read.

    References
    ----------
    arXiv 2510.01105, which compares the dimension of features with that of targets.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> H = np.tanh(rng.standard_normal((2000, 2)) @ rng.standard_normal((2, 16)))
    >>> found = intrinsic_dimension(H, repeats=3)
    >>> found.rows, 1.8 < found.value < 2.2, found.spread < 0.3
    (1000, True, True)
    """
    source, count = _counted(H)
    size = max(min(count // 2, PLATEAU_ROWS), min(count, 3)) if rows is None else rows
    found, bound = _estimates(source, count, size, repeats, np.random.default_rng(seed))
    with_bound("The intrinsic dimension", np.array([found.value]), np.array([bound]), return_bound=return_bound)
    return (found, bound) if return_bound else found


def intrinsic_dimension_by_size(
    H: Features, sizes: Sequence[int], *, repeats: int = REPEATS, seed: int = 0
) -> list[IntrinsicDimension]:
    """Block analysis: the intrinsic dimension against the size of the subsamples, to see whether it levels off.

    Parameters
    ----------
    H : (N, d) array or tensor, path or source
        Only the rows of the subsamples are held.
    sizes : sequence of int
        Rows of the subsamples.
    repeats : int
        Subsamples of each size.
    seed : int

    Returns
    -------
    list of IntrinsicDimension
        One for each size.

    Raises
    ------
    ImportError
        scikit-learn is not installed.
    TypeError, ValueError
        H is no float matrix, a size or `repeats` is none, or the number of rows of H is not known before they are read.
    """
    source, count = _counted(H)
    generator = np.random.default_rng(seed)
    return [_estimates(source, count, size, repeats, generator)[0] for size in sizes]


def _counted(H: Features) -> tuple[Source, int]:
    require_library("sklearn.neighbors", "dimension")
    source = as_source(H)
    if source.count is None:
        msg = f"the number of rows of {source.name} is not known; give an array, a file or a source with a count"
        raise ValueError(msg)
    return source, source.count


def _estimates(
    source: Source, count: int, size: int, repeats: int, generator: np.random.Generator
) -> tuple[IntrinsicDimension, float]:
    """The dimension, and the bound of its mean over the subsamples."""
    if not 3 <= size <= count or repeats < 1:
        msg = f"rows is {size} and repeats is {repeats}; from 3 to {count} rows, and 1 or more repeats are expected"
        raise ValueError(msg)
    if size == count:
        repeats = 1
    chosen = [np.sort(generator.choice(count, size, replace=False)) for _ in range(repeats)]
    union = np.unique(np.concatenate(chosen))
    held = _rows_of(source, union)
    found = [_bounded_two_nn(held[np.searchsorted(union, part)]) for part in chosen]
    estimates, bound = tuple(value for value, _, _ in found), float(np.mean([bound for _, _, bound in found]))
    spread = float(np.std(estimates, ddof=1)) if repeats > 1 else math.nan
    duplicates = sum(number for _, number, _ in found)
    return IntrinsicDimension(float(np.mean(estimates)), spread, estimates, size, duplicates), bound


def _rows_of(source: Source, numbers: NDArray[np.int64]) -> FloatArray:
    """Some rows of a source, by their numbers in ascending order."""
    parts, chunk_rows = [], max(1, (64 << 20) // max(source.row_bytes, 1))
    for chunk in source.chunks(chunk_rows):
        inside = numbers[(numbers >= chunk.first) & (numbers < chunk.first + chunk.features.count)] - chunk.first
        if len(inside):
            mask = np.zeros(chunk.features.count, dtype=bool)
            mask[inside] = True
            parts.append(chunk.features.take(mask).to_float64())
        source.release(chunk)
    rows = np.concatenate(parts)
    if not np.isfinite(rows).all():
        msg = f"{source.name} has rows with NaN or infinite values; drop them first"
        raise ValueError(msg)
    return rows
