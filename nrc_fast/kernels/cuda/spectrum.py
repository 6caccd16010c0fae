"""All eigenvalues and vectors on a CUDA device, in float64 and checked, at sizes where those of the host take long."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING

from nrc_fast.base.linalg import EPSILON
from nrc_fast.kernels.cuda.device import CudaDevice

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["LEAST_SIZE", "checked_eigh"]

# Features from which on matrices stay on the device: below, the host is as fast as the launches.
LEAST_SIZE = 1024


def checked_eigh(matrix: Tensor, device: CudaDevice) -> tuple[Tensor, Tensor] | None:
    """Eigenvalues, ascending, and eigenvectors (columns) of a symmetric matrix of the device, in its memory.

    Solvers on devices have been seen to fail, or to return something else than eigenvectors without a word: what they
    give must have a residual and a loss of orthogonality of no more than d roundings. Else there is a warning, and
    None: the host must compute them.
    """
    torch, d = device.torch, len(matrix)
    try:
        values, vectors = torch.linalg.eigh(matrix)
        residual = (matrix @ vectors - vectors * values).abs().amax() / values.abs().amax().clamp(min=1e-300)
        overlaps = vectors.mT @ vectors
        overlaps.diagonal().sub_(1.0)
        worst = float(device.fetch(torch.maximum(residual, overlaps.abs().amax())))
    except RuntimeError as error:
        _warn(device, str(error).partition("\n")[0])
        return None
    if not worst <= d * EPSILON:
        _warn(device, f"an error of {worst:.1e}")
        return None
    return values, vectors


def _warn(device: CudaDevice, reason: str) -> None:
    msg = f"eigenvectors from {device.name} cannot be used ({reason}); the host computes them, which takes longer"
    warnings.warn(msg, RuntimeWarning, stacklevel=2)
