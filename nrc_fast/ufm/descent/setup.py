"""From what users of `descend` give to a batch of problems: checks, starts, and the arrays of the kernel."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, cast

import numpy as np

from nrc_fast.base.arrays import Array, BoolArray, FloatArray, IntArray
from nrc_fast.base.options import as_integer
from nrc_fast.kernels.descent import RunningDescent, padded_columns
from nrc_fast.kernels.descent_state import DescentState
from nrc_fast.kernels.devices import on_host
from nrc_fast.kernels.interface import Backend
from nrc_fast.kernels.samples import sample_count
from nrc_fast.ufm.closed_form import minimum
from nrc_fast.ufm.descent.dynamics import Problems
from nrc_fast.ufm.descent.start import (
    DrawnStart,
    GivenStart,
    StartFeatures,
    as_seeds,
    draw_start,
    given_start,
    has_moments,
    start_of_moments,
)
from nrc_fast.ufm.inputs import as_float64, as_number, as_penalty, as_width, broadcast_shape
from nrc_fast.ufm.solution import Minimum
from nrc_fast.ufm.targets import TargetMoments, Targets, is_measured, target_moments

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

__all__ = ["Request", "make_problems"]


@dataclass(frozen=True, eq=False)
class Request:
    """What the user gave, under the names of `descend`."""

    Y: Targets | None
    covariance: Array | None
    mean: Array | None
    samples: int | None
    d: int | None
    lambda_W: Array
    lambda_H: Array
    lambda_b: Array
    lr: Array | None
    lr_W: Array | None
    lr_H: Array | None
    lr_b: Array | None
    momentum: Array
    weights: Array | None
    features: StartFeatures | None
    bias: Array | bool | None
    seed: Array
    feature_scale: float
    weight_scale: float | None
    dtype: str
    backend: Backend

    def on_host(self) -> Request:
        """The request with copies on the host in place of tensors on devices."""
        given = [field.name for field in fields(self) if field.name != "backend"]
        return replace(self, **{name: on_host(getattr(self, name)) for name in given})


@dataclass(frozen=True, eq=False)
class _Setting:
    """What all problems have in common, checked."""

    moments: TargetMoments
    samples: int
    width: int
    start: GivenStart | None  # None: features are drawn
    weights: FloatArray | None
    bias: FloatArray
    has_bias: bool


def make_problems(request: Request) -> Problems:
    """Check what the user gave and set up every problem of the batch.

    Raises
    ------
    ValueError
        Shapes do not fit together, a number is out of range, or one is missing.
    TypeError
        What is given is no real number or array.
    RuntimeError
        The device cannot be used.
    """
    if request.dtype not in ("float64", "float32"):
        msg = f"dtype is {request.dtype!r}; 'float64' or 'float32' is expected"
        raise ValueError(msg)
    setting = _setting(request)
    moments, n, width = setting.moments, setting.moments.n, setting.width
    named = _named_numbers(request)
    seeds = as_seeds(request.seed)
    batch = broadcast_shape(
        **named,
        seed=np.asarray(seeds, dtype=np.float64),
        covariance=moments.mean[..., 0],
        weights=np.zeros(() if setting.weights is None else setting.weights.shape[:-2]),
        bias=setting.bias[..., 0],
    )
    if math.prod(batch) == 0:
        msg = f"the batch has shape {batch}: there is nothing to do"
        raise ValueError(msg)
    flat = {name: np.array(np.broadcast_to(value, batch), dtype=np.float64).ravel() for name, value in named.items()}
    covariance_index = np.broadcast_to(np.arange(math.prod(moments.batch)).reshape(moments.batch), batch).ravel()
    starts, start_index, drawn = _starts(setting, request, covariance_index, np.broadcast_to(seeds, batch).ravel())
    count = math.prod(batch)
    weights = drawn
    if setting.weights is not None:
        weights = np.broadcast_to(setting.weights, (*batch, n, width)).reshape(count, n, width)
    biases = np.broadcast_to(setting.bias, (*batch, n)).reshape(count, n)
    rates = flat["lr_W"], flat["lr_H"] / setting.samples, flat["lr_b"] * setting.has_bias
    others = (flat[name] for name in ("lambda_W", "lambda_H", "lambda_b", "momentum"))
    table = np.ascontiguousarray(np.stack([*rates, *others], axis=-1))
    with np.errstate(over="ignore"):
        state = _initial_state(starts, start_index, weights, biases, rates=table, dtype=request.dtype)
    under_way = RunningDescent(state, request.backend)
    predicted, has_minimum = _predicted(setting, named, batch)
    return Problems(
        batch=batch,
        n=n,
        d=width,
        samples=setting.samples,
        dtype=request.dtype,
        has_bias=setting.has_bias,
        moments=moments,
        starts=starts,
        descent=under_way,
        covariance_index=covariance_index,
        lambda_W=flat["lambda_W"],
        lambda_H=flat["lambda_H"],
        lambda_b=flat["lambda_b"],
        predicted=predicted,
        has_minimum=has_minimum,
    )


# ---- what all problems have in common ----


def _setting(request: Request) -> _Setting:
    moments = target_moments(request.Y, request.covariance, request.mean)
    samples = _samples(request)
    start = _given_features(request, moments)
    width = _width(request, moments.n, start)
    weights = None if request.weights is None else as_float64(request.weights, "weights")[0]
    if weights is not None and (weights.ndim < 2 or weights.shape[-2:] != (moments.n, width)):
        msg = f"weights has shape {weights.shape}; ({moments.n}, {width}), with leading batch axes, is expected"
        raise ValueError(msg)
    bias: FloatArray = np.zeros(moments.n)
    if request.bias is not None and not isinstance(request.bias, bool):
        bias = as_float64(request.bias, "bias")[0]
    if bias.shape[-1:] != (moments.n,):
        msg = f"bias has shape {bias.shape}; ({moments.n},), with leading batch axes, is expected"
        raise ValueError(msg)
    return _Setting(
        moments=moments,
        samples=samples,
        width=width,
        start=start,
        weights=weights,
        bias=bias,
        has_bias=request.bias is not False,
    )


def _samples(request: Request) -> int:
    """M, the number of samples.

    Raises
    ------
    ValueError
        It is not known, below 1, or not that of the targets.
    """
    Y, samples = request.Y, request.samples
    if Y is None or is_measured(Y):
        counted = getattr(Y, "count", None)
        if samples is None and isinstance(counted, int):
            samples = counted  # statistics know of how many rows they are
        if samples is None or as_integer(samples, "samples") < 1:
            msg = "samples= is needed where only moments of the targets are given: the gradient by H is over M"
            raise ValueError(msg)
        return samples
    count = sample_count(Y, "Y", vector_is_column=True)
    if samples is not None and samples != count:
        msg = f"samples is {samples}, and Y has {count} rows; leave it out"
        raise ValueError(msg)
    return count


def _given_features(request: Request, moments: TargetMoments) -> GivenStart | None:
    """The start from features that were given; None where they are to be drawn.

    Raises
    ------
    ValueError
        There are no targets that they belong to, or they do not fit these.
    """
    features, Y = request.features, request.Y
    if features is None:
        return None
    if has_moments(features):
        return start_of_moments(features, moments)
    if Y is None or is_measured(Y):
        msg = "features were given without the targets Y that they belong to"
        raise ValueError(msg)
    return given_start(features, Y, moments)


def _width(request: Request, n: int, start: GivenStart | None) -> int:
    """d, the width of the features.

    Raises
    ------
    ValueError
        It is not known, differs between what was given, or is below 1.
    """
    shape = np.shape(cast("ArrayLike", request.weights))  # numpy knows that of a tensor too
    sizes = {
        "d": as_width(request.d),
        "the columns of weights": int(shape[-1]) if shape else None,
        "the columns of features": None if start is None else len(start.moments) - n - 1,
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
    if width < 1:
        msg = f"d is {width}; a number of features from 1 on is expected"
        raise ValueError(msg)
    return width


def _named_numbers(request: Request) -> dict[str, FloatArray]:
    """Penalties, learning rates and momentum by name, checked.

    Raises
    ------
    TypeError, ValueError, RuntimeError
        What `as_penalty` raises, and ValueError for learning rates that are missing, a penalty of a bias that is left
        out, and momentum from 1 on.
    """
    named = {name: as_penalty(getattr(request, name), name) for name in ("lambda_W", "lambda_H", "lambda_b")}
    for name in ("lr_W", "lr_H", "lr_b"):
        chosen = request.lr if getattr(request, name) is None else getattr(request, name)
        if chosen is None:
            msg = f"{name} is not known: give lr= for all of W, H and b, or each of lr_W=, lr_H= and lr_b="
            raise ValueError(msg)
        named[name] = as_penalty(chosen, name)
    if request.bias is False and np.any(named["lambda_b"] > 0.0):
        msg = "lambda_b penalises a bias, and bias=False leaves it out; give one of them"
        raise ValueError(msg)
    named["momentum"] = as_penalty(request.momentum, "momentum")
    if np.any(named["momentum"] >= 1.0):
        msg = f"momentum must be below 1, got {named['momentum'].max()}"
        raise ValueError(msg)
    return named


# ---- the problems ----


def _starts(
    setting: _Setting, request: Request, covariance_index: IntArray, seeds: IntArray
) -> tuple[list[GivenStart | DrawnStart], IntArray, FloatArray]:
    """Starts, which of them each problem has, and weights that were drawn, (P, n, d)."""
    moments, n, width = setting.moments, setting.moments.n, setting.width
    if setting.start is not None and setting.weights is not None:
        seeds = np.zeros_like(seeds)  # nothing is drawn
    # Problems share a start where they share the targets and the seed.
    keys = np.stack([covariance_index, seeds], axis=-1)
    unique, index = np.unique(keys, axis=0, return_inverse=True)
    scale = width**-0.5 if request.weight_scale is None else as_number(request.weight_scale, "weight_scale")
    feature_scale = as_number(request.feature_scale, "feature_scale")
    starts: list[GivenStart | DrawnStart] = []
    weights = []
    for which, seed in unique:
        part = TargetMoments(
            moments.covariance.reshape(-1, n, n)[which], moments.mean.reshape(-1, n)[which], moments.epsilon
        )
        drawn, noise = draw_start(int(seed), part, setting.samples, width, feature_scale)
        starts.append(drawn if setting.start is None else setting.start)
        weights.append(scale * noise)
    index = index.reshape(-1)
    return starts, index, np.stack(weights)[index]


def _initial_state(
    starts: Sequence[GivenStart | DrawnStart],
    start_index: IntArray,
    weights: FloatArray,
    biases: FloatArray,
    *,
    rates: FloatArray,
    dtype: str,
) -> DescentState:
    """States of all problems with T = [I 0 0], the weights transposed, everything padded.

    Raises
    ------
    ValueError
        Moments of the features and targets leave the range of the dtype.
    """
    kind = np.dtype(dtype)
    count, n, d = weights.shape
    used = d + n + 1
    stride = padded_columns(used, kind)
    transforms = np.zeros((count, d, stride), dtype=kind)
    transforms[:, range(d), range(d)] = 1.0
    moments = np.zeros((len(starts), used, stride), dtype=kind)
    for target, start in zip(moments, starts, strict=True):
        target[:, :used] = start.moments
        if not np.isfinite(target).all():
            msg = (
                f"moments of the features and targets up to {np.abs(start.moments).max():.3g} leave the range of {kind}"
            )
            raise ValueError(msg + "; rescale them")
    heads = np.ascontiguousarray(np.swapaxes(weights, -1, -2).astype(kind))
    offsets = np.array(biases, dtype=kind, order="C")
    velocities = None
    if np.any(rates[:, -1] > 0.0):
        velocities = (np.zeros_like(transforms), np.zeros_like(heads), np.zeros_like(offsets))
    return DescentState(
        transforms=transforms,
        weights=heads,
        biases=offsets,
        moments=moments,
        moment_index=np.ascontiguousarray(start_index, dtype=np.int64),
        rates=rates,
        velocities=velocities,
    )


def _predicted(
    setting: _Setting, named: dict[str, FloatArray], batch: tuple[int, ...]
) -> tuple[Minimum | None, BoolArray]:
    """The minimum in closed form, and for which problems of the flattened batch there is one."""
    weight, feature = (np.broadcast_to(named[name], batch) for name in ("lambda_W", "lambda_H"))
    known = (weight > 0.0) == (feature > 0.0)
    try:
        found = minimum(
            covariance=setting.moments.covariance,
            mean=setting.moments.mean,
            lambda_W=np.where(known, weight, 1.0),
            lambda_H=np.where(known, feature, 1.0),
            bias=setting.has_bias,
            lambda_b=named["lambda_b"],
            d=setting.width,
        )
    except ValueError:  # a penalised bias without a closed form
        return None, np.zeros(math.prod(batch), dtype=bool)
    return found, known.ravel()
