"""Rounding errors of sums that kernels add up in blocks, relative to what is added up.

They are probable where they say so: roundings of either sign are taken to grow like the root of their number, which
all measured errors stay below. What counts every rounding at its worst, or is seen beside numbers of twice the digits,
is certified: so are the bounds of the UFM (`nrc_fast.ufm`) and of loss terms (`nrc_fast.torch_ops`).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from nrc_fast.base.linalg import EPSILON

__all__ = [
    "CHAINED_ROWS",
    "FAST_ROUNDING",
    "SINGLE_EPSILON",
    "TENSOR_CORE_ROUNDING",
    "ProjectionRounding",
    "addition_rounding",
    "block_rounding",
    "decomposition_rounding",
    "projection_rounding",
    "square_sum_rounding",
]

# Rows whose products are added in float64 one after the other, on the CPU.
CHAINED_ROWS = 64
# How many additions stand between a row and the sum over its segment of rows: up to 191 rows in 8 lanes of the CPU, and
# these; the trees over the rows of a tile of a CUDA device have fewer. Segments are added without loss.
ADDITIONS_OF_A_ROW = 32
# Unit roundoff of float32.
SINGLE_EPSILON = 2.0**-24
# Relative error of a sum of products on the tensor cores of a CUDA device. They cut toward zero, so that the errors of
# sums of squares do not cancel. At each addition of 8 products every one of them loses less than half a last unit of
# the sum, and the sum less than a unit; half of that is taken for the mean, and for the mean of a growing sum
# half of what it is after 512 rows, where it is folded. float16 rows of one value come near it on cards of compute
# capability 8. Later cards add 16 products at once and cut less; those of 7.5 add 4 and cut more, but are folded after
# 256 rows. Up to 32 folds are added as float32 numbers before they go to float64.
TENSOR_CORE_ROUNDING = 512 / 8 / 2 * (8 / 2 + 1) / 2 * 2.0**-23 + (32 + 2) / 4 * 2.0**-24
# The same where rows are first rounded to bfloat16, 2^-9 of each factor.
FAST_ROUNDING = 2.0**-8 + TENSOR_CORE_ROUNDING


def block_rounding(kind: str, rows: int) -> float:
    """Relative error of a sum of squares over a block of rows, before it is added to others in float64.

    A quarter of a unit for each addition, which equal addends reach, as those of features with two values are: each
    rounds the same way while the sum doubles. Others round either way, like the root of their number. Tensor cores cut
    toward zero: theirs is that of the cards that lose most, for sums that grow evenly.

    Parameters
    ----------
    kind : {"double", "single", "device", "fast"}
        Products in float64, in float32 on the CPU, and on a CUDA device with that precision.
    rows : int
        How many rows a block of the CPU has.

    Examples
    --------
    >>> block_rounding("single", 254) == 64 * SINGLE_EPSILON
    True
    """
    return {
        "double": addition_rounding(min(rows, CHAINED_ROWS)) + addition_rounding(max(rows / CHAINED_ROWS, 1.0)),
        "single": SINGLE_EPSILON * _of_additions(rows),
        "device": TENSOR_CORE_ROUNDING,
        "fast": FAST_ROUNDING,
    }[kind]


def _of_additions(count: float) -> float:
    """Rounding of a sum of so many numbers of one sign, in units of the sum."""
    return max((count + 2.0) / 4.0, 1.25 * math.sqrt(count))


def addition_rounding(count: float) -> float:
    """Relative error of a float64 sum of so many numbers of one sign that are added one after the other.

    Examples
    --------
    >>> addition_rounding(1598) == 200 * EPSILON
    True
    """
    return EPSILON / 2 * _of_additions(count)


def decomposition_rounding(d: int) -> float:
    """How far LAPACK's eigenvalues of a d x d matrix are off, relative to the largest.

    What it finds is exact for a matrix that is off by some roundings, which probably grow like the root of d.

    Examples
    --------
    >>> decomposition_rounding(4) == 4 * EPSILON
    True
    """
    return EPSILON * (2.0 + math.sqrt(d))


def square_sum_rounding(chunks: int) -> float:
    """Relative error of a sum of squares of rows, of residuals or of errors of a model, over some chunks of rows.

    The worst case: it does not grow with the number of rows of a chunk.

    Examples
    --------
    >>> square_sum_rounding(2) == 17 * EPSILON
    True
    """
    return EPSILON / 2 * (ADDITIONS_OF_A_ROW + chunks)


@dataclass(frozen=True)
class ProjectionRounding:
    """What rounding does to rows that are projected on a few vectors, and to the sums of what is left of them.

    Attributes
    ----------
    outside : float
        Part of the rounding of ``x - V^T V x`` that may lie along it, relative to the norm of x: that of each of the
        subtractions. The worst case.
    along : float
        Rounding of the products V x, relative to the norm of x. What it does to the residual lies in the span of V,
        where the residual is not, so that its square counts alone. Statistical, like the root of the length of a row.
    sums : float
        Rounding of sums over rows, relative to these. The worst case.
    """

    outside: float
    along: float
    sums: float


def projection_rounding(d: int, vectors: int, *, double_precision: bool, chunks: int) -> ProjectionRounding:
    """What rounding does to rows of d numbers, in some chunks, that are projected on that many vectors.

    Examples
    --------
    >>> rounding = projection_rounding(4096, 2, double_precision=True, chunks=1)
    >>> rounding.outside == 1.5 * EPSILON, rounding.along == 66 * EPSILON
    (True, True)
    """
    unit = EPSILON / 2 if double_precision else SINGLE_EPSILON
    # Vectors are rounded to float32 too, which turns their span.
    of_vectors = 0.0 if double_precision else math.sqrt(vectors)
    return ProjectionRounding(
        outside=unit * (1.0 + vectors + of_vectors),
        along=unit * (4.0 + 2.0 * math.sqrt(d)),
        sums=square_sum_rounding(chunks),
    )
