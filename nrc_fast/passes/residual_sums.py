"""What a pass over explicit residuals adds up."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from nrc_fast.base.arrays import FloatArray
from nrc_fast.base.processes import Team
from nrc_fast.kernels import calls
from nrc_fast.kernels.results import Basis, PredictionSums, ResidualSums, RowImages
from nrc_fast.metrics.grounds import ALONG_ROWS, Grounds
from nrc_fast.metrics.rounding import ProjectionRounding, projection_rounding
from nrc_fast.passes.balance_sums import MOST_OUTPUTS, BalanceSums, LinearModel, prediction_request, wanted_balance
from nrc_fast.passes.explicit_sums import turned_rows
from nrc_fast.passes.sums import OtherStateError, Sums
from nrc_fast.sources import Chunk

__all__ = ["Pairing", "Residuals"]

# Names of what a state has of images, and of the vectors that they are of.
IMAGES = ("image", "unit image", "shift sums")
VECTORS = "vectors"


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
    kept_rows : int
        How many rows there are, if they are kept in float64, or 0: they must be few, and all of them be added here.

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
    balance : BalanceSums or None
        Products of the errors and the predictions, where the model wants them.
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
        kept_rows: int = 0,
    ) -> None:
        self._rows: FloatArray = np.zeros((kept_rows, bases[0].vectors.shape[1]))
        aims = None if pairing is None else pairing.target_mean
        outputs = len(model.bias) if model is not None else 0 if aims is None else len(aims)
        self._targets: FloatArray = np.zeros((kept_rows, outputs if outputs <= MOST_OUTPUTS else 0))
        self.bases = list(bases)
        self.turned = np.zeros(1)
        self._shift_error = shift_error
        shifted = [index for index, basis in enumerate(bases) if basis.shift is not None]
        self._shifted = shifted[0] if shifted and shift_error > 0.0 else None
        if self._shifted is not None:
            self.bases[self._shifted] = replace(self.bases[self._shifted], per_row=True)
        self.is_double = double_precision
        self.sums = [_no_residuals(basis) for basis in bases]
        self.paired: FloatArray = np.full(3, np.nan) if pairing is None else np.zeros(3)
        self.errors: FloatArray | None = None if model is None else np.zeros(len(model.bias))
        self.balance: BalanceSums | None = None if model is None else wanted_balance(model)
        self._pairing = pairing
        self._model = model
        if pairing is not None:
            self.bases[pairing.basis] = replace(self.bases[pairing.basis], per_row=True)
        self._counts = np.zeros(2)
        self._on_devices = np.zeros(1)  # rows that were

    @property
    def count(self) -> int:
        """Rows that were added."""
        return int(self._counts[0])

    @property
    def chunks(self) -> int:
        """In how many chunks they came."""
        return int(self._counts[1])

    @property
    def rows(self) -> FloatArray | None:
        """All rows, (N, d); None where they are not kept, or are others than were expected."""
        return self._rows if 0 < self.count == len(self._rows) else None

    @property
    def targets(self) -> FloatArray | None:
        """Targets of all rows, (N, n), where these are kept, and targets were asked for, of few outputs."""
        return self._targets if self.rows is not None and self._targets.size else None

    @property
    def grounds(self) -> Grounds:
        """What the bounds of these sums rest on: tensor cores multiply rows on devices that are not float64."""
        has_cores = self._on_devices[0] > 0.0 and not self.is_double
        return ALONG_ROWS | ({"tensor cores"} if has_cores else frozenset())

    def rounding(self, basis: int) -> ProjectionRounding:
        """What rounding does to the sums on one of the bases."""
        vectors, d = self.bases[basis].vectors.shape
        return projection_rounding(
            d,
            vectors,
            double_precision=self.is_double,
            chunks=self.chunks,
        )

    def add_chunk(self, chunk: Chunk) -> None:
        """Add the residuals of a chunk; when it raises, nothing was added."""
        parts, found = self._of_chunk(chunk)
        products = self._products(chunk, parts)
        if self.balance is not None:
            self.balance.add_predictions(found, chunk)
        self._keep(chunk)
        pairs = zip(self.sums, parts, strict=True)
        self.sums, self.paired, self.turned, self.errors, self._counts = (
            [_added(total, part) for total, part in pairs],
            self.paired + products,
            self.turned + self._turned(parts),
            None if self.errors is None else self.errors + found.errors,
            self._counts + np.array([chunk.features.count, 1]),
        )
        if not chunk.features.backend.is_host:
            self._on_devices = self._on_devices + chunk.features.count

    def _keep(self, chunk: Chunk) -> None:
        end = self.count + chunk.features.count
        if end <= len(self._rows):
            self._rows[self.count : end] = chunk.features.to_float64()
            if self._targets.size and chunk.targets is not None:
                self._targets[self.count : end] = chunk.targets.to_float64()

    def _of_chunk(self, chunk: Chunk) -> tuple[list[ResidualSums], PredictionSums]:
        if self._model is None:
            found = calls.residual(chunk.features, self.bases, double_precision=self.is_double)
            return found, PredictionSums(np.zeros(0))
        assert self.is_double
        assert chunk.targets is not None
        request = prediction_request(self._model, self.balance, chunk.targets)
        return calls.residual_and_errors(chunk.features, self.bases, request)

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
        arrays = {"counts": self._counts, "paired": self.paired, "turned": self.turned, "devices": self._on_devices}
        for index, sums in enumerate(self.sums):
            arrays |= {f"raw {index}": sums.raw, f"unit {index}": sums.unit, f"expanded {index}": sums.expanded}
            if sums.images is not None:
                arrays |= {f"{name} {index}": array for name, array in _named(sums.images).items()}
                arrays[f"vectors {index}"] = self.bases[index].vectors
        arrays |= {} if self.errors is None else {"errors": self.errors}
        arrays |= {"rows": self._rows.copy(), "targets": self._targets.copy()} if len(self._rows) else {}
        return arrays if self.balance is None else arrays | self.balance.arrays()

    def restore(self, arrays: dict[str, FloatArray]) -> None:
        """Take over a state; one of an earlier version has no products of squares, or does not say where rows were.

        Raises
        ------
        OtherStateError
            It is of fewer vectors, lacks the errors of the model, products, rows or images that are wanted, is of other
            vectors than those of the images, or knows nothing of rows near the shift or of chunks.
        ValueError
            Something is missing, has another shape or is not finite.
        """
        needed = {"turned", "counts"} | (set() if self._model is None else {"errors"})
        needed |= {"rows", "targets"} if len(self._rows) else set()
        imaged = {f"vectors {i}": basis.vectors for i, basis in enumerate(self.bases) if basis.images}
        needed |= imaged.keys()
        raw = [(arrays.get(f"raw {i}"), len(basis.vectors) + 1) for i, basis in enumerate(self.bases)]
        if not needed <= arrays.keys() or any(found is not None and found.size < expected for found, expected in raw):
            raise OtherStateError
        if not all(np.array_equal(arrays[name], vectors) for name, vectors in imaged.items()):
            raise OtherStateError
        if self.balance is not None:
            self.balance.restore(arrays)
        arrays = {"paired": np.full(3, np.nan), "devices": np.zeros(1)} | arrays
        images = [name for name in self.arrays() if name.startswith(IMAGES)]
        self.require_state(arrays, may_be_nan=("paired", "rows", "targets", *images))
        if any(np.isinf(arrays[name]).any() for name in images):
            msg = "the saved image is not finite; numbers are expected, or NaN from a device"
            raise ValueError(msg)
        self._rows, self._targets = arrays.get("rows", self._rows), arrays.get("targets", self._targets)
        self._counts, self.paired, self.turned = arrays["counts"], arrays["paired"], arrays["turned"]
        self._on_devices = arrays["devices"]
        self.errors = None if self._model is None else arrays["errors"]
        self.sums = [_sums_of(arrays, index, basis) for index, basis in enumerate(self.bases)]

    def reduce(self, team: Team) -> None:
        """Add up the parts of all processes; their vectors are the same."""
        arrays = self.arrays()
        sums = {name: array for name, array in arrays.items() if not name.startswith(VECTORS)}
        team.sum(list(sums.values()))
        self.restore(arrays | sums)

    @staticmethod
    def combined(states: Sequence[dict[str, FloatArray]]) -> dict[str, FloatArray]:
        """The state for the rows of several, in their order."""
        kept = {name: array for name, array in states[0].items() if name.startswith(VECTORS)}
        return Sums.combined(states) | kept


def _no_residuals(basis: Basis) -> ResidualSums:
    size = len(basis.vectors) + 1
    images = RowImages.zeros(basis) if basis.images else None
    return ResidualSums(np.zeros(size), np.zeros(size), np.zeros(2), images=images)


def _added(total: ResidualSums, part: ResidualSums) -> ResidualSums:
    images = None if total.images is None or part.images is None else total.images.plus(part.images)
    return ResidualSums(total.raw + part.raw, total.unit + part.unit, total.expanded + part.expanded, images=images)


def _named(images: RowImages) -> dict[str, FloatArray]:
    return dict(zip(IMAGES, (images.raw, images.unit, images.shift), strict=True))


def _sums_of(arrays: dict[str, FloatArray], index: int, basis: Basis) -> ResidualSums:
    raw, unit, expanded = (arrays[f"{name} {index}"] for name in ("raw", "unit", "expanded"))
    images = RowImages(*(arrays[f"{name} {index}"] for name in IMAGES)) if basis.images else None
    return ResidualSums(raw, unit, expanded, images=images)
