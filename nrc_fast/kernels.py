"""The only door to the compiled kernels: what users give is checked here, and a backend is chosen.

`Rows` is a matrix as the kernels see it (address, strides, dtype) together with the array that owns the memory.
The functions below it add over rows, in one read each, and return float64.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from nrc_fast import _cpu
from nrc_fast.linalg import FloatArray

__all__ = [
    "Basis",
    "GramSums",
    "ResidualSums",
    "Rows",
    "as_matrix",
    "as_rows",
    "available_isas",
    "current_isa",
    "gram",
    "gram_product",
    "prediction_error",
    "require_device",
    "residual",
    "set_isa",
    "set_thread_count",
    "thread_count",
]

DTYPES = {"float64": 0, "float32": 1, "float16": 2, "bfloat16": 3}
MOST_THREADS = 65536
PRECISIONS = ("high", "highest", "fast")

# Mean squared magnitudes outside of which squares of float32 numbers over- or underflow: float64 is used instead.
SMALLEST_FLOAT32_ENERGY = 2.0**-80
LARGEST_FLOAT32_ENERGY = 2.0**80


@dataclass(frozen=True)
class Rows:
    """A matrix in the memory of an array, N rows of d values, and how error messages call it."""

    name: str
    owner: Any
    address: int
    count: int
    columns: int
    row_stride: int
    column_stride: int
    dtype: str

    @property
    def is_double(self) -> bool:
        """Whether the rows are float64."""
        return self.dtype == "float64"

    @property
    def matrix(self) -> _cpu.Matrix:
        """The matrix as the kernels take it."""
        return _cpu.Matrix(
            self.address, self.count, self.columns, self.row_stride, self.column_stride, DTYPES[self.dtype]
        )

    def to_float64(self, first: int = 0, last: int | None = None) -> FloatArray:
        """Rows `first` to `last` as a new float64 array."""
        part = self.owner[first:last]
        if not isinstance(part, np.ndarray):
            part = part.double().numpy()
        return np.array(part, dtype=np.float64)

    def take(self, mask: np.ndarray[Any, np.dtype[np.bool_]], first: int) -> Rows:
        """A copy of the rows from `first` on where `mask` is set."""
        part = self.owner[first : first + len(mask)]
        if not isinstance(part, np.ndarray):
            return as_rows(part[_torch().from_numpy(mask)], self.name)
        return as_rows(np.ascontiguousarray(part[mask]), self.name)


def _torch() -> Any:
    """Torch if somebody else has imported it; we never do."""
    return sys.modules.get("torch")


def require_device(device: str | None) -> None:
    """Check that a named device can be used; None follows the input.

    Raises
    ------
    RuntimeError
        This build cannot compute on the device.
    """
    if device is None or str(device) == "cpu":
        return
    msg = (
        f"device {str(device)!r} cannot be used: this build of nrc_fast has no kernels for it. "
        "Leave device=None or 'cpu' and give arrays in CPU memory (tensor.cpu())"
    )
    raise RuntimeError(msg)


def as_rows(values: Any, name: str, *, vector_is_column: bool = False) -> Rows:
    """Check a user's array and describe it to the kernels, without copying it.

    Parameters
    ----------
    values : (N, d) numpy array, torch tensor or anything that `numpy.asarray` turns into a float matrix
        float64, float32, float16 or bfloat16, with any strides.
    name : str
        How error messages call it.
    vector_is_column : bool
        Accept shape (N,) as (N, 1).

    Raises
    ------
    TypeError
        The dtype or the kind of array is not supported.
    ValueError
        The number of dimensions is wrong, or there are no columns.
    RuntimeError
        The array lies on a device that this build cannot compute on.
    """
    torch = _torch()
    if torch is not None and isinstance(values, torch.Tensor):
        return _tensor_rows(values, name, vector_is_column)
    if isinstance(values, np.ma.MaskedArray):
        msg = f"{name} is a masked array; give the rows that count, for example {name}.compressed() or a selection"
        raise TypeError(msg)
    try:
        array = np.asarray(values)
    except (ValueError, TypeError) as error:
        msg = f"{name} is a {type(values).__name__} that numpy cannot read as an array: {error}"
        raise TypeError(msg) from error
    return _array_rows(array, name, vector_is_column)


def _check_shape(shape: Sequence[int], name: str, vector_is_column: bool) -> bool:
    """Whether the array is a vector to be read as a column; raises on any other shape than a matrix."""
    if len(shape) == 1 and vector_is_column:
        return True
    if len(shape) != 2:
        msg = f"{name} has shape {tuple(shape)}; a matrix with one row per sample is expected"
        raise ValueError(msg)
    if shape[1] == 0:
        msg = f"{name} has shape {tuple(shape)}: rows without values"
        raise ValueError(msg)
    return False


def _check_dtype(dtype: str, name: str) -> None:
    if dtype not in DTYPES:
        msg = f"{name} has dtype {dtype}; {', '.join(DTYPES)} are supported. Convert it, for example to float32"
        raise TypeError(msg)


def _array_rows(array: np.ndarray[Any, Any], name: str, vector_is_column: bool) -> Rows:
    _check_dtype(array.dtype.newbyteorder("=").name, name)
    if _check_shape(array.shape, name, vector_is_column):
        array = array[:, np.newaxis]
    itemsize = array.itemsize
    aligned = array.flags.aligned and all(stride % itemsize == 0 for stride in array.strides)
    if not aligned or not array.dtype.isnative:
        # Fields of records and files of the other byte order: the kernels step in whole elements.
        array = np.ascontiguousarray(array).astype(array.dtype.newbyteorder("="), copy=True)
    row_stride, column_stride = (stride // itemsize for stride in array.strides)
    return Rows(
        name, array, array.ctypes.data, array.shape[0], array.shape[1], row_stride, column_stride, array.dtype.name
    )


def _tensor_rows(tensor: Any, name: str, vector_is_column: bool) -> Rows:
    torch = _torch()
    if tensor.layout is not torch.strided:
        msg = f"{name} is a tensor of layout {tensor.layout}; give a dense one (tensor.to_dense())"
        raise TypeError(msg)
    _check_dtype(str(tensor.dtype).removeprefix("torch."), name)
    if tensor.device.type != "cpu":
        msg = (
            f"{name} lies on {tensor.device}, and this build of nrc_fast has no kernels for it; "
            f"move it to the CPU ({name}.cpu()), it is never moved behind your back"
        )
        raise RuntimeError(msg)
    tensor = tensor.detach().resolve_neg()
    if _check_shape(tensor.shape, name, vector_is_column):
        tensor = tensor[:, None]
    rows, columns = tensor.shape
    row_stride, column_stride = tensor.stride()
    dtype = str(tensor.dtype).removeprefix("torch.")
    return Rows(name, tensor, tensor.data_ptr(), rows, columns, row_stride, column_stride, dtype)


def as_matrix(values: Any, name: str) -> tuple[FloatArray, float]:
    """A small matrix (weights) as a float64 copy, with the machine epsilon of its own dtype.

    Raises
    ------
    TypeError, ValueError, RuntimeError
        As `as_rows`, and ValueError for values that are not finite.
    """
    rows = as_rows(values, name)
    matrix = rows.to_float64()
    if not np.isfinite(matrix).all():
        msg = f"{name} has {np.count_nonzero(~np.isfinite(matrix))} values that are not finite (NaN or infinite)"
        raise ValueError(msg)
    epsilons = {"float64": 2.0**-52, "float32": 2.0**-23, "float16": 2.0**-10, "bfloat16": 2.0**-7}
    return matrix, epsilons[rows.dtype]


# ---- the backend ----


def available_isas() -> list[str]:
    """Instruction sets that this machine can run, the fastest first."""
    return _cpu.supported_isas()


def current_isa() -> str:
    """The instruction set that the kernels use."""
    return _cpu.current_isa()


def set_isa(name: str) -> None:
    """Use one instruction set for all further calls of this process.

    Raises
    ------
    ValueError
        The build does not have it or the machine cannot run it.
    """
    _cpu.choose_isa(name)


def thread_count() -> int:
    """Threads that the kernels use: NRC_FAST_NUM_THREADS, else OMP_NUM_THREADS, else the processors allowed."""
    return _cpu.thread_count()


def set_thread_count(count: int) -> None:
    """Use `count` threads for all further calls of this process.

    Raises
    ------
    ValueError
        `count` is not between 1 and 65,536.
    """
    if not 1 <= count <= MOST_THREADS:
        msg = f"the number of threads is {count}; give 1 or more, up to {MOST_THREADS}"
        raise ValueError(msg)
    _cpu.set_thread_count(count)


def _read_environment() -> None:
    isa = os.environ.get("NRC_FAST_ISA")
    if isa:
        try:
            set_isa(isa)
        except ValueError as error:
            msg = f"environment variable NRC_FAST_ISA: {error}"
            raise ValueError(msg) from None
    for variable in ("NRC_FAST_NUM_THREADS", "OMP_NUM_THREADS"):
        text = os.environ.get(variable)
        if not text:
            continue
        # OMP_NUM_THREADS may be a list, one number for each level of nesting.
        first = text.split(",")[0].strip()
        if first.isdecimal() and 1 <= int(first) <= MOST_THREADS:
            set_thread_count(int(first))
            return
        if variable == "NRC_FAST_NUM_THREADS":
            msg = f"environment variable {variable} is {text!r}; a number of threads from 1 on is expected"
            raise ValueError(msg)


_read_environment()


# ---- the kernels ----


@dataclass
class GramSums:
    """Sums over the rows of one call; what was not asked for has no elements."""

    rows: int
    gram: FloatArray
    column_sums: FloatArray
    unit_gram: FloatArray
    cross: FloatArray
    zero_rows: int
    double_precision: bool


class NonFiniteRowsError(ValueError):
    """Rows with NaN or infinite values, and the first of them."""

    def __init__(self, name: str, count: int, first: int, rows: int) -> None:
        super().__init__(
            f"{name}: {count} of {rows} rows hold NaN or infinite values, the first is row {first}; "
            "mend them, or drop them with nonfinite='skip'"
        )
        self.count = count
        self.first = first


def _require_finite(counts: _cpu.RowCounts, rows: Rows) -> None:
    if counts.nonfinite:
        raise NonFiniteRowsError(rows.name, counts.nonfinite, counts.first_nonfinite, rows.count)


def _address(array: FloatArray | None) -> int:
    return 0 if array is None or array.size == 0 else array.ctypes.data


def gram(
    features: Rows,
    *,
    shift: FloatArray | None = None,
    plain: bool = True,
    unit: str | None = None,
    targets: Rows | None = None,
    target_shift: FloatArray | None = None,
    precision: str = "high",
) -> GramSums:
    """Shifted Gram, column sums, unit-row Gram and cross moments in one read; only lower triangles are filled.

    Parameters
    ----------
    features : Rows
    shift : (d,) float64 array, optional
        s in ``sum (h - s)(h - s)^T`` and ``sum (h - s)``.
    plain : bool
        Whether the shifted Gram is wanted.
    unit : {None, "raw", "shifted"}
        The unit-row Gram ``sum u u^T``, u = x/||x||, of x = h or of x = h - s.
    targets : Rows, optional
        For the cross moments ``sum (y - t)(h - s)^T``, (n, d).
    target_shift : (n,) float64 array, optional
    precision : {"high", "highest", "fast"}
        "high" and "fast": rows that are not float64 in float32 blocks, added up in float64. "highest": float64.
        Rows whose squares leave the range of float32 are computed in float64 in any case.

    Raises
    ------
    NonFiniteRowsError
        A row of the features or targets is not finite.
    ValueError
        The precision is unknown.
    """
    if precision not in PRECISIONS:
        msg = f"precision is {precision!r}; {', '.join(map(repr, PRECISIONS))} are known"
        raise ValueError(msg)
    double = features.is_double or precision == "highest"
    sums = _gram_once(features, shift, plain, unit, targets, target_shift, double)
    if sums.double_precision or sums.rows == 0 or _in_range_of_float32(sums):
        return sums
    return _gram_once(features, shift, plain, unit, targets, target_shift, True)


def _in_range_of_float32(sums: GramSums) -> bool:
    if not np.isfinite(sums.column_sums).all():
        return False
    energy = float(np.trace(sums.gram)) / sums.rows
    return sums.gram.size == 0 or SMALLEST_FLOAT32_ENERGY < energy < LARGEST_FLOAT32_ENERGY


def _gram_once(
    features: Rows,
    shift: FloatArray | None,
    plain: bool,
    unit: str | None,
    targets: Rows | None,
    target_shift: FloatArray | None,
    double_precision: bool,
) -> GramSums:
    d = features.columns
    plain_gram = np.zeros((d, d) if plain else (0, 0))
    unit_gram = np.zeros((d, d) if unit else (0, 0))
    column_sums = np.zeros(d)
    cross = np.zeros((0 if targets is None else targets.columns, d))
    counts = _cpu.gram(
        features.matrix,
        gram=_address(plain_gram),
        column_sums=_address(column_sums),
        unit_gram=_address(unit_gram),
        shift=_address(shift),
        unit_rows_are_shifted=unit == "shifted",
        targets=None if targets is None else targets.matrix,
        target_shift=_address(target_shift),
        cross=_address(cross),
        double_precision=double_precision,
    )
    _require_finite(counts, features)
    return GramSums(features.count, plain_gram, column_sums, unit_gram, cross, counts.zero, double_precision)


@dataclass
class Basis:
    """Orthonormal rows (k, d) to project on, and the shift of the rows that are projected."""

    vectors: FloatArray
    shift: FloatArray | None = None
    per_row: bool = False


@dataclass
class ResidualSums:
    """Sums over rows of the squared residual with the leading j = 0..k vectors, of x and of x/||x||."""

    raw: FloatArray
    unit: FloatArray
    row_residuals: FloatArray | None = field(default=None, repr=False)
    row_energies: FloatArray | None = field(default=None, repr=False)


def residual(features: Rows, bases: Sequence[Basis], *, double_precision: bool) -> list[ResidualSums]:
    """Projection residuals of the rows on several bases, in one read.

    Parameters
    ----------
    features : Rows
    bases : sequence of Basis
    double_precision : bool
        Compute in float64. Rows that are not float64 are otherwise computed in float32, whose explicit residual
        has an absolute floor of about 1e-14 of the energy.

    Raises
    ------
    NonFiniteRowsError
        A feature is not finite.
    """
    results = []
    jobs = []
    for basis in bases:
        k = basis.vectors.shape[0]
        per_row = [np.zeros(features.count) if basis.per_row else None for _ in range(2)]
        sums = ResidualSums(np.zeros(k + 1), np.zeros(k + 1), *per_row)
        basis.vectors = np.ascontiguousarray(basis.vectors)
        results.append(sums)
        jobs.append(
            _cpu.ResidualJob(
                _address(basis.vectors),
                k,
                _address(sums.raw),
                _address(sums.unit),
                shift=_address(basis.shift),
                row_residuals=_address(sums.row_residuals),
                row_energies=_address(sums.row_energies),
            )
        )
    counts = _cpu.residual(features.matrix, jobs, double_precision)
    _require_finite(counts, features)
    return results


def gram_product(features: Rows, vectors: FloatArray, shift: FloatArray) -> tuple[FloatArray, FloatArray]:
    """``V sum (h - s)(h - s)^T`` (k, d) and ``sum (h - s)`` (d,) in float64, without forming the Gram.

    Raises
    ------
    NonFiniteRowsError
        A feature is not finite.
    """
    vectors = np.ascontiguousarray(vectors)
    image = np.zeros_like(vectors)
    column_sums = np.zeros(features.columns)
    counts = _cpu.gram_product(
        features.matrix,
        shift=_address(shift),
        vectors=_address(vectors),
        count=vectors.shape[0],
        image=_address(image),
        column_sums=_address(column_sums),
    )
    _require_finite(counts, features)
    return image, column_sums


def prediction_error(features: Rows, weights: FloatArray, bias: FloatArray, targets: Rows) -> FloatArray:
    """``sum (W h + b - y)^2`` for each output, (n,), in float64.

    Raises
    ------
    NonFiniteRowsError
        A feature is not finite.
    """
    weights = np.ascontiguousarray(weights)
    bias = np.ascontiguousarray(bias)
    errors = np.zeros(weights.shape[0])
    counts = _cpu.prediction_error(
        features.matrix,
        weights=_address(weights),
        bias=_address(bias),
        targets=targets.matrix,
        errors=_address(errors),
    )
    _require_finite(counts, features)
    return errors


def build_config() -> dict[str, object]:
    """Compiler, flags, instruction sets and constants of the compiled core."""
    return _cpu.build_config()
