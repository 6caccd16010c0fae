"""The kernels of the ``nrc_fast::`` operators on a CUDA device: what they give stays there.

Where the CPU raises because a row is not finite, results are NaN here: an error would have to wait for the device.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from nrc_fast.base.libraries import require_library
from nrc_fast.base.linalg import FloatArray
from nrc_fast.kernels.cuda.backend import launch_residual
from nrc_fast.kernels.cuda.rows import DeviceRows
from nrc_fast.kernels.cuda.sums import launch_gram_with_totals

if TYPE_CHECKING:
    from torch import Tensor

torch = require_library("torch", "torch")

__all__ = ["gram_on_device", "residuals_on_device"]

# Mean squares of rows between which neither they nor their residuals leave the range of float64.
SMALLEST_ENERGY = 2.0**-900
LARGEST_ENERGY = 2.0**900


def _shift_of(rows: DeviceRows, shift: Tensor | None) -> Any:
    if shift is None:
        return None
    if not shift.is_cuda:
        msg = f"shift lies on the CPU and features on {rows.place}; put both in one place (.to({rows.place!r}))"
        raise RuntimeError(msg)
    return shift.detach().double().contiguous()


def gram_on_device(rows: DeviceRows, shift: Tensor | None, *, unit_rows: bool, precision: str) -> tuple[Tensor, Tensor]:
    """Gram matrix, symmetric, and column sums; nothing waits. NaN where a row is not finite or too large."""
    d = rows.columns
    size = (d, d)
    shapes: dict[str, tuple[int, ...]] = {"column_sums": (d,), "unit_gram" if unit_rows else "gram": size}
    sums, refused = launch_gram_with_totals(
        rows, shapes, shift=_shift_of(rows, shift), unit="shifted" if unit_rows else None, precision=precision
    )
    column_sums, gram = (torch.where(refused == 0, sums[name], torch.nan) for name in shapes)
    return gram + gram.tril(-1).mT, column_sums


def residuals_on_device(rows: DeviceRows, vectors: FloatArray, shift: Tensor | None, *, unit_rows: bool) -> Tensor:
    """Squared residuals of rows, or of unit rows, on orthonormal vectors; NaN for a row that is not finite."""
    offset = _shift_of(rows, shift)
    residuals, energies = _row_sums(rows, vectors, offset)
    if not unit_rows:
        return residuals
    in_range = (energies > SMALLEST_ENERGY) & (energies < LARGEST_ENERGY)
    shares: Tensor = residuals / energies
    if not bool(in_range.all()):
        extreme = (~in_range).nonzero()[:, 0]
        shares[extreme] = _extreme_shares(rows, extreme, vectors, offset)
    return shares


def _row_sums(rows: DeviceRows, vectors: FloatArray, shift: Any) -> tuple[Tensor, Tensor]:
    placed = rows.device.place(np.ascontiguousarray(vectors))
    results = launch_residual(rows, placed, shift, per_row=True, double_precision=True)
    return results.tensor("residuals"), results.tensor("energies")


def _extreme_shares(rows: DeviceRows, chosen: Any, vectors: FloatArray, shift: Any) -> Tensor:
    """Residuals of unit rows whose squares over- or underflow; 0 for zero rows."""
    values = rows.tensor[chosen].double()
    values = values if shift is None else values - shift
    peaks = values.abs().amax(dim=1, keepdim=True)
    scaled = values / torch.where(peaks == 0.0, 1.0, peaks)
    part = DeviceRows(rows.name, scaled.contiguous(), "float64", rows.device)
    residuals, energies = _row_sums(part, vectors, None)
    shares: Tensor = residuals / torch.where(energies == 0.0, 1.0, energies)
    return shares
