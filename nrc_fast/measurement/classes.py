"""`measure_classes`: the classes of features in one call, from arrays or batches."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import cast

import numpy as np

from nrc_fast.base.arrays import Array, FloatArray
from nrc_fast.kernels.inputs import as_matrix
from nrc_fast.kernels.placement import rows_in_place
from nrc_fast.measurement import class_statistics
from nrc_fast.measurement.class_statistics import ClassStatistics, as_labels, weights_and_bias
from nrc_fast.reports.classes import ClassReport

__all__ = ["measure_classes"]


def measure_classes(
    H: Array | Iterable[tuple[Array, Array]],
    labels: Array | None = None,
    W: Array | None = None,
    b: Array | None = None,
    *,
    n_classes: int | None = None,
) -> ClassReport:
    """NC1 to NC4 of features with labels.

    Parameters
    ----------
    H : (N, d) array or tensor, or iterable of batches
        Batches are pairs of features and labels, and are read twice where weights are given.
    labels : (N,) array or tensor of integers
        Not for batches.
    W : (K, d) array or tensor, optional
    b : (K,) array or tensor, optional
        Zeros where it is not given.
    n_classes : int, optional
        K; taken from W, else the largest label of an array plus 1.

    Returns
    -------
    ClassReport

    Raises
    ------
    TypeError, ValueError, RuntimeError
        The features are no finite float matrix or lie on a device that cannot be used, the labels do not fit, K is not
        known, or a class has no rows.

    Examples
    --------
    >>> H = np.array([[3.0, 0.0], [1.0, 0.0], [-1.0, 0.0], [-3.0, 0.0]])
    >>> report = measure_classes(H, [0, 0, 1, 1], np.array([[1.0, 0.0], [-1.0, 0.0]]))
    >>> report.nc1_ratio, report.nc4, report.accuracy, round(report.nc3, 12)
    (0.25, 0.0, 1.0, 0.0)
    """
    if W is not None:
        n_classes = as_matrix(W, "W")[0].shape[0] if n_classes is None else n_classes
    elif n_classes is None and labels is not None:
        n_classes = int(as_labels(labels, None).max(initial=0)) + 1
    if n_classes is None:
        msg = "the number of classes is not known: give W or n_classes="
        raise ValueError(msg)
    if labels is None and isinstance(H, Iterator) and W is not None:
        msg = "NC4 needs the class means before the rows: give batches that can be read again, or leave W out"
        raise TypeError(msg)
    statistics: ClassStatistics | None = None
    for features, classes in _batches(H, labels):
        if statistics is None:
            statistics = ClassStatistics(rows_in_place(features, "H").columns, n_classes)
        statistics.update(features, classes)
    if statistics is None:
        msg = "there are no rows to measure"
        raise ValueError(msg)
    report = statistics.report(W, b)
    if W is None:
        return report
    weights, bias = weights_and_bias(W, b, n_classes, statistics.d)
    disagreeing, correct = _decisions(_batches(H, labels), statistics, weights, bias)
    shares = {"nc4": disagreeing / statistics.count, "accuracy": correct / statistics.count}
    return ClassReport(**(report.to_dict() | shares))


def _batches(H: Array | Iterable[tuple[Array, Array]], labels: Array | None) -> Iterator[tuple[Array, Array]]:
    if labels is not None:
        yield cast("Array", H), labels
    else:
        yield from cast("Iterable[tuple[Array, Array]]", H)


def _decisions(
    batches: Iterator[tuple[Array, Array]], statistics: ClassStatistics, weights: FloatArray, bias: FloatArray
) -> tuple[int, int]:
    """Rows where head and nearest mean disagree, and rows that the head gets right."""
    mean = statistics.mean
    means = statistics.centred_means
    halves = 0.5 * np.sum(means**2, axis=1)
    bias = bias + weights @ mean
    disagreeing = correct = 0
    for features, labels in batches:
        rows, classes = rows_in_place(features, "H"), as_labels(labels, statistics.n_classes)
        for first in range(0, rows.count, class_statistics.CHUNK_ROWS):
            part = rows.part(first, min(first + class_statistics.CHUNK_ROWS, rows.count))
            # The nearest mean by |h - mu|^2 up to |h|^2 and a factor.
            chosen, nearest = part.backend.largest_scores(part, mean, (weights, means), (bias, -halves))
            disagreeing += int(np.count_nonzero(chosen != nearest))
            correct += int(np.count_nonzero(chosen == classes[first : first + class_statistics.CHUNK_ROWS]))
    return disagreeing, correct
