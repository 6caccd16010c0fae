"""What the unconstrained feature model (UFM) says before training, from the targets alone."""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np

from nrc_fast.base.arrays import Array, FloatArray
from nrc_fast.base.cards import card
from nrc_fast.base.exact_products import sums_along
from nrc_fast.base.json_values import JSONValue, plain_numbers
from nrc_fast.base.kept_values import cached_property
from nrc_fast.base.svg import spark_bars
from nrc_fast.ufm.common_floor import CommonFloor
from nrc_fast.ufm.eigenvalues import Spectrum
from nrc_fast.ufm.floor_bounds import (
    FloorNumbers,
    floor_bounds,
    has_certain_directions,
    thresholds,
)
from nrc_fast.ufm.floor_text import components_of, lines_of_others, rows_of_others, share_of_variance
from nrc_fast.ufm.inputs import Batched, BatchedInt, as_penalty, plain, plain_counts
from nrc_fast.ufm.scaling import Penalties
from nrc_fast.ufm.solution import UNCERTAIN_DIRECTIONS, UNCERTAIN_RANK
from nrc_fast.ufm.spectral import left_within
from nrc_fast.ufm.targets import TargetMoments

__all__ = ["ErrorFloor"]

ROUNDINGS = 2.0  # of c, from decays, in units of eps


@dataclass(frozen=True, eq=False, repr=False)
class ErrorFloor(CommonFloor):
    """The floor of the error of training on these targets; made by `predict`.

    All errors are mean squared errors on the scale of the raw targets, summed over the outputs, at the global minimum
    of the unconstrained feature model. A network, whose features are not free, stays above them, often by far: they
    say where a penalty stops a training, and compare penalties, and forecast no error that is reached.

    Attributes
    ----------
    moments : TargetMoments
    c : float
        lambda_W lambda_H of the paper's scaling.
    eigenvalues : (n,) float64 array
        Eigenvalues of the target covariance, descending: direction j is dropped from ``c = eigenvalues[j]`` on.
    directions : (n, n) float64 array
        Eigenvectors of the target covariance, one in each column.
    penalties : Penalties or None
    weight_decay : float
        NaN where c was given.
    note : str
        What was assumed; may be empty.
    d : int or None
        Width of the features, where it was given: fewer than n have room for the leading directions alone.
    """

    __module__ = "nrc_fast.ufm"

    moments: TargetMoments
    c: float
    eigenvalues: FloatArray
    directions: FloatArray
    penalties: Penalties[float] | None = None
    weight_decay: float = float("nan")
    note: str = ""
    d: int | None = None

    @cached_property
    def bounds(self) -> dict[str, Batched]:
        """Absolute bounds of the errors of the numbers, by name; of each direction, of the length of its error.

        They are those of arithmetic, for the targets and decays as they were given, and certified in the cases in which
        those of `Minimum.bounds` are. They say nothing of how far a trained network is from the model.

        Examples
        --------
        >>> from nrc_fast.ufm import predict
        >>> floor = predict(covariance=np.diag([0.2, 0.09]), weight_decay=0.3, feature_decay=0.3, loss="paper")
        >>> floor.rank, floor.bounds["rank"], floor.rank_range
        (1, 1, (1, 2))
        """
        numbers = {field.name: getattr(self, field.name) for field in fields(FloorNumbers)}
        return floor_bounds(
            FloorNumbers(**numbers),
            self.moments,
            self._spectrum,
            correlations=self._correlations,
            roundings=self._roundings,
            width=self.d,
        )

    @cached_property
    def rank_range(self) -> tuple[int, int]:
        """The least and the largest rank that errors leave open: they differ where c is as near to an eigenvalue."""
        least, most = thresholds(self._spectrum, self.c, self._roundings, self.d).rank
        return int(least), int(most)

    def _knows_directions(self, found: Spectrum, c: float) -> bool:
        """Whether it is known which directions of such eigenvalues are kept."""
        return has_certain_directions(thresholds(found, c, self._roundings, self.d))

    @property
    def _roundings(self) -> float:
        return 0.0 if self.penalties is None else ROUNDINGS

    @property
    def _room(self) -> int:
        return self.n if self.d is None else min(self.d, self.n)

    @property
    def axis(self) -> str:
        """What figures draw the numbers against."""
        return "c"

    @property
    def position(self) -> float:
        """Where this floor is on that axis."""
        return self.c

    @property
    def steps(self) -> FloatArray:
        """Where on that axis directions go."""
        return self.eigenvalues

    @property
    def critical_weight_decays(self) -> FloatArray:
        """Weight decay at which each direction goes, (n,), with the decay of the features in the same ratio.

        NaN where c was given and not a weight decay, for a c of 0, and for directions that d features have no room for.
        """
        ratio = np.sqrt(self.eigenvalues / self.c) if self.c > 0.0 else np.full(self.n, np.nan)
        ratio[self._room :] = np.nan
        return np.asarray(self.weight_decay * ratio)

    def to_dict(self) -> dict[str, JSONValue]:
        """Plain numbers, lists and strings, and the bounds of them; ``directions`` holds a row for each direction.

        Examples
        --------
        >>> from nrc_fast.ufm import predict
        >>> predict(covariance=np.diag([4.0, 1.0]), c=2.0).to_dict()["eigenvalues"]
        [4.0, 1.0]
        """
        names = [
            *("n", "c", "weight_decay", "variance", "rank", "mse_floor", "r2_ceiling"),
            *("single_task_floor", "standardized_floor", "whitened_floor", "note", "d"),
        ]
        return {name: getattr(self, name) for name in names} | {
            "eigenvalues": self.eigenvalues.tolist(),
            "directions": self.directions.T.tolist(),
            "critical_weight_decays": self.critical_weight_decays.tolist(),
            "penalties": None if self.penalties is None else vars(self.penalties).copy(),
            "bounds": plain_numbers(self.bounds),
        }

    # ---- for any c ----

    def rank_at(self, c: Array) -> BatchedInt:
        """`rank` for one c or an array of them."""
        return plain_counts(np.count_nonzero(self.eigenvalues[: self.d] > _column(c), axis=-1))

    def mse_floor_at(self, c: Array) -> Batched:
        """`mse_floor` for one c or an array of them: ``sum_j min(lambda_j, c)``, for j > d lambda_j."""
        return plain(sums_along(left_within(self.eigenvalues, _column(c), self.d), axis=-1))

    def single_task_floor_at(self, c: Array) -> Batched:
        """`single_task_floor` for one c or an array of them: ``sum_i min(Sigma_ii, c)``, never below `mse_floor`."""
        return plain(sums_along(np.minimum(np.diagonal(self.moments.covariance), _column(c)), axis=-1))

    def standardized_floor_at(self, c: Array) -> Batched:
        """`standardized_floor` for one c or an array of them.

        ``sum_j min(p_j, c) u_j^T D u_j`` with D the variances and U diag(p) U^T the correlations; outputs without
        variance have no part in it. NaN for d < n where the correlations have equal eigenvalues, within their errors,
        on both sides of what there is room for: it is open then which of their directions are kept, and the raw errors
        of both differ.
        """
        if self._correlations is None:
            return plain(np.zeros(np.shape(c)))
        found = self._correlations
        floors = sums_along(left_within(found.spectrum.values, _column(c), self.d) * found.loads, axis=-1)
        certain = [self._knows_directions(found.spectrum, one) for one in np.ravel(_column(c)).tolist()]
        return plain(np.where(np.reshape(certain, floors.shape), floors, np.nan))

    def whitened_floor_at(self, c: Array) -> Batched:
        """`whitened_floor` for one c or an array of them: ``min(1, c) tr Sigma``.

        NaN for d < n: of whitened targets no direction leads, and it is open which are kept.
        """
        return plain(np.minimum(1.0, _column(c))[..., 0] * (self.variance if self._room == self.n else np.nan))

    def _captured(self) -> float:
        return float(sums_along(np.maximum(self.eigenvalues - self.c, 0.0)[: self.d], axis=0))

    # ---- for people ----

    def _repr_html_(self) -> str:
        kept = f"At c = {self.c:.4g} the UFM keeps {self.rank} of {self.n} target directions."
        least = f"Its MSE is {self.mse_floor:.4g} (R2 {self.r2_ceiling:.4g}): a floor that networks stay above."
        bars = spark_bars(self.eigenvalues.tolist(), "variances of the targets; coloured: kept", range(self.rank))
        rows: list[tuple[object, ...]] = [
            ("variances along the target directions", bars),
            ("floor of the MSE, one model for all outputs", f"{self.mse_floor:.4g}"),
            *((label, f"{value:.4g}") for label, value in rows_of_others(self, "model")),
        ]
        title = f"what the UFM says of targets with n = {self.n} outputs, variance {self.variance:.4g}"
        return card(title, [kept, least], rows, notes=self._notes())

    def __str__(self) -> str:
        lines = [f"targets with n = {self.n} outputs, variance {self.variance:.6g}, c = {self.c:.6g}"]
        if self.penalties is not None:
            lines.append(f"  weight decay {self.weight_decay:.6g}: {self.penalties}")
        lines += ["", self._table_head()]
        lines += [self._table_row(j) for j in range(self.n)]
        lines += [
            "",
            f"  rank of the features and of the head            {self.rank} of {self.n}",
            f"  floor of the training MSE, summed over outputs  {self.mse_floor:.6g}  (R2 {self.r2_ceiling:.6g})",
            *lines_of_others(self, "model"),
            self._advice(),
        ]
        return "\n".join([*lines, *(f"note: {note}" for note in self._notes())])

    def _notes(self) -> list[str]:
        notes = [self.note] if self.note else []
        if len(set(self.rank_range)) > 1:
            notes.append(UNCERTAIN_RANK)
        if not self._knows_directions(self._spectrum, self.c):
            notes.append(UNCERTAIN_DIRECTIONS)
        return notes

    def _table_head(self) -> str:
        decay = "" if np.isnan(self.weight_decay) else f"{'weight decay':>14}"
        return f"  {'direction':<10}{'goes at c =':>12}{decay}{'variance':>10}  {'':<8}components"

    def _table_row(self, j: int) -> str:
        value = self.eigenvalues[j]
        decay = "" if np.isnan(self.weight_decay) else f"{self.critical_weight_decays[j]:>14.4g}"
        share = share_of_variance(value, self.variance)
        state = ("kept" if value > self.c else "dropped") if j < self._room else "no room"
        return f"  {j + 1:<10}{value:>12.4g}{decay}{share:>10}  {state:<8}{components_of(self.directions[:, j])}"

    def _advice(self) -> str:
        if self._room < self.n:
            return f"  there is room for the first {self._room} of {self.n} directions; of whitened targets none leads"
        change = self.whitened_floor - self.mse_floor
        effect = "lowers" if change < 0.0 else "raises" if change > 0.0 else "does not change"
        average = self.variance / self.n
        return (
            f"  whitening {effect} the floor at this c, because c counts relative to the targets;\n"
            f"  below all variances it lowers it iff the average variance of the outputs, {average:.4g}, is below 1"
        )


def _column(c: Array) -> FloatArray:
    return as_penalty(c, "c")[..., np.newaxis]
