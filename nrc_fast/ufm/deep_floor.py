"""What the UFM says of a linear network with weight decay on every layer before training, from the targets alone."""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np

from nrc_fast.base.arrays import Array, FloatArray
from nrc_fast.base.cards import card
from nrc_fast.base.exact_products import sums_along
from nrc_fast.base.json_values import JSONValue, plain_numbers
from nrc_fast.base.kept_values import cached_property
from nrc_fast.base.svg import spark_bars
from nrc_fast.metrics.deep_directions import root_of_product, solve_directions, threshold
from nrc_fast.ufm.bounds import interval_of
from nrc_fast.ufm.common_floor import CommonFloor
from nrc_fast.ufm.deep_bounds import Sides
from nrc_fast.ufm.deep_floor_bounds import ROUNDINGS, DeepFloorNumbers, deep_floor_bounds
from nrc_fast.ufm.floor_text import components_of, lines_of_others, rows_of_others, share_of_variance
from nrc_fast.ufm.inputs import Batched, BatchedInt, as_penalty, plain, plain_counts
from nrc_fast.ufm.solution import UNCERTAIN_RANK
from nrc_fast.ufm.targets import TargetMoments

__all__ = ["DeepErrorFloor"]


@dataclass(frozen=True, eq=False, repr=False)
class DeepErrorFloor(CommonFloor):
    """The minimum of a linear network of L layers on whitened inputs, from its targets; made by `predict`.

    Inputs with identity covariance that determine the targets linearly, width of at least n, and the same weight decay
    on every layer: then the first layer is what the features of `deep` are, and their penalty is its own. The errors
    are mean squared errors on the scale of the raw targets, summed over the outputs. For such a network they are what
    training reaches at its global minimum; for others they are a floor and a trend, as in `ErrorFloor`.

    Attributes
    ----------
    moments : TargetMoments
    layers : int
        L, at least 2.
    weight_decay : float
        Of every layer.
    factor : float
        The penalty, in the scaling of the paper, of a decay of 1.
    eigenvalues : (n,) float64 array
        Eigenvalues of the target covariance, descending.
    directions : (n, n) float64 array
        Eigenvectors of the target covariance, one in each column.
    """

    __module__ = "nrc_fast.ufm"

    moments: TargetMoments
    layers: int
    weight_decay: float
    factor: float
    eigenvalues: FloatArray
    directions: FloatArray

    @cached_property
    def bounds(self) -> dict[str, Batched]:
        """Absolute bounds of the errors of the numbers, by name; of each direction, of the length of its error.

        They are those of arithmetic, for the targets and the decay as they were given, and certified in the cases in
        which those of `Minimum.bounds` are.
        """
        numbers = {field.name: getattr(self, field.name) for field in fields(DeepFloorNumbers)}
        return deep_floor_bounds(
            DeepFloorNumbers(**numbers),
            self.moments,
            self._spectrum,
            correlations=self._correlations,
            layers=self.layers,
        )

    @cached_property
    def rank_range(self) -> tuple[int, int]:
        """The least and the largest rank that errors leave open: they differ where the decay is near a threshold."""
        penalties = np.full(self.layers, self.penalty)
        least, most = Sides(interval_of(self._spectrum), penalties, ROUNDINGS).rank
        return int(least), int(most)

    @property
    def axis(self) -> str:
        """What figures draw the numbers against."""
        return f"weight decay of each of {self.layers} layers"

    @property
    def position(self) -> float:
        """Where this floor is on that axis."""
        return self.weight_decay

    @property
    def steps(self) -> FloatArray:
        """Where on that axis directions go."""
        return self.critical_weight_decays

    @property
    def penalty(self) -> float:
        """What the decay is in the scaling of the paper."""
        return self.factor * self.weight_decay

    @property
    def error_share(self) -> FloatArray:
        """What the predictions lose of each direction, t, (n,); 1 where it is dropped."""
        return self._shares(self.eigenvalues, self.weight_decay)

    @property
    def critical_weight_decays(self) -> FloatArray:
        """Weight decay of every layer at which each direction goes, (n,)."""
        return threshold(self.eigenvalues, self.layers - 1, degree=self.layers) / self.factor

    @property
    def unit_weight_decay(self) -> float:
        """The decay that is the same for targets over the root of their mean variance, see `scaled_weight_decay`."""
        if not self.variance > 0.0:
            return float("nan")
        factors = [np.asarray(self.weight_decay), np.asarray(self.n / self.variance)]
        return float(root_of_product(factors, [self.layers, self.layers - 1], self.layers))

    def to_dict(self) -> dict[str, JSONValue]:
        """Plain numbers, lists and strings, and the bounds of them; ``directions`` holds a row for each direction.

        Examples
        --------
        >>> from nrc_fast.ufm import predict
        >>> predict(covariance=np.diag([4.0, 1.0]), weight_decay=0.1, layers=3).to_dict()["layers"]
        3
        """
        names = [
            *("n", "layers", "weight_decay", "penalty", "variance", "rank", "mse_floor", "r2_ceiling"),
            *("single_task_floor", "standardized_floor", "whitened_floor", "unit_weight_decay"),
        ]
        return {name: getattr(self, name) for name in names} | {
            "eigenvalues": self.eigenvalues.tolist(),
            "error_share": self.error_share.tolist(),
            "directions": self.directions.T.tolist(),
            "critical_weight_decays": self.critical_weight_decays.tolist(),
            "bounds": plain_numbers(self.bounds),
        }

    # ---- for any weight decay ----

    def rank_at(self, weight_decay: Array) -> BatchedInt:
        """`rank` for one weight decay or an array of them."""
        return plain_counts(np.count_nonzero(self._shares(self.eigenvalues, weight_decay) < 1.0, axis=-1))

    def mse_floor_at(self, weight_decay: Array) -> Batched:
        """`mse_floor` for one weight decay or an array of them: ``sum_j lambda_j t_j^2`` with the shares t lost."""
        return plain(sums_along(self._squares(self.eigenvalues, weight_decay), axis=-1))

    def single_task_floor_at(self, weight_decay: Array) -> Batched:
        """`single_task_floor` for one weight decay or an array of them."""
        return plain(sums_along(self._squares(np.diagonal(self.moments.covariance), weight_decay), axis=-1))

    def standardized_floor_at(self, weight_decay: Array) -> Batched:
        """`standardized_floor` for one weight decay or an array of them, without outputs that have no variance."""
        if self._correlations is None:
            return plain(np.zeros(np.shape(weight_decay)))
        squares = self._squares(self._correlations.spectrum.values, weight_decay)
        return plain(sums_along(squares * self._correlations.loads, axis=-1))

    def whitened_floor_at(self, weight_decay: Array) -> Batched:
        """`whitened_floor` for one weight decay or an array of them."""
        return plain(self._squares(np.ones(1), weight_decay)[..., 0] * self.variance)

    def _shares(self, values: FloatArray, weight_decay: Array) -> FloatArray:
        penalty = as_penalty(weight_decay, "weight_decay") * self.factor
        penalties = np.repeat(penalty[..., np.newaxis], self.layers, axis=-1)
        return solve_directions(values, penalties).share

    def _squares(self, values: FloatArray, weight_decay: Array) -> FloatArray:
        shares = self._shares(values, weight_decay)
        return np.asarray((values * shares) * shares)

    def _captured(self) -> float:
        share = self.error_share
        return float(sums_along(self.eigenvalues * (1.0 - share) * (1.0 + share), axis=0))

    # ---- for people ----

    def __str__(self) -> str:
        network = f"a linear network of {self.layers} layers on whitened inputs"
        unit = f"for targets of unit variance the same is {self.unit_weight_decay:.6g}"
        lines = [
            f"targets with n = {self.n} outputs, variance {self.variance:.6g}; {network}",
            f"  weight decay {self.weight_decay:.6g} on every layer: penalty {self.penalty:.6g}; {unit}",
            "",
            f"  {'direction':<10}{'goes at':>12}{'variance':>10}{'lost':>10}  {'':<8}components",
            *map(self._table_row, range(self.n)),
            "",
            f"  rank of every layer                             {self.rank} of {self.n}",
            f"  training MSE, summed over outputs               {self.mse_floor:.6g}  (R2 {self.r2_ceiling:.6g})",
            *lines_of_others(self, "network"),
        ]
        if self.layers > 2 and self.rank:
            share = f"{self.layers - 2}/{self.layers - 1}"
            lines.append(f"  a direction is predicted with at least {share} of its standard deviation until it goes")
        if len(set(self.rank_range)) > 1:
            lines.append(f"note: {UNCERTAIN_RANK}")
        return "\n".join(lines)

    def _table_row(self, j: int) -> str:
        share = share_of_variance(self.eigenvalues[j], self.variance)
        state = "kept" if self.error_share[j] < 1.0 else "dropped"
        numbers = f"{self.critical_weight_decays[j]:>12.4g}{share:>10}{self.error_share[j]:>10.1%}"
        return f"  {j + 1:<10}{numbers}  {state:<8}{components_of(self.directions[:, j])}"

    def _repr_html_(self) -> str:
        kept = f"At weight decay {self.weight_decay:.4g} it keeps {self.rank} of {self.n} target directions."
        least = f"Its MSE is {self.mse_floor:.4g} (R2 {self.r2_ceiling:.4g}) at the global minimum."
        bars = spark_bars(self.eigenvalues.tolist(), "variances of the targets; coloured: kept", range(self.rank))
        rows: list[tuple[object, ...]] = [
            ("variances along the target directions", bars),
            ("MSE, one network for all outputs", f"{self.mse_floor:.4g}"),
            *((label, f"{value:.4g}") for label, value in rows_of_others(self, "network")),
        ]
        title = f"a linear network of {self.layers} layers on whitened inputs, n = {self.n} outputs"
        return card(title, [kept, least], rows)
