"""What the weights of a step tell without its features: a record of NRC3."""

from __future__ import annotations

import math
from typing import Any, SupportsIndex

import numpy as np

from nrc_fast.base.arrays import Array
from nrc_fast.base.options import as_integer
from nrc_fast.kernels.inputs import as_matrix
from nrc_fast.metrics.alignment import HeadAlignment, long_head_shape
from nrc_fast.metrics.head_context import head_context
from nrc_fast.reports.steps import SCALARS, Record

__all__ = ["record_of_weights"]

OF_HEADS = ("nrc3", "gamma", "nrc3_quantile")


def record_of_weights(step: SupportsIndex, W: Array, covariance: Array) -> Record:
    """The record of a step whose weights alone are known: all but NRC3, its gamma and its quantile is NaN.

    The bound of the quantile is that of the draws alone: how far the covariance is off is not known.

    Raises
    ------
    TypeError, ValueError
        The step is no whole number, or W is no finite float matrix.

    Examples
    --------
    >>> record = record_of_weights(5, np.diag([1.5, 0.5]) ** 0.5, np.diag([4.0, 1.0]))
    >>> round(record.gamma, 12), record.d, record.nrc1
    (0.25, 2, nan)
    """
    weights, _ = as_matrix(W, "W")
    alignment = HeadAlignment(long_head_shape(weights), np.array(covariance, dtype=np.float64))
    values, bounds = head_context(alignment, 0.0, features=weights.shape[1])
    found: dict[str, Any] = dict.fromkeys(SCALARS, math.nan) | {name: values[name] for name in OF_HEADS}
    # The error of the covariance is not known, and so neither are the bounds of the others; this one is of the draws.
    known = {"nrc3_quantile": bounds["nrc3_quantile"]}
    return Record(step=as_integer(step, "step"), d=weights.shape[1], bounds=known, **found)
