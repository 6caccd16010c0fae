"""What rows and the backends that compute with them promise each other: one interface, a folder for each backend.

Rows carry the backend whose memory they lie in. A third backend is a folder beside `cpu` and `cuda` with rows and a
`Backend` of its own; `tests/kernels/test_backend.py` is the contract that all of them keep.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import ModuleType
from typing import Any, Protocol

from nrc_fast.base.arrays import BoolArray, FloatArray, IntArray, StoredArray
from nrc_fast.base.symmetric import SymmetricMatrix
from nrc_fast.kernels.arrays import PlacedArray
from nrc_fast.kernels.counts import SumsKind
from nrc_fast.kernels.descent_state import DescentState
from nrc_fast.kernels.errors import NonFiniteRowsError
from nrc_fast.kernels.results import Basis, GramSums, PredictionSums, ProductSums, ResidualSums, SumsPart

__all__ = [
    "Backend",
    "ClassRows",
    "Copies",
    "GramRequest",
    "PredictionRequest",
    "Rows",
    "RunningSums",
    "Shifts",
]


class Rows(ABC):
    """A matrix that the kernels of its backend can read, N rows of d values.

    Attributes
    ----------
    name : str
        How error messages call it.
    dtype : str
        One of `arrays.DTYPES`.
    array : numpy array or tensor
        The values; of bfloat16 on the host the bits as uint16, as numpy has none.
    backend : Backend
        In whose memory the values lie.
    """

    name: str
    dtype: str
    array: PlacedArray
    backend: Backend

    @property
    def count(self) -> int:
        """Number of rows."""
        return int(self.array.shape[0])

    @property
    def columns(self) -> int:
        """Number of values in a row."""
        return int(self.array.shape[1])

    @property
    def is_double(self) -> bool:
        """Whether the rows are float64."""
        return self.dtype == "float64"

    @property
    @abstractmethod
    def matrix(self) -> Any:  # of a compiled module, which may not be built
        """The matrix as the compiled kernels of its backend take it."""

    @abstractmethod
    def part(self, first: int, last: int) -> Rows:
        """Rows `first` to `last`, not copied."""

    @abstractmethod
    def take(self, mask: BoolArray) -> Rows:
        """A copy of the rows where `mask` is set."""

    @abstractmethod
    def holding(self, values: PlacedArray, dtype: str) -> Rows:
        """Other values in the same memory, under the same name."""

    @abstractmethod
    def buffer(self, name: str, count: int) -> Rows:
        """Memory for `count` rows of this kind, beside them."""

    @abstractmethod
    def loaded(self) -> Rows:
        """These rows in memory: they are read if they lie in a file.

        Raises
        ------
        OSError
            They lie in a file that ends early or cannot be read.
        """

    @abstractmethod
    def to_float64(self) -> FloatArray:
        """The rows as a new float64 array on the host."""

    @abstractmethod
    def finite_rows(self) -> BoolArray:
        """Which rows hold neither NaN nor infinite values, (N,), on the host."""

    @property
    def is_finite(self) -> bool:
        """Whether no value is NaN or infinite."""
        return bool(self.finite_rows().all())

    def require_finite(self) -> None:
        """Check that all rows are finite.

        Raises
        ------
        NonFiniteRowsError
            Some are not; the error counts them and names the first.
        """
        finite = self.finite_rows()
        if not finite.all():
            raise NonFiniteRowsError(self.name, int((~finite).sum()), int(finite.argmin()), self.count)

    @abstractmethod
    def copy_to(self, target: PlacedArray) -> None:
        """Copy the rows into an array of their shape and storage.

        Raises
        ------
        OSError
            They lie in a file that ends early or cannot be read.
        """


# ---- what passes are asked for ----


@dataclass(slots=True)
class GramRequest:
    """What a Gram pass adds up; `calls.gram` says what each of these means."""

    shift: FloatArray | None = None
    plain: bool = True
    unit: str | None = None
    onto: FloatArray | None = None
    unit_onto: FloatArray | None = None
    targets: Rows | None = None
    target_shift: FloatArray | None = None
    target_moments: bool = False
    # Sums of targets by the names of `counts.RESTS`, pairs that theirs are added to as such; on the host only.
    targets_onto: Mapping[str, FloatArray] | None = None
    precision: str = "high"


@dataclass(frozen=True, slots=True)
class PredictionRequest:
    """A linear model ``scale W h + b`` of the rows, and the targets that it is held against."""

    weights: FloatArray  # (n, d)
    bias: FloatArray  # (n,)
    targets: Rows  # in the memory of the features
    scale: float = 1.0  # a power of two
    wants_products: bool = False  # of the errors with ``W h``


class Shifts:
    """What is subtracted from features and targets, float64, in the memory of a backend.

    Parameters
    ----------
    backend : Backend
    features, targets : float64 arrays of the backend
        (d,) and (n_targets,).
    """

    def __init__(self, backend: Backend, features: PlacedArray, targets: PlacedArray) -> None:
        self._origin = backend
        self._placed: dict[Backend, tuple[PlacedArray, PlacedArray]] = {backend: (features, targets)}

    def on(self, backend: Backend) -> tuple[PlacedArray, PlacedArray]:
        """Both in the memory of a backend; copied, and waited for, the first time that another one asks."""
        placed = self._placed.get(backend)
        if placed is None:
            features, targets = map(self._origin.fetch, self._placed[self._origin])
            placed = self._placed[backend] = backend.place(features), backend.place(targets)
        return placed


# ---- what backends give ----


class RunningSums(Protocol):
    """Sums over rows about a shift that grow batch by batch, where the rows lie."""

    @property
    def grows_unseen(self) -> bool:
        """Whether batches may come that no call tells of: a CUDA graph that holds an `add` is replayed."""

    def add(self, features: Rows, targets: Rows | None, shifts: Shifts, *, skipped: int, skips_nonfinite: bool) -> None:
        """Add a batch of at least one row; when it raises, nothing was added.

        A device launches and does not wait: what is wrong with a batch comes with `check`.

        Parameters
        ----------
        features, targets : Rows
            In the memory of the backend.
        shifts : Shifts
            What is subtracted from the rows; one object for all batches.
        skipped : int
            Rows that were left out of the batch before.
        skips_nonfinite : bool
            Whether rows that are not finite may be left out here, where that is known without waiting; else, or where
            the backend looks at once, they are errors.

        Raises
        ------
        NonFiniteRowsError
            A row is not finite.
        ValueError
            The squares of the rows leave the range of float64.
        RuntimeError
            A first batch comes while a CUDA graph is being captured.
        """

    def check(self) -> None:
        """Wait for what was added.

        Raises
        ------
        NonFiniteRowsError
            A batch was not added because of a row that is not finite, and no error has told of it before.
        ValueError
            A batch was not added because its squares leave the range of float64, and no error has told of it before.
        """

    def fetch(self) -> list[SumsPart]:
        """Everything that adds up, in parts to be added in this order.

        Waits for what was added; `check` afterwards tells what was not. Large Gram matrices stay where they are.
        """


class ClassRows(Protocol):
    """Rows in float64 of classes that are numbered 0..P-1."""

    def subtract(self, shifts: FloatArray) -> None:
        """Subtract the shift of its class, (P, d), from each row."""

    def sums(self) -> FloatArray:
        """Sum of each class, (P, d)."""

    def energies(self) -> FloatArray:
        """Sum of squares of each class, (P,)."""

    def rows(self, *, double: bool) -> Rows:
        """The rows as they are now, in float64 or in float32."""


class Copies(Protocol):
    """Copies of rows of the host in the memory of a backend that go on beside the computation."""

    def start(self, rows: Rows) -> Rows:
        """A copy that is on its way; what is launched with it waits for it.

        Raises
        ------
        OSError
            The rows lie in a file that ends early or cannot be read.
        """

    def close(self) -> None:
        """Wait for the copies."""


class Backend(Protocol):
    """Where rows lie, with the kernels that compute there.

    Backends of one memory are equal. Passes read the rows once and give float64 on the host, except where they say
    otherwise; shifts, bases and weights that they are given are contiguous float64 arrays on the host, checked by the
    caller. Passes raise `NonFiniteRowsError` for a row that is not finite.
    """

    @property
    def is_host(self) -> bool:
        """Whether the memory is that of the host."""

    @property
    def place_name(self) -> str:
        """As messages call the memory: "the CPU", or as torch calls it."""

    @property
    def name(self) -> str:
        """For reports: with the instruction set and threads, or the card."""

    @property
    def library(self) -> ModuleType:
        """Whose functions take the arrays of this memory: numpy or torch."""

    # ---- passes ----

    def gram(self, features: Rows, request: GramRequest) -> GramSums:
        """The sums that are asked for, in the precision that is named."""

    def residual(self, features: Rows, bases: Sequence[Basis], *, double_precision: bool) -> list[ResidualSums]:
        """Residuals on each basis, and the images of rows that it asks for; NaN for those that there are none of."""

    def gram_product(self, features: Rows, vectors: FloatArray, shift: FloatArray) -> ProductSums:
        """``V sum (h - s)(h - s)^T``, ``sum (h - s)`` and ``sum |h - s|^2``."""

    def residual_and_errors(
        self, features: Rows, bases: Sequence[Basis], prediction: PredictionRequest
    ) -> tuple[list[ResidualSums], PredictionSums]:
        """Residuals on each basis, if any, and what the errors of a model add up to, in float64."""

    def images(self, features: Rows, weights: FloatArray) -> tuple[FloatArray, FloatArray]:
        """``W h`` of each row, (N, n), and ``|h|^2``, (N,), in float64 and on the host."""

    def placed_gram(
        self, features: Rows, shift: PlacedArray | None, *, unit_rows: bool, precision: str
    ) -> tuple[PlacedArray, PlacedArray]:
        """Gram matrix of the shifted rows or unit rows, and their column sums, where they lie.

        Only the lower triangle is filled. A device waits for nothing, and gives NaN where a row is not finite.
        """

    def placed_residuals(
        self, features: Rows, vectors: FloatArray, shift: PlacedArray | None
    ) -> tuple[PlacedArray, PlacedArray]:
        """Squared residual on orthonormal vectors, and square, of each shifted row in float64, where they lie.

        A device waits for nothing, and gives NaN for a row that is not finite.
        """

    # ---- sums and classes ----

    def running_sums(self, kind: SumsKind, start: Mapping[str, FloatArray] | None = None) -> RunningSums:
        """Sums that grow, from none or from those of a start."""

    def rounding_kind(self, rows: Rows, precision: str) -> str:
        """How products of rows are rounded: one of the names of `counts.MAGNITUDES`."""

    def first_mean(self, rows: Rows, *, single: bool) -> PlacedArray:
        """Mean of the first rows of those that are finite, rounded to float32 if `single`; zeros where none is."""

    def class_rows(self, rows: Rows, numbers: IntArray, counts: IntArray) -> ClassRows:
        """Finite rows with the number of their class; every class, of so many rows, has some."""

    def largest_scores(
        self, rows: Rows, mean: FloatArray, heads: Sequence[FloatArray], offsets: Sequence[FloatArray]
    ) -> list[IntArray]:
        """For each head (K, d), the number of the largest of ``(h - mean) W^T + b`` for every row, on the host."""

    # ---- memory and small matrices ----

    def place(self, array: StoredArray) -> PlacedArray:
        """An array of the host in this memory."""

    def fetch(self, array: PlacedArray) -> StoredArray:
        """An array of this memory on the host; waits for what computes it."""

    def as_float64(self, array: PlacedArray) -> PlacedArray:
        """An array of this memory in float64, which is not copied if it is."""

    def copied(self, rows: Rows) -> Rows:
        """A copy of rows of the host in this memory."""

    def copying(self, size: int) -> str:
        """How chunks of so many bytes come here from the host, in words; empty where nothing is copied."""

    def copies(self) -> Copies:
        """Means to bring rows of the host here, chunk by chunk."""

    def keeps_matrices(self, d: int) -> bool:
        """Whether matrices of d x d stay in this memory, as the host would take longer with them."""

    def covariance(self, lower: PlacedArray, offset: FloatArray | None, count: int) -> SymmetricMatrix:
        """``G / N - o o^T`` of the lower triangle of G in this memory, and a mean o of the host; none is zero."""

    def singular_values(self, matrices: PlacedArray) -> FloatArray:
        """Singular values, descending, of matrices in this memory (..., m, n), on the host."""

    # ---- descent ----

    @property
    def problems_at_once(self) -> int:
        """How many problems of descent are under way at once, at least."""

    def take_steps(self, state: DescentState, steps: IntArray) -> None:
        """Take `steps` (P,) steps of every problem of a state in this memory, in place; `wait` waits for them."""

    def wait(self) -> None:
        """Wait for what was launched."""
