"""The public functions for one metric each: NRC1, NRC2, NRC3 and its gamma."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import SupportsFloat, overload

import numpy as np

from nrc_fast.base.arrays import Array, FloatArray
from nrc_fast.base.linalg import EPSILON, scale_to_unit
from nrc_fast.base.options import require_tolerance
from nrc_fast.kernels.inputs import as_matrix
from nrc_fast.kernels.results import Basis
from nrc_fast.measurement.evidence import gathered
from nrc_fast.measurement.head import component_numbers, weights_and_row_space
from nrc_fast.measurement.moment_metrics import careful_nrc1_by_k, subspace_value
from nrc_fast.metrics.alignment import HeadAlignment, head_gram
from nrc_fast.metrics.conventions import Convention, needs_unit_rows, resolve_convention
from nrc_fast.metrics.residuals import residual_value
from nrc_fast.passes.begin import begin_reading
from nrc_fast.passes.reading import Reading
from nrc_fast.passes.rereading import require_same_mean
from nrc_fast.passes.runs import careful_residuals, mean_of
from nrc_fast.sources import Features, TableSource, Targets, as_table

__all__ = ["nrc1", "nrc2", "nrc3", "nrc3_curve", "nrc3_gamma"]

# ---- NRC1 ----


@overload
def nrc1(
    H: Features,
    n: int,
    *,
    convention: str | Convention = ...,
    device: str | None = ...,
    precision: str = ...,
    nonfinite: str = ...,
    rtol: float = ...,
    memory: str | int | None = ...,
    progress: bool | None = ...,
) -> float: ...


@overload
def nrc1(
    H: Features,
    n: Sequence[int] | None,
    *,
    convention: str | Convention = ...,
    device: str | None = ...,
    precision: str = ...,
    nonfinite: str = ...,
    rtol: float = ...,
    memory: str | int | None = ...,
    progress: bool | None = ...,
) -> FloatArray: ...


def nrc1(
    H: Features,
    n: int | Sequence[int] | None,
    *,
    convention: str | Convention = "nrc24",
    device: str | None = None,
    precision: str = "high",
    nonfinite: str = "raise",
    rtol: float = 1e-3,
    memory: str | int | None = None,
    progress: bool | None = None,
) -> float | FloatArray:
    r"""NRC1: how much of the features lies outside their first n principal components.

    ``(1/N) sum_i || x_i - U U^T x_i ||^2`` with U the leading n eigenvectors of the covariance of the features and,
    under the default convention, x_i = h_i/||h_i||. See `nrc_fast.CONVENTIONS` for the other definitions in use.

    Parameters
    ----------
    H : (N, d) array or tensor, path, source, or iterable of batches
        Features, a row for each sample; float64, float32, float16 or bfloat16, any strides. Not changed. Paths, glob
        patterns and sources are those of `nrc_fast.open`. What can be read only once, such as a generator, gives
        the value from its moments, whose floor `measure` states.
    n : int, sequence of ints, or None
        Number of components, usually the target dimension. None: every k = 1..d at once.
    convention : str or Convention
    device : str, optional
        None follows the input: a tensor on a CUDA device is measured there. A name is an order: "cuda" or "cuda:1"
        copies arrays, files and batches of the host to that device chunk by chunk, while the chunks before are computed
        with. Tensors on a device are never moved. Matrices of d x d numbers are decomposed in float64, on the host or,
        from d = 1024 on, on the device, where the result is checked.
    precision : {"high", "highest", "fast"}
        "highest" computes in float64 throughout; else rows that are not float64 are multiplied in float32 blocks
        that are added up in float64. On a CUDA device "high" splits them into three bfloat16 numbers where that is
        faster, and "fast" rounds them to one, with bounds that say so.
    nonfinite : {"raise", "skip"}
        What to do with rows that hold NaN or infinite values.
    rtol : float
        With n = None, rows are read again where the rounding of the first read may exceed `rtol` of a value.
    memory : str or int, optional
        What may be used beyond what the process holds, such as "2GiB"; features in memory are not counted.
    progress : bool, optional
        Show a bar; by default only on a terminal and with tqdm installed.

    Returns
    -------
    float or float64 array
        A float for an int, else one element for each number of components. NaN if all rows are zero; 0 for n = d.

    Raises
    ------
    TypeError, ValueError
        H is no float matrix, has no or not finite rows, n is not in 1..d, or an option is unknown.
    RuntimeError
        The device cannot be used.

    References
    ----------
    arXiv 2409.04180 (NeurIPS 2024), section 3.1.

    Examples
    --------
    >>> import numpy as np
    >>> H = np.array([[2.0, 1.0], [-2.0, 1.0]])
    >>> round(nrc1(H, 1), 12), round(nrc1(H, 1, convention="id25"), 12)
    (0.2, 0.0)
    """
    require_tolerance(rtol)
    chosen = resolve_convention(convention)
    reading = begin_reading(H, device=device, nonfinite=nonfinite, memory=memory, progress=progress)
    d = reading.source.d
    if n is None:
        return careful_nrc1_by_k(reading, chosen, precision=precision, rtol=rtol)[0]
    numbers = component_numbers(n, d)
    if reading.rereadable:
        values = _explicit_nrc1(reading, numbers, chosen, precision)
    else:
        by_k, _ = careful_nrc1_by_k(reading, chosen, precision=precision, rtol=rtol)
        values = by_k[np.array(numbers) - 1]
    return float(values[0]) if np.ndim(n) == 0 else values


def _explicit_nrc1(reading: Reading, numbers: Sequence[int], convention: Convention, precision: str) -> FloatArray:
    evidence = gathered(reading, precision=precision)
    basis = evidence.components(max(numbers), centered=convention.centered_basis)
    shift = basis.mean if convention.centered_rows else None
    residuals = evidence.residuals([Basis(basis.vectors, shift)], collapsed=basis.collapsed)
    (sums,), count, d = residuals.sums, residuals.count, reading.source.d
    return np.array([residual_value(convention, sums, k, count, d)[0] for k in numbers])


# ---- NRC2 ----


def nrc2(
    H: Features,
    W: Array,
    *,
    convention: str | Convention = "nrc24",
    device: str | None = None,
    nonfinite: str = "raise",
    memory: str | int | None = None,
    progress: bool | None = None,
) -> float:
    r"""NRC2: how much of the features lies outside the row space of the last layer's weights.

    ``(1/N) sum_i || x_i - Q^T Q x_i ||^2`` with Q an orthonormal basis of the rows of W and x_i as in `nrc1`.

    Parameters
    ----------
    H : (N, d) array or tensor, path, source, or iterable of batches
        As in `nrc1`.
    W : (n, d) array or tensor
        As in ``torch.nn.Linear.weight``; any rank, of the same dtypes as H. W is what is stored: singular values up
        to ``sigma_max max(n, d) eps`` count as zero, eps that of float64 whatever the dtype of W. `measure` notes
        where the smallest of the others lie under the rounding of W's own dtype.
    convention, device, nonfinite, memory, progress
        As in `nrc1`.

    Returns
    -------
    float
        NaN if W = 0 or all rows are zero.

    Raises
    ------
    TypeError, ValueError, RuntimeError
        As `nrc1`, and ValueError if W does not fit H.

    References
    ----------
    arXiv 2409.04180 (NeurIPS 2024), section 3.1.

    Examples
    --------
    >>> import numpy as np
    >>> nrc2(np.array([[3.0, 4.0], [6.0, 8.0]]), np.array([[2.0, 0.0]]))
    0.64
    """
    chosen = resolve_convention(convention)
    reading = begin_reading(H, device=device, nonfinite=nonfinite, memory=memory, progress=progress)
    _, space, _ = weights_and_row_space(W, reading.source.d)
    basis = space.basis
    if len(basis) == 0:
        return math.nan
    if not reading.rereadable:
        return subspace_value(gathered(reading, unit_rows=needs_unit_rows(chosen)), chosen, space)[0]
    bases = [Basis(basis)]
    if chosen.centered_rows:
        mean = mean_of(reading).mean
        bases = [Basis(basis, mean), Basis(np.zeros((0, len(mean))))]
    residuals = careful_residuals(reading, bases, collapsed=False)
    if residuals.count == 0:
        msg = f"{reading.source.name}: all rows hold NaN or infinite values; nothing is left to measure"
        raise ValueError(msg)
    value, _ = residual_value(chosen, residuals.sums[0], len(basis), residuals.count, reading.source.d)
    if chosen.centered_rows:
        require_same_mean(mean, residuals)
    return value


# ---- NRC3 ----


def nrc3(W: Array, Y: Targets | None = None, *, gamma: float | None = None, covariance: Array | None = None) -> float:
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
        Covariance of the targets.

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
    alignment = _alignment(W, Y, covariance)
    if gamma is None:
        return alignment.nrc3(alignment.best_gamma())
    return alignment.nrc3(*_check_gammas([gamma], alignment))


def nrc3_gamma(W: Array, Y: Targets | None = None, *, covariance: Array | None = None) -> float:
    """The gamma in [0, lambda_min] that NRC3 is smallest at, in closed form.

    At an exact minimum of the unconstrained feature model it is lambda_W lambda_H.

    Parameters
    ----------
    W, Y, covariance
        As in `nrc3`.

    Returns
    -------
    float
        NaN for n = 1, W = 0 or targets without variance; 0 if NRC3 does not depend on gamma.

    Raises
    ------
    TypeError, ValueError
        As `nrc3`.

    Examples
    --------
    >>> import numpy as np
    >>> sigma = np.diag([4.0, 1.0])
    >>> W = np.diag([1.5, 0.5]) ** 0.5   # W W^T = Sigma^(1/2) - 0.25^(1/2) I
    >>> round(nrc3_gamma(W, covariance=sigma), 12)
    0.25
    """
    return _alignment(W, Y, covariance).best_gamma()


def nrc3_curve(W: Array, Y: Targets | None, gammas: Array, *, covariance: Array | None = None) -> FloatArray:
    """NRC3 for many gammas.

    Parameters
    ----------
    W, Y, covariance
        As in `nrc3`.
    gammas : sequence of float
        Each in [0, lambda_min].

    Returns
    -------
    float64 array
        One value for each gamma.

    Raises
    ------
    TypeError, ValueError
        As `nrc3`.

    Examples
    --------
    >>> import numpy as np
    >>> nrc3_curve(np.eye(2), None, [0.0, 0.25], covariance=np.diag([4.0, 1.0])).round(3).tolist()
    [0.103, 0.211]
    """
    alignment = _alignment(W, Y, covariance)
    if not isinstance(gammas, Iterable):
        msg = f"gammas is {gammas!r}; a sequence of numbers is expected (nrc3 takes a single one)"
        raise TypeError(msg)
    return alignment.nrc3_curve(np.array(_check_gammas(gammas, alignment), dtype=np.float64))


def _alignment(W: Array, Y: Targets | None, covariance: Array | None) -> HeadAlignment:
    weights, _ = as_matrix(W, "W")
    n = weights.shape[0]
    if (Y is None) == (covariance is None):
        msg = "give either the targets Y or their covariance"
        raise ValueError(msg)
    head = head_gram(scale_to_unit(weights)[0])
    if covariance is not None:
        return _aligned_with(covariance, head)
    assert Y is not None  # as one of them is given
    targets = begin_reading(TableSource(as_table(Y, "Y")))
    if targets.source.d != n:
        msg = f"W has {n} rows and Y has {targets.source.d} columns; both are the target dimension n"
        raise ValueError(msg)
    return HeadAlignment(head, gathered(targets, precision="highest").moments.covariance)


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
