"""The only door to the compiled kernels: choice of backend, instruction set and threads, and the passes themselves.

The functions at the end add over rows, in one read each, and return float64.
"""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np

import nrc_fast.kernels._cpu as _cpu
from nrc_fast.base.linalg import FloatArray
from nrc_fast.kernels.cuda import backend
from nrc_fast.kernels.cuda.rows import DeviceRows, beside
from nrc_fast.kernels.results import PRECISIONS, Basis, GramSums, NonFiniteRowsError, ResidualSums
from nrc_fast.kernels.rows import Rows, unreadable

__all__ = [
    "ReadableFile",
    "available_isas",
    "current_isa",
    "gram",
    "gram_product",
    "open_file",
    "prediction_error",
    "release_memory",
    "release_pages",
    "require_nonfinite",
    "require_precision",
    "residual",
    "set_isa",
    "set_thread_count",
    "thread_count",
]

MOST_THREADS = 65536
# Numbers in arrays whose memory is kept; smaller ones are quick to get anyway.
LEAST_KEPT = 2048

# Mean squared magnitudes outside of which squares of float32 numbers over- or underflow: float64 is used instead.
SMALLEST_FLOAT32_ENERGY = 2.0**-80
LARGEST_FLOAT32_ENERGY = 2.0**80


def require_precision(precision: str) -> None:
    """Check the name of a precision.

    Raises
    ------
    ValueError
        It is unknown.
    """
    if precision not in PRECISIONS:
        msg = f"precision is {precision!r}; {', '.join(map(repr, PRECISIONS))} are known"
        raise ValueError(msg)


def require_nonfinite(nonfinite: str) -> None:
    """Check what is to be done with rows that hold NaN or infinite values.

    Raises
    ------
    ValueError
        It is unknown.
    """
    if nonfinite not in ("raise", "skip"):
        msg = f"nonfinite is {nonfinite!r}; 'raise' or 'skip' is expected"
        raise ValueError(msg)


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


def _require_good(counts: _cpu.RowCounts, rows: Rows) -> None:
    if counts.first_unread >= 0:
        raise unreadable(rows.name, counts.first_unread, counts.read_error)
    if counts.nonfinite:
        raise NonFiniteRowsError(rows.name, counts.nonfinite, counts.first_nonfinite, rows.count)


def _as_float64(array: FloatArray | None, shape: tuple[int, ...], name: str) -> FloatArray | None:
    """The array as the kernels read it: contiguous float64 of the shape that they expect."""
    if array is None:
        return None
    contiguous: FloatArray = np.ascontiguousarray(array, dtype=np.float64)
    if contiguous.shape != shape:
        msg = f"{name} has shape {contiguous.shape}; {shape} is expected"
        raise ValueError(msg)
    return contiguous


def zeros(*shape: int) -> FloatArray:
    """Zeros in memory that is kept when they go, so that the sums of the next batch cost no page faults."""
    count = math.prod(shape)
    return np.zeros(shape) if count < LEAST_KEPT else _kept(count, zeros=True).reshape(shape)


def _unset(*shape: int) -> FloatArray:
    """The same for results that are written in any case."""
    count = math.prod(shape)
    return np.empty(shape) if count < LEAST_KEPT else _kept(count, zeros=False).reshape(shape)


def _kept(count: int, *, zeros: bool) -> FloatArray:
    return np.frombuffer(memoryview(_cpu.Memory(count, zeros)))


def _address(array: FloatArray | None) -> int:
    return 0 if array is None or array.size == 0 else _cpu.address_of(array)


def gram(
    features: Rows,
    *,
    shift: FloatArray | None = None,
    plain: bool = True,
    unit: str | None = None,
    onto: FloatArray | None = None,
    unit_onto: FloatArray | None = None,
    targets: Rows | None = None,
    target_shift: FloatArray | None = None,
    target_moments: bool = False,
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
    onto, unit_onto : (d, d) float64 arrays, optional
        What the Gram and the unit-row Gram are added to; not changed.
    targets : Rows, optional
        For the cross moments ``sum (y - t)(h - s)^T``, (n, d).
    target_shift : (n,) float64 array, optional
    target_moments : bool
        Whether the targets' own shifted Gram and sums are wanted; they are float64 whatever the precision.
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
    require_precision(precision)
    d, n = features.columns, 0 if targets is None else targets.columns
    shift = _as_float64(shift, (d,), "shift")
    if targets is not None:
        target_shift = _as_float64(target_shift, (n,), "target_shift")
        if targets.count != features.count:
            msg = f"features and targets differ in their rows: {features.count} and {targets.count}"
            raise ValueError(msg)
    start = _as_float64(onto, (d, d), "onto"), _as_float64(unit_onto, (d, d), "unit_onto")
    sums = _gram_once(features, shift, plain, unit, start, targets, target_shift, target_moments, precision)
    if sums.double_precision or sums.rows == 0 or _in_range_of_float32(sums):
        return sums
    return _gram_once(features, shift, plain, unit, start, targets, target_shift, target_moments, "highest")


def _in_range_of_float32(sums: GramSums) -> bool:
    energy = sums.energy / sums.rows
    in_range = sums.gram.size == 0 or SMALLEST_FLOAT32_ENERGY < energy < LARGEST_FLOAT32_ENERGY
    return sums.has_finite_sums and in_range


def _gram_once(
    features: Rows,
    shift: FloatArray | None,
    plain: bool,
    unit: str | None,
    onto: tuple[FloatArray | None, FloatArray | None],
    targets: Rows | None,
    target_shift: FloatArray | None,
    target_moments: bool,
    precision: str,
) -> GramSums:
    placed = beside(targets, features)
    if isinstance(features, DeviceRows):
        assert placed is None or isinstance(placed, DeviceRows)
        sums = backend.gram(features, shift, plain, unit, placed, target_shift, target_moments, precision)
        for name, start in zip(("gram", "unit_gram"), onto, strict=True):
            if start is not None:
                setattr(sums, name, getattr(sums, name) + start)
        return sums
    d, double_precision = features.columns, features.is_double or precision == "highest"
    plain_gram = _unset(d, d) if plain else zeros(0, 0)
    unit_gram = _unset(d, d) if unit else zeros(0, 0)
    column_sums = zeros(d)
    n = 0 if targets is None else targets.columns
    cross = zeros(n, d)
    target_gram, target_sums = (_unset(n, n), zeros(n)) if target_moments else (None, None)
    counts = _cpu.gram(
        features.matrix,
        gram=_address(plain_gram),
        gram_onto=_address(onto[0]),
        column_sums=_address(column_sums),
        unit_gram=_address(unit_gram),
        unit_gram_onto=_address(onto[1]),
        shift=_address(shift),
        unit_rows_are_shifted=unit == "shifted",
        targets=None if targets is None else targets.matrix,
        target_shift=_address(target_shift),
        cross=_address(cross),
        target_gram=_address(target_gram),
        target_sums=_address(target_sums),
        double_precision=double_precision,
    )
    if targets is not None:
        _require_good(counts.targets, targets)
    _require_good(counts.features, features)
    return GramSums(
        features.count,
        plain_gram,
        column_sums,
        unit_gram,
        cross,
        counts.features.zero,
        double_precision,
        counts.energy,
        counts.has_finite_sums,
        target_gram,
        target_sums,
        counts.target_energy,
    )


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
    checked = [_checked(basis, features.columns) for basis in bases]
    if isinstance(features, DeviceRows):
        return backend.residual(features, checked, double_precision=double_precision)
    results = []
    jobs = []
    for basis in checked:  # they stay alive: the kernels hold addresses only
        k, vectors, shift = len(basis.vectors), basis.vectors, basis.shift
        per_row = [np.zeros(features.count) if basis.per_row else None for _ in range(2)]
        sums = ResidualSums(np.zeros(k + 1), np.zeros(k + 1), *per_row)
        results.append(sums)
        jobs.append(
            _cpu.ResidualJob(
                _address(vectors),
                k,
                _address(sums.raw),
                _address(sums.unit),
                shift=_address(shift),
                row_residuals=_address(sums.row_residuals),
                row_energies=_address(sums.row_energies),
            )
        )
    counts = _cpu.residual(features.matrix, jobs, double_precision)
    _require_good(counts, features)
    return results


def _checked(basis: Basis, d: int) -> Basis:
    vectors = _as_float64(basis.vectors, (len(basis.vectors), d), "basis")
    assert vectors is not None
    return Basis(vectors, _as_float64(basis.shift, (d,), "shift"), basis.per_row)


def gram_product(features: Rows, vectors: FloatArray, shift: FloatArray) -> tuple[FloatArray, FloatArray]:
    """``V sum (h - s)(h - s)^T`` (k, d) and ``sum (h - s)`` (d,) in float64, without forming the Gram.

    Raises
    ------
    NonFiniteRowsError
        A feature is not finite.
    """
    checked = _as_float64(vectors, (len(vectors), features.columns), "vectors")
    checked_shift = _as_float64(shift, (features.columns,), "shift")
    assert checked is not None
    assert checked_shift is not None
    if isinstance(features, DeviceRows):
        return backend.gram_product(features, checked, checked_shift)
    image = np.zeros((len(vectors), features.columns))
    column_sums = np.zeros(features.columns)
    counts = _cpu.gram_product(
        features.matrix,
        shift=_address(checked_shift),
        vectors=_address(checked),
        count=len(vectors),
        image=_address(image),
        column_sums=_address(column_sums),
    )
    _require_good(counts, features)
    return image, column_sums


def prediction_error(features: Rows, weights: FloatArray, bias: FloatArray, targets: Rows) -> FloatArray:
    """``sum (W h + b - y)^2`` for each output, (n,), in float64.

    Raises
    ------
    NonFiniteRowsError
        A feature is not finite.
    """
    outputs = targets.columns
    checked = _as_float64(weights, (outputs, features.columns), "weights")
    checked_bias = _as_float64(bias, (outputs,), "bias")
    assert checked is not None
    assert checked_bias is not None
    if isinstance(features, DeviceRows):
        placed = beside(targets, features)
        assert isinstance(placed, DeviceRows)
        return backend.prediction_error(features, checked, checked_bias, placed)
    errors = np.zeros(outputs)
    counts = _cpu.prediction_error(
        features.matrix,
        weights=_address(checked),
        bias=_address(checked_bias),
        targets=targets.matrix,
        errors=_address(errors),
    )
    _require_good(counts, features)
    return errors


ReadableFile = _cpu.ReadableFile


def open_file(path: Path) -> ReadableFile:
    """Open a file for reading; it is closed together with the last rows that need it.

    A Python finalizer would do that too, but could swallow a Ctrl-C.

    Raises
    ------
    OSError
        It cannot be opened.
    """
    return ReadableFile(os.open(path, os.O_RDONLY))


def release_memory() -> None:
    """Give back the memory that is kept for the sums and workspaces of the next call."""
    _cpu.release_memory()


def release_pages(rows: Rows) -> None:
    """Give back the memory of rows in a mapped file; they are read again when they are needed.

    Only for files that are mapped without private changes: those would be lost.
    """
    array = rows.array
    if array.size == 0:
        return
    if array.strides[0] >= array.strides[1]:
        _cpu.release_pages(array.ctypes.data, array.strides[0] * (rows.count - 1) + array.strides[1] * rows.columns)
        return
    for column in range(rows.columns):
        part = array[:, column]
        _cpu.release_pages(part.ctypes.data, part.strides[0] * rows.count)


def build_config() -> dict[str, object]:
    """Compiler, flags, instruction sets and constants of the compiled core."""
    return _cpu.build_config()
