"""The public functions for one metric of the features each: NRC1 and NRC2."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, overload

import numpy as np

from nrc_fast.base.arrays import Array, FloatArray
from nrc_fast.base.linalg import RowSpace
from nrc_fast.base.options import require_tolerance
from nrc_fast.base.processes import Team
from nrc_fast.kernels.results import Basis
from nrc_fast.measurement.evidence import Evidence, gathered
from nrc_fast.measurement.head import checksum, component_numbers, weights_and_row_space, whole_numbers
from nrc_fast.measurement.moment_metrics import careful_nrc1_by_k, subspace_value
from nrc_fast.metrics.conventions import Convention, needs_unit_rows, resolve_convention
from nrc_fast.metrics.residuals import residual_value
from nrc_fast.passes.begin import begin_reading
from nrc_fast.passes.reading import Reading
from nrc_fast.passes.rereading import require_same_mean
from nrc_fast.passes.runs import careful_residuals, mean_of, require_rows
from nrc_fast.sources import Features

if TYPE_CHECKING:
    from torch.distributed import ProcessGroup

__all__ = ["nrc1", "nrc1_of_reading", "nrc2"]

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
    group: ProcessGroup | None = ...,
    checkpoint: str | Path | None = ...,
    checkpoint_every: float = ...,
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
    group: ProcessGroup | None = ...,
    checkpoint: str | Path | None = ...,
    checkpoint_every: float = ...,
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
    group: ProcessGroup | None = None,
    checkpoint: str | Path | None = None,
    checkpoint_every: float = 60.0,
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
    group : torch.distributed.ProcessGroup, optional
        Every process of the group gives its own rows, and gets the value of all.
    checkpoint : path, optional
        A file that is written every `checkpoint_every` seconds, and at Ctrl-C, from which the same call goes on; see
        `measure`.
    checkpoint_every : float
        Seconds between two writes of it.

    Notes
    -----
    Leading components come from the Gram matrix, or, where that costs more, from block Krylov iteration: each read
    multiplies the rows with n + 7 vectors in float64 until the angle to the exact components, bounded by what the
    products leave (Davis and Kahan), is below 2^-22 of the root of the share outside (1e-12 for float64 rows), or until
    the Gram costs less; where that does not fit the memory, after 40 reads at most. That no component was missed the
    trace shows for collapsed features, and else it is very probable. `plan` says which way is begun with, and why.

    Returns
    -------
    float or float64 array
        A float for an int, else one element for each number of components. NaN if all rows are zero; 0 for n = d.

    Raises
    ------
    TypeError, ValueError
        H is no float matrix, has no or not finite rows, n is not in 1..d, an option is unknown, or the checkpoint is
        of another measurement.
    RuntimeError
        The device or the group cannot be used, or rows that are read again have changed.
    OSError
        A file is missing, truncated or damaged; the message says where.

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
    wanted = None if n is None else whole_numbers(n)
    reading = begin_reading(
        H,
        device=device,
        nonfinite=nonfinite,
        memory=memory,
        progress=progress,
        team=None if group is None else Team(group),
        checkpoint=checkpoint,
        checkpoint_every=checkpoint_every,
        identity={"metric": "nrc1", "convention": chosen.name, "precision": precision, "rtol": rtol, "n": wanted},
        components=None if wanted is None else max(wanted),
    )
    value = nrc1_of_reading(reading, n, chosen, precision=precision, rtol=rtol)
    reading.finish()
    return value


def nrc1_of_reading(
    reading: Reading, n: int | Sequence[int] | None, convention: Convention, *, precision: str, rtol: float
) -> float | FloatArray:
    """NRC1 as `nrc1` gives it, of features that are read in whatever way.

    Parameters
    ----------
    reading : Reading
    n : int, sequence of ints, or None
    convention : Convention
    precision : {"high", "highest", "fast"}
    rtol : float

    Raises
    ------
    TypeError, ValueError, OSError, RuntimeError
        n is not in 1..d, or rows cannot be read.
    """
    d = reading.source.d
    if n is None:
        return careful_nrc1_by_k(reading, convention, d, precision=precision, rtol=rtol)[0]
    numbers = component_numbers(n, d)
    if reading.rereadable:
        values = _explicit_nrc1(reading, numbers, convention, precision)
    else:
        by_k, _ = careful_nrc1_by_k(reading, convention, max(numbers), precision=precision, rtol=rtol)
        values = np.array([by_k[number - 1] for number in numbers])
    return float(values[0]) if np.ndim(n) == 0 else values


def _explicit_nrc1(reading: Reading, numbers: Sequence[int], convention: Convention, precision: str) -> FloatArray:
    evidence = Evidence(reading=reading, precision=precision)
    basis = evidence.components(max(numbers), centered=convention.centered_basis, numbers=numbers)
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
    group: ProcessGroup | None = None,
    checkpoint: str | Path | None = None,
    checkpoint_every: float = 60.0,
) -> float:
    r"""NRC2: how much of the features lies outside the row space of the last layer's weights.

    ``(1/N) sum_i || x_i - Q^T Q x_i ||^2`` with Q an orthonormal basis of the rows of W and x_i as in `nrc1`.

    Parameters
    ----------
    H : (N, d) array or tensor, path, source, or iterable of batches
        Features, a row for each sample, of any strides and of float64, float32, float16 or bfloat16; paths, patterns
        and sources are those of `nrc_fast.open`. Not changed. What can be read only once gives the value from its
        moments.
    W : (n, d) array or tensor
        Weights of the last layer, laid out as ``torch.nn.Linear.weight``; any rank, of the same dtypes as H. W is what
        is stored: singular values up to ``sigma_max max(n, d) eps`` count as zero, eps that of float64 whatever the
        dtype of W. `measure` notes where the smallest of the others lie under the rounding of W's own dtype.
    convention : str or Convention
        Which rows are projected, see `nrc_fast.CONVENTIONS`.
    device : str, optional
        None follows the input; "cuda" copies what lies on the host there chunk by chunk.
    nonfinite : {"raise", "skip"}
        What to do with rows that hold NaN or infinite values.
    memory : str or int, optional
        What may be used beyond what the process holds, such as "2GiB".
    progress : bool, optional
        Show a bar; by default only on a terminal and with tqdm installed.
    group : torch.distributed.ProcessGroup, optional
        Every process of the group gives its own rows, and gets the value of all.
    checkpoint : path, optional
        A file that is written every `checkpoint_every` seconds, and at Ctrl-C, from which the same call goes on; see
        `measure`.
    checkpoint_every : float
        Seconds between two writes of it.

    Returns
    -------
    float
        NaN if W = 0 or all rows are zero.

    Raises
    ------
    TypeError, ValueError
        H is no float matrix, has no or not finite rows, W does not fit it, an option is unknown, or the checkpoint is
        of another measurement.
    RuntimeError
        The device or the group cannot be used, or rows that are read again have changed.
    OSError
        A file is missing, truncated or damaged; the message says where.

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
    reading = begin_reading(
        H,
        device=device,
        nonfinite=nonfinite,
        memory=memory,
        progress=progress,
        team=None if group is None else Team(group),
        checkpoint=checkpoint,
        checkpoint_every=checkpoint_every,
        identity={"metric": "nrc2", "convention": chosen.name, "W": None if checkpoint is None else checksum(W, "W")},
    )
    _, space, _ = weights_and_row_space(W, reading.source.d)
    value = math.nan if len(space.basis) == 0 else _nrc2_of(reading, space, chosen)
    reading.finish()
    return value


def _nrc2_of(reading: Reading, space: RowSpace, chosen: Convention) -> float:
    if not reading.rereadable:
        return subspace_value(gathered(reading, unit_rows=needs_unit_rows(chosen)), chosen, space)[0]
    basis = space.basis
    bases = [Basis(basis)]
    if chosen.centered_rows:
        mean = mean_of(reading).mean
        bases = [Basis(basis, mean), Basis(np.zeros((0, len(mean))))]
    residuals = careful_residuals(reading, bases, collapsed=False)
    require_rows(reading, residuals.count)
    value, _ = residual_value(chosen, residuals.sums[0], len(basis), residuals.count, reading.source.d)
    if chosen.centered_rows:
        require_same_mean(mean, residuals)
    return value
