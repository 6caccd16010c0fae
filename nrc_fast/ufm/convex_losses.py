"""Convex losses of the outputs of a model: values, gradients, curvatures and conjugates, for all samples at once.

A loss is a function of ``r = f - offset``, with the targets as the offset where it is one of the errors and 0 where
it is one of logits. So errors that are far smaller than the targets keep their digits while r is carried along.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field

import numpy as np

from nrc_fast.base.arrays import BoolArray, FloatArray, IntArray
from nrc_fast.base.linalg import EPSILON
from nrc_fast.metrics.training_losses import sigmoid, softmax

__all__ = ["Absolute", "ConvexLoss", "CrossEntropy", "Curvature", "Huber", "Logistic", "SmoothedAbsolute", "Squared"]

BLOCK_ENTRIES = 2**20  # of matrices that are inverted at once
# Rounds in which the mean gradient becomes 0: most are Newton steps, and a few are enough.
ROUNDS = 150
FREE_ROUNDS = 10


@dataclass(frozen=True)
class Curvature:
    """Second derivatives of a loss for every sample: ``diag(q)``, or ``diag(q) - q q^T`` of probabilities.

    Attributes
    ----------
    diagonal : (m, n) float64 array
        q; (1, n) where all samples have the same.
    is_of_probabilities : bool
    """

    diagonal: FloatArray
    is_of_probabilities: bool = False

    def times(self, rows: FloatArray) -> FloatArray:
        """Each row times the matrix of its sample."""
        product: FloatArray = self.diagonal * rows
        if self.is_of_probabilities:
            product -= self.diagonal * product.sum(axis=1, keepdims=True)
        return product

    def responses(self, gram: FloatArray) -> FloatArray:
        """``(Q^-1 + P)^-1`` for the matrices Q and a Gram P (n, n), for every sample: (m, n, n) or (1, n, n).

        Scaled to a diagonal of ones before it is inverted, as q may be 0 or anything up to the inverse of a width. In
        the limit ``diag(q) - q q^T`` keeps the sum of what it gives at 0, and so does this.
        """
        samples, n = self.diagonal.shape
        found = np.empty((samples, n, n))
        rows = max(BLOCK_ENTRIES // n**2, 1)
        for first in range(0, samples, rows):
            block = self.diagonal[first : first + rows]
            found[first : first + rows] = self._responses_of(block, gram)
        return found

    def _responses_of(self, diagonal: FloatArray, gram: FloatArray) -> FloatArray:
        root = np.sqrt(diagonal)
        scales = root / np.sqrt(1.0 + diagonal * np.diagonal(gram))
        both: FloatArray = scales[:, :, np.newaxis] * scales[:, np.newaxis, :]
        inner = both * gram
        every = np.arange(len(gram))
        inner[:, every, every] = 1.0
        found: FloatArray = np.asarray(np.linalg.inv(inner), dtype=np.float64)
        found *= both
        if self.is_of_probabilities:
            sums = found.sum(axis=2)
            sums /= np.sqrt(sums.sum(axis=1, keepdims=True))
            found -= np.multiply(sums[:, :, np.newaxis], sums[:, np.newaxis, :], out=inner)
        return found

    def mean(self, shares: FloatArray) -> FloatArray:
        """The mean of the matrices, (n, n)."""
        diagonal = np.broadcast_to(self.diagonal, (len(shares), self.diagonal.shape[1]))
        matrix = np.diag(shares @ diagonal)
        return matrix - (diagonal.T * shares) @ diagonal if self.is_of_probabilities else matrix


class ConvexLoss(ABC):
    """A convex loss l(r) of rows (m, n), summed over the outputs.

    Attributes
    ----------
    smoothness : float
        The largest curvature: gradients differ by at most so much for each unit of r. Infinite where there is none.
    convexity : float
        The smallest curvature.
    """

    smoothness: float
    convexity: float = 0.0

    @abstractmethod
    def values(self, r: FloatArray) -> FloatArray:
        """l(r), (m,)."""

    @abstractmethod
    def gradients(self, r: FloatArray) -> FloatArray:
        """dl/dr, (m, n)."""

    @abstractmethod
    def curvature(self, r: FloatArray) -> Curvature:
        """The second derivatives."""

    @abstractmethod
    def conjugates(self, u: FloatArray) -> FloatArray:
        """``sup_r u.r - l(r)``, (m,), of u that the loss has as gradients or of these times at most 1."""

    @abstractmethod
    def balanced(self, r: FloatArray, shares: FloatArray, gradients: FloatArray) -> FloatArray:
        """Gradients near those that are given, at r, whose mean is 0 and whose conjugate is finite, (m, n)."""


class _OfErrors(ConvexLoss):
    """A loss of each output by itself, with gradients between two ends.

    The mean of clipped gradients falls with what is taken off all of them before, so each output has its own shift.
    """

    @abstractmethod
    def ends(self) -> tuple[FloatArray | float, FloatArray | float]:
        """The least and the largest gradient."""

    def balanced(self, r: FloatArray, shares: FloatArray, gradients: FloatArray) -> FloatArray:
        """Of the given gradients, shifted and clipped."""
        low, high = self.ends()
        shift = np.zeros(r.shape[1])
        least, most = np.min(gradients - high, axis=0), np.max(gradients - low, axis=0)
        best, smallest, nothing = gradients, np.full(r.shape[1], np.inf), 4.0 * EPSILON * np.abs(gradients).max()
        for k in range(ROUNDS):
            moved = np.clip(gradients - shift, low, high)
            mean = shares @ moved
            is_better = np.abs(mean) < smallest
            if not is_better.any() and (smallest <= nothing).all():
                break
            best, smallest = np.where(is_better, moved, best), np.minimum(np.abs(mean), smallest)
            least, most = np.where(mean > 0.0, shift, least), np.where(mean < 0.0, shift, most)
            inside = shares @ ((moved > low) & (moved < high))
            newton = shift + mean / np.where(inside > 0.0, inside, 1.0)
            # A Newton step where it stays between the ends that are known; after some rounds, every other one halves.
            is_newton = (inside > 0.0) & (newton > least) & (newton < most) & (k < FREE_ROUNDS or k % 2 == 0)
            shift = np.where(is_newton | (mean == 0.0), newton, 0.5 * (least + most))
        return best


class Squared(ConvexLoss):
    """``|r|^2/2``."""

    smoothness = 1.0
    convexity = 1.0

    def values(self, r: FloatArray) -> FloatArray:
        """Half the squares."""
        return np.asarray(0.5 * np.sum(r**2, axis=1))

    def gradients(self, r: FloatArray) -> FloatArray:
        """The errors."""
        return np.array(r)

    def curvature(self, r: FloatArray) -> Curvature:
        """The identity."""
        return Curvature(np.ones((1, r.shape[1])))

    def conjugates(self, u: FloatArray) -> FloatArray:
        """``|u|^2/2``."""
        return self.values(u)

    def balanced(self, r: FloatArray, shares: FloatArray, gradients: FloatArray) -> FloatArray:  # noqa: ARG002 - others need r
        """Less their mean, and less what rounding leaves of it."""
        centred = gradients - shares @ gradients
        return np.asarray(centred - shares @ centred)


@dataclass(frozen=True)
class Huber(_OfErrors):
    """``r^2/2`` up to delta and ``delta |r| - delta^2/2`` beyond."""

    delta: float
    smoothness = 1.0

    def values(self, r: FloatArray) -> FloatArray:
        """As the product with the gradient, which is never negative."""
        u = self.gradients(r)
        return np.asarray(np.sum(u * (r - 0.5 * u), axis=1))

    def gradients(self, r: FloatArray) -> FloatArray:
        """The errors, clipped at delta."""
        return np.clip(r, -self.delta, self.delta)

    def curvature(self, r: FloatArray) -> Curvature:
        """1 up to delta and 0 beyond."""
        return Curvature((np.abs(r) <= self.delta).astype(np.float64))

    def conjugates(self, u: FloatArray) -> FloatArray:
        """``|u|^2/2``."""
        return np.asarray(0.5 * np.sum(u**2, axis=1))

    def ends(self) -> tuple[float, float]:
        """Delta, both ways."""
        return -self.delta, self.delta


class Absolute(_OfErrors):
    """``|r|_1``, which has no curvature: `SmoothedAbsolute` is what is minimised on the way to it."""

    smoothness = np.inf

    def values(self, r: FloatArray) -> FloatArray:
        """The sum over the outputs."""
        return np.asarray(np.sum(np.abs(r), axis=1))

    def gradients(self, r: FloatArray) -> FloatArray:
        """The signs."""
        return np.sign(r)

    def curvature(self, r: FloatArray) -> Curvature:
        """None, but where it is infinite."""
        return Curvature(np.zeros((1, r.shape[1])))

    def conjugates(self, u: FloatArray) -> FloatArray:
        """0 for gradients up to 1."""
        return np.zeros(len(u))

    def ends(self) -> tuple[float, float]:
        """1, both ways."""
        return -1.0, 1.0


@dataclass(frozen=True)
class SmoothedAbsolute(Absolute):
    """The loss whose conjugate is that of ``|r|`` with the barrier ``-width log(1 - u^2)`` for gradients u.

    With ``t = sqrt(r^2 + width^2)`` it is ``t - width - width log((t + width)/(2 width))``.
    """

    width: float

    def values(self, r: FloatArray) -> FloatArray:
        """The sum over the outputs."""
        t = np.hypot(r, self.width)
        above = r**2 / (t + self.width)  # t - width
        return np.asarray(np.sum(above - self.width * np.log1p(0.5 * above / self.width), axis=1))

    def gradients(self, r: FloatArray) -> FloatArray:
        """``r/(t + width)``."""
        return np.asarray(r / (np.hypot(r, self.width) + self.width))

    def curvature(self, r: FloatArray) -> Curvature:
        """``width/(t (t + width))``."""
        t = np.hypot(r, self.width)
        return Curvature(self.width / (t * (t + self.width)))


@dataclass(frozen=True)
class Logistic(_OfErrors):
    """``log(1 + exp(r)) - y r`` of logits r for several outputs with answers y of 0 or 1."""

    answers: BoolArray
    smoothness = 0.25

    def values(self, r: FloatArray) -> FloatArray:
        """The logarithms of ``1 + exp(-r)`` where the answer is 1, and of ``1 + exp(r)`` where it is 0."""
        return np.asarray(np.sum(np.logaddexp(0.0, np.where(self.answers, -r, r)), axis=1))

    def gradients(self, r: FloatArray) -> FloatArray:
        """Probabilities minus answers, each the probability of the other answer with a sign."""
        other = sigmoid(np.where(self.answers, -r, r))
        return np.where(self.answers, -other, other)

    def curvature(self, r: FloatArray) -> Curvature:
        """``p (1 - p)``."""
        return Curvature(sigmoid(r) * sigmoid(-r))

    def conjugates(self, u: FloatArray) -> FloatArray:
        """``p log p + (1 - p) log(1 - p)`` for the probability p of the other answer, ``|u|``."""
        other = np.abs(u)
        return np.asarray(np.sum(_entropies(other) + _entropies_of_rest(other), axis=1))

    def ends(self) -> tuple[FloatArray, FloatArray]:
        """From ``-y`` to ``1 - y``."""
        answers = self.answers.astype(np.float64)
        return -answers, 1.0 - answers


@dataclass(frozen=True)
class CrossEntropy(ConvexLoss):
    """``log sum exp(r) - r_y`` of logits r of samples with the labels y."""

    labels: IntArray
    smoothness = 0.5
    samples: IntArray = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "samples", np.arange(len(self.labels)))

    def values(self, r: FloatArray) -> FloatArray:
        """From the differences to the logit of the label."""
        above = r - r[self.samples, self.labels][:, np.newaxis]
        above[self.samples, self.labels] = -np.inf
        largest = above.max(axis=1, initial=-np.inf)
        finite = np.where(np.isfinite(largest), largest, 0.0)
        rest = np.sum(np.exp(above - finite[:, np.newaxis]), axis=1)
        with np.errstate(divide="ignore"):
            return np.asarray(np.logaddexp(0.0, finite + np.log(rest)))

    def gradients(self, r: FloatArray) -> FloatArray:
        """Probabilities minus the label; that of the label as minus the sum of the others, so it keeps its digits."""
        return self._without_label(softmax(r))

    def curvature(self, r: FloatArray) -> Curvature:
        """``diag(p) - p p^T``."""
        return Curvature(softmax(r), is_of_probabilities=True)

    def conjugates(self, u: FloatArray) -> FloatArray:
        """``sum p log p``, p the probabilities ``u + label``."""
        p = u.copy()
        others = -u[self.samples, self.labels]
        p[self.samples, self.labels] = 0.0
        return np.asarray(np.sum(_entropies(p), axis=1) + _entropies_of_rest(others))

    def balanced(self, r: FloatArray, shares: FloatArray, gradients: FloatArray) -> FloatArray:
        """With Newton steps for what is added to all logits."""
        best, smallest = gradients, float(np.abs(shares @ gradients).max())
        shift = np.zeros(r.shape[1])
        for _ in range(ROUNDS):
            matrix = self.curvature(r + shift).mean(shares)
            # Adding the same to all logits changes nothing, and gradients have no part along that.
            matrix += np.trace(matrix) / len(shift) ** 2
            try:
                shift = shift - np.linalg.solve(matrix, shares @ self.gradients(r + shift))
            except np.linalg.LinAlgError:  # probabilities that are 0 to the last digit
                break
            moved = self.gradients(r + shift)
            size = float(np.abs(shares @ moved).max())
            if not size < smallest:
                break
            best, smallest = moved, size
        return best

    def _without_label(self, p: FloatArray) -> FloatArray:
        p[self.samples, self.labels] = 0.0
        p[self.samples, self.labels] = -p.sum(axis=1)
        return p


def _entropies(p: FloatArray) -> FloatArray:
    """``p log p``, 0 at 0."""
    return np.asarray(p * np.log(np.where(p > 0.0, p, 1.0)))


def _entropies_of_rest(p: FloatArray) -> FloatArray:
    """``q log q`` of ``q = 1 - p``."""
    return np.asarray((1.0 - p) * np.log1p(-np.where(p < 1.0, p, 0.0)))
