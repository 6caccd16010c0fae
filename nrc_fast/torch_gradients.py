"""Gradients of sums over rows: the formulas behind `torch_ops`, block by block in float64.

x = h - s is a row about the shift, u = x/||x||, and a zero row has u = 0.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from nrc_fast.libraries import require_library

if TYPE_CHECKING:
    from torch import Tensor

torch = require_library("torch", "torch")

__all__ = ["gram_gradients", "residual_gradients"]

# Values of a block: a few float64 copies of it stay in a cache.
BLOCK_VALUES = 1 << 16


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
        if unit_rows:
            u, lengths = _unit(x)
            image = u @ symmetric
            gradient = (image - u * (u * image).sum(dim=1, keepdim=True)) / lengths
        else:
            gradient = x @ symmetric
        gradient += grad_sums
        grad_features[part] = gradient
        grad_shift -= gradient.sum(dim=0)
    return grad_features, grad_shift


def residual_gradients(
    grad: Tensor, features: Tensor, space: Tensor, inverse: Tensor, shift: Tensor | None, *, unit_rows: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of ``sum_i g_i f_i``, f the squared residuals, with respect to the features, the basis and the shift.

    See `torch_ops.residual` for the formulas and how they follow.

    Parameters
    ----------
    grad : (N,) tensor
        g.
    features : (N, d) tensor
    space : (r, d) float64 tensor
        Q, and in `inverse` (k, r) C, of `linalg.row_space_and_inverse`.
    inverse : (k, r) float64 tensor
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
        rows, lengths = _unit(x) if unit_rows else (x, None)
        weights = 2.0 * grad[part, None].double()
        coefficients = rows @ space.mT
        captured = coefficients @ space
        rest = rows - captured
        if lengths is None:
            gradient = weights * rest
        else:
            inside, outside = (values.square().sum(dim=1, keepdim=True) for values in (coefficients, rest))
            gradient = weights * (inside * rest - outside * captured) / lengths
        grad_features[part] = gradient
        grad_shift -= gradient.sum(dim=0)
        grad_space -= (weights * coefficients).mT @ rest
    return grad_features, inverse @ grad_space, grad_shift


def _outputs(features: Tensor) -> tuple[Tensor, Tensor]:
    return features.new_empty(features.shape), features.new_zeros(features.shape[1], dtype=torch.float64)


def _blocks(features: Tensor, shift: Tensor | None) -> Iterator[tuple[slice, Tensor]]:
    """Which rows, and these about the shift in float64."""
    count, d = features.shape
    step = max(BLOCK_VALUES // d, 1)
    for first in range(0, count, step):
        part = slice(first, first + step)
        rows = features[part].double()
        yield part, rows if shift is None else rows - shift


def _unit(x: Tensor) -> tuple[Tensor, Tensor]:
    """Rows over their norms, and the norms; 0 and 1 for a zero row. Squares neither overflow nor vanish."""
    peaks = x.abs().amax(dim=1, keepdim=True)
    peaks = peaks.where(peaks > 0.0, 1.0)
    scaled = x / peaks
    norms = scaled.norm(dim=1, keepdim=True)
    norms = norms.where(norms > 0.0, 1.0)
    return scaled / norms, peaks * norms
