"""The numbers of a report in groups, with what each is called: what its text, its card and pages show."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Protocol

from nrc_fast.base.arrays import FloatArray
from nrc_fast.metrics.head_balances import LARGEST
from nrc_fast.metrics.prediction import Prediction
from nrc_fast.reports.head_context import labelled_context, told_context
from nrc_fast.reports.records import format_value
from nrc_fast.reports.verdicts.levels import known

__all__ = ["BALANCE", "GROUPS", "LABELS", "ToldReport", "grouped_rows", "text_lines"]

# Of CKA, from which on its debiased value has a line of its own.
VISIBLE_CHANCE = 0.005
# Columns of a text for the names of numbers.
NAME = 52

LABELS = {
    "nrc1": "NRC1  features outside their first n components",
    "nrc2": "NRC2  features outside the row space of W",
    "nrc3": "NRC3  distance of W W^T from the predicted shape",
    "gamma": "gamma that NRC3 is smallest at",
    "balance_distance": "distance of W W^T from the shape of the balance",
    "balance_decay": "weight decay lambda_W that the balance implies",
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
COLLAPSE, HEAD, FIT, BOTH = "collapse of the features", "the head", "the fit", "features and targets"
GROUPS = {
    COLLAPSE: ("nrc1", "nrc2"),
    HEAD: ("nrc3", "gamma", *BALANCE),
    FIT: ("mse", "r2", "linear_mse"),
    BOTH: ("cka", "cka_debiased", "effective_rank", "stable_rank"),
}
SHAPE = GROUPS[HEAD][:2]


class ToldReport(Protocol):
    """The part of a `nrc_fast.Report` that is shown in rows; the numbers of `LABELS` are read by name."""

    @property
    def n(self) -> int:
        """The target dimension."""

    @property
    def cka(self) -> float:
        """Linear CKA."""

    @property
    def gamma(self) -> float:
        """Where NRC3 is smallest."""

    @property
    def explained_variance_ratio(self) -> FloatArray:
        """Shares of the variance."""

    @property
    def bounds(self) -> Mapping[str, float | FloatArray]:
        """Absolute bounds by name."""

    @property
    def alternatives(self) -> Mapping[str, Mapping[str, float]]:
        """NRC1 and NRC2 under other conventions."""

    @property
    def alternative_bounds(self) -> Mapping[str, Mapping[str, float]]:
        """The bounds of these."""

    @property
    def ufm(self) -> Prediction | None:
        """What the UFM predicts."""


def grouped_rows(report: ToldReport, digits: int = 6) -> dict[str, list[tuple[str, str]]]:
    """All numbers that are known and say something, as names and values with bounds, in the groups of `GROUPS`.

    Parameters
    ----------
    report : nrc_fast.Report
    digits : int
        At most as many of each value.
    """
    alternatives = [
        (f"{metric.upper()} under convention {name}", shown)
        for name, values in _known_alternatives(report, digits).items()
        for metric, shown in values.items()
    ]
    condition, numbers = _prediction(report)
    predicted = [(f"{condition} predicts {name}", shown) for name, shown in numbers.items()]
    context = labelled_context(vars(report), report.bounds, digits)
    return _filled(report, {COLLAPSE: alternatives, HEAD: context, FIT: predicted}, digits)


def text_lines(report: ToldReport) -> list[str]:
    """The same as lines of a text, where all of a convention or of a prediction stands in one line.

    The shares of the variance are the last line.
    """
    alternatives = [
        (f"under convention {name}", ", ".join(f"{metric.upper()} {shown}" for metric, shown in values.items()))
        for name, values in _known_alternatives(report, digits=4).items()
    ]
    condition, numbers = _prediction(report)
    told = ", ".join(f"{name} {shown}" for name, shown in numbers.items())
    predicted = [(f"{condition} predicts", told)] if told else []
    context = told_context(vars(report), report.bounds)
    groups = _filled(report, {COLLAPSE: alternatives, HEAD: context, FIT: predicted}, digits=6)
    shares = ", ".join(f"{share:.4f}" for share in report.explained_variance_ratio[: report.n + 2])
    groups.setdefault(BOTH, []).append(("explained variance of the first components", shares))
    return [
        line
        for heading, rows in groups.items()
        for line in (heading, *(f"  {name:<{NAME}}{value}" for name, value in rows))
    ]


def _filled(
    report: ToldReport, others: Mapping[str, list[tuple[str, str]]], digits: int
) -> dict[str, list[tuple[str, str]]]:
    """The numbers of `LABELS` in their groups, with other rows of each; of the head these stand below its shape."""
    groups = {
        COLLAPSE: [*_labelled(report, GROUPS[COLLAPSE], digits), *others[COLLAPSE]],
        HEAD: [*_labelled(report, SHAPE, digits), *others[HEAD], *_labelled(report, BALANCE, digits)],
        FIT: [*_labelled(report, GROUPS[FIT], digits), *others[FIT]],
        BOTH: _labelled(report, GROUPS[BOTH], digits),
    }
    return {heading: rows for heading, rows in groups.items() if rows}


def _labelled(report: ToldReport, names: Iterable[str], digits: int) -> list[tuple[str, str]]:
    found = []
    for name in names:
        value = getattr(report, name)
        is_shown = name != "cka_debiased" or abs(value - report.cka) > VISIBLE_CHANCE
        is_shown = is_shown and not (report.n == 1 and name in ("balance_distance", "balance_asymmetry"))  # 0
        if is_shown and not math.isnan(value):
            most = LARGEST.get(name.removeprefix("balance_"), math.inf)
            found.append((LABELS[name], format_value(value, report.bounds.get(name), digits, most=most)))
    return found


def _known_alternatives(report: ToldReport, digits: int) -> dict[str, dict[str, str]]:
    """By convention and metric, as texts; nothing of a convention of which nothing is known."""
    shown = {
        name: {
            metric: format_value(value, report.alternative_bounds.get(name, {}).get(metric), digits)
            for metric, value in values.items()
            if not math.isnan(value)
        }
        for name, values in report.alternatives.items()
    }
    return {name: values for name, values in shown.items() if values}


def _prediction(report: ToldReport) -> tuple[str, dict[str, str]]:
    """What the UFM predicts: a condition, and numbers by name; no numbers where that says nothing."""
    prediction = report.ufm
    # At c = 0 every training reaches error 0, and a gamma within its bound of 0 is none to predict from.
    if prediction is None or not prediction.c > 0.0:
        return "", {}
    if prediction.c == report.gamma and not known("gamma", vars(report), report.bounds).is_above(0.0):
        return "", {}
    shown = {"rank": str(prediction.rank), "MSE": f"{prediction.mse:.4g}", "R2": f"{prediction.r2:.4g}"}
    return f"UFM at c = {prediction.c:.4g}", shown | {"CKA": f"{prediction.cka:.4g}"}
