"""Newton's method for heads and features under a convex loss: one penalty, from any start to a stationary point.

What is minimised is ``sum p l(W h + b) + (s/2) (|W|^2 + sum p |h|^2)`` with shares p of the samples. For given W and b
every sample has its own strictly convex problem, which is solved by itself. What is left is a function of ``P = W W^T``
and b that is convex in both; its Newton steps are found by conjugate gradients within a trusted radius, along steps of
W that change P: turning the features changes nothing.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np

from nrc_fast.base.arrays import FloatArray
from nrc_fast.base.linalg import EPSILON
from nrc_fast.ufm.convex_losses import ConvexLoss

__all__ = ["Point", "Problem", "narrowed", "newton_step", "settled", "steepness"]

ROUNDED = 64.0 * EPSILON  # changes of the value up to this part of it are its rounding
INNER_ROUNDS = 30
HALVINGS = 30
LEAST_PROMISE = 1e-24  # of a step, relative to what is minimised: gradients are then known to 12 digits
MOST_PRODUCTS = 300  # of conjugate gradients in a step
INNER = 1e-3  # what the last step of the features may promise, relative to that of weights and bias
TURNS = 0.1  # relative residual of a step's equations while the gradient is large, ...
LEAST_TURNS = 1e-3  # ... and where it is small
TINY = 1e-300


@dataclass(frozen=True, eq=False)
class Problem:
    """Samples with their shares, and what their outputs should be.

    Attributes
    ----------
    loss : ConvexLoss
    offset : (m, n) float64 array
        What is taken off the outputs before they go into the loss.
    shares : (m,) float64 array
        Positive, 1 together.
    has_bias : bool
    """

    loss: ConvexLoss
    offset: FloatArray
    shares: FloatArray
    has_bias: bool


@dataclass(frozen=True, eq=False)
class Point:
    """Weights, bias, and the best features for them.

    Attributes
    ----------
    weights : (n, r) float64 array
    bias : (n,) float64 array
    features : (m, r) float64 array
    errors : (m, n) float64 array
        ``h W^T + b - offset``, carried along so that small ones keep their digits.
    gradients : (m, n) float64 array
        Of the loss by the errors.
    responses : (m, n, n) or (1, n, n) float64 array
        How the gradients change with the outputs while the features stay the best, for every sample.
    value : float
        What is minimised.
    """

    weights: FloatArray
    bias: FloatArray
    features: FloatArray
    errors: FloatArray
    gradients: FloatArray
    responses: FloatArray
    value: float

    @property
    def width(self) -> int:
        """r, the number of features."""
        return int(self.weights.shape[1])


class Move(NamedTuple):
    """A step of the weights and the bias."""

    weights: FloatArray
    bias: FloatArray

    def dot(self, other: Move) -> float:
        """Inner product."""
        return float(np.vdot(self.weights, other.weights) + self.bias @ other.bias)

    def plus(self, factor: float, other: Move) -> Move:
        """The sum of it and a multiple of another."""
        return Move(self.weights + factor * other.weights, self.bias + factor * other.bias)


def settled(
    problem: Problem, s: float, parts: tuple[FloatArray, FloatArray, FloatArray, FloatArray], tolerance: float
) -> Point:
    """The point of given weights, bias, features and errors once the features are the best for the others.

    Parameters
    ----------
    problem : Problem
    s : float
        The penalty.
    parts : tuple of arrays
        Weights, bias, and features and errors to start from.
    tolerance : float
        What a Newton step may still promise for what is minimised when it is the last one.
    """
    weights, bias, features, errors = parts
    loss, shares = problem.loss, problem.shares

    def costs(features: FloatArray, errors: FloatArray) -> FloatArray:
        return np.asarray(loss.values(errors) + 0.5 * s * np.sum(features**2, axis=1))

    now, responses = costs(features, errors), np.zeros((1, 0, 0))
    gram = weights @ weights.T / s
    for _ in range(INNER_ROUNDS):
        slopes = loss.gradients(errors) @ weights + s * features
        responses = loss.curvature(errors).responses(gram)
        steps = -(slopes - (_each(responses, slopes @ weights.T) / s) @ weights) / s
        promised = np.sum(steps * slopes, axis=1)
        along = steps @ weights.T
        sizes, allowed = np.ones(len(shares)), 8.0 * EPSILON * (np.abs(now) + 1.0)
        for _ in range(HALVINGS):
            moved = features + sizes[:, np.newaxis] * steps, errors + sizes[:, np.newaxis] * along
            after = costs(*moved)
            is_high = after > now + 1e-4 * sizes * promised + allowed
            if not is_high.any():
                break
            sizes = np.where(is_high, 0.5 * sizes, sizes)
        (features, errors), now = moved, after
        if -(shares @ promised) <= max(tolerance, LEAST_PROMISE * float(shares @ now)):
            break
    gradients = loss.gradients(errors)
    value = float(shares @ now) + 0.5 * s * float(np.sum(weights**2))
    return Point(
        weights=weights,
        bias=bias,
        features=features,
        errors=errors,
        gradients=gradients,
        responses=responses,
        value=value,
    )


def newton_step(problem: Problem, s: float, point: Point, radius: float) -> tuple[Point, float]:
    """The next point and radius; the same point where the step was not good.

    Parameters
    ----------
    problem : Problem
    s : float
        The penalty.
    point : Point
    radius : float
        The largest step of weights and bias that is trusted.
    """
    point = _turned(point)
    slope = _slope(problem, s, point)
    model = _Model(problem, s, point)
    move, is_bounded = _conjugate_gradients(model, slope, radius)
    change, features = model.times(move)
    promised = -(slope.dot(move) + 0.5 * move.dot(change))
    found = _moved(problem, s, point, (move, features), INNER * max(promised, 0.0))
    if promised > ROUNDED * abs(point.value):
        gained = (point.value - found.value) / promised
    else:  # values are equal to their last digits, and slopes are not
        before = steepness(problem, s, point)
        gained = 1.0 - steepness(problem, s, found) / before if before > 0.0 else 0.0
    length = move.dot(move) ** 0.5
    if gained < 0.25:
        radius = 0.25 * length
    elif gained > 0.75 and is_bounded:
        radius = 3.0 * radius
    return (found if gained > 0.05 else point), radius


def narrowed(problem: Problem, s: float, point: Point, ratio: float) -> Point:
    """A start for a smoothing that is narrower by a ratio, from the minimum at the wider one.

    Gradients are functions of the errors over the width, so they stay what they are where all errors become smaller by
    the ratio. As far as that goes, in first order: the step is that of Newton's method where they already have.

    Parameters
    ----------
    problem : Problem
        With the narrower smoothing.
    s : float
    point : Point
        At the wider one.
    ratio : float
    """
    point = _turned(point)
    errors = ratio * point.errors
    responses = problem.loss.curvature(errors).responses(point.weights @ point.weights.T / s)
    model = _Model(problem, s, replace(point, errors=errors, responses=responses))
    still = Move(np.zeros_like(point.weights), np.zeros_like(point.bias))
    slope, pulled = model.times(still, point.errors - errors)
    radius = 1.0 + float(np.linalg.norm(point.weights))
    move, _ = _conjugate_gradients(model, slope, radius)
    features = pulled + model.times(move)[1]
    return _moved(problem, s, point, (move, features), 0.0)


def _moved(problem: Problem, s: float, point: Point, step: tuple[Move, FloatArray], tolerance: float) -> Point:
    """The point after a move of weights and bias with that of the features as a start for theirs."""
    move, features = step
    weights, bias = point.weights + move.weights, point.bias + move.bias
    errors = point.errors + point.features @ move.weights.T + move.bias + features @ weights.T
    return settled(problem, s, (weights, bias, point.features + features, errors), tolerance)


def steepness(problem: Problem, s: float, point: Point) -> float:
    """The norm of the slope by weights and bias."""
    slope = _slope(problem, s, point)
    return float(slope.dot(slope) ** 0.5)


def _slope(problem: Problem, s: float, point: Point) -> Move:
    weighted = problem.shares[:, np.newaxis] * point.gradients
    by_bias = weighted.sum(axis=0) if problem.has_bias else np.zeros_like(point.bias)
    return Move(s * point.weights + weighted.T @ point.features, by_bias)


def _turned(point: Point) -> Point:
    """The same point with weights whose columns are orthogonal, the largest first."""
    left, singular_values, right = np.linalg.svd(point.weights, full_matrices=False)
    return replace(
        point,
        weights=left * singular_values,
        features=point.features @ right.T,
    )


class _Model:
    """The second derivatives by weights and bias at a point with orthogonal columns, with the features following."""

    def __init__(self, problem: Problem, s: float, point: Point) -> None:
        self.problem, self.s, self.point = problem, s, point
        self.weighted = problem.shares[:, np.newaxis] * point.gradients
        squares = np.sum(point.weights**2, axis=0)
        self.sums = squares[:, np.newaxis] + squares + TINY

    def without_turns(self, move: Move) -> Move:
        """What of a move is no turn of the features: ``W^T dW`` symmetric."""
        inner = self.point.weights.T @ move.weights
        return Move(move.weights - self.point.weights @ ((inner - inner.T) / self.sums), move.bias)

    def times(self, move: Move, shift: FloatArray | float = 0.0) -> tuple[Move, FloatArray]:
        """The change of the slope along a move and a shift of all errors (m, n), and that of the features."""
        point, shares = self.point, self.problem.shares[:, np.newaxis]
        turned = point.gradients @ move.weights
        along = point.features @ move.weights.T + move.bias + shift - turned @ point.weights.T / self.s
        gradients = _each(point.responses, along)
        features = -(turned + gradients @ point.weights) / self.s
        gradients *= shares
        by_weights = self.s * move.weights + gradients.T @ point.features + self.weighted.T @ features
        by_bias = gradients.sum(axis=0) if self.problem.has_bias else np.zeros_like(move.bias)
        return Move(by_weights, by_bias), features


def _conjugate_gradients(model: _Model, slope: Move, radius: float) -> tuple[Move, bool]:
    """A step that lowers the quadratic model, and whether the radius or negative curvature ended it (Steihaug)."""
    size = slope.dot(slope) ** 0.5
    goal = size * max(min(TURNS, (size / model.s) ** 0.5), LEAST_TURNS)
    found = Move(np.zeros_like(slope.weights), np.zeros_like(slope.bias))
    left = model.without_turns(Move(-slope.weights, -slope.bias))
    direction, square = left, left.dot(left)
    for _ in range(MOST_PRODUCTS):
        if square**0.5 <= goal:
            break
        product = model.without_turns(model.times(direction)[0])
        bend = direction.dot(product)
        factor = square / bend if bend > 0.0 else np.inf
        longest = _to_radius(found, direction, radius)
        if not factor < longest:
            return found.plus(longest, direction), True
        found = found.plus(factor, direction)
        left = left.plus(-factor, product)
        before, square = square, left.dot(left)
        direction = left.plus(square / before, direction)
    return found, False


def _to_radius(start: Move, direction: Move, radius: float) -> float:
    """How far along the direction the sphere of that radius is."""
    mixed, square = start.dot(direction), direction.dot(direction)
    room: float = max(radius**2 - start.dot(start), 0.0)
    root: float = (mixed**2 + square * room) ** 0.5
    return room / (mixed + root) if mixed > 0.0 else (root - mixed) / square


def _each(matrices: FloatArray, rows: FloatArray) -> FloatArray:
    """Each symmetric matrix times its row."""
    if len(matrices) == 1:
        return np.asarray(rows @ matrices[0])
    return np.asarray((matrices @ rows[:, :, np.newaxis])[:, :, 0])
