"""What the unconstrained feature model (UFM) says before training, from the targets alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from nrc_fast.base.arrays import Array, FloatArray
from nrc_fast.base.json_values import JSONValue
from nrc_fast.base.linalg import covariance_spectrum, eigh_descending
from nrc_fast.reports.plots.forecasts import plot_forecast
from nrc_fast.reports.plots.panels import Panels
from nrc_fast.ufm.inputs import Batched, BatchedInt, as_number, as_penalty, plain, plain_counts
from nrc_fast.ufm.scaling import LossName, Penalties, penalties
from nrc_fast.ufm.targets import TargetMoments, Targets, target_moments

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["Forecast", "predict"]

MOST_ENTRIES = 6  # of a direction that are printed


@dataclass(frozen=True, eq=False, repr=False)
class Forecast:
    """What to expect of training on these targets; made by `predict`.

    All errors are mean squared errors on the scale of the raw targets, summed over the outputs.

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
    """

    __module__ = "nrc_fast.ufm"

    moments: TargetMoments
    c: float
    eigenvalues: FloatArray
    directions: FloatArray
    penalties: Penalties[float] | None = None
    weight_decay: float = float("nan")
    note: str = ""

    @property
    def n(self) -> int:
        """Number of outputs."""
        return self.moments.n

    @property
    def variance(self) -> float:
        """Total variance of the targets, the error of predicting their mean."""
        return float(self.eigenvalues.sum())

    @property
    def rank(self) -> int:
        """How many target directions are kept at c."""
        return int(self.rank_at(self.c))

    @property
    def mse(self) -> float:
        """Training error of one model for all outputs, ``sum_j min(lambda_j, c)``."""
        return float(self.mse_at(self.c))

    @property
    def r2(self) -> float:
        """``1 - mse/variance``; NaN for targets without variance."""
        return 1.0 - self.mse / self.variance if self.variance > 0.0 else float("nan")

    @property
    def single_task_mse(self) -> float:
        """Training error of n models with one output each, ``sum_i min(Sigma_ii, c)``; never below `mse`."""
        return float(self.single_task_mse_at(self.c))

    @property
    def standardized_mse(self) -> float:
        """The error after training on targets over their standard deviations and mapping predictions back."""
        return float(self.standardized_mse_at(self.c))

    @property
    def whitened_mse(self) -> float:
        """The error after training on ``Sigma^(-1/2) (y - ybar)`` and mapping predictions back."""
        return float(self.whitened_mse_at(self.c))

    @property
    def critical_weight_decays(self) -> FloatArray:
        """Weight decay at which each direction goes, (n,), with the decay of the features in the same ratio.

        NaN where c was given and not a weight decay, and for a c of 0.
        """
        ratio = np.sqrt(self.eigenvalues / self.c) if self.c > 0.0 else np.full(self.n, np.nan)
        return np.asarray(self.weight_decay * ratio)

    def to_dict(self) -> dict[str, JSONValue]:
        """Plain numbers, lists and strings; ``directions`` holds a row for each direction.

        Examples
        --------
        >>> predict(covariance=np.diag([4.0, 1.0]), c=2.0).to_dict()["eigenvalues"]
        [4.0, 1.0]
        """
        names = [
            *("n", "c", "weight_decay", "variance", "rank", "mse", "r2"),
            *("single_task_mse", "standardized_mse", "whitened_mse", "note"),
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
        return plain_counts(np.count_nonzero(self.eigenvalues > _column(c), axis=-1))

    def mse_at(self, c: Array) -> Batched:
        """`mse` for one c or an array of them."""
        return plain(np.minimum(self.eigenvalues, _column(c)).sum(axis=-1))

    def single_task_mse_at(self, c: Array) -> Batched:
        """`single_task_mse` for one c or an array of them."""
        return plain(np.minimum(np.diagonal(self.moments.covariance), _column(c)).sum(axis=-1))

    def standardized_mse_at(self, c: Array) -> Batched:
        """`standardized_mse` for one c or an array of them.

        ``sum_j min(p_j, c) u_j^T D u_j`` with D the variances and U diag(p) U^T the correlations; outputs without
        variance have no part in it.
        """
        variances = np.diagonal(self.moments.covariance)
        kept = variances > 0.0
        if not kept.any():
            return plain(np.zeros(np.shape(c)))
        roots = np.sqrt(variances[kept])
        correlations = self.moments.covariance[np.ix_(kept, kept)] / roots[:, np.newaxis] / roots
        values, vectors = eigh_descending(correlations)
        loads = np.sum(vectors**2 * variances[kept, np.newaxis], axis=0)
        return plain((np.minimum(np.maximum(values, 0.0), _column(c)) * loads).sum(axis=-1))

    def whitened_mse_at(self, c: Array) -> Batched:
        """`whitened_mse` for one c or an array of them: ``min(1, c) tr Sigma``."""
        return plain(np.minimum(1.0, _column(c))[..., 0] * self.variance)

    # ---- for people ----

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
            f"  training MSE, summed over outputs               {self.mse:.6g}  (R2 {self.r2:.6g})",
            f"    one model for each output                     {self.single_task_mse:.6g}",
            f"    trained on standardised targets, mapped back  {self.standardized_mse:.6g}",
            f"    trained on whitened targets, mapped back      {self.whitened_mse:.6g}",
            self._advice(),
        ]
        if self.note:
            lines.append(f"note: {self.note}")
        return "\n".join(lines)

    def _table_head(self) -> str:
        decay = "" if np.isnan(self.weight_decay) else f"{'weight decay':>14}"
        return f"  {'direction':<10}{'goes at c =':>12}{decay}{'variance':>10}  {'':<8}components"

    def _table_row(self, j: int) -> str:
        value = self.eigenvalues[j]
        decay = "" if np.isnan(self.weight_decay) else f"{self.critical_weight_decays[j]:>14.4g}"
        share = value / self.variance if self.variance > 0.0 else np.nan
        state = "kept" if value > self.c else "dropped"
        entries = ", ".join(f"{entry:.3f}" for entry in self.directions[:MOST_ENTRIES, j])
        more = ", ..." if self.n > MOST_ENTRIES else ""
        return f"  {j + 1:<10}{value:>12.4g}{decay}{share:>10.1%}  {state:<8}[{entries}{more}]"

    def _advice(self) -> str:
        change = self.whitened_mse - self.mse
        effect = "lowers" if change < 0.0 else "raises" if change > 0.0 else "does not change"
        average = self.variance / self.n
        return (
            f"  whitening {effect} the training MSE at this c, because c counts relative to the targets;\n"
            f"  below all variances it lowers it iff the average variance of the outputs, {average:.4g}, is below 1"
        )

    def plot(self, axes: Sequence[Axes] | Panels | None = None) -> tuple[Figure, Sequence[Axes] | Panels]:
        """Draw rank and training MSE against c; returns ``(figure, axes)``.

        Raises
        ------
        ImportError
            matplotlib is not installed.
        ValueError
            `axes` is no pair.
        """
        return plot_forecast(self, axes)


def predict(
    Y: Targets | None = None,
    *,
    weight_decay: float | None = None,
    feature_decay: float | None = None,
    loss: LossName = "torch_mse",
    samples: int | None = None,
    c: float | None = None,
    covariance: Array | None = None,
    mean: Array | None = None,
) -> Forecast:
    """What training on these targets will keep, and the error to expect, before anything is trained.

    The errors are those at the global minimum of the UFM, where features are free. A network cannot reach them in
    general: they are a floor and a trend, not a forecast of its training error. At a fixed c, raw, standardised and
    whitened targets differ because c counts relative to their variance, not because one is easier to represent.

    Parameters
    ----------
    Y : (M, n) or (M,) array or tensor, or an object with `target_covariance` and `target_mean`
    covariance, mean
        Moments of the targets in place of Y, see `minimum`.
    weight_decay : float, optional
        Weight decay of the last layer, in the training loss `loss`.
    feature_decay : float, optional
        Penalty of the features in the same loss. If not given, as large a one is assumed as makes lambda_H =
        lambda_W, which the result says: decay of the layers below acts like one, but nobody knows its size.
    loss, samples
        The training loss and what it sums over, see `penalties`.
    c : float, optional
        lambda_W lambda_H itself, in place of the decays.

    Returns
    -------
    Forecast

    Raises
    ------
    ValueError
        Neither or both of c and weight_decay, a batch, or values that `minimum` and `penalties` refuse.
    TypeError
        What is given is no real number or array.

    References
    ----------
    arXiv 2505.09308 for the comparisons (their formulas derived anew); arXiv 2409.04180, theorem 4.1.

    Examples
    --------
    >>> forecast = predict(covariance=np.diag([4.0, 1.0]), c=2.0)
    >>> forecast.rank, forecast.mse, forecast.single_task_mse, forecast.whitened_mse
    (1, 3.0, 3.0, 5.0)
    """
    moments = target_moments(Y, covariance, mean)
    if moments.batch:
        msg = f"covariance has shape {moments.covariance.shape}; predict takes one at a time"
        raise ValueError(msg)
    if (c is None) == (weight_decay is None):
        msg = "give either weight_decay= (with feature_decay= where it is known) or c="
        raise ValueError(msg)
    values, vectors = covariance_spectrum(moments.covariance, moments.epsilon)
    if weight_decay is None:
        if feature_decay is not None:
            msg = "feature_decay goes with weight_decay, not with c"
            raise ValueError(msg)
        assert c is not None
        return Forecast(moments, as_number(c, "c"), values, vectors)
    decay = as_number(weight_decay, "weight_decay")
    found = penalties(decay, feature_decay=feature_decay, loss=loss, n=moments.n, samples=samples)
    note = ""
    if feature_decay is None:
        found = Penalties(found.lambda_W, found.lambda_W)
        note = "no feature_decay was given; lambda_H = lambda_W is assumed"
    return Forecast(
        moments=moments,
        c=as_number(found.c, "c"),
        eigenvalues=values,
        directions=vectors,
        penalties=found,
        weight_decay=decay,
        note=note,
    )


def _column(c: Array) -> FloatArray:
    return as_penalty(c, "c")[..., np.newaxis]
