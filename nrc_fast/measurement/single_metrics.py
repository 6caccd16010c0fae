"""The public functions for one metric of the features each: NRC1 and NRC2."""

from __future__ import annotations

import math
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypedDict, overload

import numpy as np

from nrc_fast.base.arrays import Array, FloatArray, WholeNumbers
from nrc_fast.base.options import NonFinite, Precision, require_tolerance
from nrc_fast.base.processes import Team
from nrc_fast.kernels.devices import Device
from nrc_fast.measurement.evidence import gathered
from nrc_fast.measurement.exact_turns import MOST_HELD
from nrc_fast.measurement.explicit_metrics import explicit_nrc2, nrc1_of_reading
from nrc_fast.measurement.head import checksum, weights_and_row_space, whole_numbers
from nrc_fast.measurement.moment_metrics import subspace_value
from nrc_fast.measurement.precision import with_bound
from nrc_fast.measurement.suspicions import notes_on_files, notes_on_sizes, notes_on_wide_rows, warn_of
from nrc_fast.metrics.conventions import Convention, ConventionName, needs_unit_rows, resolve_convention
from nrc_fast.passes.begin import begin_reading
from nrc_fast.sources import Features

if TYPE_CHECKING:
    from torch.distributed import ProcessGroup
    from typing_extensions import Unpack

__all__ = ["nrc1", "nrc2"]

# ---- NRC1 ----


class _Reading(TypedDict, total=False):
    convention: ConventionName | Convention
    device: Device | None
    nonfinite: NonFinite
    memory: str | int | None
    progress: bool | None
    group: ProcessGroup | None
    checkpoint: str | Path | None
    checkpoint_every: float


class _Options(_Reading, total=False):
    precision: Precision
    rtol: float


@overload
def nrc1(H: Features, n: int, *, return_bound: Literal[False] = ..., **options: Unpack[_Options]) -> float: ...


@overload
def nrc1(H: Features, n: int, *, return_bound: Literal[True], **options: Unpack[_Options]) -> tuple[float, float]: ...


@overload
def nrc1(
    H: Features, n: WholeNumbers | None, *, return_bound: Literal[False] = ..., **options: Unpack[_Options]
) -> FloatArray: ...


@overload
def nrc1(
    H: Features, n: WholeNumbers | None, *, return_bound: Literal[True], **options: Unpack[_Options]
) -> tuple[FloatArray, FloatArray]: ...


def nrc1(
    H: Features,
    n: int | WholeNumbers | None,
    *,
    convention: ConventionName | Convention = "nrc24",
    device: Device | None = None,
    precision: Precision = "high",
    nonfinite: NonFinite = "raise",
    rtol: float = 1e-3,
    memory: str | int | None = None,
    progress: bool | None = None,
    group: ProcessGroup | None = None,
    checkpoint: str | Path | None = None,
    checkpoint_every: float = 60.0,
    return_bound: bool = False,
) -> float | FloatArray | tuple[float, float] | tuple[FloatArray, FloatArray]:
    r"""NRC1: how much of the features lies outside their first n principal components.

    ``(1/N) sum_i || x_i - U U^T x_i ||^2`` with U the leading n eigenvectors of the covariance of the features and,
    under the default convention, x_i = h_i/||h_i||. See `nrc_fast.CONVENTIONS` for the other definitions in use.

    Parameters
    ----------
    H : (N, d) array or tensor, path, source, or iterable of batches
        Features, a row for each sample; float64, float32, float16 or bfloat16, any strides. Not changed. Paths, glob
        patterns and sources are those of `nrc_fast.open`. What can be read only once, such as a generator, is held up
        to 32,768 numbers, and beyond gives the value from its moments, whose floor `measure` states.
    n : int, sequence of ints, or None
        Number of components, usually the target dimension. None: every k = 1..d at once.
    convention : str or Convention
    device : str or torch.device, optional
        None follows the input: a tensor on a CUDA device is measured there. A name is an order: "cuda" or "cuda:1"
        copies arrays, files and batches of the host to that device chunk by chunk, while the chunks before are computed
        with. Tensors on a device are never moved. Matrices of d x d numbers are decomposed in float64, on the host or,
        from d = 1024 on, on the device, where the result is checked.
    precision : {"high", "highest", "fast"}
        "highest" computes in float64 throughout, and so does "high" where the number of rows times the square of d is
        up to 1e8, and for as many first rows where the number is not known; else rows that are not float64 are
        multiplied in float32 blocks that are added up in float64. On a CUDA device "high" splits them into three
        bfloat16 numbers where that is faster, and "fast" rounds them to one, with bounds that say so.
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
    return_bound : bool
        Give the absolute bound of the error beside the value, in the same form. Without it a value that is below its
        bound is warned of, see `nrc_fast.PrecisionWarning`.

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
        A float for an int, else one element for each number of components. NaN if all rows are zero; 0 for n = d. With
        `return_bound` a pair of these.

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
    with closing(reading):
        reading.hold_few(MOST_HELD)
        values, bounds, energy = nrc1_of_reading(reading, n, chosen, precision=precision, rtol=rtol)
        reading.finish()
        source = reading.source
        rows = source.count if group is None else None
        warn_of(notes_on_wide_rows(rows, source.d) + notes_on_files(source.files))
    # Of every k at once many may lie beyond what the features vary in.
    with_bound("NRC1", values, bounds, return_bound=return_bound or n is None, largest=energy)
    if n is not None and np.ndim(n) == 0:
        return (float(values[0]), float(bounds[0])) if return_bound else float(values[0])
    return (values, bounds) if return_bound else values


# ---- NRC2 ----


@overload
def nrc2(H: Features, W: Array, *, return_bound: Literal[False] = ..., **options: Unpack[_Reading]) -> float: ...


@overload
def nrc2(H: Features, W: Array, *, return_bound: Literal[True], **options: Unpack[_Reading]) -> tuple[float, float]: ...


def nrc2(
    H: Features,
    W: Array,
    *,
    convention: ConventionName | Convention = "nrc24",
    device: Device | None = None,
    nonfinite: NonFinite = "raise",
    memory: str | int | None = None,
    progress: bool | None = None,
    group: ProcessGroup | None = None,
    checkpoint: str | Path | None = None,
    checkpoint_every: float = 60.0,
    return_bound: bool = False,
) -> float | tuple[float, float]:
    r"""NRC2: how much of the features lies outside the row space of the last layer's weights.

    ``(1/N) sum_i || x_i - Q^T Q x_i ||^2`` with Q an orthonormal basis of the rows of W and x_i as in `nrc1`.

    Parameters
    ----------
    H : (N, d) array or tensor, path, source, or iterable of batches
        Features, a row for each sample, of any strides and of float64, float32, float16 or bfloat16; paths, patterns
        and sources are those of `nrc_fast.open`. Not changed. What can be read only once is held up to 32,768 numbers,
        and beyond gives the value from its moments.
    W : (n, d) array or tensor
        Weights of the last layer, laid out as ``torch.nn.Linear.weight``; any rank, of the same dtypes as H. W is what
        is stored: singular values up to ``sigma_max max(n, d) eps`` count as zero, eps that of float64 whatever the
        dtype of W. `measure` notes where the smallest of the others lie under the rounding of W's own dtype.
    convention : str or Convention
        Which rows are projected, see `nrc_fast.CONVENTIONS`.
    device : str or torch.device, optional
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
    return_bound : bool
        Give ``(value, bound)`` with the absolute bound of the error; see `nrc1`.

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
        identity={
            "metric": "nrc2",
            "convention": chosen.name,
            "W": None if checkpoint is None else checksum(W, "W"),
        },
    )
    with closing(reading):
        weights, space, _ = weights_and_row_space(W, reading.source.d)
        reading.hold_few(MOST_HELD)
        if len(space.basis) == 0:
            value, bound, energy = math.nan, math.nan, 0.0
        elif reading.rereadable:
            value, bound, energy = explicit_nrc2(reading, weights, space, chosen)
        else:
            evidence = gathered(reading, unit_rows=needs_unit_rows(chosen))
            value, bound = subspace_value(evidence, chosen, space)
            energy = 1.0 if chosen.unit_rows or chosen.relative else evidence.moments.energy
        reading.finish()
        rows = reading.source.count if group is None else None
        warn_of(notes_on_sizes(rows, len(weights)) + notes_on_files(reading.source.files))
    with_bound("NRC2", np.array([value]), np.array([bound]), return_bound=return_bound, largest=energy)
    return (value, bound) if return_bound else value
