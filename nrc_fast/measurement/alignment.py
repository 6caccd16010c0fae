"""The public functions of NRC3: the shape of the head beside the one that theory predicts from the targets."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal, SupportsFloat, overload

import numpy as np

from nrc_fast.base.arrays import Array, FloatArray
from nrc_fast.base.linalg import EPSILON, scale_to_unit
from nrc_fast.kernels.inputs import as_matrix
from nrc_fast.measurement.evidence import gathered
from nrc_fast.measurement.precision import with_bound
from nrc_fast.measurement.suspicions import notes_on_targets, warn_of
from nrc_fast.metrics.alignment import HeadAlignment, head_gram
from nrc_fast.passes.begin import begin_reading
from nrc_fast.sources import TableSource, Targets, as_table

__all__ = ["ComparedHead", "compared_head", "nrc3", "nrc3_curve", "nrc3_gamma"]


@dataclass(frozen=True)
class ComparedHead:
    """A head beside its targets, the bound of the error of their covariance, and the width of W."""

    alignment: HeadAlignment
    covariance_error: float
    features: int

    @property
    def largest(self) -> float:
        """The largest eigenvalue of the covariance, beyond which no gamma is."""
        return float(self.alignment.eigenvalues[0])


@overload
def nrc3(
    W: Array,
    Y: Targets | None = ...,
    *,
    gamma: float | None = ...,
    covariance: Array | None = ...,
    return_bound: Literal[False] = ...,
) -> float: ...


@overload
def nrc3(
    W: Array,
    Y: Targets | None = ...,
    *,
    gamma: float | None = ...,
    covariance: Array | None = ...,
    return_bound: Literal[True],
) -> tuple[float, float]: ...


def nrc3(
    W: Array,
    Y: Targets | None = None,
    *,
    gamma: float | None = None,
    covariance: Array | None = None,
    return_bound: bool = False,
) -> float | tuple[float, float]:
    r"""NRC3: distance of the shape of W W^T from the one that theory predicts.

    ``|| W W^T/|W W^T| - A/|A| ||_F^2`` with ``A = Sigma^(1/2) - gamma^(1/2) I``, Sigma the covariance of the targets
    (1/N, the symmetric root) and gamma in [0, lambda_min(Sigma)] the exact minimiser unless it is given.

    Parameters
    ----------
    W : (n, d) array or tensor
    Y : (N, n) or (N,) array or tensor, or path
        Targets. Give either these or `covariance`.
    gamma : float, optional
    covariance : (n, n) array or tensor, optional
        Covariance of the targets; its numbers are taken as exact.
    return_bound : bool
        Give ``(value, bound)`` with the absolute bound of the error. Without it a value that is below its bound is
        warned of, see `nrc_fast.PrecisionWarning`.

    Returns
    -------
    float
        In [0, 2]; NaN for n = 1, W = 0 or targets without variance.

    Raises
    ------
    TypeError, ValueError
        Arrays that are no finite float matrices or do not fit, or gamma outside [0, lambda_min].

    References
    ----------
    arXiv 2409.04180 (NeurIPS 2024), section 3.1. Its theorem F.1 minimises an un-normalised distance and is not used.

    Examples
    --------
    >>> import numpy as np
    >>> Y = np.array([[2.0, 0.0], [-2.0, 0.0], [0.0, 1.0], [0.0, -1.0]])
    >>> W = np.array([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]])
    >>> round(nrc3(W, Y, gamma=0.0), 6), nrc3_gamma(W, Y)
    (0.102633, 0.0)
    """
    compared = compared_head(W, Y, covariance)
    alignment, error = compared.alignment, compared.covariance_error
    if gamma is None:
        chosen = alignment.best_gamma()
        bound = alignment.bounds(chosen, error, features=compared.features)[1]
    else:
        (chosen,) = _check_gammas([gamma], alignment)
        bound = alignment.nrc3_bound(chosen, error, features=compared.features)
    value = alignment.nrc3(chosen)
    with_bound("NRC3", np.array([value]), np.array([bound]), return_bound=return_bound)
    return (value, bound) if return_bound else value


@overload
def nrc3_gamma(
    W: Array, Y: Targets | None = ..., *, covariance: Array | None = ..., return_bound: Literal[False] = ...
) -> float: ...


@overload
def nrc3_gamma(
    W: Array, Y: Targets | None = ..., *, covariance: Array | None = ..., return_bound: Literal[True]
) -> tuple[float, float]: ...


def nrc3_gamma(
    W: Array, Y: Targets | None = None, *, covariance: Array | None = None, return_bound: bool = False
) -> float | tuple[float, float]:
    """The gamma in [0, lambda_min] that NRC3 is smallest at, in closed form.

    At an exact minimum of the unconstrained feature model it is lambda_W lambda_H.

    Parameters
    ----------
    W : (n, d) array or tensor
        Weights of the last layer.
    Y : (N, n) or (N,) array or tensor, or path
        Targets. Give either these or `covariance`.
    covariance : (n, n) array or tensor, optional
        Covariance of the targets; its numbers are taken as exact.
    return_bound : bool
        Give ``(value, bound)`` with the absolute bound of the error, as in `nrc3`.

    Returns
    -------
    float
        NaN for n = 1, W = 0 or targets without variance; 0 if NRC3 does not depend on gamma.

    Raises
    ------
    TypeError, ValueError
        Arrays are no finite float matrices, or do not fit.

    Examples
    --------
    >>> import numpy as np
    >>> sigma = np.diag([4.0, 1.0])
    >>> W = np.diag([1.5, 0.5]) ** 0.5   # W W^T = Sigma^(1/2) - 0.25^(1/2) I
    >>> round(nrc3_gamma(W, covariance=sigma), 12)
    0.25
    """
    compared = compared_head(W, Y, covariance)
    gamma = compared.alignment.best_gamma()
    bound, _ = compared.alignment.bounds(gamma, compared.covariance_error, features=compared.features)
    with_bound("gamma", np.array([gamma]), np.array([bound]), return_bound=return_bound, largest=compared.largest)
    return (gamma, bound) if return_bound else gamma


def nrc3_curve(W: Array, Y: Targets | None, gammas: Array, *, covariance: Array | None = None) -> FloatArray:
    """NRC3 for many gammas.

    Parameters
    ----------
    W : (n, d) array or tensor
        Weights of the last layer.
    Y : (N, n) or (N,) array or tensor, path, or None
        Targets; None where `covariance` is given.
    covariance : (n, n) array or tensor, optional
        Covariance of the targets.
    gammas : sequence of float
        Each in [0, lambda_min].

    Returns
    -------
    float64 array
        One value for each gamma.

    Raises
    ------
    TypeError, ValueError
        Arrays are no finite float matrices or do not fit, or a gamma lies outside [0, lambda_min].

    Examples
    --------
    >>> import numpy as np
    >>> nrc3_curve(np.eye(2), None, [0.0, 0.25], covariance=np.diag([4.0, 1.0])).round(3).tolist()
    [0.103, 0.211]
    """
    alignment = compared_head(W, Y, covariance).alignment
    if not isinstance(gammas, Iterable):
        msg = f"gammas is {gammas!r}; a sequence of numbers is expected (nrc3 takes a single one)"
        raise TypeError(msg)
    return alignment.nrc3_curve(np.array(_check_gammas(gammas, alignment), dtype=np.float64))


def compared_head(W: Array, Y: Targets | None, covariance: Array | None) -> ComparedHead:
    """A head beside the targets or their covariance, after the checks of both.

    Raises
    ------
    TypeError, ValueError
        Both or none of them is given, arrays are no finite float matrices or do not fit, or the covariance is none.
    """
    weights, _ = as_matrix(W, "W")
    n, features = weights.shape
    if (Y is None) == (covariance is None):
        msg = "give either the targets Y or their covariance"
        raise ValueError(msg)
    head = head_gram(scale_to_unit(weights)[0])
    if covariance is not None:
        return ComparedHead(_aligned_with(covariance, head), 0.0, features)
    assert Y is not None  # as one of them is given
    targets = begin_reading(TableSource(as_table(Y, "Y")))
    if targets.source.d != n:
        msg = f"W has {n} rows and Y has {targets.source.d} columns; both are the target dimension n"
        raise ValueError(msg)
    moments = gathered(targets, precision="highest").moments
    warn_of(notes_on_targets(moments.mean, moments.covariance), stacklevel=4)
    return ComparedHead(HeadAlignment(head, moments.covariance), moments.covariance_error, features)


def _aligned_with(covariance: Array, head: FloatArray) -> HeadAlignment:
    sigma, epsilon = as_matrix(covariance, "covariance")
    n = len(head)
    if sigma.shape != (n, n):
        msg = f"covariance has shape {sigma.shape}; with {n} rows of W it must be ({n}, {n})"
        raise ValueError(msg)
    scale = float(np.abs(sigma).max())
    if float(np.abs(sigma - sigma.T).max()) > 8 * n * epsilon * scale:
        msg = "covariance is not symmetric"
        raise ValueError(msg)
    alignment = HeadAlignment(head, sigma)
    if alignment.lowest < -8 * n * epsilon * scale:
        msg = f"covariance has the negative eigenvalue {alignment.lowest:.3g}; a covariance has none"
        raise ValueError(msg)
    return alignment


def _check_gammas(gammas: Iterable[object], alignment: HeadAlignment) -> list[float]:
    largest = max(alignment.lowest, 0.0)
    # lambda_min itself is known to a few units of the largest eigenvalue.
    slack = 8 * len(alignment.eigenvalues) * EPSILON * float(alignment.eigenvalues[0])
    checked = []
    for gamma in gammas:
        if not isinstance(gamma, SupportsFloat) or isinstance(gamma, (str, bytes)) or getattr(gamma, "ndim", 0) != 0:
            msg = f"gamma is {gamma!r}; a number is expected"
            raise TypeError(msg)
        value = float(gamma)
        if not 0.0 <= value <= largest + slack:
            msg = f"gamma is {value:.6g}; it must lie in [0, lambda_min] = [0, {largest:.6g}]"
            raise ValueError(msg)
        checked.append(min(value, largest))
    return checked
