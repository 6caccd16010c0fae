"""Gradient descent on the unconstrained feature model (UFM), exactly, at a cost independent of the samples.

Full-batch descent keeps the features a linear image of ``Z = [H0, Y, 1]``: ``H_t = Z T_t^T`` with T_t (d, d + n + 1)
and T_0 = [I 0 0]. Every gradient needs only T, W, b and ``K = Z^T Z/M``, so a step costs about ``4 n d^2`` products.
Momentum and learning rates of their own for W, H and b keep this form; Adam does not.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from nrc_fast.base.arrays import BoolArray, FloatArray, IntArray
from nrc_fast.kernels.descent import RunningDescent
from nrc_fast.kernels.interface import Backend
from nrc_fast.ufm.descent.stability import stable_factor
from nrc_fast.ufm.descent.start import DrawnStart, GivenStart
from nrc_fast.ufm.descent.trajectory import (
    States,
    epsilon_of,
    measure_states,
    relative_gradient,
    square_factors,
)
from nrc_fast.ufm.solution import Minimum
from nrc_fast.ufm.targets import TargetMoments

__all__ = ["Problems", "divergence_message", "run"]

CHECK_STEPS = 1000  # between looks at divergence and convergence, where nothing is recorded in between
CALL_OPERATIONS = 2e9  # of one call of the kernel, after which Ctrl-C is heard and progress shown
GROUP_ELEMENTS = 1 << 22  # of the states whose metrics are taken together


@dataclass(eq=False)
class Problems:
    """A batch of descents, flattened to P of them."""

    batch: tuple[int, ...]
    n: int
    d: int
    samples: int
    dtype: str
    has_bias: bool
    moments: TargetMoments
    starts: list[GivenStart | DrawnStart]
    descent: RunningDescent
    covariance_index: IntArray  # (P,) of the batch of covariances
    lambda_W: FloatArray
    lambda_H: FloatArray
    lambda_b: FloatArray
    predicted: Minimum | None
    has_minimum: BoolArray  # (P,)
    steps: IntArray = field(init=False)  # taken so far, (P,)
    converged: BoolArray = field(init=False)
    diverged: BoolArray = field(init=False)
    gradients: FloatArray = field(init=False)  # relative to what cancels in them, at the end

    def __post_init__(self) -> None:
        count = len(self.descent.rates)
        self.steps = np.zeros(count, dtype=np.int64)
        self.converged = np.zeros(count, dtype=bool)
        self.diverged = np.zeros(count, dtype=bool)
        self.gradients = np.full(count, np.nan)
        self._plain = self.backend.place(np.stack([start.plain for start in self.starts]))
        self._centered = self.backend.place(np.stack([start.centered for start in self.starts]))
        second = self.moments.covariance.reshape(-1, self.n, self.n)
        if not self.has_bias:
            means = self.moments.mean.reshape(-1, self.n)
            second = second + means[:, :, np.newaxis] * means[:, np.newaxis, :]
        self._covariances = second
        if self.predicted is None:
            self._predicted = np.full((count, self.n, self.n), np.nan)
        else:
            heads = np.broadcast_to(self.predicted.weights(), (*self.batch, self.n, self.d)).reshape(-1, self.n, self.d)
            square = square_factors(heads)
            self._predicted = np.where(self.has_minimum[:, None, None], square, np.nan)

    @property
    def backend(self) -> Backend:
        """Where the states are."""
        return self.descent.backend

    def states(self, chosen: IntArray) -> States:
        """The states of the problems with these numbers, in float64."""
        index = self.backend.place(self.descent.moment_index[chosen])
        transforms, weights, biases = self.descent.part(chosen)
        return States(
            transforms=transforms,
            weights=weights,
            biases=biases,
            plain=self._plain[index],
            centered=self._centered[index],
            penalties=np.stack([self.lambda_W[chosen], self.lambda_H[chosen], self.lambda_b[chosen]], axis=-1),
            covariances=self._covariances[self.covariance_index[chosen]],
            predicted=self._predicted[chosen],
            epsilon=epsilon_of(self.dtype),
            has_bias=self.has_bias,
            backend=self.backend,
        )

    def in_groups(self, chosen: IntArray) -> list[IntArray]:
        """Numbers of problems in groups whose states fit into a moderate piece of memory."""
        size = max(1, GROUP_ELEMENTS // (self.d + self.n + 1) ** 2)
        return [chosen[first : first + size] for first in range(0, len(chosen), size)]


# ---- the steps ----


def run(
    problems: Problems,
    steps: int,
    *,
    record: tuple[str, ...],
    at: Sequence[int],
    tolerance: float,
    report: Callable[[int], None],
) -> dict[str, FloatArray]:
    """Take the steps, and return what was recorded.

    Parameters
    ----------
    problems : Problems
        Their states change in place.
    steps : int
    record : tuple of str
        Names of the metrics, of `trajectory.METRICS`.
    at : sequence of int
        The steps at which they are recorded, ascending.
    tolerance : float
        Relative gradient at which a problem stops; 0 for never.
    report : callable
        Called with the number of steps that were taken since the last call.

    Returns
    -------
    dict of str to (P, r) float64 arrays
        One column for each of the r steps of `at`.
    """
    history = {name: np.full((len(problems.steps), len(at)), np.nan) for name in record}
    marks = sorted({*at, *range(0, steps, CHECK_STEPS), steps})
    column = {step: k for k, step in enumerate(at)}
    for previous, mark in zip([0, *marks], marks, strict=False):
        _advance(problems, mark - previous, report)
        _look(problems, tolerance)
        if mark in column and record:
            _record(problems, history, column[mark])
    for group in problems.in_groups(np.flatnonzero(~problems.diverged)):
        problems.gradients[group] = _gradients(problems, group)
    return history


def _gradients(problems: Problems, group: IntArray) -> FloatArray:
    with np.errstate(over="ignore", invalid="ignore"):
        return relative_gradient(problems.states(group))


def _advance(problems: Problems, steps: int, report: Callable[[int], None]) -> None:
    """Steps of all problems that are still under way, in pieces of a fraction of a second."""
    active = ~(problems.converged | problems.diverged)
    descent = problems.descent
    width = max(int(active.sum()), 1)
    one = 8.0 * problems.n * problems.d * (problems.d + problems.n + 1) * width
    piece = max(1, int(CALL_OPERATIONS * min(problems.backend.problems_at_once, width) / one))
    for first in range(0, steps, piece):
        count = min(piece, steps - first)
        descent.take_steps(np.where(active, count, 0).astype(np.int64))
        descent.wait()
        problems.steps[active] += count
        report(count)


def _look(problems: Problems, tolerance: float) -> None:
    """Set problems aside that have diverged or converged."""
    finite = problems.descent.are_finite()
    problems.diverged |= ~finite & ~problems.converged
    if tolerance > 0.0:
        active = np.flatnonzero(~(problems.converged | problems.diverged))
        for group in problems.in_groups(active):
            problems.converged[group] = _gradients(problems, group) <= tolerance


def _record(problems: Problems, history: dict[str, FloatArray], column: int) -> None:
    for group in problems.in_groups(np.flatnonzero(~problems.diverged)):
        with np.errstate(over="ignore", invalid="ignore"):
            for name, values in measure_states(problems.states(group), tuple(history)).items():
                history[name][group, column] = values


def divergence_message(problems: Problems, which: int, lr: tuple[float, float, float]) -> str:
    """What went wrong with one problem, and which learning rates are stable at its minimum where that is known.

    Parameters
    ----------
    problems : Problems
    which : int
        Number of the problem.
    lr : (weights, features, bias)
        Its learning rates, as the user gave them.
    """
    steps = int(problems.steps[which])
    text = f"descent diverged within {steps} steps at lr_W = {lr[0]:.6g}, lr_H = {lr[1]:.6g}, lr_b = {lr[2]:.6g}"
    rates = problems.descent.rates[which]
    is_known = problems.predicted is not None and bool(problems.has_minimum[which]) and not rates[5] > 0.0
    if not is_known or problems.predicted is None:
        return text + "; lower the learning rates"
    index = tuple(int(k) for k in np.unravel_index(which, problems.batch)) if problems.batch else ()
    factor = stable_factor(problems.predicted, index, tuple(rates[:3]), float(rates[6]), problems.d)
    limits = ", ".join(f"{name} = {factor * rate:.4g}" for name, rate in zip(("lr_W", "lr_H", "lr_b"), lr, strict=True))
    return (
        f"{text}; the largest learning rates that are stable at the minimum, in this ratio, are {limits} "
        f"({factor:.3g} of these), and far from it they may have to be lower"
    )
