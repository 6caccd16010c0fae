"""What passes that hold rows against a few vectors add up beside residuals: products, unit rows, errors of a model."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from nrc_fast.base.arrays import FloatArray
from nrc_fast.base.processes import Team
from nrc_fast.base.symmetric import SymmetricMatrix
from nrc_fast.kernels import calls
from nrc_fast.kernels.arrays import PlacedArray
from nrc_fast.kernels.cpu.backend import CPU
from nrc_fast.kernels.errors import too_large
from nrc_fast.kernels.interface import Backend, Rows
from nrc_fast.kernels.results import Basis
from nrc_fast.passes.balance_sums import LinearModel, prediction_request, wanted_balance
from nrc_fast.passes.sums import OtherStateError, Sums
from nrc_fast.sources import Chunk

__all__ = ["CenteredUnitGram", "GramProduct", "PredictionErrors", "turned_rows"]


class GramProduct(Sums):
    """Products of the rows about a shift with a few vectors, and the squares of these rows.

    Parameters
    ----------
    vectors : (k, d) float64 array
        V.
    shift : (d,) float64 array
        s.

    Attributes
    ----------
    image : (k, d) float64 array
        ``V sum (h - s)(h - s)^T``.
    column_sums : (d,) float64 array
        ``sum (h - s)``.
    energy : (1,) float64 array
        ``sum |h - s|^2``.
    """

    def __init__(self, vectors: FloatArray, shift: FloatArray) -> None:
        self.vectors = vectors
        self.shift = shift
        self.image = np.zeros_like(vectors)
        self.column_sums = np.zeros(len(shift))
        self.energy = np.zeros(1)
        self._count = np.zeros(1)

    @property
    def count(self) -> int:
        """Rows that were added."""
        return int(self._count[0])

    def add_chunk(self, chunk: Chunk) -> None:
        """Add the rows of a chunk; when it raises, nothing was added."""
        sums = calls.gram_product(chunk.features, self.vectors, self.shift)
        self.image, self.column_sums, self.energy, self._count = (
            self.image + sums.image,
            self.column_sums + sums.column_sums,
            self.energy + sums.energy,
            self._count + chunk.features.count,
        )

    def arrays(self) -> dict[str, FloatArray]:
        """The state: everything that `restore` needs."""
        return self._sums() | {"vectors": self.vectors, "shift": self.shift}

    def _sums(self) -> dict[str, FloatArray]:
        return {"image": self.image, "column_sums": self.column_sums, "energy": self.energy, "count": self._count}

    def restore(self, arrays: dict[str, FloatArray]) -> None:
        """Take over a state.

        Raises
        ------
        OtherStateError
            It is of other vectors, as those of another machine are in their last bits, or of an earlier version.
        ValueError
            Something is missing, has another shape or is not finite.
        """
        vectors, image = (arrays.get(name, np.empty(0)) for name in ("vectors", "image"))
        is_whole = vectors.shape == image.shape and bool(np.isfinite(vectors).all())
        if not {"energy", "vectors"} <= arrays.keys() or (is_whole and not np.array_equal(vectors, self.vectors)):
            raise OtherStateError
        self.require_state(arrays)
        if not np.array_equal(arrays["shift"], self.shift):
            raise OtherStateError
        self.image, self.column_sums = arrays["image"], arrays["column_sums"]
        self.energy, self._count = arrays["energy"], arrays["count"]

    def reduce(self, team: Team) -> None:
        """Add up the parts of all processes; their vectors are the same."""
        sums = self._sums()
        team.sum(list(sums.values()))
        self.restore(self.arrays() | sums)

    @staticmethod
    def combined(states: Sequence[dict[str, FloatArray]]) -> dict[str, FloatArray]:
        """The state for the rows of several, in their order."""
        return Sums.combined(states) | {name: states[0][name] for name in ("vectors", "shift")}


def turned_rows(energies: FloatArray, shift_error: float) -> float:
    """Sum over rows of the squares of the angles by which the error of a shift may turn them.

    A row x about a shift that is off by e has a direction that is off by at most ``2 e / |x|``; nothing is known of one
    that is as near the shift as that. The direction is all that counts of rows divided by their norm.

    Parameters
    ----------
    energies : (N,) float64 array
        ``|x|^2``.
    shift_error : float
        Bound of e.

    Examples
    --------
    >>> turned_rows(np.array([4.0, 0.0]), 0.1)
    1.01
    """
    energies = np.asarray(energies)
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        squares = (2.0 * shift_error) ** 2 / energies
    return float(np.sum(np.fmin(squares, 1.0)))


class CenteredUnitGram(Sums):
    """``sum u u^T`` with ``u = (h - mean)/||h - mean||``, the lower triangle, and ``sum (h - mean)``.

    Large matrices of rows on a device stay there.

    Parameters
    ----------
    mean : (d,) float64 array
    precision : {"high", "highest", "fast"}
    mean_error : float
        How far the mean may be off in norm.

    Attributes
    ----------
    turned : (1,) float64 array
        As in `Residuals`.
    """

    def __init__(self, mean: FloatArray, precision: str, *, mean_error: float = 0.0) -> None:
        self.mean = mean
        self.precision = precision
        self.turned = np.zeros(1)
        self._mean_error = mean_error
        self._gram = np.zeros((len(mean), len(mean)))
        self._placed: dict[Backend, PlacedArray] = {}  # what stays on devices
        self.column_sums = np.zeros(len(mean))

    def add_chunk(self, chunk: Chunk) -> None:
        """Add the rows of a chunk; when it raises, nothing was added."""
        about = Basis(np.zeros((0, len(self.mean))), self.mean, per_row=True)
        (rows,) = calls.residual(chunk.features, [about], double_precision=True)
        assert rows.row_energies is not None
        backend = chunk.features.backend
        stays = not backend.is_host and backend.keeps_matrices(len(self.mean))
        found = (self._added_there if stays else self._added_here)(chunk.features)
        self._gram, self._placed, column_sums = found
        self.column_sums = self.column_sums + column_sums
        self.turned = self.turned + turned_rows(rows.row_energies, self._mean_error)

    def _added_here(self, features: Rows) -> tuple[FloatArray, dict[Backend, PlacedArray], FloatArray]:
        sums = calls.gram(
            features,
            shift=self.mean,
            plain=False,
            unit="shifted",
            unit_onto=self._gram,
            precision=self.precision,
        )
        return sums.unit_gram, self._placed, sums.column_sums

    def _added_there(self, features: Rows) -> tuple[FloatArray, dict[Backend, PlacedArray], FloatArray]:
        backend = features.backend
        shift = backend.place(self.mean)
        gram, sums = backend.placed_gram(features, shift, unit_rows=True, precision=self.precision)
        column_sums = backend.fetch(sums)
        if not np.isfinite(column_sums).all():  # the rows are
            raise too_large(features.name, backend.place_name)
        before = self._placed.get(backend)
        return self._gram, self._placed | {backend: gram if before is None else before + gram}, column_sums

    def matrix(self, count: int) -> SymmetricMatrix:
        """``(1/N) sum u u^T`` of so many rows, in the memory where it was added up."""
        (home, total), *others = [*self._placed.items(), (CPU, self._gram)]
        for backend, gram in others:
            on_host = backend.fetch(gram)
            if home.is_host or on_host.any():
                total = total + home.place(on_host)
        return home.covariance(total, None, count)

    def arrays(self) -> dict[str, FloatArray]:
        """The state: everything that `restore` needs."""
        gram = self._gram
        for backend, placed in self._placed.items():
            gram = gram + backend.fetch(placed)
        return {"gram": gram, "column_sums": self.column_sums, "turned": self.turned}

    def restore(self, arrays: dict[str, FloatArray]) -> None:
        """Take over a state.

        Raises
        ------
        OtherStateError
            It lacks the sums of the columns, or knows nothing of rows near the mean.
        ValueError
            Something is missing, has another shape or is not finite.
        """
        if not {"column_sums", "turned"} <= arrays.keys():
            raise OtherStateError
        self.require_state(arrays)
        self._gram, self.column_sums, self.turned = arrays["gram"], arrays["column_sums"], arrays["turned"]
        self._placed = {}


class PredictionErrors(Sums):
    """``sum (W h + b - y)^2`` for each output of a model.

    Parameters
    ----------
    model : LinearModel

    Attributes
    ----------
    balance : BalanceSums or None
        Products of the errors and the predictions, where the model wants them.
    """

    def __init__(self, model: LinearModel) -> None:
        self.model = model
        self.errors = np.zeros(len(model.bias))
        self.balance = wanted_balance(model)
        self._chunks = np.zeros(1)

    @property
    def chunks(self) -> int:
        """In how many chunks the rows came."""
        return int(self._chunks[0])

    def add_chunk(self, chunk: Chunk) -> None:
        """Add the rows of a chunk; when it raises, nothing was added."""
        assert chunk.targets is not None
        request = prediction_request(self.model, self.balance, chunk.targets)
        _, found = calls.residual_and_errors(chunk.features, [], request)
        if self.balance is not None:
            self.balance.add_predictions(found, chunk)
        self.errors, self._chunks = self.errors + found.errors, self._chunks + 1

    def arrays(self) -> dict[str, FloatArray]:
        """The state: everything that `restore` needs."""
        own = {"errors": self.errors, "chunks": self._chunks}
        return own if self.balance is None else own | self.balance.arrays()

    def restore(self, arrays: dict[str, FloatArray]) -> None:
        """Take over a state.

        Raises
        ------
        OtherStateError
            It knows nothing of chunks, or of products that are wanted.
        ValueError
            Something is missing, has another shape or is not finite.
        """
        if "chunks" not in arrays:
            raise OtherStateError
        if self.balance is not None:
            self.balance.restore(arrays)
        self.require_state(arrays)
        self.errors, self._chunks = arrays["errors"], arrays["chunks"]
