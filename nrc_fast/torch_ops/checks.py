"""Checks of the arguments of operators, for their kernels and for their fakes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nrc_fast.base.libraries import require_library
from nrc_fast.base.options import require_choice

if TYPE_CHECKING:
    from torch import Tensor

torch = require_library("torch", "torch")

__all__ = ["require_components", "require_no_tangents", "require_rows_rule", "require_shapes"]


def require_shapes(features: Tensor, shift: Tensor | None, basis: Tensor | None = None) -> None:
    """Check that features are a matrix, and that shift and basis fit it.

    Raises
    ------
    ValueError
        Features have another number of axes or no columns, or a width differs.
    """
    if features.dim() != 2 or features.shape[1] == 0:
        msg = f"features has shape {tuple(features.shape)}; a matrix with one row per sample is expected"
        raise ValueError(msg)
    d = features.shape[1]
    for name, tensor, axes in (("shift", shift, 1), ("basis", basis, 2)):
        if tensor is not None and (tensor.dim() != axes or tensor.shape[-1] != d):
            expected = f"({d},)" if axes == 1 else f"(k, {d})"
            msg = f"{name} has shape {tuple(tensor.shape)}; {expected} is expected, as features have {d} columns"
            raise ValueError(msg)


def require_no_tangents(*tensors: Tensor | None) -> None:
    """Check that forward mode is off: its derivatives would be lost without a word, as kernels get the dual tensors.

    Raises
    ------
    NotImplementedError
        A tensor carries a tangent.
    """
    unpack = torch.autograd.forward_ad.unpack_dual
    if any(tensor is not None and unpack(tensor).tangent is not None for tensor in tensors):
        msg = "nrc_fast operators have no forward-mode derivatives; use reverse mode (backward, torch.autograd.grad)"
        raise NotImplementedError(msg)


def require_rows_rule(rows: str) -> None:
    """Check which rows are meant.

    Raises
    ------
    ValueError
        Neither unit rows nor raw ones.
    """
    require_choice("rows", rows, ("unit", "raw"))


def require_components(features: Tensor, n: int) -> None:
    """Check a number of components.

    Raises
    ------
    ValueError
        It is not in 1..d.
    """
    if not 1 <= n <= features.shape[1]:
        msg = f"n is {n}; it must lie between 1 and d = {features.shape[1]}, the number of features"
        raise ValueError(msg)
