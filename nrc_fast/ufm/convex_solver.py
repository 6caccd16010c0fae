"""From a start to a point whose duality gap is small: which directions take part, and how a kink is approached."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np

from nrc_fast.base.arrays import FloatArray
from nrc_fast.base.linalg import EPSILON
from nrc_fast.ufm.convex_certificate import Certificate, certificate
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
        return self.certificate.gap / self.certificate.loss if self.certificate.loss > 0.0 else 0.0


def start_without_predictions(problem: Problem, bias: FloatArray) -> Point:
    """The point of a model that knows nothing but a bias."""
    m, n = problem.offset.shape
    parts = np.zeros((n, 0)), bias, np.zeros((m, 0)), bias - problem.offset
    return settled(problem, 1.0, parts, 0.0)


def solve(problem: Problem, s: float, start: Point, tolerance: float) -> Solution:
    """The minimum at the penalty s from a start, to a relative duality gap of `tolerance` or as near as it comes."""
    steps, point = 0, start
    best: Solution | None = None
    for smooth, enough in _smoothings(problem, s):
        kept = settled(smooth, s, (point.weights, point.bias, point.features, point.errors), 0.0)
        ahead = kept if best is None else narrowed(smooth, s, point, NARROWER)
        # What the last digits say of the values says nothing.
        point = ahead if ahead.value <= kept.value * (1.0 + 16.0 * EPSILON) else kept
        radius = FIRST_RADIUS * (1.0 + float(np.linalg.norm(point.weights)))
        for _ in range(MOST_STEPS if smooth is problem else MOST_STEPS_OF_A_WIDTH):
            found = Solution(point, _certified(problem, s, point), steps)
            if best is None or found.certificate.gap <= best.certificate.gap:
                best = found
            if found.relative_gap <= tolerance:
                break
            if found.certificate.gap <= enough.gap and steepness(smooth, s, point) <= enough.slope:
                break
            wider = _with_new_directions(smooth, s, found, tolerance)
            if wider is not None:
                point = wider
                radius = max(radius, FIRST_RADIUS * (1.0 + float(np.linalg.norm(point.weights))))
            elif radius < EPSILON:
                break
            point, radius = newton_step(smooth, s, point, radius)
            steps += 1
        if best is not None and best.relative_gap <= tolerance:
            break
    assert best is not None
    return _without_negligible(problem, s, replace(best, steps=steps), tolerance)


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
    point = solution.point
    left, sizes, right = np.linalg.svd(point.weights, full_matrices=False)
    kept = sizes**2 > _least_share(s, solution, tolerance)
    if kept.all():
        return solution
    weights, features = left[:, kept] * sizes[kept], point.features @ right[kept].T
    smaller = replace(point, weights=weights, features=features)
    found = replace(solution, point=smaller, certificate=_certified(problem, s, smaller))
    return found if found.relative_gap <= max(tolerance, solution.relative_gap) else solution
