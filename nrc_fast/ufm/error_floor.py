"""What the unconstrained feature model (UFM) says before training, from the targets alone."""

from __future__ import annotations

from dataclasses import dataclass, fields
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from nrc_fast.base.arrays import Array, FloatArray
from nrc_fast.base.cards import card
from nrc_fast.base.json_values import JSONValue
from nrc_fast.base.svg import spark_bars
from nrc_fast.reports.plots.error_floors import plot_error_floor
from nrc_fast.reports.plots.panels import GivenAxes, GivenPath, finished
from nrc_fast.ufm.eigenvalues import Spectrum
from nrc_fast.ufm.floor_bounds import (
    Correlations,
    FloorNumbers,
    correlation_loads,
    correlation_spectrum,
    floor_bounds,
    has_certain_directions,
    thresholds,
)
from nrc_fast.ufm.floor_text import lines_of_others, rows_of_others, share_of_variance
from nrc_fast.ufm.inputs import Batched, BatchedInt, as_penalty, plain, plain_counts
from nrc_fast.ufm.scaling import Penalties
from nrc_fast.ufm.solution import UNCERTAIN_DIRECTIONS, UNCERTAIN_RANK
from nrc_fast.ufm.spectral import left_within
from nrc_fast.ufm.targets import TargetMoments

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["MOST_ENTRIES", "ErrorFloor"]

MOST_ENTRIES = 6  # of a direction that are printed
ROUNDINGS = 2.0  # of c, from decays, in units of eps


@dataclass(frozen=True, eq=False, repr=False)
class ErrorFloor:
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

    @cached_property
    def _spectrum(self) -> Spectrum:
        return self.moments.spectrum()

    @cached_property
    def _correlations(self) -> Correlations | None:
        return correlation_spectrum(self.moments)

    def _knows_directions(self, found: Spectrum, c: float) -> bool:
        """Whether it is known which directions of such eigenvalues are kept."""
        return has_certain_directions(thresholds(found, c, self._roundings, self.d))

    @property
    def _roundings(self) -> float:
        return 0.0 if self.penalties is None else ROUNDINGS

    @property
    def n(self) -> int:
        """Number of outputs."""
        return self.moments.n

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
    def variance(self) -> float:
        """Total variance of the targets, the error of predicting their mean."""
        return float(self.eigenvalues.sum())

    @property
    def rank(self) -> int:
        """How many target directions are kept at c."""
        return int(self.rank_at(self.c))

    @property
    def mse_floor(self) -> float:
        """Floor of the training error of one model for all outputs, ``sum_j min(lambda_j, c)``; for j > d lambda_j."""
        return float(self.mse_floor_at(self.c))

    @property
    def r2_ceiling(self) -> float:
        """The R2 of that floor, ``1 - mse_floor/variance``; NaN for targets without variance."""
        # By what is captured, which keeps its digits where it is little.
        captured = float(np.maximum(self.eigenvalues - self.c, 0.0)[: self.d].sum())
        return captured / self.variance if self.variance > 0.0 else float("nan")

    @property
    def single_task_floor(self) -> float:
        """Floor of the training error of n models with one output each, ``sum_i min(Sigma_ii, c)``.

        Never below `mse_floor`.
        """
        return float(self.single_task_floor_at(self.c))

    @property
    def standardized_floor(self) -> float:
        """Floor of the error after training on targets over their standard deviations and mapping predictions back.

        NaN for d < n where the correlations have equal eigenvalues, within their errors, on both sides of what there is
        room for: it is open then which of their directions are kept, and the raw errors of both differ.
        """
        return float(self.standardized_floor_at(self.c))

    @property
    def whitened_floor(self) -> float:
        """Floor of the error after training on ``Sigma^(-1/2) (y - ybar)`` and mapping predictions back.

        NaN for d < n: of whitened targets no direction leads, and it is open which are kept.
        """
        return float(self.whitened_floor_at(self.c))

    @property
    def critical_weight_decays(self) -> FloatArray:
        """Weight decay at which each direction goes, (n,), with the decay of the features in the same ratio.

        NaN where c was given and not a weight decay, for a c of 0, and for directions that d features have no room for.
        """
        ratio = np.sqrt(self.eigenvalues / self.c) if self.c > 0.0 else np.full(self.n, np.nan)
        ratio[self._room :] = np.nan
        return np.asarray(self.weight_decay * ratio)

    def to_dict(self) -> dict[str, JSONValue]:
        """Plain numbers, lists and strings; ``directions`` holds a row for each direction.

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
        }

    # ---- for any c ----

    def rank_at(self, c: Array) -> BatchedInt:
        """`rank` for one c or an array of them."""
        return plain_counts(np.count_nonzero(self.eigenvalues[: self.d] > _column(c), axis=-1))

    def mse_floor_at(self, c: Array) -> Batched:
        """`mse_floor` for one c or an array of them."""
        return plain(left_within(self.eigenvalues, _column(c), self.d).sum(axis=-1))

    def single_task_floor_at(self, c: Array) -> Batched:
        """`single_task_floor` for one c or an array of them."""
        return plain(np.minimum(np.diagonal(self.moments.covariance), _column(c)).sum(axis=-1))

    def standardized_floor_at(self, c: Array) -> Batched:
        """`standardized_floor` for one c or an array of them.

        ``sum_j min(p_j, c) u_j^T D u_j`` with D the variances and U diag(p) U^T the correlations; outputs without
        variance have no part in it. NaN where it is open which directions are kept, see `standardized_floor`.
        """
        if self._correlations is None:
            return plain(np.zeros(np.shape(c)))
        correlations, _ = self._correlations
        loads = correlation_loads(self._correlations)
        floors = (left_within(correlations.values, _column(c), self.d) * loads).sum(axis=-1)
        certain = [self._knows_directions(correlations, one) for one in np.ravel(_column(c)).tolist()]
        return plain(np.where(np.reshape(certain, floors.shape), floors, np.nan))

    def whitened_floor_at(self, c: Array) -> Batched:
        """`whitened_floor` for one c or an array of them: ``min(1, c) tr Sigma``."""
        return plain(np.minimum(1.0, _column(c))[..., 0] * (self.variance if self._room == self.n else np.nan))

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

    def __repr__(self) -> str:
        return str(self)

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
        entries = ", ".join(f"{entry:.3f}" for entry in self.directions[:MOST_ENTRIES, j])
        more = ", ..." if self.n > MOST_ENTRIES else ""
        return f"  {j + 1:<10}{value:>12.4g}{decay}{share:>10}  {state:<8}[{entries}{more}]"

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

    def plot(self, *, path: GivenPath | None = None, ax: GivenAxes | None = None) -> Figure:
        """Draw rank and training MSE against c; returns the figure of matplotlib.

        Parameters
        ----------
        path : path, optional
            A file to write the figure to as well, in the format that its name ends with.
        ax : pair of matplotlib axes, optional
            Where to draw; a new figure if not given.

        Raises
        ------
        ImportError
            matplotlib is not installed.
        OSError
            The file cannot be written.
        ValueError
            `ax` is no pair, or the name of the file ends with no format that matplotlib knows.
        """
        return finished(plot_error_floor(self, ax), path)


def _column(c: Array) -> FloatArray:
    return as_penalty(c, "c")[..., np.newaxis]
