"""The public functions of NRC3: the shape of the head beside the one that theory predicts from the targets."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal, SupportsFloat, overload

import numpy as np

from nrc_fast.base.arrays import Array, FloatArray
from nrc_fast.base.linalg import EPSILON
from nrc_fast.measurement.head_and_targets import head_and_targets
from nrc_fast.measurement.precision import with_bound
from nrc_fast.metrics.alignment import HeadAlignment, long_head_shape
from nrc_fast.metrics.deep_alignment import DeepAlignment
from nrc_fast.metrics.deep_directions import threshold
from nrc_fast.sources import Targets
from nrc_fast.ufm.inputs import as_layers

__all__ = ["nrc3", "nrc3_curve", "nrc3_gamma"]


@dataclass(frozen=True)
class _Compared:
    """A head beside its targets, and the bound of the error of their covariance."""

    alignment: HeadAlignment
    covariance_error: float
    depth: int

    @property
    def largest(self) -> float:
        """The largest gamma that there could be for these eigenvalues, were all like the largest one."""
        return float(threshold(self.alignment.eigenvalues[0], self.depth))


@overload
def nrc3(
    W: Array,
    Y: Targets | None = ...,
    *,
    gamma: float | None = ...,
    covariance: Array | None = ...,
    depth: int = ...,
    return_bound: Literal[False] = ...,
) -> float: ...


@overload
def nrc3(
    W: Array,
    Y: Targets | None = ...,
    *,
    gamma: float | None = ...,
    covariance: Array | None = ...,
    depth: int = ...,
    return_bound: Literal[True],
) -> tuple[float, float]: ...


def nrc3(
    W: Array,
    Y: Targets | None = None,
    *,
    gamma: float | None = None,
    covariance: Array | None = None,
    depth: int = 1,
    return_bound: bool = False,
) -> float | tuple[float, float]:
    r"""NRC3: distance of the shape of W W^T from the one that theory predicts.

    ``|| W W^T/|W W^T| - A/|A| ||_F^2`` with ``A = Sigma^(1/2) - gamma^(1/2) I``, Sigma the covariance of the targets
    (1/N, the symmetric root) and gamma in [0, lambda_min(Sigma)] the exact minimiser unless it is given.

    With a depth m of 2 or more A is the Gram of the last of m linear layers on free features, at the minimum of
    `nrc_fast.ufm.deep`: with U the eigenvectors of Sigma, ``A = U diag(a) U^T``, ``a_j = lambda_j^(1/(m + 1))
    (1 - t_j)^(2/(m + 1))``, ``t_j (1 - t_j)^((m - 1)/(m + 1)) = (gamma/lambda_j^m)^(1/(m + 1))``. There gamma is the
    product of all penalties, ``lambda_H lambda_1 ... lambda_m``, of at most ``lambda_min^m (m - 1)^(m - 1)/m^(2m)``, up
    to which all directions are kept; the best one is found by a search that misses no minimum.

    Parameters
    ----------
    W : (n, d) array or tensor
    Y : (N, n) or (N,) array or tensor, or path
        Targets. Give either these or `covariance`.
    gamma : float, optional
    covariance : (n, n) array or tensor, optional
        Covariance of the targets; its numbers are taken as exact.
    depth : int
        m, how many linear layers there are above features that are free, W the last of them. It is 1 for a head on a
        trunk of nonlinear layers, and L - 1 for a linear network of L layers on whitened inputs.
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
        Arrays that are no finite float matrices or do not fit, gamma outside [0, lambda_min] or above what a depth
        allows, or a depth that is no whole number from 1 to 10,000.

    References
    ----------
    arXiv 2409.04180 (NeurIPS 2024), section 3.1. Its theorem F.1 minimises an un-normalised distance and is not used.
    The depth is this project's; Dang et al. 2023 has the minimum for one-hot targets.

    Examples
    --------
    >>> import numpy as np
    >>> Y = np.array([[2.0, 0.0], [-2.0, 0.0], [0.0, 1.0], [0.0, -1.0]])
    >>> W = np.array([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]])
    >>> round(nrc3(W, Y, gamma=0.0), 6), nrc3_gamma(W, Y)
    (0.102633, 0.0)

    Of a linear network of three layers at weak decay W W^T is the cube root of Sigma:

    >>> W = np.diag([4.0, 1.0]) ** (1 / 6)
    >>> round(nrc3(W, covariance=np.diag([4.0, 1.0])), 3), nrc3(W, covariance=np.diag([4.0, 1.0]), depth=2) < 1e-28
    (0.01, True)
    """
    compared = _compared(W, Y, covariance, depth)
    alignment, error = compared.alignment, compared.covariance_error
    if gamma is None:
        value = alignment.smallest_nrc3()
        bound = alignment.smallest_nrc3_bound(error)
    else:
        (chosen,) = _check_gammas([gamma], alignment)
        value = alignment.nrc3(chosen)
        bound = alignment.nrc3_bound(chosen, error)
    with_bound("NRC3", np.array([value]), np.array([bound]), return_bound=return_bound)
    return (value, bound) if return_bound else value


@overload
def nrc3_gamma(
    W: Array,
    Y: Targets | None = ...,
    *,
    covariance: Array | None = ...,
    depth: int = ...,
    return_bound: Literal[False] = ...,
) -> float: ...


@overload
def nrc3_gamma(
    W: Array,
    Y: Targets | None = ...,
    *,
    covariance: Array | None = ...,
    depth: int = ...,
    return_bound: Literal[True],
) -> tuple[float, float]: ...


def nrc3_gamma(
    W: Array,
    Y: Targets | None = None,
    *,
    covariance: Array | None = None,
    depth: int = 1,
    return_bound: bool = False,
) -> float | tuple[float, float]:
    """The gamma in [0, lambda_min] that NRC3 is smallest at, in closed form.

    At an exact minimum of the unconstrained feature model it is lambda_W lambda_H, and with a depth of 2 or more, where
    it is searched for, the product of the penalties of all layers and of the features.

    Parameters
    ----------
    W : (n, d) array or tensor
        Weights of the last layer.
    Y : (N, n) or (N,) array or tensor, or path
        Targets. Give either these or `covariance`.
    covariance : (n, n) array or tensor, optional
        Covariance of the targets; its numbers are taken as exact.
    depth : int
        m, see `nrc3`.
    return_bound : bool
        Give ``(value, bound)`` with the absolute bound of the error, as in `nrc3`. With a depth of 2 or more it is
        about the root of the rounding where NRC3 is large, and flat around its minimum.

    Returns
    -------
    float
        NaN for n = 1, W = 0 or targets without variance; 0 if NRC3 does not depend on gamma. With a depth of 2 or more
        0 or inf where that product of penalties is beyond float64, which NRC3 is not.

    Raises
    ------
    TypeError, ValueError
        Arrays are no finite float matrices, or do not fit, or the depth is no whole number from 1 to 10,000.

    Examples
    --------
    >>> import numpy as np
    >>> sigma = np.diag([4.0, 1.0])
    >>> W = np.diag([1.5, 0.5]) ** 0.5   # W W^T = Sigma^(1/2) - 0.25^(1/2) I
    >>> round(nrc3_gamma(W, covariance=sigma), 12)
    0.25
    >>> from nrc_fast import ufm
    >>> found = ufm.deep(covariance=sigma, lambda_W=[0.1, 0.1], lambda_H=0.2)
    >>> round(nrc3_gamma(found.weights()[-1], covariance=sigma, depth=2), 12)
    0.002
    """
    compared = _compared(W, Y, covariance, depth)
    gamma = compared.alignment.best_gamma()
    bound, _ = compared.alignment.bounds(gamma, compared.covariance_error)
    with_bound("gamma", np.array([gamma]), np.array([bound]), return_bound=return_bound, largest=compared.largest)
    return (gamma, bound) if return_bound else gamma


def nrc3_curve(
    W: Array, Y: Targets | None, gammas: Array, *, covariance: Array | None = None, depth: int = 1
) -> FloatArray:
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
        Each in [0, lambda_min]; with a depth of 2 or more products of penalties, see `nrc3`.
    depth : int
        m, see `nrc3`.

    Returns
    -------
    float64 array
        One value for each gamma.

    Raises
    ------
    TypeError, ValueError
        Arrays are no finite float matrices or do not fit, a gamma lies outside [0, lambda_min] or above what the depth
        allows, or the depth is no whole number from 1 to 10,000.

    Examples
    --------
    >>> import numpy as np
    >>> nrc3_curve(np.eye(2), None, [0.0, 0.25], covariance=np.diag([4.0, 1.0])).round(3).tolist()
    [0.103, 0.211]
    """
    alignment = _compared(W, Y, covariance, depth).alignment
    if not isinstance(gammas, Iterable):
        msg = f"gammas is {gammas!r}; a sequence of numbers is expected (nrc3 takes a single one)"
        raise TypeError(msg)
    return alignment.nrc3_curve(np.array(_check_gammas(gammas, alignment), dtype=np.float64))


def _compared(W: Array, Y: Targets | None, covariance: Array | None, depth: int) -> _Compared:
    layers = as_layers(depth, "depth", least=1, why="1 for a head on a trunk")
    given = head_and_targets(W, Y, covariance, stacklevel=5)
    head, sigma = long_head_shape(given.weights), given.covariance.long
    alignment = HeadAlignment(head, sigma) if layers == 1 else DeepAlignment(head, sigma, layers=layers)
    given.require_covariance(alignment.lowest)
    return _Compared(alignment, given.covariance.long_error, layers)


def _check_gammas(gammas: Iterable[object], alignment: HeadAlignment) -> list[float]:
    # lambda_min itself is known to a few units of the largest eigenvalue.
    slack = 8 * len(alignment.eigenvalues) * EPSILON * float(alignment.eigenvalues[0])
    largest, furthest = alignment.most_gamma(), alignment.most_gamma(slack)
    checked = []
    for gamma in gammas:
        if not isinstance(gamma, SupportsFloat) or isinstance(gamma, (str, bytes)) or getattr(gamma, "ndim", 0) != 0:
            msg = f"gamma is {gamma!r}; a number is expected"
            raise TypeError(msg)
        value = float(gamma)
        if not 0.0 <= value <= furthest:
            msg = f"gamma is {value:.6g}; it must lie in [0, {alignment.most_gamma_name}] = [0, {largest:.6g}]"
            raise ValueError(msg)
        checked.append(min(value, largest))
    return checked
