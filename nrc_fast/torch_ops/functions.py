"""Torch operators with gradients, and NRC1 and NRC2 as loss terms.

Importing this module registers ``torch.ops.nrc_fast.gram``, ``.residual`` and ``.principal_basis``; the functions below
call them, with defaults. They work under torch.compile, also with ``fullgraph=True``. Autocast changes nothing: rows
are read in the dtype that they have, results are float64, and the gradient of a tensor has the tensor's dtype. Tensors
on a CUDA device are computed with there; where the CPU raises because a row is not finite, results are NaN, as nothing
waits for the device. Only `residual` and `principal_basis` do, whose small matrices are decomposed on the host.
There are no second derivatives, no forward-mode derivatives and no rules for ``torch.vmap`` and ``torch.func``: they
raise.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, overload

from nrc_fast.base.libraries import require_library
from nrc_fast.base.options import Precision
from nrc_fast.metrics.conventions import Convention, ConventionName, resolve_convention
from nrc_fast.torch_ops import operators  # noqa: F401 - registers the operators

if TYPE_CHECKING:
    from torch import Tensor

torch = require_library("torch", "torch")

__all__ = ["gram", "nrc1_loss", "nrc2_loss", "principal_basis", "residual"]

# ---- operators ----


def gram(
    H: Tensor, shift: Tensor | None = None, *, unit_rows: bool = False, precision: Precision = "high"
) -> tuple[Tensor, Tensor]:
    """Gram matrix and column sums of the rows x = h - s: ``sum x x^T`` and ``sum x``, in one read.

    With `unit_rows` the Gram is that of u = x/||x||, where a zero row adds 0; the column sums are those of x still.
    Their gradients, for upstream gradients G and g, are ``(G + G^T) x + g`` for a row x, and for unit rows
    ``(I - u u^T)(G + G^T) u/||x|| + g``, without the first term for a zero row. That of s is minus their sum.

    Parameters
    ----------
    H : (N, d) tensor
        Rows h of float64, float32, float16 or bfloat16, with any strides; N may be 0.
    shift : (d,) tensor, optional
        s, of any floating dtype.
    unit_rows : bool
    precision : {"high", "highest", "fast"}
        Of the sums, as `nrc_fast.nrc1` explains it; gradients are computed in float64.

    Returns
    -------
    gram : (d, d) float64 tensor
        Symmetric, both triangles.
    column_sums : (d,) float64 tensor

    Raises
    ------
    TypeError, ValueError
        Of shapes, dtypes or values that are not as above, or not finite.
    RuntimeError
        The tensors lie on a device that this build cannot compute on.

    Examples
    --------
    >>> H = torch.tensor([[3.0, 4.0], [0.0, 1.0]], requires_grad=True)
    >>> second_moment, sums = gram(H)
    >>> second_moment.tolist(), sums.tolist()
    ([[9.0, 12.0], [12.0, 17.0]], [3.0, 5.0])
    >>> second_moment.trace().backward()
    >>> H.grad.tolist()
    [[6.0, 8.0], [0.0, 2.0]]
    """
    outputs: tuple[Tensor, Tensor] = torch.ops.nrc_fast.gram(H, shift, unit_rows=unit_rows, precision=precision)
    return outputs


def residual(H: Tensor, basis: Tensor, shift: Tensor | None = None, *, rows: str = "unit") -> Tensor:
    """Squared distance of each row from the span of a basis: ``f = ||x - P x||^2``, x = h - s.

    P = B^+ B is the projection on the rows of B, which need be neither orthonormal nor independent, so that the weights
    of a layer are a basis as well as principal components are. With ``rows="unit"`` it is that of u = x/||x||, a
    share of the energy between 0 and 1. It is computed in float64, as an explicit difference where ``1 - ||P u||^2``
    would cancel.

    Gradients. P is symmetric and P^2 = P, so that with r = x - P x

    - ``df/dx = 2 r``, which is small where f is, and not the difference of two large terms;
    - of a unit row ``df/dx = (I - u u^T) 2 r/||x||``, r = u - P u. As u = r + p with p = P u orthogonal to r,
      ``u^T r = ||r||^2`` and ``||r||^2 + ||p||^2 = 1``, so that it equals ``2 (||p||^2 r - ||r||^2 p)/||x||``, whose
      parts are orthogonal. f jumps at a zero row; its value and its gradient there are 0 by definition;
    - ``df/dB = -2 (B^+)^T x r^T``. While the rank of B does not change, ``dP = B^+ dB (I - P)`` plus its transpose, and
      ``df = -x^T dP x = -2 (x^T B^+) dB r``. It is orthogonal to the rows of B: moves within their span change nothing.
      For orthonormal rows it is ``-2 c r^T`` with c = B x;
    - ``df/ds`` is minus the sum of the gradients of the rows.

    Parameters
    ----------
    H : (N, d) tensor
        Rows h of float64, float32, float16 or bfloat16, with any strides; N may be 0.
    basis : (k, d) tensor
        B, of any floating dtype; singular values up to ``sigma_max max(k, d) eps`` of its dtype count as zero. With
        k = 0 or B = 0 the residual is the whole energy.
    shift : (d,) tensor, optional
        s, of any floating dtype.
    rows : {"unit", "raw"}

    Returns
    -------
    (N,) float64 tensor
        Also for features of other dtypes, whose range ends above 1e-12.

    Raises
    ------
    TypeError, ValueError
        Of shapes, dtypes or values that are not as above, or not finite.
    RuntimeError
        The tensors lie on a device that this build cannot compute on.

    References
    ----------
    The derivative of a projection: Golub and Pereyra, SIAM J. Numer. Anal. 10 (1973), 413-432.

    Examples
    --------
    >>> H = torch.tensor([[3.0, 4.0]], requires_grad=True)
    >>> B = torch.tensor([[2.0, 0.0]], requires_grad=True)
    >>> outside = residual(H, B, rows="raw")
    >>> outside.backward()
    >>> outside.item(), H.grad.tolist(), B.grad.tolist()
    (16.0, [[0.0, 8.0]], [[0.0, -12.0]])
    """
    residuals: Tensor = torch.ops.nrc_fast.residual(H, basis, shift, rows=rows)
    return residuals


def principal_basis(H: Tensor, n: int, *, centered: bool = True) -> Tensor:
    """The first n principal components of the features, a constant for gradients.

    Parameters
    ----------
    H : (N, d) tensor
        Rows of float64, float32, float16 or bfloat16, with any strides; N >= 1.
    n : int
        Number of components, 1 to d.
    centered : bool
        Whether they are eigenvectors of the covariance, or of the second moment.

    Returns
    -------
    (n, d) float64 tensor
        Orthonormal rows; zero rows in place of components in which the features do not vary.

    Raises
    ------
    TypeError, ValueError
        Of shapes, dtypes or values that are not as above, or not finite; of an n that is not in 1..d.
    RuntimeError
        The tensor lies on a device that this build cannot compute on.

    Examples
    --------
    >>> principal_basis(torch.tensor([[2.0, 1.0], [-2.0, 1.0]]), 2).tolist()
    [[1.0, 0.0], [0.0, 0.0]]
    """
    basis: Tensor = torch.ops.nrc_fast.principal_basis(H.detach(), n, centered=centered)
    return basis


# ---- loss terms ----


@overload
def nrc1_loss(
    H: Tensor, basis: Tensor, *, convention: ConventionName | Convention = ..., return_bound: Literal[False] = ...
) -> Tensor: ...


@overload
def nrc1_loss(
    H: Tensor, basis: Tensor, *, convention: ConventionName | Convention = ..., return_bound: Literal[True]
) -> tuple[Tensor, Tensor]: ...


def nrc1_loss(
    H: Tensor, basis: Tensor, *, convention: ConventionName | Convention = "nrc24", return_bound: bool = False
) -> Tensor | tuple[Tensor, Tensor]:
    """NRC1 as a loss term: the mean residual of the features outside fixed principal components.

    With ``basis = principal_basis(H, n)`` the value is that of `nrc_fast.nrc1`; NRC1 of a batch takes the basis of the
    batch, or one of more rows that is renewed every so often. The basis is a constant in the gradient. Under the
    convention ``variance`` that is the whole gradient of NRC1, as principal components minimise the residual and their
    own gradient vanishes. Under the others, whose rows are scaled or not centered, they do not minimise it, and a term
    is left out: a step lowers the residual on the given basis.

    Parameters
    ----------
    H : (N, d) tensor
        Features of float64, float32, float16 or bfloat16, with any strides.
    basis : (k, d) tensor
        Usually of `principal_basis`, with ``centered=False`` under the convention ``uncentered``.
    convention : str or Convention
        Those with centered rows take the mean of H, and its gradient.
    return_bound : bool
        Give ``(loss, bound)``: the same loss, with the same gradients, and the absolute bound of the error of its value
        as a tensor without gradient, for the basis as it is given. It is certified: the value
        is computed again with twice the digits, on the host. That takes ten to some hundred times as long as the loss;
        ask for it now and then, not in every step.

    Returns
    -------
    float64 tensor without dimensions
        NaN for no rows. Zero rows have residual 0; where all are, it is 0, or NaN under ``variance``.

    Raises
    ------
    TypeError, ValueError
        Of shapes, dtypes or values that are not as above, or not finite; of an unknown convention.
    RuntimeError
        The tensors lie on a device that this build cannot compute on.

    References
    ----------
    arXiv 2409.04180 (NeurIPS 2024), section 3.1.

    Examples
    --------
    >>> H = torch.tensor([[2.0, 1.0], [-2.0, 1.0]], requires_grad=True)
    >>> loss = nrc1_loss(H, principal_basis(H, 1))
    >>> round(loss.item(), 12)
    0.2
    """
    return _mean_residual(H, basis.detach(), resolve_convention(convention), return_bound=return_bound)


@overload
def nrc2_loss(
    H: Tensor, W: Tensor, *, convention: ConventionName | Convention = ..., return_bound: Literal[False] = ...
) -> Tensor: ...


@overload
def nrc2_loss(
    H: Tensor, W: Tensor, *, convention: ConventionName | Convention = ..., return_bound: Literal[True]
) -> tuple[Tensor, Tensor]: ...


def nrc2_loss(
    H: Tensor, W: Tensor, *, convention: ConventionName | Convention = "nrc24", return_bound: bool = False
) -> Tensor | tuple[Tensor, Tensor]:
    """NRC2 as a loss term, with gradients for features and weights: the mean residual outside the row space of W.

    The value is that of `nrc_fast.nrc2`. Detach H or W to train the other alone.

    Parameters
    ----------
    H : (N, d) tensor
        Features of float64, float32, float16 or bfloat16, with any strides.
    W : (n, d) tensor
        As ``torch.nn.Linear.weight``; any rank. The gradient is that of changes that keep the rank.
    convention : str or Convention
        Those with centered rows take the mean of H, and its gradient.
    return_bound : bool
        Give ``(loss, bound)``: the same loss, with the same gradients, and the absolute bound of the error of its value
        as a tensor without gradient, for W as it is stored. It is certified: the value
        is computed again with twice the digits, on the host. That takes ten to some hundred times as long as the loss;
        ask for it now and then, not in every step.

    Returns
    -------
    float64 tensor without dimensions
        NaN for no rows. Zero rows have residual 0; where all are, it is 0, or NaN under ``variance``. For W = 0, where
        `nrc_fast.nrc2` is NaN, nothing is captured: the value is the energy of the rows, and the gradient of W is 0.

    Raises
    ------
    TypeError, ValueError
        Of shapes, dtypes or values that are not as above, or not finite; of an unknown convention.
    RuntimeError
        The tensors lie on a device that this build cannot compute on.

    References
    ----------
    arXiv 2409.04180 (NeurIPS 2024), section 3.1.

    Examples
    --------
    >>> H = torch.tensor([[3.0, 4.0], [6.0, 8.0]])
    >>> W = torch.tensor([[2.0, 0.0]], requires_grad=True)
    >>> loss = nrc2_loss(H, W)
    >>> loss.backward()
    >>> round(loss.item(), 12), round(W.grad[0, 1].item(), 6)
    (0.64, -0.48)
    """
    return _mean_residual(H, W, resolve_convention(convention), return_bound=return_bound)


def _mean_residual(
    H: Tensor, basis: Tensor, convention: Convention, *, return_bound: bool
) -> Tensor | tuple[Tensor, Tensor]:
    shift = torch.mean(H, dim=0, dtype=torch.float64) if convention.centered_rows else None
    rows = "unit" if convention.unit_rows else "raw"
    residuals = residual(H, basis, shift, rows=rows)
    energy = residual(H, basis[:0], shift, rows=rows).sum() if convention.relative else None
    loss = residuals.mean() if energy is None else residuals.sum() / energy
    if not return_bound:
        return loss
    bound: Tensor = torch.ops.nrc_fast.residual_bound(
        *(part.detach() for part in (loss, H, basis)),
        centered=convention.centered_rows,
        unit_rows=convention.unit_rows,
        relative=convention.relative,
    )
    return loss, bound
