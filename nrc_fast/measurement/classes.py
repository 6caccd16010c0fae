"""`measure_classes`: the classes of features in one call, from arrays or batches."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from functools import partial
from typing import NamedTuple, cast

import numpy as np

from nrc_fast.base.arrays import Array, FloatArray
from nrc_fast.base.linalg import scale_to_unit
from nrc_fast.base.options import NonFinite
from nrc_fast.kernels.errors import NonFiniteRowsError
from nrc_fast.kernels.inputs import as_matrix
from nrc_fast.kernels.interface import Rows
from nrc_fast.kernels.placement import rows_in_place
from nrc_fast.measurement import class_moments
from nrc_fast.measurement.class_statistics import ClassStatistics, Labels, as_labels, weights_and_bias
from nrc_fast.passes.chunk_sizes import rows_of_chunk
from nrc_fast.reports.classes import ClassReport
from nrc_fast.sources import Features, as_source
from nrc_fast.sources.dispatch import is_batches

__all__ = ["measure_classes"]


def measure_classes(
    H: Features,
    labels: Array | None = None,
    W: Array | None = None,
    b: Array | None = None,
    *,
    n_classes: int | None = None,
    nonfinite: NonFinite = "raise",
) -> ClassReport:
    """NC1 to NC4 of features with labels.

    Parameters
    ----------
    H : (N, d) array or tensor, path, source, or iterable of batches
        Paths, patterns and sources are those of `nrc_fast.open`, and are read chunk by chunk. Without `labels`, batches
        are pairs of features and labels. Rows are read twice where weights are given.
    labels : (N,) array or tensor of integers
        Not for batches that hold them.
    W : (K, d) array or tensor, optional
    b : (K,) array or tensor, optional
        Zeros where it is not given.
    n_classes : int, optional
        K; taken from W, else the largest label of an array plus 1.
    nonfinite : {"raise", "skip"}
        What to do with rows that hold NaN or infinite values; those that are left out are counted in the report.

    Returns
    -------
    ClassReport

    Raises
    ------
    TypeError, ValueError, RuntimeError
        The features are no finite float matrix or lie on a device that cannot be used, the labels do not fit, K is not
        known, or a class has no rows.
    OSError
        A file is missing or damaged.

    Examples
    --------
    >>> H = np.array([[3.0, 0.0], [1.0, 0.0], [-1.0, 0.0], [-3.0, 0.0]])
    >>> report = measure_classes(H, [0, 0, 1, 1], np.array([[1.0, 0.0], [-1.0, 0.0]]))
    >>> report.nc1_ratio, report.nc4, report.accuracy, round(report.nc3, 12)
    (0.25, 0.0, 1.0, 0.0)
    """
    n_classes = _number_of_classes(H, labels, W, n_classes)
    if isinstance(H, Iterator) and W is not None:
        msg = "NC4 needs the class means before the rows: give batches that can be read again, or leave W out"
        raise TypeError(msg)
    statistics: ClassStatistics | None = None
    for batch in _batches(H, labels):
        if statistics is None:
            statistics = ClassStatistics(batch.rows.columns, n_classes, nonfinite=nonfinite)
        try:
            statistics.update(batch.rows, batch.labels)
        except NonFiniteRowsError as error:
            raise error.located(batch.locate(error.first)) from None
    if statistics is None:
        msg = "there are no rows to measure"
        raise ValueError(msg)
    report = statistics.report(W, b)
    if W is None:
        return report
    weights, bias = weights_and_bias(W, b, n_classes, statistics.d)
    disagreeing, correct = _decisions(_batches(H, labels), statistics, weights, bias)
    return replace(report, nc4=disagreeing / statistics.count, accuracy=correct / statistics.count)


def _number_of_classes(H: Features, labels: Array | None, W: Array | None, n_classes: int | None) -> int:
    """K, as given, or as W or the labels have it.

    Raises
    ------
    TypeError
        There are no labels.
    ValueError
        K is not known.
    """
    if W is not None:
        n_classes = as_matrix(W, "W")[0].shape[0] if n_classes is None else n_classes
    elif n_classes is None and labels is not None:
        n_classes = int(as_labels(labels, None).max(initial=0)) + 1
    if labels is None and not isinstance(H, list) and not is_batches(H):
        msg = "labels are missing: give one for each row, or batches that are pairs of features and labels"
        raise TypeError(msg)
    if n_classes is None:
        msg = "the number of classes is not known: give W or n_classes="
        raise ValueError(msg)
    return n_classes


def _numbered(first: int, row: int) -> str:
    return f"row {first + row}"


class _Batch(NamedTuple):
    """Rows, the label of each, and what says in words where a row is."""

    rows: Rows
    labels: Array
    locate: Callable[[int], str] = partial(_numbered, 0)


def _batches(H: Features, labels: Array | None) -> Iterator[_Batch]:
    if labels is None:
        for features, classes in cast("Iterable[tuple[Array, Array]]", H):
            yield _Batch(rows_in_place(features, "H"), classes)
        return
    source, known = as_source(H), as_labels(labels, None)
    if source.count is not None and source.count != len(known):
        raise _unlike(source.count, known)
    first = 0
    for chunk in source.chunks(rows_of_chunk(source, None, "skip", None)):
        rows = chunk.features.loaded()
        last = first + rows.count
        if last > len(known):
            raise _unlike(last, known)
        yield _Batch(rows, known[first:last], chunk.locate or partial(_numbered, first))
        first = last
        source.release(chunk)
    if first != len(known):
        raise _unlike(first, known)


def _unlike(rows: int, labels: Labels) -> ValueError:
    return ValueError(f"H has {rows} rows or more and there are {len(labels)} labels; one for each row is expected")


def _decisions(
    batches: Iterator[_Batch], statistics: ClassStatistics, weights: FloatArray, bias: FloatArray
) -> tuple[int, int]:
    """Rows where head and nearest mean disagree, and rows that the head gets right."""
    mean = statistics.mean
    # Which score is the largest does not change with their scale, whose squares and products may leave that of float64.
    means, exponent = scale_to_unit(statistics.centered_means)
    halves = np.ldexp(0.5 * np.sum(means**2, axis=1), exponent)
    head, _ = scale_to_unit(np.column_stack([weights, bias]))
    weights = head[:, :-1]
    bias = head[:, -1] + weights @ mean
    disagreeing = correct = 0
    for rows, labels, _ in batches:
        classes = as_labels(labels, statistics.n_classes)
        for first in range(0, rows.count, class_moments.CHUNK_ROWS):
            last = min(first + class_moments.CHUNK_ROWS, rows.count)
            part, known = rows.part(first, last), classes[first:last]
            if statistics.skipped:
                finite = part.finite_rows()
                part, known = part.take(finite), known[finite]
            if not part.count:
                continue
            # The nearest mean by |h - mu|^2 up to |h|^2 and a factor.
            chosen, nearest = part.backend.largest_scores(part, mean, (weights, means), (bias, -halves))
            disagreeing += int(np.count_nonzero(chosen != nearest))
            correct += int(np.count_nonzero(chosen == known))
    return disagreeing, correct
