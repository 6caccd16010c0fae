"""Gradients of sums over rows: the formulas behind `torch_ops`, block by block in float64.

x = h - s is a row about the shift, u = x/||x||, and a zero row has u = 0.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from nrc_fast.base.libraries import require_library
from nrc_fast.kernels.devices import is_on_device

if TYPE_CHECKING:
    from torch import Tensor

torch = require_library("torch", "torch")

__all__ = ["gram_gradients", "residual_gradients"]

# Values of a block: a few float64 copies of it stay in a cache, or fill a card.
BLOCK_VALUES = 1 << 16
DEVICE_BLOCK_VALUES = 1 << 25


def gram_gradients(
    grad_gram: Tensor, grad_sums: Tensor, features: Tensor, shift: Tensor | None, *, unit_rows: bool
) -> tuple[Tensor, Tensor]:
    """Gradients of ``<G, sum x x^T> + <g, sum x>`` (unit rows: u u^T) with respect to the features and the shift.

    Of a row x it is ``(G + G^T) x + g``. With unit rows the first term is ``(I - u u^T)(G + G^T) u/||x||``, 0 for a
    zero row.

    Parameters
    ----------
    grad_gram : (d, d) tensor
        G.
    grad_sums : (d,) tensor
        g.
    features : (N, d) tensor
    shift : (d,) tensor, optional
    unit_rows : bool

    Returns
    -------
    grad_features : (N, d) tensor of the features' dtype
    grad_shift : (d,) float64 tensor
    """
    symmetric = (grad_gram + grad_gram.mT).double()
    grad_features, grad_shift = _outputs(features)
    for part, x in _blocks(features, shift):
        lengths = _divide_by_norms(x) if unit_rows else None
        gradient = x @ symmetric
        if lengths is not None:
            gradient.addcmul_(x, (x * gradient).sum(dim=1, keepdim=True), value=-1.0).div_(lengths)
        gradient += grad_sums
        grad_features[part] = gradient
        grad_shift -= gradient.sum(dim=0)
    return grad_features, grad_shift


def residual_gradients(
    grad: Tensor, features: Tensor, space: Tensor, inverse: Tensor, shift: Tensor | None, *, unit_rows: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of ``sum_i g_i f_i``, f the squared residuals, with respect to the features, the basis and the shift.

    See `functions.residual` for the formulas and how they follow.

    Parameters
    ----------
    grad : (N,) tensor
        g.
    features : (N, d) tensor
    space : (r, d) float64 tensor
        Q of `linalg.row_space_and_inverse`: an orthonormal basis of the rows of the basis B.
    inverse : (k, r) float64 tensor
        C of `linalg.row_space_and_inverse`, with ``(B^+)^T = C Q``.
    shift : (d,) tensor, optional
    unit_rows : bool

    Returns
    -------
    grad_features : (N, d) tensor of the features' dtype
    grad_basis : (k, d) float64 tensor
    grad_shift : (d,) float64 tensor
    """
    grad_features, grad_shift = _outputs(features)
    grad_space = torch.zeros_like(space)
    for part, x in _blocks(features, shift):
        lengths = _divide_by_norms(x) if unit_rows else None
        weights = 2.0 * grad[part, None].double()
        coefficients = x @ space.mT
        captured = coefficients @ space
        rest = x.sub_(captured)
        grad_space -= (weights * coefficients).mT @ rest
        if lengths is None:
            gradient = rest.mul_(weights)
        else:
            inside, outside = (torch.linalg.vector_norm(v, dim=1, keepdim=True).square() for v in (coefficients, rest))
            gradient = rest.mul_(weights * inside).sub_(captured.mul_(weights * outside)).div_(lengths)
        grad_features[part] = gradient
        grad_shift -= gradient.sum(dim=0)
    return grad_features, inverse @ grad_space, grad_shift


def _outputs(features: Tensor) -> tuple[Tensor, Tensor]:
    return features.new_empty(features.shape), features.new_zeros(features.shape[1], dtype=torch.float64)


def _blocks(features: Tensor, shift: Tensor | None) -> Iterator[tuple[slice, Tensor]]:
    """Which rows, and a copy of these about the shift in float64, block by block.

    The copy may be changed in place: a small batch would else spend its time on the pages of new tensors.
    """
    count, d = features.shape
    step = max((DEVICE_BLOCK_VALUES if is_on_device(features) else BLOCK_VALUES) // d, 1)
    for first in range(0, count, step):
        part = slice(first, first + step)
        rows = features[part].to(torch.float64, copy=True)
        yield part, rows if shift is None else rows.sub_(shift)


def _divide_by_norms(x: Tensor) -> Tensor:
    """Turn rows into unit rows, and give their norms; 1 for a zero row. Squares neither overflow nor vanish."""
    peaks = torch.linalg.vector_norm(x, ord=torch.inf, dim=1, keepdim=True)
    peaks = peaks.where(peaks > 0.0, 1.0)
    x /= peaks
    norms = torch.linalg.vector_norm(x, dim=1, keepdim=True)
    norms = norms.where(norms > 0.0, 1.0)
    x /= norms
    lengths: Tensor = peaks * norms
    return lengths
