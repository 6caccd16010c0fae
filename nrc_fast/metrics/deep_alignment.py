"""NRC3 of depth m: the shape of W W^T beside that of the last layer at the minimum of the UFM with m linear layers.

Bounds follow those of `nrc_fast.metrics.alignment`: what comes from the error of the covariance is certified, and so is
what the search for the best product of penalties may have missed.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from nrc_fast.base.arrays import BoolArray, FloatArray
from nrc_fast.base.double_double import Pair
from nrc_fast.base.kept_values import cached_property
from nrc_fast.base.linalg import EPSILON
from nrc_fast.metrics.alignment import HeadAlignment, HeadShape
from nrc_fast.metrics.deep_directions import largest_ratio, lost_share, root_of_product, threshold

__all__ = ["DeepAlignment"]

FIRST_CELLS = 32
PARTS = 16  # of a cell that is looked at more closely
MOST_CELLS = 64
LEAST_CELL = 2.0**-45  # of the whole range, so that cells of the next round are exact
LEVEL_ROUNDS = 14


class _Heads(NamedTuple):
    """Heads along the path of all minima that keep every direction, one in each row."""

    entries: FloatArray  # u, eigenvalues of A over the largest
    slopes: FloatArray  # -d ln(eigenvalue)/dr
    differences: FloatArray  # d, these slopes without that of the largest
    curvatures: FloatArray  # dd/dr

    @property
    def lengths(self) -> FloatArray:
        """Norms of A over its largest eigenvalue."""
        lengths: FloatArray = np.sqrt(np.square(self.entries).sum(axis=-1))
        return lengths


class _Best(NamedTuple):
    """The smallest NRC3, where it is, and how far below it a smaller one may have been missed."""

    ratio: float
    value: float
    missed: float


class DeepAlignment(HeadAlignment):
    r"""NRC3 of depth m for every product of penalties c, and the best of them.

    ``NRC3 = || W W^T/|W W^T|_F - A/|A|_F ||_F^2`` with A the Gram of the last of m linear layers at the minimum of the
    UFM. In the eigenbasis of Sigma its eigenvalues are ``lambda_j^(1/(m + 1)) (1 - t_j)^(2/(m + 1))``, with t_j the
    share of direction j that the predictions lose, ``t_j (1 - t_j)^((m - 1)/(m + 1)) = (c/lambda_j^m)^(1/(m + 1))``.

    All directions are kept, so that c is in ``[0, lambda_min^m (m - 1)^(m - 1)/m^(2m)]``. The minimum over it is found
    by dismissing intervals: along the path all ratios of eigenvalues, and the differences of their logarithmic slopes,
    are monotone, so that their values at both ends of an interval enclose the slope of NRC3 inside. What cannot be
    dismissed is cut finer; in the end its width times the slope is what the search may have missed.

    Parameters
    ----------
    gram, covariance : (n, n) float64 arrays
        As for `HeadAlignment`.
    layers : int
        m, at least 2; 1 is `HeadAlignment`.

    Examples
    --------
    >>> alignment = DeepAlignment(np.diag([4.0, 1.0]) ** (1 / 3), np.diag([4.0, 1.0]), layers=2)
    >>> alignment.best_gamma(), bool(alignment.smallest_nrc3() < 1e-30), round(alignment.nrc3(0.05), 4)
    (0.0, True, 0.0144)
    """

    most_gamma_name = "the product of penalties up to which every direction is kept"

    def __init__(self, gram: FloatArray | HeadShape, covariance: FloatArray | Pair, *, layers: int) -> None:
        super().__init__(gram, covariance)
        self.layers = layers
        self._power = 1.0 / (layers + 1.0)
        if not self.is_defined:
            return
        self._smallest = float(self.eigenvalues[-1])
        self._most_ratio = largest_ratio(layers) if self._smallest > 0.0 else 0.0
        self._flat = (self.eigenvalues / self.eigenvalues[0]) ** self._power
        positive = self._smallest > 0.0
        self._relative = (self._smallest / self.eigenvalues) ** (layers * self._power) if positive else 0.0 * self._flat
        # Rounding leaves entries of the diagonal of a Gram a little below 0.
        self._weights = np.maximum(self._diagonal, 0.0)

    # ---- for one c or many ----

    def most_gamma(self, slack: float = 0.0) -> float:
        """The largest c that keeps every direction, of a smallest eigenvalue that is larger by some slack."""
        return float(threshold(np.asarray(float(self.eigenvalues[-1]) + slack), self.layers))

    def nrc3(self, gamma: float) -> float:
        """NRC3 for one product of penalties c; NaN where not all directions are kept at it."""
        return float(self.nrc3_curve(np.array([gamma]))[0])

    def nrc3_curve(self, gammas: FloatArray) -> FloatArray:
        """NRC3 for many products of penalties c; NaN where not all directions are kept at one."""
        if not self.is_defined:
            return np.full(np.shape(gammas), math.nan)
        ratios = self._ratio_of(gammas)
        is_kept = ratios <= self._most_ratio * (1.0 + 8.0 * EPSILON)
        values = self._distances(self._heads(np.where(is_kept, np.minimum(ratios, self._most_ratio), 0.0)))
        return np.where(is_kept, values, math.nan)

    # ---- the best c ----

    def best_gamma(self) -> float:
        """The c that NRC3 is smallest at; 0 for a singular covariance and for a multiple of the identity."""
        if not self.is_defined:
            return math.nan
        return min(self._gamma_of(self._best.ratio, self._smallest), self.most_gamma())

    def smallest_nrc3(self) -> float:
        """NRC3 at the best c, also where that product of penalties is no float64 number."""
        return self._best.value if self.is_defined else math.nan

    def bounds(self, gamma: float, covariance_error: float) -> tuple[float, float]:
        """Bounds of the best c, and of NRC3 there.

        Of exact targets and the exact W W^T the best c is one that has an NRC3 that may be as small: where the smallest
        NRC3 is well above 0 it is flat around its minimum, and c is known to the root of the rounding only.
        """
        if not self.is_defined:
            return math.nan, math.nan
        nrc3_bound = self.smallest_nrc3_bound(covariance_error)
        if not math.isfinite(gamma):
            return math.inf, nrc3_bound
        above, below = self._turns(covariance_error)
        first, last = self._level_set((math.sqrt(self._best.value) + above + below) * (1.0 + 4.0 * EPSILON))
        error = self.sigma_error(covariance_error)
        least = self._gamma_of(first, max(self._smallest - error, 0.0))
        most = self._gamma_of(last if self._smallest > 0.0 else largest_ratio(self.layers), self._smallest + error)
        rounding = 8.0 * (self.layers + 1.0) * EPSILON * gamma
        return float(max(most - gamma, gamma - least) + rounding), nrc3_bound

    def smallest_nrc3_bound(self, covariance_error: float) -> float:
        """Bound of `smallest_nrc3`, from the errors of Sigma and of W W^T, and of the search."""
        if not self.is_defined:
            return math.nan
        value, (above, below) = self._best.value, self._turns(covariance_error)
        upper = 2.0 * math.sqrt(value) * above + above**2
        lower = 2.0 * math.sqrt(value) * below + self._best.missed
        return float(min(max(upper, min(lower, value)), 4.0) + 8.0 * EPSILON * value)

    def _turns(self, covariance_error: float) -> tuple[float, float]:
        """Bounds of the change of the distance of both shapes at the best c, and of that at any other."""
        rounding, ratio = self._rounding(), self._best.ratio
        at_best = self._change(ratio, ratio, covariance_error) + rounding
        return at_best, self._change(0.0, self._most_ratio, covariance_error) + rounding

    def nrc3_bound(self, gamma: float, covariance_error: float) -> float:
        """Bound of NRC3 for a c that is given, from the errors of Sigma and of W W^T; NaN where NRC3 is."""
        value = self.nrc3(gamma)
        if math.isnan(value):
            return math.nan
        ratio = min(float(self._ratio_of(np.asarray(gamma))), self._most_ratio)
        turn = self._change(ratio, ratio, covariance_error) + self._rounding()
        return float(min(2.0 * math.sqrt(value) * turn + turn**2, 4.0) + 8.0 * EPSILON * value)

    # ---- the path of heads ----

    def _ratio_of(self, gammas: FloatArray) -> FloatArray:
        """``r = (c/lambda_min^m)^(1/(m + 1))``; NaN for a negative c."""
        m, smallest = self.layers, np.asarray(self._smallest)
        positive = np.where(gammas > 0.0, gammas, 0.0)
        if self._smallest > 0.0:
            found = root_of_product([positive, smallest], [1, -m], m + 1)
        else:
            found = np.where(positive > 0.0, math.inf, 0.0)
        return np.where(gammas >= 0.0, found, math.nan)

    def _gamma_of(self, ratio: float, smallest: float) -> float:
        m = self.layers
        return float(root_of_product([np.asarray(ratio), np.asarray(smallest)], [m + 1, m])) if ratio > 0.0 else 0.0

    def _heads(self, ratios: FloatArray) -> _Heads:
        m, p = self.layers, self._power
        lost = lost_share(ratios[..., np.newaxis] * self._relative, m)
        left, bent = 1.0 - lost, 1.0 - 2.0 * m * p * lost
        rate = self._relative * left ** (-(m - 1.0) * p) / bent
        entries, slopes = self._flat * left ** (2.0 * p), 2.0 * p * rate
        curvatures = slopes * rate * ((m - 1.0) * p + 2.0 * m * p * left / bent)
        return _Heads(
            entries / entries[..., :1],
            slopes,
            slopes - slopes[..., :1],
            curvatures - curvatures[..., :1],
        )

    def _distances(self, heads: _Heads) -> FloatArray:
        shapes = heads.entries / heads.lengths[..., np.newaxis]
        values: FloatArray = self._outside + np.square(self._diagonal - shapes).sum(axis=-1)
        return values

    # ---- the search ----

    @cached_property
    def _best(self) -> _Best:
        is_flat = self.eigenvalues[0] - self._smallest <= self._equality_tolerance() * self.eigenvalues[0]
        if is_flat or self._most_ratio == 0.0:
            return _Best(0.0, float(self._distances(self._heads(np.zeros(1)))[0]), 0.0)
        # In shares of the largest r, which cuts by powers of two leave exact.
        cell = 1.0 / FIRST_CELLS
        starts: FloatArray = np.linspace(0.0, 1.0, FIRST_CELLS, endpoint=False)
        best, reached = _Best(0.0, math.inf, 0.0), np.zeros(0)
        while True:
            at_ends, least, is_live = self._cells(starts, starts + cell, cell)
            best = min(
                best, self._least_of(np.stack([starts, starts + cell]), at_ends), key=lambda one: (one.value, one.ratio)
            )
            live, reached = starts[is_live], least[is_live]
            if not 0 < len(live) <= MOST_CELLS or cell <= LEAST_CELL:
                break
            cell /= PARTS
            starts = (live[:, np.newaxis] + np.linspace(0.0, PARTS * cell, PARTS, endpoint=False)).ravel()
        missed = max(best.value - max(float(reached.min(initial=math.inf)), 0.0), 0.0)
        return _Best(best.ratio * self._most_ratio, best.value, missed)

    def _cells(self, starts: FloatArray, ends: FloatArray, width: float) -> tuple[FloatArray, FloatArray, BoolArray]:
        """NRC3 at both ends of intervals of r, what it is at least inside, and where it may have a minimum inside.

        Ends and width are shares of the largest r. Where NRC3 has a slope of one sign it is least at an end. Else it
        falls by no more than its steepest slope, or the distance between the heads at both ends, allows.
        """
        low, high = self._heads(starts * self._most_ratio), self._heads(ends * self._most_ratio)
        at_ends = np.stack([self._distances(low), self._distances(high)])
        width *= self._most_ratio
        falls, rises = self._slope_bounds(low, high, width)
        is_live = (falls < 0.0) & (rises > 0.0)
        nearest = at_ends.min(axis=0)
        drop = np.minimum(width * np.maximum(-falls, rises), 2.0 * np.sqrt(nearest) * _steps(low, high))
        return at_ends, np.where(is_live, nearest - drop, nearest), is_live

    def _least_of(self, ratios: FloatArray, values: FloatArray) -> _Best:
        place = int(np.argmin(values))
        return _Best(float(ratios.flat[place]), float(values.flat[place]), 0.0)

    def _slope_bounds(self, low: _Heads, high: _Heads, width: float) -> tuple[FloatArray, FloatArray]:
        """The least and the largest slope of NRC3 by r between two heads of the path that are so far apart.

        It is ``2 N/S^(3/2)``, ``N = sum_j g_j u_j (d_j S - T)``, ``S = sum u^2``, ``T = sum u^2 d``. As u falls and d
        and its derivative d' rise along the path, N is enclosed by their values at both ends, and so is its derivative
        ``sum_j g_j u_j (S (d_j' - d_j^2) - d_j T - sum u^2 d' + 2 sum u^2 d^2)``, which with N at one end encloses N
        better where the two are near.
        """
        weights, squares = self._weights, (high.entries**2, low.entries**2)
        first, last = low.differences, high.differences

        def summed(part: FloatArray) -> FloatArray:
            total: FloatArray = part.sum(axis=-1, keepdims=True)
            return total

        def weighted(lower: FloatArray, upper: FloatArray) -> tuple[FloatArray, FloatArray]:
            small, large = weights * high.entries, weights * low.entries
            return (
                (np.where(lower >= 0.0, small, large) * lower).sum(axis=-1),
                (np.where(upper >= 0.0, large, small) * upper).sum(axis=-1),
            )

        sums = summed(squares[0]), summed(squares[1])
        means = summed(squares[0] * first), summed(squares[1] * last)
        falls, rises = weighted(first * sums[0] - means[1], last * sums[1] - means[0])
        bends = weighted(
            sums[0] * low.curvatures
            - sums[1] * last**2
            - last * means[1]
            + summed(2.0 * squares[0] * first**2 - squares[1] * high.curvatures),
            sums[1] * high.curvatures
            - sums[0] * first**2
            - first * means[0]
            + summed(2.0 * squares[1] * last**2 - squares[0] * low.curvatures),
        )
        at_end = (weights * low.entries * (first * sums[1] - summed(squares[1] * first))).sum(axis=-1)
        falls = np.maximum(falls, at_end + width * np.minimum(bends[0], 0.0))
        rises = np.minimum(rises, at_end + width * np.maximum(bends[1], 0.0))
        sizes = weights * low.entries * (high.slopes * sums[1] + summed(squares[1] * high.slopes))
        slack = 8.0 * (4.0 + len(self.eigenvalues)) * EPSILON * sizes.sum(axis=-1)
        falls, rises = falls - slack, rises + slack
        norms = [2.0 / total[..., 0] ** 1.5 for total in sums]
        return (
            falls * np.where(falls < 0.0, norms[0], norms[1]),
            rises * np.where(rises > 0.0, norms[0], norms[1]),
        )

    def _level_set(self, level: float) -> tuple[float, float]:
        """An interval of r that holds every head whose distance from W W^T, the root of NRC3, is up to a level."""
        found = [0.0, 1.0]
        for k in range(2 if self._most_ratio > 0.0 else 0):
            # From either end: `near`, up to which all is beyond the level, and the next part to look at.
            near, far = found[k], found[1 - k]
            reach = far
            for _ in range(LEVEL_ROUNDS):
                edges: FloatArray = near + (reach - near) * np.linspace(0.0, 1.0, PARTS + 1)
                starts, ends = np.minimum(edges[:-1], edges[1:]), np.maximum(edges[:-1], edges[1:])
                _, least, _ = self._cells(starts, ends, float(np.max(ends - starts)))
                (inside,) = np.nonzero(least <= level**2)
                if len(inside) == 0:
                    near, reach = reach, far
                else:
                    near, reach = float(edges[inside[0]]), float(edges[inside[0] + 1])
            found[k] = near
        return found[0] * self._most_ratio, found[1] * self._most_ratio

    # ---- errors ----

    def _change(self, first: float, last: float, covariance_error: float) -> float:
        """Bound of the change of A/|A| from the error of Sigma, for the same r anywhere between two.

        The eigenvalues of A are functions of those of Sigma whose elasticity at fixed c is ``1/(m + 1)`` over
        ``1 - 2m/(m + 1) t``: the norm of what Sigma's error does is at most this slope at the smallest eigenvalue, and
        another c, in proportion to the smallest eigenvalue, moves the others by what their elasticity is above 1/(m+1).
        Where that is no small part of the smallest eigenvalue, A is compared with ``Sigma^(1/(m + 1))``, from which it
        is off by no more than ``lambda_min^(1/(m + 1))`` in each direction.
        """
        p, n, error = self._power, len(self.eigenvalues), self.sigma_error(covariance_error)
        near, far = (self._heads(np.array([ratio])) for ratio in (first, last))
        size = float(far.lengths[0])
        relative = error / self._smallest if self._smallest > 0.0 else math.inf
        largest = float(self.eigenvalues[0])
        lost = lost_share(last * self._relative, self.layers)
        ends = (self._smallest / largest) ** p + ((self._smallest + error) / largest) ** p
        off = (n ** ((1.0 - p) / 2.0) * (error / largest) ** p + n**0.5 * ends) / (1.0 - float(lost[0])) ** (2.0 * p)
        if relative <= 0.125:
            extra = p / (1.0 - 2.0 * self.layers * p * lost) - p
            own = float(near.entries[0, -1]) * (p + float(extra[-1])) * relative / (1.0 - relative)
            others = float(np.linalg.norm(near.entries[0] * extra)) * -math.log1p(-relative)
            # An eighth less of the smallest eigenvalue does not double an elasticity.
            off = min(off, 2.0 * own + 3.0 * others)
        return min(off / (size - off), 2.0) if size > off else 2.0

    def _rounding(self) -> float:
        """Bound of the roundings of both shapes."""
        return self.gram_error + (12.0 + 0.5 * len(self.eigenvalues)) * EPSILON


def _steps(low: _Heads, high: _Heads) -> FloatArray:
    """Bounds of the distances between the shapes of heads, whose entries are at most 1 and have a 1 among them."""
    steps: FloatArray = np.sqrt(np.square(high.entries - low.entries).sum(axis=-1)) * (1.0 + 4.0 * EPSILON)
    return steps + 4.0 * EPSILON
