"""From a start to a point whose duality gap is small: which directions take part, and how a kink is approached."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np

from nrc_fast.base.arrays import FloatArray
from nrc_fast.base.linalg import EPSILON
from nrc_fast.ufm.convex_certificate import Certificate, certificate
from nrc_fast.ufm.convex_kinks import balanced_start, sharpened
from nrc_fast.ufm.convex_losses import Absolute, SmoothedAbsolute
from nrc_fast.ufm.convex_newton import Point, Problem, narrowed, newton_step, settled, steepness

__all__ = ["Solution", "solve", "start_without_predictions"]

MOST_STEPS = 300
MOST_STEPS_OF_A_WIDTH = 40
FIRST_WIDTH = 0.1  # of the smoothed absolute loss, for targets of size 1
LAST_WIDTH = 1e-14
NARROWER = 0.1
SLOPE = 0.1
# What a direction has of the penalty, relative to the loss, is nothing below this part of the tolerance.
NEGLIGIBLE = 1e-3
FIRST_RADIUS = 0.25
ROOT_OF_2 = 2.0**0.5
MOST_DOUBLINGS = 12
ROUGH = 1e-3  # how near features are to the best ones after a change, relative to the gap


@dataclass(frozen=True, eq=False)
class Solution:
    """A point, its certificate, and the Newton steps that it took."""

    point: Point
    certificate: Certificate
    steps: int

    @property
    def relative_gap(self) -> float:
        """The gap over the loss; 0 for a loss of 0."""
        return 0.0 if self.certificate.loss == 0.0 else self.certificate.gap / self.certificate.loss


def start_without_predictions(problem: Problem, bias: FloatArray) -> Point:
    """The point of a model that knows nothing but a bias."""
    m, n = problem.offset.shape
    parts = np.zeros((n, 0)), bias, np.zeros((m, 0)), bias - problem.offset
    return settled(problem, 1.0, parts, 0.0)


def solve(problem: Problem, s: float, start: Point, tolerance: float) -> Solution:
    """The minimum at the penalty s from a start, to a relative duality gap of `tolerance` or as near as it comes."""
    search, point = _Search(problem, s, tolerance, _certified_start(problem, s, start)), start
    for smooth, enough in _smoothings(problem, s):
        if search.is_over:
            break
        point = search.descent(smooth, enough, search.start(smooth, point))
        if smooth is not problem and not search.is_over:
            search.sharpen(point)
    return _without_needless(problem, s, _without_negligible(problem, s, search.best, tolerance))


@dataclass
class _Search:
    """What has been found so far."""

    problem: Problem
    s: float
    tolerance: float
    best: Solution
    steps: int = 0

    @property
    def is_over(self) -> bool:
        return self.best.relative_gap <= self.tolerance

    def look_at(self, point: Point) -> Solution:
        """A point with its certificate; the best so far is that of the smallest gap."""
        found = Solution(point, _certified(self.problem, self.s, point), self.steps)
        if found.certificate.gap <= self.best.certificate.gap:
            self.best = found
        return found

    def start(self, smooth: Problem, point: Point) -> Point:
        """Where to start with a smoothing, from what the one before has led to."""
        kept = settled(smooth, self.s, (point.weights, point.bias, point.features, point.errors), 0.0)
        ahead = kept if self.steps == 0 else narrowed(smooth, self.s, point, NARROWER)
        # What the last digits say of the values says nothing.
        return ahead if ahead.value <= kept.value * (1.0 + 16.0 * EPSILON) else kept

    def descent(self, smooth: Problem, enough: _Enough, point: Point) -> Point:
        """Newton steps down to a gap that is enough, or as far as they lead."""
        radius = FIRST_RADIUS * (1.0 + float(np.linalg.norm(point.weights)))
        for _ in range(MOST_STEPS if smooth is self.problem else MOST_STEPS_OF_A_WIDTH):
            found = self.look_at(point)
            if found.relative_gap <= self.tolerance:
                break
            if found.certificate.gap <= enough.gap and steepness(smooth, self.s, point) <= enough.slope:
                break
            wider = _with_new_directions(smooth, self.s, found, self.tolerance)
            if wider is not None:
                point = wider
                radius = max(radius, FIRST_RADIUS * (1.0 + float(np.linalg.norm(point.weights))))
            elif radius < EPSILON:
                break
            point, radius = newton_step(smooth, self.s, point, radius)
            self.steps += 1
        return point

    def sharpen(self, point: Point) -> None:
        """Look at the solutions of the equations without a smoothing."""
        for sharp in sharpened(self.problem, self.s, point):
            self.look_at(sharp)
            if self.is_over:
                break


def _certified_start(problem: Problem, s: float, start: Point) -> Solution:
    """Of a point without predictions, which is the minimum for a large penalty, with the gradients that show it."""
    if isinstance(problem.loss, Absolute) and start.width == 0:
        start = replace(start, gradients=balanced_start(problem, start))
    return Solution(start, _certified(problem, s, start), 0)


def _certified(problem: Problem, s: float, point: Point) -> Certificate:
    return certificate(problem, s, point.features @ point.weights.T, point.bias, point.gradients)


class _Enough(NamedTuple):
    """The gap and the slope at which a smoothing has served its purpose."""

    gap: float
    slope: float


def _smoothings(problem: Problem, s: float) -> Iterator[tuple[Problem, _Enough]]:
    """The problem, or smoother ones ever nearer to it.

    Weights that are off by e turn errors by up to e^2 beyond what a Newton step sees, and errors are as small as s
    times the width: the slope to go on with is s times the root of that.
    """
    if not isinstance(problem.loss, Absolute):
        yield problem, _Enough(0.0, 0.0)
        return
    width, n = FIRST_WIDTH, problem.offset.shape[1]
    while width > LAST_WIDTH:
        slope = SLOPE * s * (NARROWER * width * min(s, 1.0)) ** 0.5
        yield replace(problem, loss=SmoothedAbsolute(width)), _Enough(2.0 * n * width, slope)
        width *= NARROWER


def _least_share(s: float, solution: Solution, tolerance: float) -> float:
    """The singular value of the predictions up to which a direction is negligible."""
    return NEGLIGIBLE * tolerance * solution.certificate.loss / s


def _with_new_directions(problem: Problem, s: float, solution: Solution, tolerance: float) -> Point | None:
    """The point with features for directions that it lacks, in which the gradient is above the penalty; None without.

    A direction that is there and has become negligible is one that it lacks.
    """
    point = solution.point
    root = np.sqrt(problem.shares)[:, np.newaxis]
    left, sizes, right = np.linalg.svd(point.weights, full_matrices=False)
    least = _least_share(s, solution, tolerance)
    kept = sizes**2 > least
    basis = left[:, kept]
    gradient = root * point.gradients
    rows, values, columns = np.linalg.svd(gradient - (gradient @ basis) @ basis.T, full_matrices=False)
    lacks = values > s * (1.0 + tolerance)
    if not lacks.any():
        return None
    amounts = np.maximum(values[lacks] - s, 10.0 * least)
    old, new = basis * sizes[kept], columns[lacks].T * np.sqrt(amounts)
    old_features, new_features = point.features @ right[kept].T, -rows[:, lacks] * np.sqrt(amounts) / root

    def parts(factor: float) -> tuple[FloatArray, FloatArray, FloatArray, FloatArray]:
        weights = np.hstack([old, factor * new])
        features = np.hstack([old_features, factor * new_features])
        return weights, point.bias, features, features @ weights.T + point.bias - problem.offset

    def cost(factor: float) -> float:
        return float(problem.shares @ problem.loss.values(parts(factor)[3])) + s * factor**2 * float(amounts.sum())

    # The gradients say which directions, and little about how far: no curvature was asked for.
    lowest = min((ROOT_OF_2**k for k in range(MOST_DOUBLINGS)), key=cost)
    return settled(problem, s, parts(lowest), ROUGH * solution.certificate.gap)


def _without_negligible(problem: Problem, s: float, solution: Solution, tolerance: float) -> Solution:
    """The solution with its negligible directions at 0, where that leaves its gap within the tolerance."""
    sizes = np.linalg.svd(solution.point.weights, compute_uv=False)
    rank = int(np.count_nonzero(sizes**2 > _least_share(s, solution, tolerance)))
    found = _cut(problem, s, solution, rank)
    return found if found.relative_gap <= max(tolerance, solution.relative_gap) else solution


def _without_needless(problem: Problem, s: float, solution: Solution) -> Solution:
    """The solution without its last directions, as long as the gap is no larger without them."""
    while solution.point.width:
        found = _cut(problem, s, solution, solution.point.width - 1)
        if not found.certificate.gap <= solution.certificate.gap:
            break
        solution = found
    return solution


def _cut(problem: Problem, s: float, solution: Solution, rank: int) -> Solution:
    """The solution with the leading directions alone."""
    point = solution.point
    if rank == point.width:
        return solution
    left, sizes, right = np.linalg.svd(point.weights, full_matrices=False)
    weights, features = left * sizes, point.features @ right.T
    smaller = replace(
        point,
        weights=weights[:, :rank],
        features=features[:, :rank],
        errors=point.errors - features[:, rank:] @ weights[:, rank:].T,
    )
    return replace(solution, point=smaller, certificate=_certified(problem, s, smaller))
