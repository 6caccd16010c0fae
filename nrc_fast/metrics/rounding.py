"""Rounding errors of sums that kernels add up in blocks, relative to what is added up.

They are statistical where they say so: roundings of either sign are taken to grow like the root of their number, which
all measured errors stay below. What counts every rounding at its worst, or is seen beside numbers of twice the digits,
is certified: so are the bounds of the UFM (`nrc_fast.ufm`) and of loss terms (`nrc_fast.torch_ops`).
"""

from __future__ import annotations

import math

from nrc_fast.base.linalg import EPSILON

__all__ = [
    "FAST_ROUNDING",
    "SEGMENT_ROWS",
    "SINGLE_EPSILON",
    "TENSOR_CORE_ROUNDING",
    "block_rounding",
    "decomposition_rounding",
    "one_sided_excess",
    "sum_rounding",
]

# Rows whose squares are added up one by one in float64, before such segments are added.
SEGMENT_ROWS = 4096
# Unit roundoff of float32.
SINGLE_EPSILON = 2.0**-24
# Relative error of a sum of products on the tensor cores of a CUDA device. They round toward zero, so that the errors
# of sums of squares do not cancel: 2^-24 for each addition of 8 rows (of 16 on later cards), up to the 512 rows after
# which sums are folded into float64.
TENSOR_CORE_ROUNDING = 512 / 8 * 2.0**-24
# The same where rows are first rounded to bfloat16, 2^-9 of each factor.
FAST_ROUNDING = 2.0**-8 + TENSOR_CORE_ROUNDING


def block_rounding(kind: str, rows: int) -> float:
    """Relative error of a sum of squares over a block of rows, before it is added to others in float64.

    Statistical, sqrt(rows) units, but not where tensor cores truncate. Roundings of either sign give a third of that:
    it holds for bfloat16 rows too, which the CPU may multiply about a point about which their squares add up to twice
    as much.

    Parameters
    ----------
    kind : {"double", "single", "device", "fast"}
        Products in float64, in float32 on the CPU, and on a CUDA device with that precision.
    rows : int
        How many rows a block of the CPU has.

    Examples
    --------
    >>> block_rounding("single", 256) == 16 * SINGLE_EPSILON
    True
    """
    walk = math.sqrt(rows)
    return {
        "double": EPSILON / 2 * walk,
        "single": SINGLE_EPSILON * walk,
        "device": TENSOR_CORE_ROUNDING,
        "fast": FAST_ROUNDING,
    }[kind]


def one_sided_excess(rows: int) -> float:
    """How many times the statistical error of a sum over a block of rows its roundings are where none cancels another.

    Examples
    --------
    >>> one_sided_excess(256)
    16.0
    """
    return math.sqrt(rows)


def decomposition_rounding(d: int) -> float:
    """How far LAPACK's eigenvalues of a d x d matrix are off, relative to the largest.

    What it finds is exact for a matrix that is off by some roundings; statistical, they grow like the root of d.

    Examples
    --------
    >>> decomposition_rounding(4) == 4 * EPSILON
    True
    """
    return EPSILON * (2.0 + math.sqrt(d))


def sum_rounding(count: int) -> float:
    """Relative error of a float64 sum of that many squares: in segments, and over these.

    The worst case within a segment, where rows that are alike round the same way, and statistical over segments.

    Examples
    --------
    >>> sum_rounding(100) == 90 * EPSILON
    True
    """
    return EPSILON * (0.5 * min(count, SEGMENT_ROWS) + 4.0 * math.sqrt(count))
