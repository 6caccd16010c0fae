"""`measure`: every metric that the inputs allow, from two reads of the rows, more where float32 leaves too little."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from nrc_fast.base.arrays import Array
from nrc_fast.base.json_values import JSONValue
from nrc_fast.base.options import ByK, NonFinite, Precision, Spectrum, require_precision, require_tolerance
from nrc_fast.base.processes import Team
from nrc_fast.kernels.devices import Device
from nrc_fast.kernels.interface import Rows
from nrc_fast.measurement.assembly import Wishes, report_of
from nrc_fast.measurement.evidence import gathered
from nrc_fast.measurement.exact_turns import MOST_HELD
from nrc_fast.measurement.extent import Extent, extent_of
from nrc_fast.measurement.head import Head, checksum, require_penalties
from nrc_fast.measurement.suspicions import notes_on_files
from nrc_fast.metrics.conventions import Convention, ConventionName, needs_unit_rows, resolve_convention
from nrc_fast.metrics.prediction import PenaltyProduct
from nrc_fast.passes.begin import begin_reading
from nrc_fast.passes.plans import Plan, plan_reading
from nrc_fast.passes.precisions import working_precision
from nrc_fast.passes.stored_sums import require_place_of_sums, save_sums
from nrc_fast.reports.features import Report
from nrc_fast.sources import Features, Targets

if TYPE_CHECKING:
    from torch.distributed import ProcessGroup

__all__ = ["measure", "plan"]


def measure(
    H: Features,
    Y: Targets | None = None,
    W: Array | Rows | None = None,
    b: Array | Rows | None = None,
    *,
    n: int | None = None,
    convention: ConventionName | Convention = "nrc24",
    penalties: PenaltyProduct | None = None,
    device: Device | None = None,
    precision: Precision = "high",
    nonfinite: NonFinite = "raise",
    rtol: float = 1e-3,
    by_k: ByK = "leading",
    spectrum: Spectrum = "auto",
    memory: str | int | None = None,
    chunk_rows: int | None = None,
    progress: bool | None = None,
    checkpoint: str | Path | None = None,
    checkpoint_every: float = 60.0,
    save_statistics: str | Path | None = None,
    group: ProcessGroup | None = None,
) -> Report:
    """Every metric that the inputs allow, each with a bound of its error.

    Parameters
    ----------
    H : (N, d) array or tensor, path, source, or iterable of batches
        Features, a row for each sample, of any strides and of float64, float32, float16 or bfloat16; paths, patterns
        and sources are those of `nrc_fast.open`. Not changed. Batches and sources may hold the targets too.
    Y : (N, n) or (N,) array or tensor, or path, optional
        Targets.
    W : (n, d) array or tensor, optional
        Weights of the last layer.
    b : (n,) array or tensor, optional
        Its bias; ``mse``, ``r2`` and the balance of the head need it. Give zeros for a layer without bias.
    n : int, optional
        Number of components of NRC1. Taken from W, else from Y, else it must be given. With more outputs than features
        all components are taken, which leaves nothing: NRC1 is 0, and so is NRC2 where W has rank d.
    convention : str or Convention
        Definition of NRC1 and NRC2, see `nrc_fast.CONVENTIONS`; the others are among the report's alternatives.
    device : str or torch.device, optional
        None follows the input; a name such as "cuda" copies what lies on the host there chunk by chunk.
    precision : {"high", "highest", "fast"}
        "highest" computes in float64 throughout; "high" multiplies other rows in float32 blocks that are added up in
        float64, where their number times the square of d is above 1e8, and in float64 below; it reads again in float64
        where float32 blocks are too little: where components cannot be told from rounding, or where the bound of NRC1,
        of a rank, of CKA or of the error of the best readout reaches a tenth of it. "fast" allows bfloat16 products on
        a device, and reads again for components alone.
    nonfinite : {"raise", "skip"}
        What to do with rows that hold NaN or infinite values.
    penalties : object with an attribute ``c``, optional
        Sets the c = lambda_W lambda_H of the prediction, see `nrc_fast.ufm.penalties`; without it, and where its c
        is NaN because no penalty on the features is known, c is the measured gamma.
    rtol : float
        NRC1 and NRC2 always come from a read of their own, NRC1 for each of the leading components, and the MSE of
        W and b from the same one, with the balance of a head of up to 64 outputs where its bound from the statistics
        exceeds `rtol` of it. Where that read is in float32, for more than 16 components, the rows are read once more
        for the MSE if its bound from the statistics exceeds `rtol` of it. What can be read only once is not,
        beyond 32,768 numbers, which are held: its values come from the statistics, and their bounds say how far down
        they can be trusted.
    by_k : {"leading", "all"}
        How far ``nrc1_by_k`` goes: up to max(16, 2n + 2) components, or to all d, which takes a second Gram matrix
        under conventions of unit rows and stays within its bounds beyond the leading ones (``nrc1(H, None)`` reads
        again for these too).
    spectrum : {"auto", "full"}
        How many eigenvalues of the covariance are found: all up to 1,024 features, and the leading ones beyond;
        "full" is all of them at any width, for the effective rank and every share of the variance.
    memory : str or int, optional
        What may be used beyond what the process holds, such as "2GiB"; features in memory are not counted.
    progress : bool, optional
        Show a bar; by default only on a terminal and with tqdm installed.
    chunk_rows : int, optional
        Rows that are read and added at a time; by default about 64 MiB of them. The same chunks give the same bits,
        whatever the files.
    checkpoint : path, optional
        A file that is written every `checkpoint_every` seconds, and at Ctrl-C, which then stops at the end of a
        chunk. Where it exists, the measurement goes on from it and ends with the same bits, given the same threads
        and instruction set; on a CUDA device it ends with the same numbers up to rounding, as the sums go on from zero
        there. It is removed at the end; where somebody removes it before, it is written anew, with all that was done.
    checkpoint_every : float
        Seconds between two writes of the checkpoint.
    save_statistics : path, optional
        Also write the `FeatureStatistics` of the rows to this file, to be merged with those of others later.
    group : torch.distributed.ProcessGroup, optional
        Every process of the group gives its own rows, and gets the report of all.

    Returns
    -------
    Report

    Raises
    ------
    TypeError, ValueError
        H is no float matrix, has no or not finite rows, arrays do not fit together, an option is unknown, or the
        checkpoint is of another measurement.
    RuntimeError
        The device cannot be used, or rows that are read again have changed.
    OSError
        A file is missing, truncated or damaged; the message says where.

    Examples
    --------
    >>> import numpy as np
    >>> rng = np.random.default_rng(0)
    >>> Y = rng.standard_normal((500, 2))
    >>> W = rng.standard_normal((2, 8))
    >>> H = Y @ np.linalg.pinv(W).T            # features in the row space of W that fit the targets exactly
    >>> report = measure(H, Y, W, np.zeros(2))
    >>> report.nrc1 < 1e-28, report.nrc2 < 1e-28, report.mse < 1e-28, report.r2
    (True, True, True, 1.0)
    """
    require_tolerance(rtol)
    require_precision(precision)
    require_penalties(penalties)
    chosen, extent = resolve_convention(convention), extent_of(by_k, spectrum)
    team = None if group is None else Team(group)
    if save_statistics is not None:
        require_place_of_sums(Path(save_statistics))
    identity: dict[str, JSONValue] = {"precision": precision, "convention": chosen.name, "rtol": rtol, "n": n}
    if extent != Extent():  # or checkpoints from before there was a choice would be others
        identity |= {"by_k": by_k, "spectrum": spectrum}
    if checkpoint is not None:
        identity |= {"unit rows": save_statistics is not None, "W": checksum(W, "W"), "b": checksum(b, "b")}
    reading = begin_reading(
        H,
        Y,
        device=device,
        nonfinite=nonfinite,
        memory=memory,
        chunk_rows=chunk_rows,
        progress=progress,
        team=team,
        checkpoint=checkpoint,
        checkpoint_every=checkpoint_every,
        identity=identity,
        statistics=save_statistics,
    )
    with closing(reading):
        head = Head(W, b, n, d=reading.source.d, n_targets=reading.source.n_targets)
        reading.hold_few(MOST_HELD)
        source = reading.source
        # What is read once gives every convention that it can; else the second read does, but not for every k.
        unit_rows = not reading.rereadable or save_statistics is not None or (extent.all_k and needs_unit_rows(chosen))
        # Sums that are kept are of the precision that was asked for, whatever the report needs.
        used = precision if save_statistics is not None else working_precision(reading, precision)
        evidence = gathered(reading, unit_rows=unit_rows, precision=used)
        moments = evidence.moments
        report = report_of(evidence, head, Wishes(chosen, rtol, extent, penalties))
        report = replace(report, notes=(*report.notes, *notes_on_files(source.files)))
        if save_statistics is not None and (team is None or team.rank == 0):
            save_sums(Path(save_statistics), moments, options={})
        reading.finish()
    return report


def plan(
    H: Features,
    Y: Targets | None = None,
    W: Array | Rows | None = None,
    b: Array | Rows | None = None,
    *,
    n: int | None = None,
    convention: ConventionName | Convention = "nrc24",
    device: Device | None = None,
    precision: Precision = "high",
    nonfinite: NonFinite = "raise",
    by_k: ByK = "leading",
    spectrum: Spectrum = "auto",
    memory: str | int | None = None,
    chunk_rows: int | None = None,
) -> Plan:
    """What `measure` would read with the same arguments, and the memory that it needs; nothing is read yet.

    The passes say in which precision rows that are not float64 are summed, and when they are read again in float64.
    With a device for rows of the host, a buffer of the size of a chunk is tried, and given back: the plan says whether
    copies go from pinned memory.

    Parameters
    ----------
    H, Y, W, b, n, convention, device, precision, nonfinite, by_k, spectrum, memory, chunk_rows
        What `measure` is to be called with. Of batches the first is asked for.

    Returns
    -------
    Plan
        `print` shows it.

    Raises
    ------
    TypeError, ValueError
        The arguments do not fit together, or H gives its rows once.
    OSError
        A file is missing or damaged.
    RuntimeError
        The device cannot be used.

    Examples
    --------
    >>> import numpy as np
    >>> [title for title, when in plan(np.ones((1000, 8)), n=2).passes]
    ['statistics', 'residuals']
    """
    require_precision(precision)
    chosen, extent = resolve_convention(convention), extent_of(by_k, spectrum)
    if isinstance(H, Iterator):
        msg = (
            f"H is a {type(H).__name__}, which gives its rows once, and looking at it would take the first away; "
            "open it (source = nrc_fast.open(H)) and give the source to both plan and measure"
        )
        raise TypeError(msg)
    reading = begin_reading(H, Y, device=device, nonfinite=nonfinite, memory=memory, chunk_rows=chunk_rows)
    head = Head(W, b, n, d=reading.source.d, n_targets=reading.source.n_targets)
    return plan_reading(
        reading,
        chosen,
        k=head.components,
        vectors=extent.components(head.components, reading.source.d),
        all_k=extent.all_k,
        precision=precision,
        has_bias=head.bias is not None,
    )
