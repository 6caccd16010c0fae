"""The report of one measurement: every metric that the inputs allow, each with its bound."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from nrc_fast.base.arrays import FloatArray
from nrc_fast.base.cards import card
from nrc_fast.base.svg import spark_bars, sparkline
from nrc_fast.metrics.head_balances import LARGEST
from nrc_fast.metrics.prediction import Prediction
from nrc_fast.reports.fields import declared_fields, restored_fields
from nrc_fast.reports.head_context import HEAD_LABELS, labelled_context, told_context
from nrc_fast.reports.plots.features import plot_report
from nrc_fast.reports.plots.panels import GivenAxes, GivenPath, finished
from nrc_fast.reports.records import NAN, StoredResult, format_value
from nrc_fast.reports.verdicts.balances import BalanceKnown
from nrc_fast.reports.verdicts.features import FeatureNumbers, features_verdict
from nrc_fast.reports.verdicts.levels import known

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["BALANCE", "LABELS", "MOST_SHARES", "Report", "labelled_rows", "told_prediction"]

# Of CKA, from which on its debiased value has a line of its own.
VISIBLE_CHANCE = 0.005

# Components whose share of the variance is shown, where n is not larger.
MOST_SHARES = 12

LABELS = {
    "nrc1": "NRC1  features outside their first n components",
    "nrc2": "NRC2  features outside the row space of W",
    "nrc3": "NRC3  distance of W W^T from the predicted shape",
    "gamma": "gamma that NRC3 is smallest at",
    "balance_distance": "distance of W W^T from the balance of the head",
    "balance_decay": "weight decay lambda_W that this implies",
    "balance_asymmetry": "asymmetry of the balance, 0 where training stands",
    "mse": "training MSE, summed over outputs",
    "r2": "R2",
    "linear_mse": "MSE of the best affine readout",
    "cka": "linear CKA of features and targets",
    "cka_debiased": "the same, debiased for the number of samples",
    "effective_rank": "effective rank of the features",
    "stable_rank": "stable rank of the features",
}
BALANCE = ("balance_distance", "balance_decay", "balance_asymmetry")
# Of these, what comes before the rest.
OF_COLLAPSE = ("nrc1", "nrc2", "nrc3", "gamma")
FIRST = (*OF_COLLAPSE, *BALANCE, "mse", "r2", "linear_mse")


def _prediction(values: Any) -> Prediction | None:
    if values is None:
        return None
    try:
        return Prediction(**restored_fields(declared_fields(Prediction), values))
    except ValueError as error:
        msg = f"ufm is a {type(values).__name__} and no prediction: {error}"
        raise ValueError(msg) from error


@dataclass(frozen=True, eq=False, repr=False)
class Report(StoredResult):
    """What was measured.

    Attributes
    ----------
    samples, d, n : int
        Rows that were measured, features and target dimension.
    dtype, backend, convention : str
    nrc1, nrc2 : float
        Values under the definition `convention`. NRC2 is NaN without weights and for W = 0.
    nrc1_by_k : (K,) float64 array
        Element k - 1 is NRC1 with k components, up to max(16, 2n + 2) of them, or all d where these were asked for.
    nrc3, gamma : float
        NaN without weights and targets, and for n = 1.
    explained_variance_ratio : (m,) float64 array
        Of all components up to 1,024 features, and where the whole spectrum was asked for; else of the leading ones.
    effective_rank, stable_rank : float
        Ranks of the covariance of the features: exp of the entropy of its spectrum, NaN without the whole of it, and
        sum lambda^2 / lambda_1^2.
    cka_debiased : float
        Linear CKA without the alignment of each row with itself, which few samples have by chance (Song et al., JMLR
        2012); negative where there is less than chance. It needs the rows again: NaN for rows that are read once, and
        below 4 samples.
    cka, linear_mse, mse, r2 : float
        MSE is summed over the outputs. `mse` and `r2` need weights, bias and targets. The readout of `linear_mse`
        uses the directions of the features whose variance can be told from rounding.
    energy : float
        Mean of |h|^2 over the rows, of which values under convention raw are parts.
    nrc3_at_zero, gamma_share : float
        NRC3 at gamma = 0, and gamma over the smallest eigenvalue of the covariance of the targets.
    head_outside : float
        Share of W W^T outside the eigenbasis of that covariance, which no gamma makes up for.
    nrc3_quantile, nrc3_untrained : float
        Share of random heads with a smaller NRC3, and the NRC3 that half of them are below: W of independent Gaussian
        numbers, each at its own best gamma. See `nrc_fast.nrc3_context`.
    balance_distance, balance_decay, balance_asymmetry : float
        Of the squared loss, as `nrc_fast.head_balance` tells them: how far W W^T is from the shape that weight decay
        gives it at a stationary point, the decay lambda_W that this implies in the paper's scaling, and how far the
        balance is from symmetric, which it is there. They need weights, bias and targets.
    zero_rows, skipped_rows : int
    bounds : mapping of str to float or array
        Absolute bound of the metric of that name.
    alternatives : mapping of str to mapping
        NRC1 and NRC2 under other conventions that came from the same reads.
    alternative_bounds : mapping of str to mapping
        Absolute bounds of the numbers in `alternatives`.
    notes : tuple of str
        What the reader should know before believing the numbers.
    ufm : Prediction or None
        What the unconstrained feature model predicts for these targets at c = gamma, or at the given penalties; fewer
        features than targets have it at given penalties alone.

    Notes
    -----
    What a bound rests on:

    - *Certified*: how far a span of components is from the exact one, given the error of the matrix or of the products
      that they come from (Davis and Kahan; Ky Fan for shares of the variance; Wedin for the row space of W); the
      interval of what may be where components tie; the error of the MSE from moments, whatever the roundings are.
    - *Statistical*: errors of sums of products over the rows. Roundings within a block of 256 rows are taken to have
      either sign, so that they grow like the root of its length, and over blocks to be as bad as can be. Features with
      two or three values, whose roundings all go one way, may pass such a bound. Those of `nrc3_quantile` and
      `nrc3_untrained` are two standard deviations of the heads that are drawn.
    - *Very probable*: that block Krylov iteration on the rows has missed no component. For collapsed features the trace
      shows it for certain.
    """

    __module__ = "nrc_fast"
    _described = "report"
    _may_be_missing = frozenset({"ufm", "energy", *HEAD_LABELS, *BALANCE})

    samples: int
    d: int
    n: int
    dtype: str
    backend: str
    convention: str
    nrc1: float
    nrc1_by_k: FloatArray
    explained_variance_ratio: FloatArray
    effective_rank: float
    stable_rank: float
    nrc2: float = NAN
    nrc3: float = NAN
    gamma: float = NAN
    cka: float = NAN
    linear_mse: float = NAN
    mse: float = NAN
    r2: float = NAN
    zero_rows: int = 0
    skipped_rows: int = 0
    bounds: Mapping[str, float | FloatArray] = field(default_factory=dict)
    alternatives: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    alternative_bounds: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    ufm: Prediction | None = None
    cka_debiased: float = NAN
    energy: float = NAN
    nrc3_untrained: float = NAN
    nrc3_at_zero: float = NAN
    gamma_share: float = NAN
    head_outside: float = NAN
    nrc3_quantile: float = NAN
    balance_distance: float = NAN
    balance_decay: float = NAN
    balance_asymmetry: float = NAN

    @classmethod
    def _restorers(cls) -> dict[str, Callable[[Any], Any]]:
        return {"ufm": _prediction}

    @property
    def verdict(self) -> tuple[str, ...]:
        """What the numbers say, in two to four sentences by fixed rules on them and their bounds.

        How far the features are collapsed, and to what; what NRC3 is worth; whether weight decay holds the head, where
        that is certain; what to look at next. The rules are those of
        `nrc_fast.reports.verdicts.features.features_verdict`.
        """
        return features_verdict(self._numbers())

    def _numbers(self) -> FeatureNumbers:
        values = {self.convention: {"nrc1": self.nrc1, "nrc2": self.nrc2}, **self.alternatives}
        bounds: dict[str, Mapping[str, float | FloatArray]] = {self.convention: self.bounds, **self.alternative_bounds}
        nrc1, nrc2 = (
            {name: known(metric, values[name], bounds.get(name, {})) for name in values} for metric in ("nrc1", "nrc2")
        )
        for shares in (nrc1, nrc2):
            if "raw" in shares:
                shares["raw"] = shares["raw"].over(self.energy)
        own = vars(self)
        return FeatureNumbers(
            samples=self.samples,
            d=self.d,
            n=self.n,
            nrc1=nrc1,
            nrc2=nrc2,
            energy_outside=nrc1["raw"].value if "raw" in nrc1 else NAN,
            nrc3=known("nrc3", own, self.bounds),
            nrc3_untrained=self.nrc3_untrained,
            nrc3_quantile=known("nrc3_quantile", own, self.bounds),
            gamma_share=known("gamma_share", own, self.bounds),
            r2=known("r2", own, self.bounds),
            has_weights=not all(map(math.isnan, (self.nrc2, self.nrc3, self.mse))),
            has_targets=not math.isnan(self.linear_mse),
            balance=BalanceKnown(self.n, *(known(name, own, self.bounds) for name in BALANCE)),
        )

    @property
    def energy_outside(self) -> float:
        """Share of the energy of the rows, that of their mean included, outside the plane of the first n components.

        NaN where NRC1 under convention raw, or the energy, is not known.
        """
        return self._numbers().energy_outside

    def __repr__(self) -> str:
        size = f"{self.samples:,} samples, d = {self.d}, n = {self.n}, convention {self.convention}"
        metrics = ", ".join(f"{name.upper()} {getattr(self, name):.3g}" for name in ("nrc1", "nrc2", "nrc3"))
        return f"<Report of {size}: {metrics}>"

    def __str__(self) -> str:
        size = f"{self.samples:,} samples, d = {self.d}, n = {self.n}, {self.dtype}"
        lines = [f"{size}, convention {self.convention}, computed by {self.backend}"]
        if self.zero_rows or self.skipped_rows:
            lines.append(f"{self.zero_rows:,} zero rows, {self.skipped_rows:,} rows skipped as not finite")
        lines += ["", *self.verdict, "", *self._lines_of(OF_COLLAPSE)]
        lines += [f"  {label:<52}{value}" for label, value in told_context(vars(self), self.bounds)]
        lines += [*self._lines_of(FIRST[len(OF_COLLAPSE) :]), ""]
        lines += self._lines_of(name for name in LABELS if name not in FIRST)
        shares = ", ".join(f"{share:.4f}" for share in self.explained_variance_ratio[: self.n + 2])
        lines.append(f"  {'explained variance of the first components':<52}{shares}")
        lines += self._alternative_lines() + self._prediction_lines()
        lines += [f"note: {note}" for note in self.notes]
        return "\n".join(lines)

    def _lines_of(self, names: Iterable[str]) -> list[str]:
        return [f"  {label:<52}{value}" for label, value in labelled_values(self, names)]

    def _alternative_lines(self) -> list[str]:
        lines = []
        for name, values in self.alternatives.items():
            bounds = self.alternative_bounds.get(name, {})
            shown = ", ".join(
                f"{key.upper()} {format_value(value, bounds.get(key), digits=4)}"
                for key, value in values.items()
                if not math.isnan(value)
            )
            if shown:
                lines.append(f"  {f'under convention {name}':<52}{shown}")
        return lines

    def _prediction_lines(self) -> list[str]:
        return [f"  {condition:<52}{numbers}" for condition, numbers in told_prediction(self)]

    def _repr_html_(self) -> str:
        size = f"{self.samples:,} samples, d = {self.d}, n = {self.n}, convention {self.convention}"
        rows: list[tuple[object, ...]] = [*labelled_rows(self, digits=4), *told_prediction(self)]
        shares = [float(share) for share in self.explained_variance_ratio[: max(MOST_SHARES, self.n + 2)]]
        about = f"first {len(shares)} components, the first {self.n} coloured"
        by_k = sparkline([float(value) for value in self.nrc1_by_k], "NRC1 of 1, 2, ... components", is_log=True)
        rows.append((f"NRC1 of 1 to {len(self.nrc1_by_k)} components", by_k))
        rows.append(("share of the variance in each component", spark_bars(shares, about, range(self.n))))
        return card(f"report of {size}", self.verdict, rows, notes=self.notes)

    def plot(self, *, path: GivenPath | None = None, ax: GivenAxes | None = None) -> Figure:
        """Draw NRC1 and the explained variance against the number of components; returns the figure of matplotlib.

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
        return finished(plot_report(self, ax), path)


def labelled_values(report: Report, names: Iterable[str], digits: int = 6) -> list[tuple[str, str]]:
    """Of the metrics of `LABELS` those that are known and say something: what they are called, with value and bound.

    Parameters
    ----------
    report : Report
    names : iterable of str
    digits : int
        At most as many of each value.
    """
    found = []
    for name in names:
        value = getattr(report, name)
        is_shown = name != "cka_debiased" or abs(value - report.cka) > VISIBLE_CHANCE
        is_shown = is_shown and not (report.n == 1 and name in ("balance_distance", "balance_asymmetry"))  # 0
        if is_shown and not math.isnan(value):
            most = LARGEST.get(name.removeprefix("balance_"), math.inf)
            found.append((LABELS[name], format_value(value, report.bounds.get(name), digits, most=most)))
    return found


def labelled_rows(report: Report, digits: int = 6) -> list[tuple[str, str]]:
    """All that is known of `LABELS`, with what stands beside NRC3 after it."""
    others = (name for name in LABELS if name not in OF_COLLAPSE)
    context = labelled_context(vars(report), report.bounds, digits)
    return [*labelled_values(report, OF_COLLAPSE, digits), *context, *labelled_values(report, others, digits)]


def told_prediction(report: Report) -> list[tuple[str, str]]:
    """What the UFM predicts, as a condition and numbers; nothing where that says nothing."""
    prediction = report.ufm
    # At c = 0 every training reaches error 0, and a gamma within its bound of 0 is none to predict from.
    if prediction is None or not prediction.c > 0.0:
        return []
    if prediction.c == report.gamma and not known("gamma", vars(report), report.bounds).is_above(0.0):
        return []
    numbers = f"rank {prediction.rank}, MSE {prediction.mse:.4g}, R2 {prediction.r2:.4g}, CKA {prediction.cka:.4g}"
    return [(f"UFM at c = {prediction.c:.4g} predicts", numbers)]
