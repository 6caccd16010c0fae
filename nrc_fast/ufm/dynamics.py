"""Gradient descent on the unconstrained feature model (UFM), exactly, at a cost independent of the samples.

Full-batch descent keeps the features a linear image of ``Z = [H0, Y, 1]``: ``H_t = Z T_t^T`` with T_t (d, d + n + 1)
and T_0 = [I 0 0]. Every gradient needs only T, W, b and ``K = Z^T Z/M``, so a step costs about ``4 n d^2`` products.
Momentum and learning rates of their own for W, H and b keep this form; Adam does not.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nrc_fast import kernels
from nrc_fast.kernels import DescentState
from nrc_fast.linalg import FloatArray
from nrc_fast.rows import Rows
from nrc_fast.ufm.closed_form import minimum
from nrc_fast.ufm.inputs import as_float64, as_penalty, broadcast_shape
from nrc_fast.ufm.solution import Minimum
from nrc_fast.ufm.stability import stable_factor
from nrc_fast.ufm.start import DrawnStart, GivenStart, as_seeds, draw_start, given_start
from nrc_fast.ufm.targets import TargetMoments, target_moments
from nrc_fast.ufm.trajectory import States, epsilon_of, measure_states, relative_gradient

__all__ = ["Problems", "divergence_message", "make_problems", "run"]

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
    state: DescentState
    covariance_index: NDArray[np.int64]  # (P,) of the batch of covariances
    lambda_W: FloatArray
    lambda_H: FloatArray
    lambda_b: FloatArray
    predicted: Minimum | None
    has_minimum: NDArray[np.bool_]  # (P,)
    steps: NDArray[np.int64] = field(init=False)  # taken so far, (P,)
    converged: NDArray[np.bool_] = field(init=False)
    diverged: NDArray[np.bool_] = field(init=False)

    def __post_init__(self) -> None:
        count = len(self.state.biases)
        self.steps = np.zeros(count, dtype=np.int64)
        self.converged = np.zeros(count, dtype=bool)
        self.diverged = np.zeros(count, dtype=bool)
        self._plain = np.stack([start.plain for start in self.starts])
        self._centered = np.stack([start.centered for start in self.starts])
        second = self.moments.covariance.reshape(-1, self.n, self.n)
        if not self.has_bias:
            means = self.moments.mean.reshape(-1, self.n)
            second = second + means[:, :, np.newaxis] * means[:, np.newaxis, :]
        self._covariances = second
        if self.predicted is None:
            self._predicted = np.full((count, self.n, self.n), np.nan)
        else:
            heads = np.broadcast_to(self.predicted.weights(), (*self.batch, self.n, self.n))
            self._predicted = np.where(self.has_minimum[:, None, None], heads.reshape(-1, self.n, self.n), np.nan)

    def states(self, chosen: Any) -> States:
        """The states of some problems, in float64."""
        index = self.state.moment_index[chosen]
        return States(
            self.state.transforms[chosen, :, : self.d + self.n + 1].astype(np.float64),
            np.swapaxes(self.state.weights[chosen], -1, -2).astype(np.float64),
            self.state.biases[chosen].astype(np.float64),
            self._plain[index],
            self._centered[index],
            np.stack([self.lambda_W[chosen], self.lambda_H[chosen], self.lambda_b[chosen]], axis=-1),
            self._covariances[self.covariance_index[chosen]],
            self._predicted[chosen],
            epsilon_of(self.dtype),
            self.has_bias,
        )

    def in_groups(self, chosen: Any) -> list[Any]:
        """Indices of problems in groups whose states fit into a moderate piece of memory."""
        size = max(1, GROUP_ELEMENTS // (self.d + self.n + 1) ** 2)
        return [chosen[first : first + size] for first in range(0, len(chosen), size)]


# ---- the start ----


def make_problems(
    Y: Any,
    d: int | None,
    penalties: tuple[Any, Any, Any],
    rates: tuple[Any, Any, Any, Any],
    momentum: Any,
    starts: tuple[Any, Any, Any],
    seed: Any,
    scales: tuple[float, float | None],
    given: tuple[Any, Any, int | None],
    dtype: str,
) -> Problems:
    """Check what the user gave and set up every problem of the batch."""
    weights, features, bias = starts
    covariance, mean, samples = given
    if dtype not in ("float64", "float32"):
        msg = f"dtype is {dtype!r}; 'float64' or 'float32' is expected"
        raise ValueError(msg)
    moments = target_moments(Y, covariance, mean)
    targets = _target_rows(Y)
    samples = _sample_count(targets, samples)
    rows = _feature_rows(features, targets)
    width = _width(d, moments.n, weights, rows)
    head = None if weights is None else as_float64(weights, "weights")[0]
    if head is not None and (head.ndim < 2 or head.shape[-2:] != (moments.n, width)):
        msg = f"weights has shape {head.shape}; ({moments.n}, {width}), with leading batch axes, is expected"
        raise ValueError(msg)
    has_bias = bias is not False
    offset = np.zeros(moments.n) if bias is None or isinstance(bias, bool) else as_float64(bias, "bias")[0]
    if offset.shape[-1:] != (moments.n,):
        msg = f"bias has shape {offset.shape}; ({moments.n},), with leading batch axes, is expected"
        raise ValueError(msg)
    named = _named_numbers(penalties, rates, momentum)
    seeds = as_seeds(seed)
    batch = broadcast_shape(
        **named,
        seed=np.asarray(seeds, dtype=np.float64),
        covariance=moments.mean[..., 0],
        weights=np.zeros(() if head is None else head.shape[:-2]),
        bias=offset[..., 0],
    )
    count = math.prod(batch)
    flat = {name: np.array(np.broadcast_to(value, batch), dtype=np.float64).ravel() for name, value in named.items()}
    covariance_index = _index_of(moments.batch, batch)
    flat_seeds = np.broadcast_to(seeds, batch).ravel()
    # Problems share a start where they share the targets and the seed.
    keys = np.stack([covariance_index, flat_seeds if rows is None or head is None else 0 * flat_seeds], axis=-1)
    unique, start_index = np.unique(keys, axis=0, return_inverse=True)
    start_index = start_index.reshape(-1)
    feature_scale, weight_scale = scales
    made, heads = [], []
    shared = None if rows is None or targets is None else given_start(rows, targets, moments)
    for which, own_seed in unique:
        part = TargetMoments(
            moments.covariance.reshape(-1, moments.n, moments.n)[which],
            moments.mean.reshape(-1, moments.n)[which],
            moments.epsilon,
        )
        drawn, noise = draw_start(int(own_seed), part, samples, width, feature_scale)
        made.append(drawn if shared is None else shared)
        heads.append(noise * (width**-0.5 if weight_scale is None else weight_scale))
    if head is None:
        all_weights = np.stack(heads)[start_index]
    else:
        all_weights = np.broadcast_to(head, (*batch, moments.n, width)).reshape(count, moments.n, width)
    all_biases = np.broadcast_to(offset, (*batch, moments.n)).reshape(count, moments.n)
    table = np.stack(
        [
            flat["lr_W"],
            flat["lr_H"] / samples,
            flat["lr_b"] * has_bias,
            *(flat[name] for name in ("lambda_W", "lambda_H", "lambda_b", "momentum")),
        ],
        axis=-1,
    )
    state = _initial_state(made, start_index, all_weights, all_biases, table, dtype)
    predicted, has_minimum = _predicted(moments, named, batch, has_bias)
    return Problems(
        *(batch, moments.n, width, samples, dtype, has_bias, moments, made, state, covariance_index),
        *(flat["lambda_W"], flat["lambda_H"], flat["lambda_b"], predicted, has_minimum),
    )


def _target_rows(Y: Any) -> Rows | None:
    if Y is None or hasattr(Y, "target_covariance"):
        return None
    return kernels.as_rows(Y, "Y", vector_is_column=True)


def _sample_count(targets: Rows | None, samples: int | None) -> int:
    if targets is None:
        if samples is None or samples < 1:
            msg = "samples= is needed where only the covariance of the targets is given: the gradient by H is over M"
            raise ValueError(msg)
        return samples
    if samples is not None and samples != targets.count:
        msg = f"samples is {samples}, and Y has {targets.count} rows; leave it out"
        raise ValueError(msg)
    return targets.count


def _feature_rows(features: Any, targets: Rows | None) -> Rows | None:
    if features is None:
        return None
    if targets is None:
        msg = "features were given without the targets Y that they belong to"
        raise ValueError(msg)
    return kernels.as_rows(features, "features")


def _width(d: int | None, n: int, weights: Any, rows: Rows | None) -> int:
    sizes = {
        "d": d,
        "the columns of weights": None if weights is None else int(np.shape(weights)[-1]),
        "the columns of features": None if rows is None else rows.columns,
    }
    known = {name: size for name, size in sizes.items() if size is not None}
    if not known:
        msg = "d is not known: give d=, the width of the features, or weights= or features= to start from"
        raise ValueError(msg)
    if len(set(known.values())) > 1:
        listed = ", ".join(f"{name}: {size}" for name, size in known.items())
        msg = f"the width of the features differs ({listed})"
        raise ValueError(msg)
    width = next(iter(known.values()))
    if width < n:
        msg = f"d is {width}; at least n = {n} is expected"
        raise ValueError(msg)
    return width


def _named_numbers(
    penalties: tuple[Any, Any, Any], rates: tuple[Any, Any, Any, Any], momentum: Any
) -> dict[str, FloatArray]:
    """Penalties, learning rates and momentum by name, checked."""
    named = {
        name: as_penalty(value, name)
        for name, value in zip(("lambda_W", "lambda_H", "lambda_b"), penalties, strict=True)
    }
    for name, value in zip(("lr_W", "lr_H", "lr_b"), rates[1:], strict=True):
        chosen = rates[0] if value is None else value
        if chosen is None:
            msg = f"{name} is not known: give lr= for all of W, H and b, or each of lr_W=, lr_H= and lr_b="
            raise ValueError(msg)
        named[name] = as_penalty(chosen, name)
    named["momentum"] = as_penalty(momentum, "momentum")
    if np.any(named["momentum"] >= 1.0):
        msg = f"momentum must be below 1, got {named['momentum'].max()}"
        raise ValueError(msg)
    return named


def _index_of(part: tuple[int, ...], batch: tuple[int, ...]) -> Any:
    """Which element of a smaller batch each element of the whole one belongs to, flattened."""
    return np.broadcast_to(np.arange(math.prod(part)).reshape(part), batch).ravel()


def _initial_state(
    starts: Sequence[GivenStart | DrawnStart],
    start_index: Any,
    weights: FloatArray,
    biases: FloatArray,
    table: FloatArray,
    dtype: str,
) -> DescentState:
    """T = [I 0 0], the weights transposed, everything padded."""
    kind = np.dtype(dtype)
    count, n, d = weights.shape
    used = d + n + 1
    stride = kernels.padded_columns(used, kind)
    transforms = np.zeros((count, d, stride), dtype=kind)
    transforms[:, range(d), range(d)] = 1.0
    moments = np.zeros((len(starts), used, stride), dtype=kind)
    for target, start in zip(moments, starts, strict=True):
        target[:, :used] = start.moments
    heads = np.ascontiguousarray(np.swapaxes(weights, -1, -2).astype(kind))
    offsets = np.array(biases, dtype=kind, order="C")
    velocities = None
    if np.any(table[:, -1] > 0.0):
        velocities = (np.zeros_like(transforms), np.zeros_like(heads), np.zeros_like(offsets))
    index = np.ascontiguousarray(start_index, dtype=np.int64)
    return DescentState(transforms, heads, offsets, moments, index, np.ascontiguousarray(table), velocities)


def _predicted(
    moments: TargetMoments, named: dict[str, FloatArray], batch: tuple[int, ...], has_bias: bool
) -> tuple[Minimum | None, Any]:
    """The minimum in closed form, and for which problems of the flattened batch there is one."""
    weight, feature = (np.broadcast_to(named[name], batch) for name in ("lambda_W", "lambda_H"))
    known = (weight > 0.0) == (feature > 0.0)
    try:
        found = minimum(
            covariance=moments.covariance,
            mean=moments.mean,
            lambda_W=np.where(known, weight, 1.0),
            lambda_H=np.where(known, feature, 1.0),
            bias=has_bias,
            lambda_b=named["lambda_b"],
        )
    except ValueError:  # a penalised bias without a closed form
        return None, np.zeros(math.prod(batch), dtype=bool)
    return found, known.ravel()


# ---- the steps ----


def run(
    problems: Problems,
    steps: int,
    record: tuple[str, ...],
    at: Sequence[int],
    tolerance: float,
    report: Callable[[int], None],
) -> dict[str, FloatArray]:
    """Take the steps, and return what was recorded, each (P, number of records)."""
    history = {name: np.full((len(problems.steps), len(at)), np.nan) for name in record}
    marks = sorted({*at, *range(0, steps, CHECK_STEPS), steps})
    column = {step: k for k, step in enumerate(at)}
    for previous, mark in zip([0, *marks], marks, strict=False):
        _advance(problems, mark - previous, report)
        _look(problems, tolerance)
        if mark in column and record:
            _record(problems, history, column[mark])
    return history


def _advance(problems: Problems, steps: int, report: Callable[[int], None]) -> None:
    """Steps of all problems that are still under way, in pieces of a fraction of a second."""
    active = ~(problems.converged | problems.diverged)
    state = problems.state
    one = 8.0 * problems.n * problems.d * state.transforms.shape[-1] * max(int(active.sum()), 1)
    piece = max(1, int(CALL_OPERATIONS * kernels.thread_count() / one))
    for first in range(0, steps, piece):
        count = min(piece, steps - first)
        kernels.descent(state, np.where(active, count, 0).astype(np.int64))
        problems.steps[active] += count
        report(count)


def _look(problems: Problems, tolerance: float) -> None:
    """Set problems aside that have diverged or converged."""
    state = problems.state
    finite = np.isfinite(state.weights).all(axis=(1, 2)) & np.isfinite(state.biases).all(axis=1)
    finite &= np.isfinite(state.transforms.sum(axis=(1, 2)))
    problems.diverged |= ~finite & ~problems.converged
    if tolerance > 0.0:
        active = np.flatnonzero(~(problems.converged | problems.diverged))
        for group in problems.in_groups(active):
            with np.errstate(over="ignore", invalid="ignore"):
                problems.converged[group] = relative_gradient(problems.states(group)) <= tolerance


def _record(problems: Problems, history: dict[str, FloatArray], column: int) -> None:
    for group in problems.in_groups(np.flatnonzero(~problems.diverged)):
        with np.errstate(over="ignore", invalid="ignore"):
            for name, values in measure_states(problems.states(group), tuple(history)).items():
                history[name][group, column] = values


def divergence_message(problems: Problems, which: int, lr: tuple[float, float, float]) -> str:
    """What went wrong with one problem, and what would not have."""
    steps = int(problems.steps[which])
    text = f"descent diverged within {steps} steps at lr_W = {lr[0]:.6g}, lr_H = {lr[1]:.6g}, lr_b = {lr[2]:.6g}"
    rates = problems.state.rates[which]
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
