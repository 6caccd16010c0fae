"""What passes that hold rows against a few vectors add up: products, residuals, errors of predictions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from nrc_fast.base.arrays import FloatArray
from nrc_fast.kernels import calls
from nrc_fast.kernels.results import Basis, ResidualSums
from nrc_fast.passes.sums import EarlierStateError, Sums
from nrc_fast.sources import Chunk

__all__ = ["CenteredUnitGram", "GramProduct", "Pairing", "PredictionErrors", "Residuals"]


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
        return {
            "image": self.image,
            "column_sums": self.column_sums,
            "energy": self.energy,
            "count": self._count,
        }

    def restore(self, arrays: dict[str, FloatArray]) -> None:
        """Take over a state.

        Raises
        ------
        EarlierStateError
            It lacks energy and number of the rows.
        ValueError
            Something is missing, has another shape or is not finite.
        """
        if "energy" not in arrays:
            raise EarlierStateError
        self.require_state(arrays)
        self.image, self.column_sums = arrays["image"], arrays["column_sums"]
        self.energy, self._count = arrays["energy"], arrays["count"]


class CenteredUnitGram(Sums):
    """``sum u u^T`` with ``u = (h - mean)/||h - mean||``, the lower triangle, and ``sum (h - mean)``.

    Parameters
    ----------
    mean : (d,) float64 array
    precision : {"high", "highest", "fast"}
    """

    def __init__(self, mean: FloatArray, precision: str) -> None:
        self.mean = mean
        self.precision = precision
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
        self.gram, self.column_sums = sums.unit_gram, self.column_sums + sums.column_sums

    def arrays(self) -> dict[str, FloatArray]:
        """The state: everything that `restore` needs."""
        return {"gram": self.gram, "column_sums": self.column_sums}

    def restore(self, arrays: dict[str, FloatArray]) -> None:
        """Take over a state.

        Raises
        ------
        EarlierStateError
            It lacks the sums of the columns.
        ValueError
            Something is missing, has another shape or is not finite.
        """
        if "column_sums" not in arrays:
            raise EarlierStateError
        self.require_state(arrays)
        self.gram, self.column_sums = arrays["gram"], arrays["column_sums"]


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


class Residuals(Sums):
    """Sums of the explicit residuals on several bases.

    Parameters
    ----------
    bases : sequence of Basis
    double_precision : bool
        Whether they are computed in float64.
    pairing : Pairing, optional
        For products of the squares of rows and of their targets.

    Attributes
    ----------
    sums : list of ResidualSums
        One for each basis.
    is_double : bool
        Whether they were computed in float64.
    paired : (3,) float64 array
        ``sum a_i^2``, ``sum b_i^2`` and ``sum a_i b_i`` of the pairing; NaN without one.
    """

    def __init__(self, bases: Sequence[Basis], *, double_precision: bool, pairing: Pairing | None = None) -> None:
        self.bases = list(bases)
        self.is_double = double_precision
        self.sums = [ResidualSums(*(np.zeros(len(basis.vectors) + 1) for _ in range(2))) for basis in bases]
        self.paired: FloatArray = np.full(3, np.nan) if pairing is None else np.zeros(3)
        self._pairing = pairing
        if pairing is not None:
            self.bases[pairing.basis] = replace(self.bases[pairing.basis], per_row=True)
        self._count = np.zeros(1)

    @property
    def count(self) -> int:
        """Rows that were added."""
        return int(self._count[0])

    def add_chunk(self, chunk: Chunk) -> None:
        """Add the residuals of a chunk."""
        parts = calls.residual(chunk.features, self.bases, double_precision=self.is_double)
        pairs = zip(self.sums, parts, strict=True)
        self.sums, self.paired, self._count = (
            [ResidualSums(total.raw + part.raw, total.unit + part.unit) for total, part in pairs],
            self.paired + self._products(chunk, parts),
            self._count + chunk.features.count,
        )

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
        arrays = {"count": self._count, "paired": self.paired}
        for index, sums in enumerate(self.sums):
            arrays |= {f"raw {index}": sums.raw, f"unit {index}": sums.unit}
        return arrays

    def restore(self, arrays: dict[str, FloatArray]) -> None:
        """Take over a state; one of an earlier version has no products of squares.

        Raises
        ------
        EarlierStateError
            It is of fewer vectors.
        ValueError
            Something is missing, has another shape or is not finite.
        """
        raw = [(arrays.get(f"raw {i}"), len(basis.vectors) + 1) for i, basis in enumerate(self.bases)]
        if any(found is not None and found.size < expected for found, expected in raw):
            raise EarlierStateError
        arrays = {"paired": np.full(3, np.nan)} | arrays
        self.require_state(arrays, may_be_nan=("paired",))
        self._count, self.paired = arrays["count"], arrays["paired"]
        self.sums = [ResidualSums(arrays[f"raw {i}"], arrays[f"unit {i}"]) for i in range(len(self.bases))]


class PredictionErrors(Sums):
    """``sum (W h + b - y)^2`` for each output.

    Parameters
    ----------
    weights : (n, d) float64 array
        W.
    bias : (n,) float64 array
        b.
    """

    def __init__(self, weights: FloatArray, bias: FloatArray) -> None:
        self.weights = weights
        self.bias = bias
        self.errors = np.zeros(len(bias))

    def add_chunk(self, chunk: Chunk) -> None:
        """Add the rows of a chunk; when it raises, nothing was added."""
        assert chunk.targets is not None
        self.errors = self.errors + calls.prediction_error(chunk.features, self.weights, self.bias, chunk.targets)

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
