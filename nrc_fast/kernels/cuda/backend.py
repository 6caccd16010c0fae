"""The backend of a CUDA device: passes launched on its current stream, by the compiled kernels for CUDA."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import ModuleType
from typing import TYPE_CHECKING

import numpy as np

from nrc_fast.base.arrays import FloatArray, IntArray, StoredArray
from nrc_fast.kernels.counts import SumsKind
from nrc_fast.kernels.cuda import classes, descent, spectrum, sums
from nrc_fast.kernels.cuda.copies import DeviceCopies
from nrc_fast.kernels.cuda.device import CudaDevice
from nrc_fast.kernels.cuda.launches import (
    Totals,
    fetch_counted,
    gram_results,
    launch_gram,
    launch_product,
    launch_residual,
    placed_or_none,
)
from nrc_fast.kernels.cuda.matrices import DeviceMatrix, covariance_of_sums
from nrc_fast.kernels.cuda.rows import DeviceRows
from nrc_fast.kernels.descent_state import DescentState
from nrc_fast.kernels.errors import too_large
from nrc_fast.kernels.interface import GramRequest, PredictionRequest, Rows
from nrc_fast.kernels.results import Basis, GramSums, PredictionSums, ProductSums, ResidualSums, RowImages

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["CudaBackend"]


@dataclass(frozen=True)
class CudaBackend:
    """The `Backend` of a CUDA device; those of one device are equal."""

    device: CudaDevice

    is_host = False

    @property
    def place_name(self) -> str:
        """As torch calls the device."""
        return self.device.name

    @property
    def name(self) -> str:
        """The device and its card."""
        return f"{self.device.name} ({self.device.core.device_name(self.device.index)})"

    @property
    def library(self) -> ModuleType:
        """The torch that owns the memory."""
        return self.device.torch

    # ---- passes ----

    def gram(self, features: Rows, request: GramRequest) -> GramSums:
        """The sums that are asked for, in the precision that is named, in one copy.

        Raises
        ------
        NonFiniteRowsError
            A row of the features or targets is not finite.
        ValueError
            Their squares leave the range of float64.
        """
        rows, targets = _placed(features), None if request.targets is None else _placed(request.targets)
        d, n = rows.columns, 0 if targets is None else targets.columns
        k = n if request.target_moments else 0
        shapes: dict[str, tuple[int, ...]] = {
            "column_sums": (d,),
            "gram": (d, d) if request.plain else (0, 0),
            "unit_gram": (d, d) if request.unit else (0, 0),
            "cross": (n, d),
            "target_gram": (k, k),
            "target_sums": (k,),
        }
        results = gram_results(self.device, shapes)
        launch_gram(
            results,
            rows,
            shift=placed_or_none(self.device, request.shift),
            targets=targets,
            target_shift=placed_or_none(self.device, request.target_shift),
            unit_rows_are_shifted=request.unit == "shifted",
            precision=request.precision,
        )
        arrays, counts = results.fetch()
        totals = Totals.of(counts)
        if totals.refused:
            for part in (rows, targets):  # which of the two it is
                if part is not None:
                    part.require_finite()
            name = targets.name if targets is not None and totals.refused_by_targets else rows.name
            raise too_large(name, self.device.name)
        return _gram_sums(features, request, arrays, totals.zero)

    def residual(self, features: Rows, bases: Sequence[Basis], *, double_precision: bool) -> list[ResidualSums]:
        """Residuals on each basis: one read for each, and one more for a raw image; other images are NaN.

        Raises
        ------
        NonFiniteRowsError
            A feature is not finite.
        """
        rows = _placed(features)
        launched = [
            launch_residual(
                rows,
                self.device.place(basis.vectors),
                placed_or_none(self.device, basis.shift),
                per_row=basis.per_row,
                double_precision=double_precision,
            )
            for basis in bases
        ]
        found = []
        for basis, results in zip(bases, launched, strict=True):
            arrays = fetch_counted(results, rows)
            sums = ResidualSums(arrays["raw"], arrays["unit"], arrays["expanded"])
            if basis.per_row:
                sums.row_residuals, sums.row_energies = arrays["residuals"], arrays["energies"]
            if basis.images:
                sums.images = self._images_of(features, basis)
            found.append(sums)
        return found

    def _images_of(self, features: Rows, basis: Basis) -> RowImages:
        images = RowImages.zeros(basis)
        if "raw" in basis.images:
            shift = np.zeros(features.columns) if basis.shift is None else basis.shift
            sums = self.gram_product(features, np.ascontiguousarray(basis.vectors[: basis.imaged]), shift)
            images.raw[0], images.raw[1:] = sums.column_sums, sums.image
        images.unit[:] = images.shift[:] = np.nan
        return images

    def gram_product(self, features: Rows, vectors: FloatArray, shift: FloatArray) -> ProductSums:
        """``V sum (h - s)(h - s)^T``, ``sum (h - s)`` and ``sum |h - s|^2``.

        Raises
        ------
        NonFiniteRowsError
            A feature is not finite.
        """
        rows, d = _placed(features), features.columns
        shapes: dict[str, tuple[int, ...]] = {"image": (len(vectors), d), "column_sums": (d,), "energy": (1,)}
        arrays = fetch_counted(launch_product("gram_product", rows, vectors, shapes, {"shift": shift}), rows)
        return ProductSums(arrays["image"], arrays["column_sums"], float(arrays["energy"][0]))

    def residual_and_errors(
        self, features: Rows, bases: Sequence[Basis], prediction: PredictionRequest
    ) -> tuple[list[ResidualSums], PredictionSums]:
        """Residuals on each basis and what the errors of a model add up to: one read for each.

        Raises
        ------
        NonFiniteRowsError
            A feature is not finite.
        """
        rows, n = _placed(features), len(prediction.bias)
        shapes: dict[str, tuple[int, ...]] = {
            "errors": (n,),
            "products": (n * n + 2 if prediction.wants_products else 0,),
        }
        results = launch_product(
            "prediction_error",
            rows,
            prediction.weights,
            shapes,
            {"bias": prediction.bias},
            targets=_placed(prediction.targets).matrix,
            scale=prediction.scale,
        )
        found = self.residual(features, bases, double_precision=True)
        arrays = fetch_counted(results, rows)
        return found, PredictionSums.of(arrays["errors"], arrays["products"])

    def images(self, features: Rows, weights: FloatArray) -> tuple[FloatArray, FloatArray]:
        """``W h`` of each row, (N, n), and ``|h|^2``, (N,), in float64 and on the host."""
        return _placed(features).images(weights)

    def placed_gram(
        self, features: Rows, shift: Tensor | None, *, unit_rows: bool, precision: str
    ) -> tuple[Tensor, Tensor]:
        """Gram matrix (lower triangle) of the shifted rows or unit rows, and their column sums, as tensors.

        Nothing waits; NaN where a row is not finite, or where squares leave the range of float64.
        """
        d = features.columns
        name = "unit_gram" if unit_rows else "gram"
        results = gram_results(self.device, {"column_sums": (d,), name: (d, d)})
        launch_gram(results, _placed(features), shift=shift, unit_rows_are_shifted=unit_rows, precision=precision)
        is_refused = Totals.refused_of(results.counts) != 0
        gram, column_sums = (
            self.device.torch.where(is_refused, self.device.torch.nan, results.tensor(each))
            for each in (name, "column_sums")
        )
        return gram, column_sums

    def placed_residuals(self, features: Rows, vectors: FloatArray, shift: Tensor | None) -> tuple[Tensor, Tensor]:
        """Squared residual on orthonormal vectors, and square, of each shifted row in float64, as tensors.

        Nothing waits; NaN for a row that is not finite.
        """
        placed = self.device.place(vectors)
        results = launch_residual(_placed(features), placed, shift, per_row=True, double_precision=True)
        return results.tensor("residuals"), results.tensor("energies")

    # ---- sums and classes ----

    def running_sums(self, kind: SumsKind, start: Mapping[str, FloatArray] | None = None) -> sums.DeviceSums:
        """Sums that stay on the device; nothing waits for them."""
        return sums.DeviceSums(self, kind, start)

    def rounding_kind(self, rows: Rows, precision: str) -> str:
        """How products of rows are rounded."""
        return sums.rounding_kind(rows.dtype, precision)

    def first_mean(self, rows: Rows, *, single: bool) -> Tensor:
        """Mean of the first rows of those that are finite, rounded to float32 if `single`; zeros where none is.

        Raises
        ------
        RuntimeError
            A CUDA graph is being captured.
        """
        return sums.first_mean(_placed(rows), single=single)

    def class_rows(self, rows: Rows, numbers: IntArray, counts: IntArray) -> classes.DeviceClassRows:
        """Finite rows with the number of their class; every class, of so many rows, has some."""
        return classes.DeviceClassRows(_placed(rows), numbers, counts)

    def largest_scores(
        self, rows: Rows, mean: FloatArray, heads: Sequence[FloatArray], offsets: Sequence[FloatArray]
    ) -> list[IntArray]:
        """For each head (K, d), the number of the largest of ``(h - mean) W^T + b`` for every row, on the host."""
        return classes.largest_scores(_placed(rows), mean, heads, offsets)

    # ---- memory and small matrices ----

    def place(self, array: StoredArray) -> Tensor:
        """A copy of an array as a tensor."""
        return self.device.place(array)

    def fetch(self, array: Tensor) -> StoredArray:
        """A copy of a tensor on the host; waits for what was launched before."""
        return self.device.fetch(array)

    def as_float64(self, array: Tensor) -> Tensor:
        """The tensor in float64, which is not copied if it is."""
        return array.double()

    def copied(self, rows: Rows) -> DeviceRows:
        """A copy of rows of the host.

        Raises
        ------
        OSError
            They lie in a file that ends early or cannot be read.
        """
        bits, torch = rows.loaded().array, self.device.torch
        is_bfloat16 = rows.dtype == "bfloat16"
        placed = self.device.place(bits.view(np.int16) if is_bfloat16 else bits)
        return DeviceRows(rows.name, placed.view(torch.bfloat16) if is_bfloat16 else placed, rows.dtype, self)

    def copying(self, size: int) -> str:
        """How chunks of so many bytes come here from the host, in words."""
        return DeviceCopies.way(self.device, size)

    def copies(self) -> DeviceCopies:
        """Means to bring rows of the host here, chunk by chunk, through buffers that are pinned where they can be."""
        return DeviceCopies(self)

    def keeps_matrices(self, d: int) -> bool:
        """Whether matrices of d x d stay on the device, as the host would take longer with them."""
        return d >= spectrum.LEAST_SIZE

    def covariance(self, lower: Tensor, offset: FloatArray | None, count: int) -> DeviceMatrix:
        """``G / N - o o^T`` of the lower triangle of G on the device, and a mean o of the host; none is zero."""
        return covariance_of_sums(lower, offset, count, self.device)

    def singular_values(self, matrices: Tensor) -> FloatArray:
        """Singular values, descending, of matrices on the device (..., m, n), on the host."""
        return self.device.fetch(self.device.torch.linalg.svdvals(matrices))

    # ---- descent ----

    @property
    def problems_at_once(self) -> int:
        """How many problems of descent are under way at once, at least: one on each multiprocessor."""
        return int(self.device.core.multiprocessors(self.device.index))

    def take_steps(self, state: DescentState, steps: IntArray) -> None:
        """Launch `steps` (P,) steps of every problem of a state on the device."""
        descent.take_steps(self.device, state, steps)

    def wait(self) -> None:
        """Wait for what was launched on the current stream."""
        self.device.wait()


def _placed(rows: Rows) -> DeviceRows:
    assert isinstance(rows, DeviceRows)  # as their backend is this one
    return rows


def _gram_sums(features: Rows, request: GramRequest, arrays: dict[str, FloatArray], zero_rows: int) -> GramSums:
    gram, unit_gram, target_gram = arrays["gram"], arrays["unit_gram"], arrays["target_gram"]
    return GramSums(
        rows=features.count,
        gram=gram if request.onto is None or not request.plain else gram + request.onto,
        column_sums=arrays["column_sums"],
        unit_gram=unit_gram if request.unit_onto is None or not request.unit else unit_gram + request.unit_onto,
        cross=arrays["cross"],
        zero_rows=zero_rows,
        double_precision=features.is_double or request.precision == "highest",
        energy=float(np.trace(gram)),
        has_finite_sums=bool(np.isfinite(arrays["column_sums"]).all()),
        target_gram=target_gram if request.target_moments else None,
        target_sums=arrays["target_sums"] if request.target_moments else None,
        target_energy=float(np.trace(target_gram)),
    )
