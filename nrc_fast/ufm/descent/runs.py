"""`descend`: what users call for gradient descent on the UFM."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import numpy as np

from nrc_fast.base.arrays import Array, FloatArray
from nrc_fast.base.options import as_integer
from nrc_fast.base.progress import Progress
from nrc_fast.kernels.devices import Device, backend_of
from nrc_fast.kernels.samples import Reader, sample_reader
from nrc_fast.metrics.decay_slopes import decay_slope
from nrc_fast.ufm.descent.dynamics import Problems, divergence_message, run
from nrc_fast.ufm.descent.outcome import Descent
from nrc_fast.ufm.descent.setup import Request, make_problems
from nrc_fast.ufm.descent.start import StartFeatures
from nrc_fast.ufm.descent.trajectory import METRICS
from nrc_fast.ufm.inputs import Batched, as_number, plain, plain_counts, plain_flags
from nrc_fast.ufm.targets import Targets, is_measured

__all__ = ["descend"]


def descend(
    Y: Targets | None = None,
    *,
    steps: int,
    lambda_W: Array,
    lambda_H: Array,
    lr: Array | None = None,
    lr_W: Array | None = None,
    lr_H: Array | None = None,
    lr_b: Array | None = None,
    momentum: Array = 0.0,
    lambda_b: Array = 0.0,
    d: int | None = None,
    weights: Array | None = None,
    features: StartFeatures | None = None,
    bias: Array | bool | None = None,
    seed: Array = 0,
    feature_scale: float = 1.0,
    weight_scale: float | None = None,
    covariance: Array | None = None,
    mean: Array | None = None,
    samples: int | None = None,
    record: str | Sequence[str] = ("loss", "mse"),
    at: int | Sequence[int] | None = None,
    tolerance: float = 0.0,
    dtype: str = "float64",
    device: Device | None = None,
    progress: bool | Callable[[int, int], None] | None = None,
) -> Descent:
    r"""Full-batch gradient descent on the UFM, exactly, at a cost that does not depend on the number of samples.

    Plain descent on every entry of H, W and b of ``(1/2M) |H W^T + b - Y|^2 + (lambda_H/2M) |H|^2 + (lambda_W/2) |W|^2
    + (lambda_b/2) |b|^2``: ``v <- momentum v + gradient; x <- x - lr v``. The gradient by H carries 1/M, so that its
    learning rate is often taken M times as large. All of the numbers may be arrays; they broadcast against one another
    and against seeds and covariances, and every combination is a problem of its own, computed as it would be alone.

    Parameters
    ----------
    Y : (M, n) or (M,) array or tensor
        Targets. In their place `covariance`, `mean` and `samples` (M), or `nrc_fast.FeatureStatistics`, or another
        object with ``target_covariance`` and ``target_mean`` and `samples`.
    steps : int
    lambda_W, lambda_H, lambda_b : float or array
        Penalties, >= 0.
    lr, lr_W, lr_H, lr_b : float or array
        Learning rate of all, and of W, H and b where they differ. The paper's scaling gives H and W one rate where
        ``lr_H = M lr_W``; without ``lr_H`` the result says in its notes how much slower H moves.
    momentum : float or array
        In [0, 1), as in torch's SGD without dampening.
    d : int, optional
        Width of the features, from 1 on; known where `weights` or `features` are given. Fewer than n can hold only as
        many directions of the targets, see `minimum`.
    weights : (..., n, d) array or tensor, optional
        To start from; Gaussian with standard deviation `weight_scale` (1/sqrt(d) if None) otherwise.
    features : (M, d) array or tensor, or an object with ``mean``, ``covariance`` and ``cross_covariance``, optional
        To start from, themselves or by their moments, as `nrc_fast.FeatureStatistics` has them: (d,), (d, d) and
        (d, n), ``(1/M) sum (h - mean)(y - ybar)^T``. Gaussian with standard deviation `feature_scale` otherwise: drawn
        by their moments too, at a cost that does not depend on M.
    bias : (..., n) array, True, False or None
        To start from; zeros if None or True. False leaves the bias out.
    seed : int or array of int
        Of what is drawn.
    record : str or sequence of str
        Of ``"loss"``, ``"mse"``, ``"nrc1"``, ``"nrc2"`` (convention `variance`: of the centred features, as a fraction
        of their variance), ``"nrc3"`` (gamma = c), ``"weight_norm_squared"``, ``"feature_norm_squared"`` (as in
        `Minimum`), ``"balance"`` (``|lambda_H H^T H/M - lambda_W W^T W|_F``) and ``"distance"`` (of W from the
        predicted minimum, up to rotations). Metrics of single rows, as NRC1 of other conventions, need
        `Descent.features`.
    at : int or sequence of int, optional
        At every so many steps, or at these; at the start and the end if not given.
    tolerance : float
        Stop a problem, which then has converged, where the gradients by W, H and b have fallen to this share of the
        terms that cancel in them. Looked at when something is recorded and every 1,000 steps.
    dtype : {"float64", "float32"}
        That the steps are computed in.
    device : str or torch.device, optional
        "cpu", or "cuda" (or "cuda:1", ...) for an NVIDIA card, whose memory the states then stay in: only metrics come
        back. If None, the card that Y, `covariance`, `weights` or `features` lie on as tensors, or else the CPU. The
        moments of what is given are taken on the CPU, from copies of such tensors.
    progress : bool or callable, optional
        None: a bar where the standard error is a terminal and tqdm is installed. A function is called with the steps
        done and those to do.

    Returns
    -------
    Descent

    Raises
    ------
    ValueError
        Shapes do not fit together, or a number is out of range.
    TypeError
        What is given is no real number or array.
    RuntimeError
        A single problem diverged (of a batch, `Descent.errors` tells which), or the device cannot be used.
    ImportError
        progress=True without tqdm.

    References
    ----------
    The loss: arXiv 2409.04180 (NeurIPS 2024), equation 1, and section 4.5 for its use. The linear form is this
    project's.

    Examples
    --------
    Weight decay makes features collapse, and without it they need not.

    >>> Y = np.random.default_rng(0).standard_normal((500, 2))
    >>> run = descend(Y, d=8, steps=3000, lambda_W=[0.05, 0.0], lambda_H=[0.05, 0.0], lr=0.3, lr_H=150.0,
    ...               record=["nrc1", "distance"])
    >>> bool(run.history["nrc1"][0, -1] < 1e-20), bool(run.history["nrc1"][1, -1] > 0.1)
    (True, True)
    >>> bool(run.history["distance"][0, -1] < 1e-9)
    True
    """
    backend = backend_of(device, Y, covariance, weights, features)
    steps = as_integer(steps, "steps")
    if steps < 0:
        msg = f"steps must be at least 0, got {steps}"
        raise ValueError(msg)
    tolerance = as_number(tolerance, "tolerance")
    names = _metric_names(record)
    marks = _record_steps(at, steps)
    request = Request(
        Y=Y,
        covariance=covariance,
        mean=mean,
        samples=samples,
        d=d,
        lambda_W=lambda_W,
        lambda_H=lambda_H,
        lambda_b=lambda_b,
        lr=lr,
        lr_W=lr_W,
        lr_H=lr_H,
        lr_b=lr_b,
        momentum=momentum,
        weights=weights,
        features=features,
        bias=bias,
        seed=seed,
        feature_scale=feature_scale,
        weight_scale=weight_scale,
        dtype=dtype,
        backend=backend,
    )
    if not backend.is_host:
        request = request.on_host()
    problems = make_problems(request)
    with np.errstate(over="ignore", invalid="ignore"):
        if callable(progress):
            report = _counter(progress, steps)
            history = run(problems, steps, record=names, at=marks, tolerance=tolerance, report=report)
        else:
            with Progress("descent", steps, progress, " steps") as bar:
                history = run(problems, steps, record=names, at=marks, tolerance=tolerance, report=bar.advance)
    is_given = request.Y is not None and not is_measured(request.Y)
    targets = sample_reader(request.Y, "Y", vector_is_column=True) if is_given else None
    notes = _notes(problems.samples) if lr is not None and lr_H is None and steps else ()
    return _result(problems, history, marks, targets, tolerance=tolerance, notes=notes)


def _notes(samples: int) -> tuple[str, ...]:
    """What one learning rate for all means for the features."""
    if samples == 1:
        return ()
    note = (
        f"the gradient by H carries 1/M, so that one lr for all moves H {samples:,} times as slowly as W; "
        f"lr_H = {samples:,} lr gives both the rate that they have in the paper's scaling"
    )
    return (note,)


def _metric_names(record: object) -> tuple[str, ...]:
    """The metrics to record.

    Raises
    ------
    TypeError
        They are no names.
    ValueError
        One is none of `METRICS`.
    """
    if not isinstance(record, Iterable):
        msg = f"record is {record!r}; the name of a metric, or a sequence of names, is expected"
        raise TypeError(msg)
    names = (record,) if isinstance(record, str) else tuple(record)
    for name in names:
        if name not in METRICS:
            msg = f"record holds {name!r}; {', '.join(map(repr, METRICS))} are known"
            raise ValueError(msg)
    return names


def _record_steps(at: int | Sequence[int] | None, steps: int) -> list[int]:
    """The steps to record at, ascending.

    Raises
    ------
    TypeError
        They are no whole numbers.
    ValueError
        One is not between 0 and the number of steps, or they are to come every less than one step.
    """
    if at is None:
        marks = {0, steps}
    elif isinstance(at, Iterable):
        marks = {as_integer(step, "a step of at") for step in at}
        if marks and not 0 <= min(marks) <= max(marks) <= steps:
            msg = f"at holds {min(marks)} to {max(marks)}; steps from 0 to {steps} can be recorded"
            raise ValueError(msg)
    else:
        every = as_integer(at, "at")
        if every < 1:
            msg = f"at is {at}; a number of steps from 1 on, or a sequence of steps, is expected"
            raise ValueError(msg)
        marks = {*range(0, steps + 1, every), steps}
    return sorted(marks)


def _counter(progress: Callable[[int, int], None], steps: int) -> Callable[[int], None]:
    """A function of new steps that tells a user's function of the steps done and to do."""
    done = 0

    def advance(count: int) -> None:
        nonlocal done
        done += count
        progress(done, steps)

    return advance


def _result(
    problems: Problems,
    history: dict[str, FloatArray],
    marks: list[int],
    targets: Reader | None,
    *,
    tolerance: float,
    notes: tuple[str, ...],
) -> Descent:
    batch, n, d = problems.batch, problems.n, problems.d
    rates = problems.descent.rates
    messages = np.full(len(problems.steps), "", dtype=object)
    for which in np.flatnonzero(problems.diverged):
        lr = (float(rates[which, 0]), float(rates[which, 1]) * problems.samples, float(rates[which, 2]))
        messages[which] = divergence_message(problems, int(which), lr)
    if not batch and messages[0]:
        raise RuntimeError(messages[0])
    weights, biases = problems.descent.heads()
    weights[problems.diverged] = np.nan
    biases[problems.diverged] = np.nan
    return Descent(
        weights=weights.reshape(*batch, n, d),
        bias=biases.reshape(*batch, n),
        steps=plain_counts(problems.steps.reshape(batch)),
        converged=plain_flags(problems.converged.reshape(batch)),
        diverged=plain_flags(problems.diverged.reshape(batch)),
        gradients=plain(problems.gradients.reshape(batch)),
        errors=messages.reshape(batch) if batch else "",
        recorded_steps=np.array(marks),
        history={name: values.reshape(*batch, len(marks)) for name, values in history.items()},
        predicted=problems.predicted,
        tolerance=tolerance,
        notes=notes,
        predicted_slope=_predicted_slope(problems),
        _problems=problems,
        _targets=targets,
    )


def _predicted_slope(problems: Problems) -> Batched:
    """What the penalty of the features alone makes of log NRC1, per step."""
    rates = problems.descent.rates
    slopes = [
        decay_slope(float(row[1]) * float(penalty), float(row[-1])).value
        for row, penalty in zip(rates, problems.lambda_H, strict=True)
    ]
    return plain(np.array(slopes).reshape(problems.batch))
