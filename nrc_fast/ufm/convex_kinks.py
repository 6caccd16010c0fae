"""Minima under absolute errors to the last digits: which errors are exactly 0, and Newton's method for what follows.

At a minimum the gradients of the errors that are not 0 are their signs, and those of the others are unknowns, as W, b
and the features are. Optimality is then a system of smooth equations with as many unknowns. Smoothings come near
enough to say which errors are 0; the last digits are those of the equations.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from nrc_fast.base.arrays import BoolArray, FloatArray
from nrc_fast.ufm.convex_newton import Point, Problem

__all__ = ["balanced_start", "sharpened"]

MOST_UNKNOWNS = 1000
ROUNDS = 12
SOLVED = 1e-15  # what the equations may be off by, relative to their terms
INSIDE = (0.9, 0.99, 0.999, 0.9999)  # gradients up to which errors are taken for 0
KEPT = (0.1, 1e-2, 1e-4)  # singular values of the weights, relative to the largest, from which on directions are kept
NEAR = 1e-9  # what they are off by at most where a root was found
DAMPING = 1e-9  # turns of the features leave the equations singular


def balanced_start(problem: Problem, start: Point) -> FloatArray:
    """Subgradients at a point without predictions, (m, n), of mean 0 as far as errors that are 0 allow it.

    Examples
    --------
    >>> import numpy as np
    >>> from nrc_fast.ufm.convex_losses import Absolute
    >>> from nrc_fast.ufm.convex_solver import start_without_predictions
    >>> problem = Problem(Absolute(), np.array([[0.0], [0.0], [1.0]]), np.full(3, 1 / 3), True)
    >>> balanced_start(problem, start_without_predictions(problem, np.zeros(1))).tolist()
    [[0.5], [0.5], [-1.0]]
    """
    signs: FloatArray = np.sign(start.errors)
    if not problem.has_bias:
        return signs
    is_zero = start.errors == 0.0
    weight = problem.shares @ is_zero
    level = np.clip(-(problem.shares @ signs) / np.where(weight > 0.0, weight, 1.0), -1.0, 1.0)
    return np.where(is_zero, level, signs)


def sharpened(problem: Problem, s: float, point: Point) -> Iterator[Point]:
    """Solutions of the equations of optimality near a point, for some guesses of the rank and of which errors are 0.

    Whether one is a minimum only its certificate says: signs of errors and the sizes of gradients are not looked at.

    Parameters
    ----------
    problem : Problem
        Of absolute errors.
    s : float
        The penalty.
    point : Point
        Near the minimum of a smoothing.
    """
    left, sizes, right = np.linalg.svd(point.weights, full_matrices=False)
    ranks = {int(np.count_nonzero(sizes > share * sizes.max(initial=0.0))) for share in KEPT}
    tried: set[bytes] = set()
    for inside in INSIDE:
        is_zero = np.abs(point.gradients) < inside
        if is_zero.tobytes() in tried:
            continue
        tried.add(is_zero.tobytes())
        for rank in sorted(ranks - {0}):
            m, n = is_zero.shape
            if (m + n) * rank + n + np.count_nonzero(is_zero) > MOST_UNKNOWNS:
                continue
            start = replace(
                point,
                weights=left[:, :rank] * sizes[:rank],
                features=point.features @ right[:rank].T,
                gradients=np.where(is_zero, point.gradients, np.sign(point.errors)),
            )
            after = _solved(problem, s, start, is_zero)
            if after is not None:
                yield after


def _solved(problem: Problem, s: float, point: Point, is_zero: BoolArray) -> Point | None:
    """The point at which the equations hold, of its rank and with these errors 0; None where no root is near."""
    smallest = np.inf
    for _ in range(ROUNDS):
        errors = point.features @ point.weights.T + point.bias - problem.offset
        slopes = _slopes(problem, s, point, errors, is_zero)
        size = float(np.abs(slopes).max())
        if not size < smallest:
            break
        smallest, best = size, replace(point, errors=np.where(is_zero, 0.0, errors))
        if size <= SOLVED * s:
            break
        try:
            step = np.asarray(np.linalg.solve(_matrix(problem, s, point, is_zero), -slopes), dtype=np.float64)
        except np.linalg.LinAlgError:
            break
        point = _stepped(problem, point, step, is_zero)
    clipped = np.clip(best.gradients, -1.0, 1.0)
    return replace(best, gradients=clipped) if smallest <= NEAR * s else None


def _slopes(problem: Problem, s: float, point: Point, errors: FloatArray, is_zero: BoolArray) -> FloatArray:
    """What is 0 at a minimum: slopes by W, by the features and by the bias, and the errors that are to be 0."""
    shares = problem.shares[:, np.newaxis]
    weighted = shares * point.gradients
    by_weights = s * point.weights + weighted.T @ point.features
    by_features = shares * s * point.features + weighted @ point.weights
    by_bias = weighted.sum(axis=0) if problem.has_bias else np.zeros(0)
    return np.concatenate([by_weights.ravel(), by_features.ravel(), by_bias, (shares * errors)[is_zero]])


def _matrix(problem: Problem, s: float, point: Point, is_zero: BoolArray) -> FloatArray:
    """The derivatives of the slopes, symmetric, with a damping that makes them invertible."""
    shares, (m, n), r = problem.shares, is_zero.shape, point.width
    rows, columns = np.nonzero(is_zero)
    features, bias = n * r, (n + m) * r
    kinks = bias + (n if problem.has_bias else 0)
    matrix = np.zeros((kinks + len(rows), kinks + len(rows)))
    weighted, every = shares[:, np.newaxis] * point.gradients, kinks + np.arange(len(rows))
    for k in range(r):
        of_weights, of_features = np.arange(k, features, r), np.arange(features + k, bias, r)
        matrix[np.ix_(of_weights, of_features)] = weighted.T
        matrix[of_weights[columns], every] = shares[rows] * point.features[rows, k]
        matrix[of_features[rows], every] = shares[rows] * point.weights[columns, k]
    if problem.has_bias:
        matrix[bias + columns, every] = shares[rows]
    matrix += matrix.T
    damping = np.full(len(matrix), DAMPING * s)
    damping[:features] += s
    damping[features:bias] += s * np.repeat(shares, r)
    damping[kinks:] *= -1.0
    matrix[np.diag_indices(len(matrix))] += damping
    return matrix


def _stepped(problem: Problem, point: Point, step: FloatArray, is_zero: BoolArray) -> Point:
    (m, n), r = is_zero.shape, point.width
    parts = np.split(step, np.cumsum([n * r, m * r, n if problem.has_bias else 0]))
    gradients = point.gradients.copy()
    gradients[is_zero] += parts[3]
    return replace(
        point,
        weights=point.weights + parts[0].reshape(n, r),
        features=point.features + parts[1].reshape(m, r),
        bias=point.bias + parts[2] if problem.has_bias else point.bias,
        gradients=gradients,
    )
