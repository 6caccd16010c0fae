"""Eigenvalues and vectors on a CUDA device, in float64 and checked, at sizes where those of the host take long."""

from __future__ import annotations

import warnings

import numpy as np

from nrc_fast.base.arrays import FloatArray
from nrc_fast.base.linalg import EPSILON, eigh_descending, in_descending_order
from nrc_fast.kernels.cuda.device import CudaDevice

__all__ = ["LEAST_SIZE", "checked_eigh"]

# Below, the host is as fast as the copies and the launches.
LEAST_SIZE = 1024


def checked_eigh(matrix: FloatArray, device: CudaDevice) -> tuple[FloatArray, FloatArray]:
    """Eigenvalues, descending, and eigenvectors of a symmetric matrix of the host, as `linalg.eigh_descending`.

    Solvers on devices have been seen to fail, or to return something else than eigenvectors without a word: what they
    give must have a residual and a loss of orthogonality of no more than d roundings. Else there is a warning, and the
    host computes them, as it does with what is smaller than `LEAST_SIZE`.
    """
    found = _eigh_on_device(matrix, device) if len(matrix) >= LEAST_SIZE else None
    return eigh_descending(matrix) if found is None else found


def _eigh_on_device(matrix: FloatArray, device: CudaDevice) -> tuple[FloatArray, FloatArray] | None:
    torch, d = device.torch, len(matrix)
    placed = device.place(matrix)
    try:
        values, vectors = torch.linalg.eigh(placed)
        residual = (placed @ vectors - vectors * values).abs().amax() / values.abs().amax().clamp(min=1e-300)
        loss = (vectors.mT @ vectors - device.place(np.eye(d))).abs().amax()
        worst = float(device.fetch(torch.maximum(residual, loss)))
    except RuntimeError as error:
        _warn(device, str(error).partition("\n")[0])
        return None
    if not worst <= d * EPSILON:
        _warn(device, f"an error of {worst:.1e}")
        return None
    return in_descending_order(device.fetch(values), device.fetch(vectors))


def _warn(device: CudaDevice, reason: str) -> None:
    msg = f"eigenvectors from {device.name} cannot be used ({reason}); the host computes them, which takes longer"
    warnings.warn(msg, RuntimeWarning, stacklevel=2)
