"""The ``nrc_fast::`` operators of torch: schemas, kernels, fakes (shapes without values), gradients.

`torch_ops` documents them. Kernels run on any device that `kernels` can compute on. Gradients are operators too, so
that torch.compile need not look into them. On a CUDA device what they give stays there, and where the CPU raises
because a row is not finite, results are NaN: an error would have to wait for the device.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol, TypedDict

import numpy as np

from nrc_fast.base.arrays import FloatArray
from nrc_fast.base.libraries import require_library
from nrc_fast.base.linalg import row_space, row_space_and_inverse
from nrc_fast.base.options import require_precision
from nrc_fast.kernels.arrays import PlacedArray
from nrc_fast.kernels.devices import backend_of
from nrc_fast.kernels.inputs import as_matrix
from nrc_fast.kernels.interface import Rows
from nrc_fast.kernels.placement import rows_in_place
from nrc_fast.measurement.evidence import Evidence
from nrc_fast.passes.begin import begin_reading
from nrc_fast.torch_ops.bounds import mean_residual_bound
from nrc_fast.torch_ops.checks import require_components, require_no_tangents, require_rows_rule, require_shapes
from nrc_fast.torch_ops.gradients import gram_gradients, residual_gradients

if TYPE_CHECKING:
    from torch import Tensor

torch = require_library("torch", "torch")

__all__: list[str] = []  # they are called as torch.ops.nrc_fast

# Mean squares of rows between which neither they nor their residuals leave the range of float64.
SMALLEST_ENERGY = 2.0**-900
LARGEST_ENERGY = 2.0**900


def _placed_shift(rows: Rows, shift: Tensor | None) -> PlacedArray | None:
    """The shift in float64, in the memory of the rows.

    Raises
    ------
    RuntimeError
        It lies elsewhere, and the rows on a device.
    """
    if shift is None:
        return None
    if rows.backend.is_host:
        return as_matrix(shift, "shift", vector_is_column=True)[0][:, 0]
    there = backend_of(None, shift)
    if there != rows.backend:
        place = rows.backend.place_name
        msg = f"shift lies on {there.place_name} and features on {place}; put both in one place (.to({place!r}))"
        raise RuntimeError(msg)
    return shift.detach().double().contiguous()


def _tensor(array: PlacedArray) -> Tensor:
    """An array of either memory as a tensor, without a copy."""
    tensor: Tensor = torch.as_tensor(array)
    return tensor


def _empty(like: Tensor, *shape: int) -> Tensor:
    tensor: Tensor = like.new_empty(shape, dtype=torch.float64)
    return tensor


# ---- kernels and fakes ----


def _gram(
    features: Tensor, shift: Tensor | None = None, *, unit_rows: bool = False, precision: str = "high"
) -> tuple[Tensor, Tensor]:
    require_shapes(features, shift)
    require_no_tangents(features, shift)
    require_precision(precision)
    rows = rows_in_place(features, "features")
    found = rows.backend.placed_gram(rows, _placed_shift(rows, shift), unit_rows=unit_rows, precision=precision)
    lower, column_sums = map(_tensor, found)
    return lower + lower.tril(-1).mT, column_sums


def _gram_fake(
    features: Tensor, shift: Tensor | None = None, *, unit_rows: bool = False, precision: str = "high"
) -> tuple[Tensor, Tensor]:
    del unit_rows
    require_shapes(features, shift)
    require_precision(precision)
    d = features.shape[1]
    return _empty(features, d, d), _empty(features, d)


def _gram_backward(
    grad_gram: Tensor, grad_sums: Tensor, features: Tensor, shift: Tensor | None, unit_rows: bool
) -> tuple[Tensor, Tensor]:
    return gram_gradients(grad_gram, grad_sums, features, shift, unit_rows=unit_rows)


def _gram_backward_fake(
    grad_gram: Tensor, grad_sums: Tensor, features: Tensor, shift: Tensor | None, unit_rows: bool
) -> tuple[Tensor, Tensor]:
    del grad_gram, grad_sums, shift, unit_rows
    return features.new_empty(features.shape), _empty(features, features.shape[1])


def _residual(features: Tensor, basis: Tensor, shift: Tensor | None = None, *, rows: str = "unit") -> Tensor:
    require_shapes(features, shift, basis)
    require_no_tangents(features, shift, basis)
    require_rows_rule(rows)
    vectors = row_space(as_matrix(basis, "basis")[0]).basis
    matrix = rows_in_place(features, "features")
    offset = _placed_shift(matrix, shift)
    residuals, energies = _row_sums(matrix, vectors, offset)
    if rows == "raw":
        return residuals
    in_range = (energies > SMALLEST_ENERGY) & (energies < LARGEST_ENERGY)
    shares: Tensor = residuals / energies
    if not bool(in_range.all()):
        extreme = (~in_range).nonzero()[:, 0]
        shares[extreme] = _extreme_shares(matrix, features.detach()[extreme].double(), vectors, offset)
    return shares


def _row_sums(rows: Rows, vectors: FloatArray, shift: PlacedArray | None) -> tuple[Tensor, Tensor]:
    """Squared residual and energy of each row."""
    residuals, energies = map(_tensor, rows.backend.placed_residuals(rows, vectors, shift))
    return residuals, energies


def _extreme_shares(rows: Rows, values: Tensor, vectors: FloatArray, shift: PlacedArray | None) -> Tensor:
    """Residuals of unit rows whose squares over- or underflow, of these values of some rows; 0 for zero rows."""
    if shift is not None:
        values = values - _tensor(shift)
    peaks = values.abs().amax(dim=1, keepdim=True)
    scaled = values / torch.where(peaks == 0.0, 1.0, peaks)
    placed = scaled.numpy() if rows.backend.is_host else scaled
    residuals, energies = _row_sums(rows.holding(placed, "float64"), vectors, None)
    shares: Tensor = residuals / torch.where(energies == 0.0, 1.0, energies)
    return shares


def _residual_fake(features: Tensor, basis: Tensor, shift: Tensor | None = None, *, rows: str = "unit") -> Tensor:
    require_shapes(features, shift, basis)
    require_rows_rule(rows)
    return _empty(features, features.shape[0])


def _residual_backward(
    grad: Tensor, features: Tensor, basis: Tensor, shift: Tensor | None, rows: str
) -> tuple[Tensor, Tensor, Tensor]:
    place = rows_in_place(features, "features").backend.place
    space, inverse = (_tensor(place(part)) for part in row_space_and_inverse(as_matrix(basis, "basis")[0]))
    gradients = residual_gradients(grad, features, space, inverse, shift, unit_rows=rows == "unit")
    return gradients[0], gradients[1].to(basis.dtype), gradients[2]


def _residual_backward_fake(
    grad: Tensor, features: Tensor, basis: Tensor, shift: Tensor | None, rows: str
) -> tuple[Tensor, Tensor, Tensor]:
    del grad, shift, rows
    return features.new_empty(features.shape), basis.new_empty(basis.shape), _empty(features, features.shape[1])


def _residual_bound(
    value: Tensor, features: Tensor, basis: Tensor, *, centered: bool, unit_rows: bool, relative: bool
) -> Tensor:
    require_shapes(features, None, basis)
    rows, vectors = (part.detach().double().cpu().numpy() for part in (features, basis))
    bound = mean_residual_bound(value.item(), rows, vectors, centered=centered, unit_rows=unit_rows, relative=relative)
    return value.new_tensor(bound, dtype=torch.float64)


def _residual_bound_fake(
    value: Tensor, features: Tensor, basis: Tensor, *, centered: bool, unit_rows: bool, relative: bool
) -> Tensor:
    del value, centered, unit_rows, relative
    require_shapes(features, None, basis)
    return _empty(features)


def _principal_basis(features: Tensor, n: int, *, centered: bool = True) -> Tensor:
    require_shapes(features, None)
    require_components(features, n)
    reading = begin_reading(features, progress=False)
    found = Evidence(reading=reading).components(n, centered=centered).vectors
    basis = np.zeros((n, features.shape[1]))
    basis[: len(found)] = found
    return _tensor(reading.source.backend.place(basis))


def _principal_basis_fake(features: Tensor, n: int, *, centered: bool = True) -> Tensor:
    del centered
    require_shapes(features, None)
    require_components(features, n)
    return _empty(features, n, features.shape[1])


# ---- gradients ----


class _GramOptions(TypedDict):
    unit_rows: bool
    precision: str


class _GramContext(Protocol):
    """What torch keeps for the gradients of `gram`."""

    unit_rows: bool

    @property
    def saved_tensors(self) -> tuple[Tensor, Tensor | None]: ...

    def save_for_backward(self, *tensors: Tensor | None) -> None: ...


class _ResidualOptions(TypedDict):
    rows: str


class _ResidualContext(Protocol):
    """What torch keeps for the gradients of `residual`."""

    rows: str

    @property
    def saved_tensors(self) -> tuple[Tensor, Tensor, Tensor | None]: ...

    def save_for_backward(self, *tensors: Tensor | None) -> None: ...


def _save_gram(
    ctx: _GramContext, inputs: tuple[Tensor | None, ...], keyword_only_inputs: _GramOptions, output: object
) -> None:
    del output
    ctx.save_for_backward(*inputs)
    ctx.unit_rows = keyword_only_inputs["unit_rows"]


def _differentiate_gram(ctx: _GramContext, grad_gram: Tensor, grad_sums: Tensor) -> tuple[Tensor | None, ...]:
    features, shift = ctx.saved_tensors
    grad_features, grad_shift = torch.ops.nrc_fast.gram_backward(grad_gram, grad_sums, features, shift, ctx.unit_rows)
    return grad_features, None if shift is None else grad_shift.to(shift.dtype)


def _save_residual(
    ctx: _ResidualContext, inputs: tuple[Tensor | None, ...], keyword_only_inputs: _ResidualOptions, output: object
) -> None:
    del output
    ctx.save_for_backward(*inputs)
    ctx.rows = keyword_only_inputs["rows"]


def _differentiate_residual(ctx: _ResidualContext, grad: Tensor) -> tuple[Tensor | None, ...]:
    features, basis, shift = ctx.saved_tensors
    gradients = torch.ops.nrc_fast.residual_backward(grad, features, basis, shift, ctx.rows)
    return gradients[0], gradients[1], None if shift is None else gradients[2].to(shift.dtype)


def _refuse_second_derivatives(ctx: object, *grads: Tensor) -> None:
    del ctx, grads
    msg = "gradients of nrc_fast operators cannot be differentiated again; leave create_graph=False"
    raise NotImplementedError(msg)


def _refuse_gradient_of_components(ctx: object, *grads: Tensor) -> None:
    del ctx, grads
    msg = "principal components have no gradient here; give features.detach() to nrc_fast::principal_basis"
    raise NotImplementedError(msg)


def _refuse_gradient_of_bounds(ctx: object, *grads: Tensor) -> None:
    del ctx, grads
    msg = "bounds have no gradient here; give detached tensors to nrc_fast::residual_bound"
    raise NotImplementedError(msg)


def _refuse_transforms(*arguments: object, **options: object) -> None:
    del arguments, options
    msg = "nrc_fast operators have no rules for torch.vmap and torch.func; use a loop, or backward, instead"
    raise NotImplementedError(msg)


# ---- registration ----

_library = torch.library.Library("nrc_fast", "DEF")


def _register(
    schema: str,
    *,
    kernel: Callable[..., object],
    fake: Callable[..., object],
    differentiate: Callable[..., object],
    save: Callable[..., None] | None = None,
) -> None:
    """Define an operator; `torch.library.custom_op` would double the cost of a call.

    Parameters
    ----------
    schema : str
        Name, arguments and results, as torch writes them.
    kernel : callable
        Computes the results.
    fake : callable
        Gives results of the right shapes and dtypes without values, for torch.compile.
    differentiate : callable
        Turns gradients of the results into those of the arguments.
    save : callable, optional
        Keeps what `differentiate` needs.
    """
    name = schema.partition("(")[0]
    _library.define(schema, tags=(torch.Tag.pt2_compliant_tag,))
    _library.impl(name, kernel, "CompositeExplicitAutograd")
    # Without this torch.vmap loops with a warning, and torch.func.jvp gives a tangent of 0.
    _library.impl(name, _refuse_transforms, "FuncTorchDynamicLayerFrontMode")
    torch.library.register_fake(f"nrc_fast::{name}", fake, lib=_library)
    torch.library.register_autograd(f"nrc_fast::{name}", differentiate, setup_context=save, lib=_library)


_register(
    'gram(Tensor features, Tensor? shift=None, *, bool unit_rows=False, str precision="high") -> (Tensor, Tensor)',
    kernel=_gram,
    fake=_gram_fake,
    differentiate=_differentiate_gram,
    save=_save_gram,
)
_register(
    "gram_backward(Tensor grad_gram, Tensor grad_sums, Tensor features, Tensor? shift, bool unit_rows)"
    " -> (Tensor, Tensor)",
    kernel=_gram_backward,
    fake=_gram_backward_fake,
    differentiate=_refuse_second_derivatives,
)
_register(
    'residual(Tensor features, Tensor basis, Tensor? shift=None, *, str rows="unit") -> Tensor',
    kernel=_residual,
    fake=_residual_fake,
    differentiate=_differentiate_residual,
    save=_save_residual,
)
_register(
    "residual_backward(Tensor grad, Tensor features, Tensor basis, Tensor? shift, str rows)"
    " -> (Tensor, Tensor, Tensor)",
    kernel=_residual_backward,
    fake=_residual_backward_fake,
    differentiate=_refuse_second_derivatives,
)
_register(
    "principal_basis(Tensor features, int n, *, bool centered=True) -> Tensor",
    kernel=_principal_basis,
    fake=_principal_basis_fake,
    differentiate=_refuse_gradient_of_components,
)
_register(
    "residual_bound(Tensor value, Tensor features, Tensor basis, *, bool centered, bool unit_rows, bool relative)"
    " -> Tensor",
    kernel=_residual_bound,
    fake=_residual_bound_fake,
    differentiate=_refuse_gradient_of_bounds,
)
