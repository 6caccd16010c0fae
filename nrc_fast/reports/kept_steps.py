"""What a history holds, in one object: whoever reads while another thread adds sees all of one state."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from operator import attrgetter
from typing import NamedTuple

import numpy as np

from nrc_fast.base.arrays import Array, FloatArray
from nrc_fast.kernels.inputs import as_matrix
from nrc_fast.metrics.alignment import head_shape
from nrc_fast.reports.steps import Record

__all__ = ["KeptSteps", "shape_of_gram"]


class KeptSteps(NamedTuple):
    """Records in the order of their steps, and the Gram of the head at each.

    Attributes
    ----------
    n : int
    target_covariance : (n, n) float64 array
    records : tuple of Record
    head_grams : tuple of (n, n) float64 arrays

    Examples
    --------
    >>> len(KeptSteps(0, np.zeros((0, 0))).records)
    0
    """

    n: int
    target_covariance: FloatArray
    records: tuple[Record, ...] = ()
    head_grams: tuple[FloatArray, ...] = ()

    def with_record(self, record: Record, gram: FloatArray, covariance: Array) -> KeptSteps:
        """The same with one record more; the last covariance that is finite counts."""
        given = np.array(covariance, dtype=np.float64)
        place = bisect_right(self.records, record.step, key=attrgetter("step"))
        return KeptSteps(
            len(gram),
            given if np.isfinite(given).all() or not self.records else self.target_covariance,
            (*self.records[:place], record, *self.records[place:]),
            (*self.head_grams[:place], gram, *self.head_grams[place:]),
        )

    def without(self, first: int, last: int | None) -> KeptSteps:
        """The same without the records of steps from `first` on, up to `last` where it is given."""
        begin = bisect_left(self.records, first, key=attrgetter("step"))
        end = len(self.records) if last is None else bisect_right(self.records, last, key=attrgetter("step"))
        left = self.records[:begin] + self.records[end:]
        if not left:
            return KeptSteps(0, np.zeros((0, 0)))
        return KeptSteps(self.n, self.target_covariance, left, self.head_grams[:begin] + self.head_grams[end:])


def shape_of_gram(W: Array) -> FloatArray:
    """W W^T up to its scale, for weights of any.

    Examples
    --------
    >>> shape_of_gram(np.array([[1e-200, 0.0]])).item() > 0.0
    True
    """
    return head_shape(as_matrix(W, "W")[0])
