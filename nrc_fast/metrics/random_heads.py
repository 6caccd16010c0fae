"""NRC3 of heads that nothing has trained, W of independent Gaussian numbers, each at the gamma that is best for it.

The law of W W^T does not change when W is turned, so that in the eigenbasis of any Sigma it depends on n and d alone:
what is drawn is kept by these, and of each draw its diagonal, which with the trace is all that the best gamma and NRC3
depend on. Draws are seeded; another version of numpy may draw other numbers.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from nrc_fast.base.arrays import FloatArray
from nrc_fast.base.blas_threads import few_blas_threads
from nrc_fast.base.linalg import EPSILON

__all__ = ["DRAWS", "LEAST_FOR_BAND", "RandomHeads", "random_heads", "typical_nrc3"]

DRAWS = 10_000
# Work of all draws of one size together, in multiplications: about a tenth of a second.
MOST_WORK = 5e8
# What a random number costs, in multiplications.
COST_OF_NUMBER = 64
# Draws below which a quantile says nothing, and the work up to which as many are drawn all the same (n up to about
# 770). Beyond it there are none.
LEAST_DRAWS, LARGEST_WORK = 20, 1e10
# Numbers of one set of draws that are kept, and numbers that are drawn at a time.
MOST_KEPT, AT_A_TIME = 2**20, 2**20
# The largest NRC3 of matrices none of which has a negative eigenvalue.
LARGEST = 2.0
# Draws below which the percent points 5 and 95 may be anything on their side, see `RandomHeads.point_bound`.
LEAST_FOR_BAND = 60
# Standard deviations of the interval of a quantile: it holds the quantile of all random heads in 95 of 100 cases.
DEVIATIONS = 2.0


@dataclass(frozen=True, eq=False)
class RandomHeads:
    """NRC3 of random heads, for one covariance of the targets.

    Attributes
    ----------
    nrc3 : (draws,) float64 array
        Ascending; empty where NRC3 is not defined or nothing is drawn.

    Examples
    --------
    >>> heads = random_heads(np.array([4.0, 1.0]), 64)
    >>> len(heads.nrc3), round(heads.point(0.5), 1)
    (10000, 0.1)
    >>> heads.quantile(heads.point(0.5), 0.0)[0]
    0.5
    """

    nrc3: FloatArray

    def point(self, share: float) -> float:
        """The NRC3 that this share of random heads is below; NaN without any."""
        if not self.nrc3.size:
            return math.nan
        place = share * (len(self.nrc3) - 1)  # np.quantile would sort again
        low = math.floor(place)
        below, above = float(self.nrc3[low]), float(self.nrc3[math.ceil(place)])
        return below + (place - low) * (above - below)

    def point_bound(self, share: float) -> float:
        """Bound of the error of `point`: it reaches to the draws at the ends of Wilson's interval of the share.

        Where no draw may be beyond an end, it reaches to the end of the range of NRC3, 0 or 2.
        """
        draws = len(self.nrc3)
        if not draws:
            return math.nan
        value, (low, high) = self.point(share), (_wilson(share, draws, sign) for sign in (-1.0, 1.0))
        lowest = self.point(low) if low > 1.0 / draws else 0.0
        highest = self.point(high) if high < 1.0 - 1.0 / draws else LARGEST
        return max(value - lowest, highest - value)

    def quantile(self, nrc3: float, bound: float) -> tuple[float, float]:
        """The share of random heads whose NRC3 is smaller, and a bound of its error.

        Parameters
        ----------
        nrc3, bound : float
            Of the head that is compared, for its best gamma. The covariance of the targets is that of the random heads
            too, so that the root of NRC3, a distance, may be off by as much for them as for this head.

        Returns
        -------
        float, float
            The bound is statistical, by Wilson's interval of two standard deviations: about ``2 sqrt(q (1-q)/draws)``,
            and ``4/draws`` where no head is below. NaN where one of the two is not known.
        """
        draws = len(self.nrc3)
        if not draws or math.isnan(nrc3):
            return math.nan, math.nan
        length = math.sqrt(nrc3)
        off = math.sqrt(nrc3 + bound) - length if bound > 0.0 else 0.0
        least, most = (max(length - 2.0 * off, 0.0) ** 2, (length + 2.0 * off) ** 2) if off > 0.0 else (nrc3, nrc3)
        lowest = float(np.searchsorted(self.nrc3, least, "left")) / draws
        highest = float(np.searchsorted(self.nrc3, most, "right")) / draws
        ends = (np.searchsorted(self.nrc3, nrc3, side) for side in ("left", "right"))
        value = float(sum(ends)) / (2 * draws)
        return value, max(value - _wilson(lowest, draws, -1.0), _wilson(highest, draws, 1.0) - value)


def random_heads(eigenvalues: FloatArray, d: int, *, draws: int = DRAWS, seed: int = 0) -> RandomHeads:
    """NRC3 of random heads of n rows and d columns, each at its own best gamma.

    Parameters
    ----------
    eigenvalues : (n,) float64 array
        Of the covariance of the targets, descending, none negative.
    d : int
        Number of features; less than n is allowed. 0, where it is not known, gives none.
    draws : int
        How many at the most. As many are drawn as ``n^2 (min(n, d) + 64)`` fits into 5e8 (10,000 up to n = 23, 300 for
        n = 100), and 20 at the least; none where these take more than 1e10 (n above about 770).
    seed : int

    Returns
    -------
    RandomHeads
        The same for the same arguments. What was drawn is kept, for a few sizes.
    """
    n = len(eigenvalues)
    allowed = _allowed_draws(n, d, draws) if n > 1 and d > 0 and eigenvalues[0] > 0.0 else 0
    if not allowed or not np.isfinite(eigenvalues).all():
        return RandomHeads(np.zeros(0))
    return RandomHeads(_sorted_values(tuple(eigenvalues.tolist()), d, allowed, seed))


def typical_nrc3(eigenvalues: FloatArray, d: int) -> tuple[float, float]:
    """The median of NRC3 over random heads, and its bound; where d is 0, not known, what it tends to as d grows.

    That is NRC3 of rows that are orthogonal and of one length. NaN for n = 1, for targets without variance and where
    nothing is drawn.

    Examples
    --------
    >>> round(typical_nrc3(np.array([4.0, 1.0]), 0)[0], 6)
    0.102633
    >>> value, bound = typical_nrc3(np.array([4.0, 1.0]), 10**6)
    >>> abs(value - 0.102633) < 1e-3, bound < 1e-3
    (True, True)
    """
    n = len(eigenvalues)
    if d or n < 2 or not eigenvalues[0] > 0.0:
        heads = random_heads(eigenvalues, d)
        return heads.point(0.5), heads.point_bound(0.5)
    return float(_at_best_gamma(np.full((1, n), n**-0.5), eigenvalues)[0]), 8.0 * n * EPSILON


def _allowed_draws(n: int, d: int, draws: int) -> int:
    work = float(n**2 * (min(n, d) + COST_OF_NUMBER))
    if LEAST_DRAWS * work > LARGEST_WORK:
        return 0
    return min(draws, max(int(MOST_WORK / work), LEAST_DRAWS), MOST_KEPT // n)


@lru_cache(maxsize=16)
def _diagonals(n: int, d: int, draws: int, seed: int) -> FloatArray:
    """The diagonals of W W^T/|W W^T| of random heads, (draws, n).

    W = L Q with orthonormal rows Q: of row i the parts along the rows before it are Gaussian, and what is left has the
    length of a Gaussian vector of d - i numbers (Bartlett). So d enters as a number, and rows beyond d have no rest.
    """
    generator = np.random.default_rng([seed, n, d])
    width = min(n, d)
    rows, columns = np.tril_indices(n, -1, width)
    along = np.arange(width)
    found = np.empty((draws, n))
    count = max(AT_A_TIME // n**2, 1)
    for first in range(0, draws, count):
        part = found[first : first + count]
        lower = np.zeros((len(part), n, width))
        lower[:, rows, columns] = generator.standard_normal((len(part), len(rows)))
        lower[:, along, along] = np.sqrt(generator.chisquare(d - along, (len(part), width)))
        with few_blas_threads(n):  # threads cost more than they gain in many small products
            gram = lower @ lower.transpose(0, 2, 1)
        flat = gram.reshape(len(part), -1)
        part[:] = flat[:, :: n + 1] / np.sqrt(np.einsum("ij,ij->i", flat, flat))[:, np.newaxis]
    found.setflags(write=False)
    return found


@lru_cache(maxsize=32)
def _sorted_values(eigenvalues: tuple[float, ...], d: int, draws: int, seed: int) -> FloatArray:
    values = np.sort(_at_best_gamma(_diagonals(len(eigenvalues), d, draws, seed), np.array(eigenvalues)))
    values.setflags(write=False)
    return values


def _at_best_gamma(diagonals: FloatArray, eigenvalues: FloatArray) -> FloatArray:
    """NRC3 of many heads, as `HeadAlignment` finds it for one, to a few units of float64.

    It is ``2 - 2 cos``, which loses what is below 1e-16: no random head is as near as that.
    """
    n = len(eigenvalues)
    roots = np.sqrt(eigenvalues / eigenvalues[0])
    mean_root = float(roots.mean())
    spread = roots - mean_root
    size = float(spread @ spread)
    shares = diagonals.mean(axis=1)
    overlaps = np.einsum("ij,j->i", diagonals, spread)  # the same bits whatever threads BLAS has
    chosen = np.zeros(len(diagonals))
    if eigenvalues[-1] > 0.0 and eigenvalues[0] - eigenvalues[-1] > 4 * n * EPSILON * eigenvalues[0]:
        distances = shares * size
        is_inside = distances < overlaps * mean_root
        chosen[is_inside] = mean_root - distances[is_inside] / overlaps[is_inside]
        np.minimum(chosen, roots[-1], out=chosen)
    left = mean_root - chosen
    cosines = (overlaps + n * shares * left) / np.sqrt(size + n * left**2)
    values: FloatArray = np.maximum(2.0 - 2.0 * cosines, 0.0)
    return values


def _wilson(share: float, draws: int, sign: float) -> float:
    """An end of Wilson's interval of a share that was found in so many draws."""
    squared = DEVIATIONS**2 / draws
    half = math.sqrt(squared * share * (1.0 - share) + squared**2 / 4.0)
    return min(max((share + squared / 2.0 + sign * half) / (1.0 + squared), 0.0), 1.0)
