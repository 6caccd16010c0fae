"""The report of one measurement: every metric that the inputs allow, each with its bound."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from nrc_fast.base.arrays import FloatArray
from nrc_fast.base.cards import card, heading_of_rows
from nrc_fast.base.svg import spark_bars, sparkline
from nrc_fast.metrics.prediction import Prediction
from nrc_fast.reports.bound_kinds import BoundedResult, kinds_line
from nrc_fast.reports.fields import declared_fields, restored_fields
from nrc_fast.reports.head_context import HEAD_LABELS
from nrc_fast.reports.plots.features import plot_report
from nrc_fast.reports.plots.panels import GivenAxes, GivenPath, finished
from nrc_fast.reports.records import NAN
from nrc_fast.reports.report_rows import BALANCE, grouped_rows, text_lines
from nrc_fast.reports.verdicts.balances import BalanceKnown
from nrc_fast.reports.verdicts.features import FeatureNumbers, features_verdict
from nrc_fast.reports.verdicts.levels import known
from nrc_fast.reports.verdicts.notes import notes_beside

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["MOST_SHARES", "Report"]

# Components whose share of the variance is shown, where n is not larger.
MOST_SHARES = 12


def _prediction(values: Any) -> Prediction | None:
    if values is None:
        return None
    try:
        return Prediction(**restored_fields(declared_fields(Prediction), values, {"bounds"}))
    except ValueError as error:
        msg = f"ufm is a {type(values).__name__} and no prediction: {error}"
        raise ValueError(msg) from error


@dataclass(frozen=True, eq=False, repr=False)
class Report(BoundedResult):
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
    bound_grounds : mapping of str to tuple of str
        What each bound rests on, by the names of `nrc_fast.reports.GROUNDS`: nothing where every rounding is counted
        at its worst. Those of `alternatives` are called ``nrc1 raw`` and so on.
    bound_kinds : dict of str to str
        How sure each bound therefore is: "certified", "probable", "assumed" or "statistical".
    notes : tuple of str
        What the reader should know before believing the numbers.
    ufm : Prediction or None
        What the unconstrained feature model predicts for these targets at c = gamma, or at the given penalties; fewer
        features than targets have it at given penalties alone.

    Notes
    -----
    What follows from the error of a matrix is certified: how far a span of components is from the exact one (Davis and
    Kahan; Ky Fan for shares of the variance; Wedin for the row space of W), and the interval of what may be where
    components tie. The error of the matrix itself is that of sums of products over the rows, whose roundings are taken
    to have either sign, so that they grow like the root of their number, where equal ones would not be worse. Features
    with two or three values, whose roundings all go one way, may pass such a bound.
    """

    __module__ = "nrc_fast"
    _described = "report"
    _may_be_missing = BoundedResult._may_be_missing | {"ufm", "energy", *HEAD_LABELS, *BALANCE}

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
    bound_grounds: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    @classmethod
    def _restorers(cls) -> dict[str, Callable[[Any], Any]]:
        return {"ufm": _prediction}

    @property
    def verdict(self) -> tuple[str, ...]:
        """What the numbers say, in two to five sentences by fixed rules on them and their bounds.

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
            has_bias=not math.isnan(self.mse),
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
        lines += ["", *self.verdict, "", *text_lines(self)]
        lines += [f"note: {note}" for note in notes_beside(self.verdict, self.notes)]
        lines += filter(None, [kinds_line(self.bound_kinds)])
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        size = f"{self.samples:,} samples, d = {self.d}, n = {self.n}, convention {self.convention}"
        rows: list[tuple[object, ...]] = []
        for heading, part in grouped_rows(self, digits=4).items():
            rows += [(heading_of_rows(heading),), *part]
        shares = [float(share) for share in self.explained_variance_ratio[: max(MOST_SHARES, self.n + 2)]]
        about = f"first {len(shares)} components, the first {self.n} coloured"
        by_k = sparkline([float(value) for value in self.nrc1_by_k], "NRC1 of 1, 2, ... components", is_log=True)
        rows.append((f"NRC1 of 1 to {len(self.nrc1_by_k)} components", by_k))
        rows.append(("share of the variance in each component", spark_bars(shares, about, range(self.n))))
        return card(f"report of {size}", self.verdict, rows, notes=notes_beside(self.verdict, self.notes))

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
