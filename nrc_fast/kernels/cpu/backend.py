"""The backend of the host: passes over rows in its memory, by the compiled kernels of the CPU."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import ModuleType

import numpy as np

import nrc_fast.kernels._cpu as _cpu
from nrc_fast.base.arrays import FloatArray, IntArray, StoredArray
from nrc_fast.base.linalg import from_lower
from nrc_fast.base.symmetric import HostMatrix
from nrc_fast.kernels import calls
from nrc_fast.kernels.counts import SumsKind
from nrc_fast.kernels.cpu import classes, descent, sums
from nrc_fast.kernels.cpu.images import images_of
from nrc_fast.kernels.cpu.machine import current_isa, thread_count
from nrc_fast.kernels.cpu.memory import address_of, kept_empty
from nrc_fast.kernels.descent_state import DescentState
from nrc_fast.kernels.errors import NonFiniteRowsError, unreadable
from nrc_fast.kernels.interface import GramRequest, PredictionRequest, Rows
from nrc_fast.kernels.results import Basis, GramSums, PredictionSums, ProductSums, ResidualSums, RowImages

__all__ = ["CPU", "HostBackend"]

# As the kernels take them.
TARGET_SUMS = ("target_gram", "target_sums", "target_gram_rest", "target_sums_rest")


class HostBackend:
    """The `Backend` of the host, of which there is one: `CPU`."""

    is_host = True
    place_name = "the CPU"
    library: ModuleType = np

    def __reduce__(self) -> str:
        return "CPU"  # copied and pickled it is the same

    def __repr__(self) -> str:
        return "CPU"

    @property
    def name(self) -> str:
        """With the instruction set and threads that the kernels use now."""
        return f"cpu ({current_isa()}, {thread_count()} threads)"

    # ---- passes ----

    def gram(self, features: Rows, request: GramRequest) -> GramSums:
        """The sums that are asked for, in the precision that is named.

        Raises
        ------
        NonFiniteRowsError
            A row of the features or targets is not finite.
        """
        d, targets = features.columns, request.targets
        n = 0 if targets is None else targets.columns
        double_precision = features.is_double or request.precision == "highest"
        gram = kept_empty(d, d) if request.plain else np.empty((0, 0))
        unit_gram = kept_empty(d, d) if request.unit else np.empty((0, 0))
        column_sums, cross = np.empty(d), kept_empty(n, d)
        target_gram, target_sums = (kept_empty(n, n), np.empty(n)) if request.target_moments else (None, None)
        before = request.targets_onto
        gram_rest, sums_rest = (None, None) if before is None else (np.empty((n, n)), np.empty(n))
        counts = _cpu.gram(
            (features.matrix, None if targets is None else targets.matrix),
            (request.shift, request.target_shift),
            (gram, unit_gram, column_sums, cross, target_gram, target_sums, gram_rest, sums_rest),
            (
                request.onto if request.plain else None,
                request.unit_onto if request.unit else None,
                *((None,) * 4 if before is None else map(before.__getitem__, TARGET_SUMS)),
            ),
            (request.unit == "shifted", double_precision),
        )
        if not counts.are_usable:
            if targets is not None:
                _require_good(counts.targets, targets)
            _require_good(counts.features, features)
        return GramSums(
            rows=features.count,
            gram=gram,
            column_sums=column_sums,
            unit_gram=unit_gram,
            cross=cross,
            zero_rows=counts.zero_rows,
            double_precision=double_precision,
            energy=counts.energy,
            has_finite_sums=counts.has_finite_sums,
            target_gram=target_gram,
            target_sums=target_sums,
            target_gram_rest=gram_rest,
            target_sums_rest=sums_rest,
            target_energy=counts.target_energy,
        )

    def residual(self, features: Rows, bases: Sequence[Basis], *, double_precision: bool) -> list[ResidualSums]:
        """Residuals on each basis: one read for all of them.

        Raises
        ------
        NonFiniteRowsError
            A feature is not finite.
        """
        found, jobs = _residual_jobs(bases, features.count)
        counts = _cpu.residual(features.matrix, jobs, double_precision=double_precision)
        _require_good(counts, features)
        return found

    def residual_and_errors(
        self, features: Rows, bases: Sequence[Basis], prediction: PredictionRequest
    ) -> tuple[list[ResidualSums], PredictionSums]:
        """Residuals on each basis and what the errors of a model add up to: one read for all of them.

        Raises
        ------
        NonFiniteRowsError
            A feature is not finite.
        """
        found, jobs = _residual_jobs(bases, features.count)
        n = len(prediction.bias)
        errors, products = np.zeros(n), np.zeros(n * n + 2 if prediction.wants_products else 0)
        addresses = address_of(prediction.weights), address_of(prediction.bias)
        targets = prediction.targets.matrix
        model = _cpu.Prediction(
            *addresses, targets, address_of(errors), scale=prediction.scale, products=address_of(products)
        )
        counts = _cpu.residual(features.matrix, jobs, double_precision=True, prediction=model)
        _require_good(counts, features)
        return found, PredictionSums.of(errors, products)

    def images(self, features: Rows, weights: FloatArray) -> tuple[FloatArray, FloatArray]:
        """``W h`` of each row, (N, n), and ``|h|^2``, (N,)."""
        return images_of(features, weights)

    def gram_product(self, features: Rows, vectors: FloatArray, shift: FloatArray) -> ProductSums:
        """``V sum (h - s)(h - s)^T``, ``sum (h - s)`` and ``sum |h - s|^2``.

        Raises
        ------
        NonFiniteRowsError
            A feature is not finite.
        """
        image = np.zeros((len(vectors), features.columns))
        column_sums, energy = np.zeros(features.columns), np.zeros(1)
        counts = _cpu.gram_product(
            features.matrix,
            shift=address_of(shift),
            vectors=address_of(vectors),
            count=len(vectors),
            image=address_of(image),
            column_sums=address_of(column_sums),
            energy=address_of(energy),
        )
        _require_good(counts, features)
        return ProductSums(image, column_sums, float(energy[0]))

    def placed_gram(
        self, features: Rows, shift: FloatArray | None, *, unit_rows: bool, precision: str
    ) -> tuple[FloatArray, FloatArray]:
        """Gram matrix (lower triangle) of the shifted rows or unit rows, and their column sums.

        Raises
        ------
        NonFiniteRowsError
            A row is not finite.
        """
        unit = "shifted" if unit_rows else None
        found = calls.gram(features, shift=shift, plain=not unit_rows, unit=unit, precision=precision)
        return found.unit_gram if unit_rows else found.gram, found.column_sums

    def placed_residuals(
        self, features: Rows, vectors: FloatArray, shift: FloatArray | None
    ) -> tuple[FloatArray, FloatArray]:
        """Squared residual on orthonormal vectors, and square, of each shifted row in float64.

        Raises
        ------
        NonFiniteRowsError
            A row is not finite.
        """
        (found,) = calls.residual(features, [Basis(vectors, shift, per_row=True)], double_precision=True)
        assert found.row_residuals is not None
        assert found.row_energies is not None
        return found.row_residuals, found.row_energies

    # ---- sums and classes ----

    def running_sums(self, kind: SumsKind, start: Mapping[str, FloatArray] | None = None) -> sums.HostSums:
        """Sums that batches are added to at once."""
        return sums.HostSums(kind, start)

    def rounding_kind(self, rows: Rows, precision: str) -> str:
        """How products of rows are rounded."""
        return "double" if rows.is_double or precision == "highest" else "single"

    def first_mean(self, rows: Rows, *, single: bool) -> FloatArray:
        """Mean of the first rows of those that are finite, rounded to float32 if `single`; zeros where none is."""
        return sums.first_mean(rows, single=single)

    def class_rows(self, rows: Rows, numbers: IntArray, counts: IntArray) -> classes.HostClassRows:
        """Finite rows with the number of their class; every class, of so many rows, has some."""
        return classes.HostClassRows(rows, numbers, counts)

    def largest_scores(
        self, rows: Rows, mean: FloatArray, heads: Sequence[FloatArray], offsets: Sequence[FloatArray]
    ) -> list[IntArray]:
        """For each head (K, d), the number of the largest of ``(h - mean) W^T + b`` for every row."""
        return classes.largest_scores(rows, mean, heads, offsets)

    # ---- memory and small matrices ----

    def place(self, array: StoredArray) -> StoredArray:
        """The array itself, which lies here already."""
        return array

    def fetch(self, array: StoredArray) -> StoredArray:
        """The array itself, which lies on the host already."""
        return array

    def as_float64(self, array: StoredArray) -> FloatArray:
        """The array in float64, which is not copied if it is."""
        return np.asarray(array, dtype=np.float64)

    def copied(self, rows: Rows) -> Rows:
        """Rows in memory: those of a file are read.

        Raises
        ------
        OSError
            Their file ends early or cannot be read.
        """
        return rows.loaded()

    def copying(self, size: int) -> str:  # noqa: ARG002 - nothing is copied
        """Empty: rows of the host are read where they lie."""
        return ""

    def copies(self) -> HostCopies:
        """Means to bring rows of the host here, which reads those that lie in files."""
        return HostCopies()

    def keeps_matrices(self, d: int) -> bool:  # noqa: ARG002 - there is no other memory
        """Whether matrices of d x d stay in this memory."""
        return True

    def covariance(self, lower: FloatArray, offset: FloatArray | None, count: int) -> HostMatrix:
        """``G / N - o o^T`` of the lower triangle of G and a mean o; none is zero."""
        covariance = from_lower(lower)
        covariance /= count
        if offset is not None:
            covariance -= np.outer(offset, offset)
        covariance.flags.writeable = False
        return HostMatrix(covariance)

    def singular_values(self, matrices: FloatArray) -> FloatArray:
        """Singular values, descending, of matrices (..., m, n)."""
        return np.asarray(np.linalg.svd(matrices, compute_uv=False))

    # ---- descent ----

    @property
    def problems_at_once(self) -> int:
        """How many problems of descent are under way at once: one on each thread."""
        return thread_count()

    def take_steps(self, state: DescentState, steps: IntArray) -> None:
        """Take `steps` (P,) steps of every problem of a state, in place."""
        descent.take_steps(state, steps)

    def wait(self) -> None:
        """Return at once: on the host nothing is under way."""


class HostCopies:
    """`Copies` on the host, where nothing has to be copied but what is in files."""

    def start(self, rows: Rows) -> Rows:
        """The rows in memory: those of a file are read.

        Raises
        ------
        OSError
            Their file ends early or cannot be read.
        """
        return rows.loaded()

    def close(self) -> None:
        """Return at once: on the host nothing is under way."""


def _residual_jobs(bases: Sequence[Basis], count: int) -> tuple[list[ResidualSums], list[_cpu.ResidualJob]]:
    """Sums for each basis, and the requests that fill them, which hold addresses: bases and sums must live on."""
    found, jobs = [], []
    for basis in bases:
        k = len(basis.vectors)
        images = RowImages.zeros(basis) if basis.images else None
        sums = ResidualSums(np.zeros(k + 1), np.zeros(k + 1), np.zeros(2), images=images)
        if basis.per_row:
            sums.row_residuals, sums.row_energies = np.zeros(count), np.zeros(count)
        found.append(sums)
        jobs.append(
            _cpu.ResidualJob(
                address_of(basis.vectors),
                k,
                address_of(sums.raw),
                address_of(sums.unit),
                shift=address_of(basis.shift),
                row_residuals=address_of(sums.row_residuals),
                row_energies=address_of(sums.row_energies),
                expanded=address_of(sums.expanded),
                imaged=basis.imaged,
                images=_addresses(images),
            )
        )
    return found, jobs


def _addresses(images: RowImages | None) -> tuple[int, int, int]:
    if images is None:
        return 0, 0, 0
    return address_of(images.raw), address_of(images.unit), address_of(images.shift)


def _require_good(counts: _cpu.RowCounts, rows: Rows) -> None:
    """Check that a pass could read all rows and found all finite.

    Raises
    ------
    UnreadableRowsError
        The file of the rows ends early or cannot be read.
    NonFiniteRowsError
        A row is not finite.
    """
    if counts.first_unread >= 0:
        raise unreadable(rows.name, counts.first_unread, counts.read_error)
    if counts.nonfinite:
        raise NonFiniteRowsError(rows.name, counts.nonfinite, counts.first_nonfinite, rows.count)


CPU = HostBackend()
