"""Components of few rows beside the exact ones: by how much these are turned, to first order, and what that changes.

A basis from a float64 Gram is turned by the rounding of that over the gaps of its eigenvalues, which changes NRC1 in
proportion where another matrix than its own is projected. Rows that are held tell the turn: what is left of
``C V - V L`` in arithmetic of twice the digits, with C the exact covariance, is what turns V. Its first order is taken
off, and the second remains.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from nrc_fast.base.arrays import FloatArray
from nrc_fast.base.blas_threads import few_blas_threads
from nrc_fast.base.double_double import Pair, added, exactly, quotient, subtracted, two_product, two_sum
from nrc_fast.base.exact_products import column_means, exact_bits, product
from nrc_fast.base.linalg import EPSILON, scale_to_unit
from nrc_fast.metrics.conventions import Convention
from nrc_fast.metrics.corrections import FirstOrder, sums_across

__all__ = ["MOST_HELD", "MOST_HELD_FEATURES", "ExactTurns", "exact_turns"]

# Numbers of the rows up to which this takes a millisecond or so.
MOST_HELD = 1 << 15
MOST_HELD_FEATURES = 128
# Gaps between eigenvalues, in errors of these, from which on the turn is known to first order.
CLEAR = 8.0


@dataclass(frozen=True, eq=False)
class ExactTurns:
    """How the exact leading components are turned from those found.

    Attributes
    ----------
    rows : (N, d) float64 array
        All rows.
    mean : (d,) float64 array
    vectors : (d, d) float64 array
        All vectors that were found, as rows.
    mixing : (d, K) float64 array
        Part of each vector in each of the leading ones that was found and is not exact.
    angles : (K,) float64 array
        Bounds of the sines of the angles of the leading 1, ..., K components; infinite without a clear gap.
    unknown : (K,) float64 array
        What of these angles the mixing does not hold.
    """

    rows: FloatArray
    mean: FloatArray
    vectors: FloatArray
    mixing: FloatArray
    angles: FloatArray
    unknown: FloatArray

    def first_order(self, convention: Convention) -> FirstOrder | None:
        """What exact components change in NRC1 with 1, ..., K of them; None where they leave the least anyway."""
        if convention.projects_its_matrix:
            return None
        rows = self.rows - self.mean if convention.centered_rows else self.rows
        energies = np.einsum("ij,ij->i", rows, rows)
        weights = np.ones(len(rows))
        if convention.unit_rows:
            weights = np.divide(1.0, energies, out=np.zeros_like(energies), where=energies > 0.0)
        total = float(energies.sum()) if convention.relative else float(len(rows))
        if not total > 0.0:
            return None
        images = rows @ self.vectors.T
        count = self.mixing.shape[1]
        shared = images.T @ (images[:, :count] * weights[:, np.newaxis]) / total
        parts = 2.0 * self.mixing * shared
        rounding = 4.0 * EPSILON * (sum(self.vectors.shape) + len(rows) ** 0.5) * sums_across(np.abs(parts))
        return FirstOrder(sums_across(parts), self.angles, self.unknown, rounding)


def exact_turns(
    rows: FloatArray, values: FloatArray, vectors: FloatArray, count: int, *, error: float, centered: bool
) -> ExactTurns:
    """The turns of the leading components of some rows.

    Parameters
    ----------
    rows : (N, d) float64 array
        Exactly as they are stored.
    values, vectors : (d,) and (d, d) float64 arrays
        All eigenpairs of the covariance, or of the second moment, as they were found; vectors as rows.
    count : int
        How many lead, below d.
    error : float
        Bound of the norm of what the pairs are off by together.
    centered : bool
        Whether they are of the covariance.

    Examples
    --------
    >>> rows = np.array([[2.0, 0.0], [-2.0, 0.0], [0.0, 1.0], [0.0, -1.0]])
    >>> turned = np.array([[1.0, 1e-9], [-1e-9, 1.0]])
    >>> turns = exact_turns(rows, np.array([2.0, 0.5]), turned, 1, error=1e-8, centered=True)
    >>> turns.mixing.ravel().round(15).tolist(), bool(turns.angles[0] < 1.01e-9)
    ([0.0, 1e-09], True)
    """
    scaled, exponent = scale_to_unit(_shifted(rows) if centered else rows)
    own, error = np.ldexp(values, -2 * exponent), float(np.ldexp(error, -2 * exponent))
    leading = np.ascontiguousarray(vectors[:count].T)
    with few_blas_threads(rows.shape[1]):
        images = product(exactly(scaled), exactly(leading), slices=1)[0]
        if centered:
            mean = column_means(images)[0]
            images = added(images, Pair(*(np.broadcast_to(-part, images.high.shape) for part in mean)))
        image = quotient(product(exactly(np.ascontiguousarray(scaled.T)), images, slices=1)[0], float(len(rows)))
        along = two_product(leading, np.broadcast_to(own[:count], leading.shape))
        left = subtracted(image, along).high
        beside = vectors @ left
    rounding = _rounding(scaled.shape) * float(np.vdot(scaled, scaled)) / len(rows) * count**0.5
    apart = own[:, np.newaxis] - own[:count]
    mixing = np.divide(beside, apart, out=np.zeros_like(beside), where=np.abs(apart) > 0.0)
    gaps = own[:count] - own[1 : count + 1] - 2.0 * error
    is_clear = gaps > CLEAR * error
    gaps = np.where(is_clear, gaps, 1.0)
    turned = np.sqrt(sums_across(beside**2)) * (1.0 + 1e-6) + 2.0 * rounding
    angles = np.where(is_clear, turned / gaps, np.inf)
    unknown = np.where(is_clear, (4.0 * error * turned / gaps + 2.0 * rounding) / gaps, np.inf)
    mean_of_rows = rows.mean(axis=0)
    mean_of_rows += (rows - mean_of_rows).mean(axis=0)
    return ExactTurns(rows=rows, mean=mean_of_rows, vectors=vectors, mixing=mixing, angles=angles, unknown=unknown)


def _shifted(rows: FloatArray) -> FloatArray:
    """Rows less a shift of each column that costs no digit: near a mean that is large beside the spread, or 0."""
    mean = rows.mean(axis=0)
    about = two_sum(rows, np.broadcast_to(-mean, rows.shape))
    return np.where(about.low.any(axis=0), rows, about.high)


def _rounding(shape: tuple[int, int]) -> float:
    """Error of ``X^T X v`` by products of one slice, relative to the sum of squares: what is not leading is rounded."""
    inner = max(shape)
    return float(16.0 * EPSILON * 2.0 ** (1 - exact_bits(inner)) * inner**0.5)
