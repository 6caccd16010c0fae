"""What users give to `convex` as a problem: samples that are equal merged, targets scaled, and a bias to start from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import get_args

import numpy as np

from nrc_fast.base.arrays import Array, FloatArray, IntArray
from nrc_fast.base.options import as_integer
from nrc_fast.metrics.training_losses import TrainingLossName
from nrc_fast.ufm.convex_losses import Absolute, ConvexLoss, CrossEntropy, Huber, Logistic, Squared
from nrc_fast.ufm.convex_newton import Problem
from nrc_fast.ufm.inputs import as_float64, as_number

__all__ = ["Merged", "class_labels", "merged", "target_rows"]


MOST_LABEL = 2**53  # that float64 arithmetic can count
LARGEST_EXPONENT = 500  # of the largest weight
LARGEST_OF_LOSS = 1000  # exponent of 2


@dataclass(frozen=True, eq=False)
class Merged:
    """A problem in units of the targets, and the way back.

    Attributes
    ----------
    name : str
        Of the loss.
    problem : Problem
        Of targets minus the center, over the unit; of logits as they are.
    bias : (n,) float64 array
        To start from, in the same units.
    rows : (m, n) or (m,) float64 or int64 array
        The samples that differ: targets as they were given, or the numbers of the classes.
    weights : (m,) float64 array
        Their weights, summed; over a power of two where they were far from 1.
    samples : int
        How many there were: the sum of the weights where all are whole numbers, else the rows that were given.
    center : (n,) float64 array
    unit : float
        A power of two.
    power : int
        Losses are the problem's times ``unit**power``.
    """

    name: TrainingLossName
    problem: Problem
    bias: FloatArray
    rows: FloatArray | IntArray
    weights: FloatArray
    samples: int
    center: FloatArray
    unit: float = 1.0
    power: int = 0

    def penalty(self, root_c: float) -> float:
        """The problem's penalty of the nuclear norm for that ``sqrt(c)``."""
        return root_c * self.unit ** (1 - self.power)


def merged(
    Y: Array,
    loss: TrainingLossName,
    *,
    delta: float | None,
    weights: Array | None,
    bias: bool,
    n_classes: int | None,
) -> Merged:
    """The problem of what `convex` was given.

    Raises
    ------
    TypeError, ValueError, RuntimeError
        See `convex`.
    """
    if loss not in get_args(TrainingLossName):
        msg = f"loss is {loss!r}; {', '.join(map(repr, get_args(TrainingLossName)))} are known"
        raise ValueError(msg)
    for name, value, needed in (("delta", delta, "huber"), ("n_classes", n_classes, "cross_entropy")):
        if value is not None and loss != needed:
            msg = f"{name} goes with loss={needed!r}, not with {loss!r}"
            raise ValueError(msg)
    if loss == "cross_entropy":
        return _of_labels(class_labels(Y), weights, bias, n_classes)
    targets = target_rows(Y)
    rows, total, samples = _unique(targets, weights)
    if loss == "logistic":
        return _of_answers(rows, total, samples, bias)
    width = 1.0 if delta is None else as_number(delta, "delta", positive=True)
    return _of_errors(loss, width, (rows, total, samples), bias)


def target_rows(Y: Array) -> FloatArray:
    """Targets (M, n) or (M,) as finite float64 rows; truth values are 0 and 1."""
    is_of_truth_values = str(getattr(Y, "dtype", "")) in ("bool", "torch.bool")
    values, _ = as_float64(Y * 1.0 if is_of_truth_values else Y, "Y")  # type: ignore[operator]
    rows = values[:, np.newaxis] if values.ndim == 1 else values
    if rows.ndim != 2 or rows.shape[0] == 0 or rows.shape[1] == 0:
        msg = f"Y has shape {values.shape}; (M, n) or (M,) with at least one sample and one output is expected"
        raise ValueError(msg)
    return rows + 0.0  # -0.0 is 0.0


def class_labels(Y: Array) -> IntArray:
    """Numbers of classes, (M,)."""
    as_float64(Y, "Y")
    labels = np.asarray(Y.detach() if hasattr(Y, "detach") else Y)
    if labels.dtype.kind not in "iu" or labels.ndim != 1:
        msg = (
            f"Y has shape {labels.shape} and is {'' if labels.dtype.kind in 'iu' else 'not '}of whole numbers; "
            "'cross_entropy' takes the number of the class of every sample, whole numbers of shape (M,)"
        )
        raise TypeError(msg)
    if labels.size == 0 or labels.min() < 0:
        msg = "Y has no labels" if labels.size == 0 else f"labels are at least 0, got {int(labels.min())}"
        raise ValueError(msg)
    if int(labels.max()) > MOST_LABEL:
        msg = f"Y has the label {int(labels.max())}; numbers of classes, from 0 to {MOST_LABEL:,}, are expected"
        raise ValueError(msg)
    return labels.astype(np.int64)


def _sample_weights(weights: Array | None, rows: int) -> tuple[FloatArray, int]:
    """Weights of the samples, and how many samples they say there are."""
    if weights is None:
        return np.ones(rows), rows
    values, _ = as_float64(weights, "weights")
    least, most = float(values.min(initial=np.inf)), float(values.max(initial=0.0))
    if values.shape != (rows,) or least < 0.0 or most == 0.0:
        found = f", and values from {least:.6g} to {most:.6g}" if values.size else ""
        msg = f"weights have shape {values.shape}{found}; ({rows},) is expected, one for each sample, "
        msg += "at least 0 and not all 0"
        raise ValueError(msg)
    exponent = int(np.frexp(most)[1])
    if abs(exponent) > LARGEST_EXPONENT:  # sums would leave the range of float64, and only ratios count
        values = np.ldexp(values, -exponent)
    is_whole = bool((values == np.rint(values)).all()) and values.sum() < 2.0**53
    return values, int(values.sum()) if is_whole else rows


def _unique(targets: FloatArray, weights: Array | None) -> tuple[FloatArray, FloatArray, int]:
    """Rows that differ, their weights, and the number of samples."""
    given, samples = _sample_weights(weights, len(targets))
    rows, inverse = np.unique(targets, axis=0, return_inverse=True)
    total = np.bincount(inverse.reshape(-1), given, len(rows)).astype(np.float64)
    return rows[total > 0.0], total[total > 0.0], samples


def _of_labels(labels: IntArray, weights: Array | None, bias: bool, n_classes: int | None) -> Merged:
    classes = int(labels.max()) + 1 if n_classes is None else as_integer(n_classes, "n_classes")
    if classes <= labels.max() or classes < 2:
        msg = f"n_classes is {classes}; at least {max(int(labels.max()) + 1, 2)} is expected"
        raise ValueError(msg)
    given, samples = _sample_weights(weights, len(labels))
    # With more classes than samples one is empty, and is among the first of these; memory goes with the samples.
    counted = min(classes, len(labels) + 1)
    total = np.bincount(np.minimum(labels, counted), given, counted + 1)[:counted].astype(np.float64)
    if (total == 0.0).any():
        empty = np.flatnonzero(total == 0.0)
        msg = f"class {empty[0]} has no samples: its logit falls without end; give labels 0..K - 1 that all occur"
        raise ValueError(msg)
    shares = total / total.sum()
    logits = np.log(shares) - np.log(shares).mean() if bias else np.zeros(classes)
    every = np.arange(classes)
    problem = Problem(CrossEntropy(every), np.zeros((classes, classes)), shares, bias)
    return Merged(
        "cross_entropy", problem, logits, rows=every, weights=total, samples=samples, center=np.zeros(classes)
    )


def _of_answers(rows: FloatArray, total: FloatArray, samples: int, bias: bool) -> Merged:
    if not np.isin(rows, (0.0, 1.0)).all():
        msg = "Y has values other than 0 and 1; loss 'logistic' takes answers, one for each output"
        raise ValueError(msg)
    shares = total / total.sum()
    constant = np.flatnonzero(rows.min(axis=0) == rows.max(axis=0))
    if bias and len(constant):
        k = constant[0]
        msg = f"output {k} has the answer {int(rows[0, k])} for every sample: its bias grows without end; leave it out"
        raise ValueError(msg)
    # Each share as a sum of its own: a rest from 1 has no digits of a small one.
    logits = np.log(shares @ rows) - np.log(shares @ (1.0 - rows)) if bias else np.zeros(rows.shape[1])
    problem = Problem(Logistic(rows > 0.5), np.zeros(rows.shape), shares, bias)
    center = np.zeros(rows.shape[1])
    return Merged("logistic", problem, logits, rows=rows, weights=total, samples=samples, center=center)


def _of_errors(
    name: TrainingLossName, delta: float, merged_rows: tuple[FloatArray, FloatArray, int], bias: bool
) -> Merged:
    rows, total, samples = merged_rows
    shares = total / total.sum()
    power = 1 if name == "absolute" else 2
    with np.errstate(over="ignore", invalid="ignore"):
        center = shares @ rows if bias else np.zeros(rows.shape[1])
        offset = rows - center
        largest = float(np.abs(offset).max())
        # Over the largest, so that squares neither over- nor underflow.
        size = largest * float(np.sqrt(shares @ np.mean((offset / (largest or 1.0)) ** 2, axis=1)))
    exponent = int(np.rint(np.log2(size))) if 0.0 < size < np.inf else 0
    if not np.isfinite(size) or abs(power * exponent) > LARGEST_OF_LOSS:
        what = "squares of the targets" if power == 2 else "targets"
        msg = f"the {what} leave the range of float64: they are {size:.3g} from their mean; rescale them"
        raise ValueError(msg)
    unit = 2.0**exponent
    loss: ConvexLoss = Squared()
    if name == "huber":
        loss = Huber(delta / unit)
    if name == "absolute":
        loss = Absolute()
    offset = offset / unit
    start = np.zeros(rows.shape[1]) if name == "squared" or not bias else _medians(offset, shares)
    problem = Problem(loss, offset, shares, bias)
    return Merged(
        name=name,
        problem=problem,
        bias=start,
        rows=rows,
        weights=total,
        samples=samples,
        center=center,
        unit=unit,
        power=power,
    )


def _medians(rows: FloatArray, shares: FloatArray) -> FloatArray:
    """Of each column with these weights."""
    order = np.argsort(rows, axis=0)
    sums = np.cumsum(shares[order], axis=0)
    first = np.argmax(sums >= 0.5, axis=0)
    every = np.arange(rows.shape[1])
    return np.asarray(rows[order[first, every], every])
