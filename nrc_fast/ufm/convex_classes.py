"""Neural collapse of the classes at a minimum under cross-entropy: NC1 to NC4, and which classes have merged."""

from __future__ import annotations

from typing import Any

import numpy as np

from nrc_fast.base.arrays import FloatArray
from nrc_fast.metrics.classes import cdnv, duality, simplex, variability
from nrc_fast.reports.classes import ClassReport
from nrc_fast.ufm.convex_targets import Merged

__all__ = ["class_report", "merge_thresholds", "merged_classes"]

# Distances below this part of the largest logit are those of classes that share their features.
SAME = 1e-6
CERTIFIED = "of the minimum that was found: its loss is certified by the duality gap, these numbers are not"


def class_report(given: Merged, weights: FloatArray, bias: FloatArray, features: FloatArray) -> ClassReport:
    """NC1 to NC4 of weights (K, d), bias (K,) and one row of features for each class, (K, d)."""
    counts, shares = given.weights, given.problem.shares
    n_classes, d = features.shape
    mean = shares @ features
    centred = features - mean
    nothing = np.zeros(n_classes)
    logits = features @ weights.T
    tolerance = SAME * float(np.abs(logits).max())
    outputs = logits + bias
    # Ties are those of exact arithmetic: rounding does not break them.
    leading = outputs >= outputs.max(axis=1, keepdims=True) - tolerance
    distances = np.linalg.norm(logits[:, np.newaxis, :] - logits[np.newaxis, :, :], axis=2)
    numbers: dict[str, Any] = {
        **variability(np.zeros((d, d)), centred, counts),
        **simplex(centred),
        **duality(weights, bias, centred, mean),
    }
    return ClassReport(
        samples=given.samples,
        d=d,
        n_classes=n_classes,
        **numbers,
        cdnv=cdnv(features, nothing),
        cdnv_unbiased=cdnv(features, nothing),
        nc4=float(shares @ (leading != (distances <= tolerance)).any(axis=1)),
        accuracy=float(shares @ (np.diagonal(leading) / leading.sum(axis=1))),
        notes=(CERTIFIED,),
    )


def merged_classes(logits: FloatArray) -> tuple[tuple[int, ...], ...]:
    """Groups of two or more classes whose logits without the bias, rows of (K, K), are the same.

    Examples
    --------
    >>> merged_classes(np.array([[1.0, -1.0, 0.0], [-1.0, 1.0, 0.0], [-1.0, 1.0, 0.0]]))
    ((1, 2),)
    """
    tolerance = SAME * float(np.abs(logits).max())
    left, groups = list(range(len(logits))), []
    while left:
        first = left[0]
        group = [k for k in left if np.linalg.norm(logits[k] - logits[first]) <= tolerance]
        left = [k for k in left if k not in group]
        if len(group) > 1:
            groups.append(tuple(group))
    return tuple(groups)


def merge_thresholds(counts: FloatArray) -> FloatArray:
    """``n_k/M`` for classes that share their size with another, NaN for others, (K,).

    Examples
    --------
    >>> merge_thresholds(np.array([6.0, 2.0, 2.0])).tolist()
    [nan, 0.2, 0.2]
    """
    shared = np.array([np.count_nonzero(counts == count) > 1 for count in counts])
    return np.where(shared, counts / counts.sum(), np.nan)
