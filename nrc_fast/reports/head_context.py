"""What an NRC3 is worth: the result of `nrc_fast.nrc3_context`, and how a report tells the same."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

from nrc_fast.base.arrays import FloatArray
from nrc_fast.base.cards import card
from nrc_fast.metrics.random_heads import LEAST_FOR_BAND
from nrc_fast.reports.records import NAN, StoredResult, format_digits, format_value
from nrc_fast.reports.verdicts.heads import HeadNumbers, head_verdict
from nrc_fast.reports.verdicts.levels import known

__all__ = ["HEAD_LABELS", "NRC3Context", "labelled_context", "told_context"]

HEAD_LABELS = {
    "nrc3_quantile": "share of random heads with a smaller NRC3",
    "nrc3_untrained": "NRC3 that half of the random heads are below",
    "nrc3_at_zero": "NRC3 at gamma = 0",
    "gamma_share": "gamma over the smallest eigenvalue of Sigma",
    "head_outside": "share of W W^T outside the eigenbasis of Sigma",
}
# What reports call the numbers of a context.
OF_REPORTS = {
    "nrc3_quantile": "quantile",
    "nrc3_untrained": "untrained",
    "nrc3_at_zero": "at_zero",
    "gamma_share": "gamma_share",
    "head_outside": "outside",
}


@dataclass(frozen=True, repr=False)
class NRC3Context(StoredResult):
    """NRC3 of a head, and what it is to be seen beside.

    Attributes
    ----------
    n, d : int
        Rows and columns of W.
    draws, seed : int
        Random heads that it is compared with: fewer than were asked for where n is large, and 0 where n is too large.
    nrc3, gamma : float
        NRC3 at its best gamma, as `nrc_fast.nrc3` and `nrc_fast.nrc3_gamma` give it. NaN for n = 1, like all others.
    at_zero : float
        NRC3 at gamma = 0, beside the root of Sigma itself.
    gamma_share : float
        gamma over the smallest eigenvalue of Sigma, in [0, 1]; NaN where that is 0.
    outside : float
        Share of W W^T outside the eigenbasis of Sigma, which no gamma makes up for.
    quantile : float
        Share of random heads with a smaller NRC3, each at its own best gamma.
    untrained, untrained_low, untrained_high : float
        NRC3 that 50, 5 and 95 of 100 random heads are below.
    bounds : mapping of str to float
        Absolute bound of the number of that name. Those of the last four are statistical, of two standard deviations
        of the draws; that of `outside` reaches over all bases that the error of Sigma leaves open.
    """

    __module__ = "nrc_fast"
    _described = "context of NRC3"

    n: int
    d: int
    draws: int
    seed: int
    nrc3: float
    gamma: float
    at_zero: float = NAN
    gamma_share: float = NAN
    outside: float = NAN
    quantile: float = NAN
    untrained: float = NAN
    untrained_low: float = NAN
    untrained_high: float = NAN
    bounds: Mapping[str, float] = field(default_factory=dict, hash=False)

    @property
    def verdict(self) -> tuple[str, ...]:
        """What this NRC3 is worth, in one or two sentences: see `nrc_fast.reports.verdicts.heads.head_verdict`."""
        own = vars(self)
        quantile, share = known("quantile", own, self.bounds), known("gamma_share", own, self.bounds)
        nrc3 = known("nrc3", own, self.bounds)
        return head_verdict(HeadNumbers(self.n, nrc3, quantile, self.untrained, share, d=self.d, draws=self.draws))

    def _rows(self, digits: int = 6) -> list[tuple[str, str]]:
        if math.isnan(self.nrc3):
            return []
        own = {name: getattr(self, field) for name, field in OF_REPORTS.items()} | {"nrc3": self.nrc3}
        bounds = {name: self.bounds[field] for name, field in OF_REPORTS.items() if field in self.bounds}
        first = [
            ("NRC3 at its best gamma", format_value(self.nrc3, self.bounds.get("nrc3"), digits)),
            ("that gamma", format_value(self.gamma, self.bounds.get("gamma"), digits)),
        ]
        ends = self.untrained_low, self.untrained_high
        is_known = self.draws >= LEAST_FOR_BAND
        band = [("NRC3 of random heads, 5% to 95%", f"{ends[0]:.3g} to {ends[1]:.3g}")] if is_known else []
        return [*first, *labelled_context(own, bounds, digits), *band]

    def _title(self) -> str:
        heads = f"beside {self.draws:,} random ones" if self.draws else "without random ones"
        return f"a head of n = {self.n} rows and d = {self.d} columns {heads}"

    def __repr__(self) -> str:
        numbers = f"NRC3 {self.nrc3:.3g}, quantile {self.quantile:.3g}, at gamma = 0 {self.at_zero:.3g}"
        return f"<NRC3Context of {self._title()}: {numbers}>"

    def __str__(self) -> str:
        lines = [f"  {label:<52}{value}" for label, value in self._rows()]
        return "\n".join([f"NRC3 of {self._title()}", "", *self.verdict, *([""] if lines else []), *lines])

    def _repr_html_(self) -> str:
        return card(f"NRC3 of {self._title()}", self.verdict, self._rows(digits=4))


def labelled_context(
    values: Mapping[str, float], bounds: Mapping[str, float | FloatArray], digits: int = 6
) -> list[tuple[str, str]]:
    """What is known of `HEAD_LABELS`, each with its label and its bound; nothing where NRC3 is not defined.

    Where the best gamma is 0, NRC3 at 0 and the share of that gamma are NRC3 and 0 again, and left out.
    """
    return [(HEAD_LABELS[name], format_value(values[name], bounds.get(name), digits)) for name in _told(values)]


def told_context(values: Mapping[str, float], bounds: Mapping[str, float | FloatArray]) -> list[tuple[str, str]]:
    """The same in two lines, for a report in which NRC3 is one number of many: a bound is beside the first number."""
    shown = {name: format_digits(values[name], bounds.get(name), digits=3) for name in _told(values)}
    lines = []
    if "nrc3_quantile" in shown:
        share = format_value(values["nrc3_quantile"], bounds.get("nrc3_quantile"), digits=3)
        lines.append(
            ("  random heads with a smaller NRC3", f"{share}; half of them are below {shown['nrc3_untrained']}")
        )
    if "nrc3_at_zero" in shown:
        names = {"gamma_share": "gamma/lambda_min", "head_outside": "outside the basis of Sigma"}
        beside = [f"{name} {shown[field]}" for field, name in names.items() if field in shown]
        lines.append(("  at gamma = 0", "; ".join([shown["nrc3_at_zero"], *beside])))
    elif "head_outside" in shown:
        lines.append(("  share of W W^T outside the basis of Sigma", shown["head_outside"]))
    return lines


def _told(values: Mapping[str, float]) -> list[str]:
    """The names of what is known and not said already."""
    if math.isnan(values["nrc3"]):
        return []
    said = ("nrc3_at_zero", "gamma_share") if values["gamma_share"] == 0.0 else ()
    return [name for name in HEAD_LABELS if name not in said and not math.isnan(values[name])]
