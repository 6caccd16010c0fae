"""What is known, and said, of features or weights that are not finite, as those of a training that diverges."""

from __future__ import annotations

import numpy as np

from nrc_fast.kernels.cpu.backend import CPU
from nrc_fast.measurement.extent import Extent
from nrc_fast.reports.features import Report
from nrc_fast.training.head_batches import HeadBatches
from nrc_fast.training.heads import UsedHead

__all__ = ["notes_on_nonfinite", "unknown_report"]


def unknown_report(batches: HeadBatches, rows: int, convention: str, extent: Extent) -> Report:
    """What is known of features of which no row is finite."""
    n, d = batches.n_and_d
    return Report(
        samples=0,
        d=d,
        n=n,
        dtype=batches.dtype_name,
        backend=CPU.name,
        convention=convention,
        nrc1=np.nan,
        nrc1_by_k=np.full(extent.numbers(min(n, d), d), np.nan),
        explained_variance_ratio=np.full(d, np.nan),
        effective_rank=np.nan,
        stable_rank=np.nan,
        skipped_rows=rows,
    )


def notes_on_nonfinite(report: Report, used: UsedHead) -> list[str]:
    """What a reader should know of the rows and weights that are not finite; nothing where all are."""
    notes = []
    if report.skipped_rows:
        rows = report.samples + report.skipped_rows
        notes.append(
            f"{report.skipped_rows:,} of {rows:,} samples have features or targets that are NaN or infinite: they are "
            "left out, and the numbers are those of the others. Has the training diverged?"
        )
    weights, bias = used.finite()
    if weights is None or bias is None:
        name, lost = ("W", "NRC2, NRC3 and the MSE") if weights is None else ("b", "the MSE")
        notes.append(f"{name} holds values that are NaN or infinite: {lost} are NaN. Has the training diverged?")
    return notes
