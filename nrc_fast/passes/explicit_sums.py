"""What passes that hold rows against a few vectors add up: products, residuals, errors of predictions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from nrc_fast.base.arrays import FloatArray
from nrc_fast.base.processes import Team
from nrc_fast.kernels import calls
from nrc_fast.kernels.interface import PredictionRequest
from nrc_fast.kernels.results import Basis, ResidualSums
from nrc_fast.passes.sums import OtherStateError, Sums
from nrc_fast.sources import Chunk

__all__ = ["CenteredUnitGram", "GramProduct", "LinearModel", "Pairing", "PredictionErrors", "Residuals", "turned_rows"]


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
        self.gram = np.zeros((len(mean), len(mean)))
        self.column_sums = np.zeros(len(mean))

    def add_chunk(self, chunk: Chunk) -> None:
        """Add the rows of a chunk; when it raises, nothing was added."""
        sums = calls.gram(
            chunk.features,
            shift=self.mean,
            plain=False,
            unit="shifted",
            unit_onto=self.gram,
            precision=self.precision,
        )
        about = Basis(np.zeros((0, len(self.mean))), self.mean, per_row=True)
        (rows,) = calls.residual(chunk.features, [about], double_precision=True)
        assert rows.row_energies is not None
        self.gram, self.column_sums, self.turned = (
            sums.unit_gram,
            self.column_sums + sums.column_sums,
            self.turned + turned_rows(rows.row_energies, self._mean_error),
        )

    def arrays(self) -> dict[str, FloatArray]:
        """The state: everything that `restore` needs."""
        return {"gram": self.gram, "column_sums": self.column_sums, "turned": self.turned}

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
        self.gram, self.column_sums, self.turned = arrays["gram"], arrays["column_sums"], arrays["turned"]


@dataclass(frozen=True)
class Pairing:
    """Which squares of rows are multiplied: ``a_i = |h_i - s|^2 / v`` and ``b_i = |y_i - t|^2 / w``.

    Attributes
    ----------
    basis : int
        Number of the basis whose shift is s.
    target_mean : (n,) float64 array
        t.
    scales : two floats
        v and w, the variances of features and targets.
    """

    basis: int
    target_mean: FloatArray
    scales: tuple[float, float]


@dataclass(frozen=True)
class LinearModel:
    """A model ``W h + b`` of the targets.

    Attributes
    ----------
    weights : (n, d) float64 array
        W.
    bias : (n,) float64 array
        b.
    """

    weights: FloatArray
    bias: FloatArray


class Residuals(Sums):
    """Sums of the explicit residuals on several bases, and of the errors of a model.

    Parameters
    ----------
    bases : sequence of Basis
    double_precision : bool
        Whether they are computed in float64.
    pairing : Pairing, optional
        For products of the squares of rows and of their targets.
    model : LinearModel, optional
        Whose errors are wanted too: in float64, as the residuals must be.
    shift_error : float
        How far the shifts may be off in norm, all of them alike.

    Attributes
    ----------
    sums : list of ResidualSums
        One for each basis.
    is_double : bool
        Whether they were computed in float64.
    paired : (3,) float64 array
        ``sum a_i^2``, ``sum b_i^2`` and ``sum a_i b_i`` of the pairing; NaN without one.
    errors : (n,) float64 array or None
        ``sum (W h + b - y)^2`` for each output of the model.
    turned : (1,) float64 array
        Sum of the squares of the angles by which rows about a shift may be turned, see `turned_rows`; 0 without error.
    """

    def __init__(
        self,
        bases: Sequence[Basis],
        *,
        double_precision: bool,
        pairing: Pairing | None = None,
        model: LinearModel | None = None,
        shift_error: float = 0.0,
    ) -> None:
        self.bases = list(bases)
        self.turned = np.zeros(1)
        self._shift_error = shift_error
        shifted = [index for index, basis in enumerate(bases) if basis.shift is not None]
        self._shifted = shifted[0] if shifted and shift_error > 0.0 else None
        if self._shifted is not None:
            self.bases[self._shifted] = replace(self.bases[self._shifted], per_row=True)
        self.is_double = double_precision
        self.sums = [ResidualSums(*(np.zeros(len(basis.vectors) + 1) for _ in range(2))) for basis in bases]
        self.paired: FloatArray = np.full(3, np.nan) if pairing is None else np.zeros(3)
        self.errors: FloatArray | None = None if model is None else np.zeros(len(model.bias))
        self._pairing = pairing
        self._model = model
        if pairing is not None:
            self.bases[pairing.basis] = replace(self.bases[pairing.basis], per_row=True)
        self._count = np.zeros(1)

    @property
    def count(self) -> int:
        """Rows that were added."""
        return int(self._count[0])

    def add_chunk(self, chunk: Chunk) -> None:
        """Add the residuals of a chunk; when it raises, nothing was added."""
        parts, errors = self._of_chunk(chunk)
        pairs = zip(self.sums, parts, strict=True)
        self.sums, self.paired, self.turned, self.errors, self._count = (
            [ResidualSums(total.raw + part.raw, total.unit + part.unit) for total, part in pairs],
            self.paired + self._products(chunk, parts),
            self.turned + self._turned(parts),
            None if self.errors is None else self.errors + errors,
            self._count + chunk.features.count,
        )

    def _of_chunk(self, chunk: Chunk) -> tuple[list[ResidualSums], FloatArray]:
        if self._model is None:
            return calls.residual(chunk.features, self.bases, double_precision=self.is_double), np.zeros(0)
        assert self.is_double
        assert chunk.targets is not None
        prediction = PredictionRequest(self._model.weights, self._model.bias, chunk.targets)
        return calls.residual_and_errors(chunk.features, self.bases, prediction)

    def _turned(self, parts: Sequence[ResidualSums]) -> float:
        if self._shifted is None:
            return 0.0
        energies = parts[self._shifted].row_energies
        assert energies is not None
        return turned_rows(energies, self._shift_error)

    def _products(self, chunk: Chunk, parts: Sequence[ResidualSums]) -> FloatArray:
        pairing = self._pairing
        if pairing is None or chunk.targets is None:
            return np.full(3, np.nan)
        about = Basis(np.zeros((0, len(pairing.target_mean))), pairing.target_mean, per_row=True)
        (of_targets,) = calls.residual(chunk.targets, [about], double_precision=True)
        squares = parts[pairing.basis].row_energies, of_targets.row_energies
        features, targets = (np.asarray(square) / scale for square, scale in zip(squares, pairing.scales, strict=True))
        return np.array([features @ features, targets @ targets, features @ targets])

    def arrays(self) -> dict[str, FloatArray]:
        """The state: everything that `restore` needs."""
        arrays = {"count": self._count, "paired": self.paired, "turned": self.turned}
        for index, sums in enumerate(self.sums):
            arrays |= {f"raw {index}": sums.raw, f"unit {index}": sums.unit}
        return arrays if self.errors is None else arrays | {"errors": self.errors}

    def restore(self, arrays: dict[str, FloatArray]) -> None:
        """Take over a state; one of an earlier version has no products of squares.

        Raises
        ------
        OtherStateError
            It is of fewer vectors, lacks the errors of the model, or knows nothing of rows near the shift.
        ValueError
            Something is missing, has another shape or is not finite.
        """
        needed = {"turned"} | (set() if self._model is None else {"errors"})
        raw = [(arrays.get(f"raw {i}"), len(basis.vectors) + 1) for i, basis in enumerate(self.bases)]
        if not needed <= arrays.keys() or any(found is not None and found.size < expected for found, expected in raw):
            raise OtherStateError
        arrays = {"paired": np.full(3, np.nan)} | arrays
        self.require_state(arrays, may_be_nan=("paired",))
        self._count, self.paired, self.turned = arrays["count"], arrays["paired"], arrays["turned"]
        self.errors = None if self._model is None else arrays["errors"]
        self.sums = [ResidualSums(arrays[f"raw {i}"], arrays[f"unit {i}"]) for i in range(len(self.bases))]


class PredictionErrors(Sums):
    """``sum (W h + b - y)^2`` for each output of a model.

    Parameters
    ----------
    model : LinearModel
    """

    def __init__(self, model: LinearModel) -> None:
        self.model = model
        self.errors = np.zeros(len(model.bias))

    def add_chunk(self, chunk: Chunk) -> None:
        """Add the rows of a chunk; when it raises, nothing was added."""
        assert chunk.targets is not None
        weights, bias = self.model.weights, self.model.bias
        self.errors = self.errors + calls.prediction_error(chunk.features, weights, bias, chunk.targets)

    def arrays(self) -> dict[str, FloatArray]:
        """The state: everything that `restore` needs."""
        return {"errors": self.errors}

    def restore(self, arrays: dict[str, FloatArray]) -> None:
        """Take over a state.

        Raises
        ------
        ValueError
            Something is missing, has another shape or is not finite.
        """
        self.require_state(arrays)
        self.errors = arrays["errors"]
