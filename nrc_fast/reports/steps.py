"""What was measured at one step of a training, and the steps of a history as a file holds them."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any

import numpy as np

from nrc_fast.metrics.alignment import GammaChoice
from nrc_fast.metrics.decay_slopes import UNKNOWN_SLOPE, Slope
from nrc_fast.reports.features import Report
from nrc_fast.reports.fields import declared_fields, restored_bounds, restored_fields
from nrc_fast.reports.plots.drawn import DrawnRecord
from nrc_fast.reports.records import NAN, format_digits, plain_value
from nrc_fast.reports.report_rows import BALANCE
from nrc_fast.reports.verdicts.levels import known

__all__ = [
    "SCALARS",
    "Record",
    "csv_of",
    "known_columns",
    "name_of_gamma",
    "restored_steps",
    "shown_bound",
    "stored_row",
    "table_of",
]

# Shares of the variance that are kept, beside those of the first n components.
MORE_COMPONENTS = 2
# What is printed of a training.
ROWS, COLUMN = 8, 11
SHOWN = {
    "mse": "MSE",
    "r2": "R2",
    "nrc1": "NRC1",
    "nrc1_id25": "NRC1 id25",
    "nrc2": "NRC2",
    "nrc3": "NRC3",
    "balance_distance": "balance",
    "balance_decay": "lambda_W",
}
# What older files lack of a record.
LATER = (
    *("nrc2_id25", "nrc2_variance", "energy_outside", "samples", "d", "bounds", "notes", "nrc3_quantile", "clock"),
    *BALANCE,
)
# What a file holds of a history, and how it is declared.
STORED = {
    "name": "str",
    "convention": "str",
    "n": "int",
    "records": "list of mappings",
    "explained_variance_ratio": "list of lists",
    "target_covariance": "FloatArray",
    "head_grams": "list[FloatArray]",
}


@dataclass(frozen=True, repr=False)
class Record:
    """What was measured at one step.

    Attributes
    ----------
    step : int
    mse : float
        MSE on the measured samples, summed over the outputs.
    r2 : float
    nrc1, nrc2 : float
        Values under the convention of the measurement.
    nrc3 : float
        For the gamma that was asked for: as in the paper that of the last step.
    gamma : float
        Where NRC3 of this step is smallest.
    explained_variance : float
        Share of the features' variance in the first n components.
    nrc1_id25, nrc1_variance : float
        NRC1 under conventions id25 and variance; NaN where it is not known.
    explained_variance_ratio : tuple of float
        Share of each of the first n + 2 components.
    nrc2_id25, nrc2_variance : float
        NRC2 under the same conventions.
    energy_outside : float
        Share of the energy of the rows, that of their mean included, outside the plane of the first n components.
    samples, d : int
        Rows that were measured, and features; 0 where they are not known.
    bounds : mapping of str to float
        Absolute bound of the number of that name; that of ``nrc3`` is for the gamma of the step itself.
    notes : tuple of str
        What the report of the step said before its numbers are to be believed.
    nrc3_quantile : float
        Share of random heads with a smaller NRC3, this step and each of them at the gamma of its own.
    balance_distance, balance_decay, balance_asymmetry : float
        The balance of the head, see `nrc_fast.Report`.
    clock : float
        Slope of log NRC1 (`variance`) per step that weight decay alone predicts of linear features; NaN where it is not
        known, see `nrc_fast.Clock`.
    """

    __module__ = "nrc_fast"

    step: int
    mse: float
    r2: float
    nrc1: float
    nrc2: float
    nrc3: float
    gamma: float
    explained_variance: float
    nrc1_id25: float
    nrc1_variance: float
    explained_variance_ratio: tuple[float, ...] = ()
    nrc2_id25: float = NAN
    nrc2_variance: float = NAN
    energy_outside: float = NAN
    samples: int = 0
    d: int = 0
    bounds: Mapping[str, float] = field(default_factory=dict, hash=False)
    notes: tuple[str, ...] = ()
    nrc3_quantile: float = NAN
    balance_distance: float = NAN
    balance_decay: float = NAN
    balance_asymmetry: float = NAN
    clock: float = NAN

    @classmethod
    def of(cls, step: int, report: Report, clock: Slope = UNKNOWN_SLOPE) -> Record:
        """The record of a report; NRC3 is that of the report's own gamma."""
        shares = report.explained_variance_ratio
        return cls(
            step=step,
            mse=report.mse,
            r2=report.r2,
            nrc1=report.nrc1,
            nrc2=report.nrc2,
            nrc3=report.nrc3,
            gamma=report.gamma,
            explained_variance=float(np.sum(shares[: report.n])),
            **{f"{metric}_{name}": _under(report, name, metric)[0] for name, metric in PAIRS},
            explained_variance_ratio=tuple(float(share) for share in shares[: report.n + MORE_COMPONENTS]),
            energy_outside=report.energy_outside,
            samples=report.samples,
            d=report.d,
            bounds=_bounds(report) | ({} if math.isnan(clock.bound) else {"clock": clock.bound}),
            notes=report.notes,
            nrc3_quantile=report.nrc3_quantile,
            **{name: getattr(report, name) for name in BALANCE},
            clock=clock.value,
        )

    def scalars(self) -> dict[str, float]:
        """Everything but the step that is one number, by name."""
        return {name: getattr(self, name) for name in SCALARS}

    def __repr__(self) -> str:
        names = ("nrc1", "nrc2", "nrc3", "mse", "r2")
        shown = ", ".join(f"{name.upper()} {getattr(self, name):.3g}" for name in names)
        return f"<Record of step {self.step:,}: {shown}>"


# Everything of a record but the step that is one measured number.
SCALARS = tuple(part.name for part in fields(Record) if part.type == "float" and part.name != "clock")
# What records keep under other conventions.
PAIRS = [(name, metric) for metric in ("nrc1", "nrc2") for name in ("id25", "variance")]


def _under(report: Report, convention: str, metric: str) -> tuple[float, float]:
    """A metric under a convention, and its bound."""
    if report.convention == convention:
        found = known(metric, vars(report), report.bounds)
    else:
        bounds = report.alternative_bounds.get(convention, {})
        found = known(metric, report.alternatives.get(convention, {}), bounds)
    return found.value, found.bound


def _bounds(report: Report) -> dict[str, float]:
    """The bounds of a record's numbers, as far as the report has them."""
    bounds = {name: bound for name, bound in report.bounds.items() if name in SCALARS and isinstance(bound, float)}
    shares = report.bounds.get("explained_variance_ratio")
    if shares is not None:
        bounds["explained_variance"] = float(np.sum(np.atleast_1d(shares)[: report.n]))
    others = {f"{metric}_{name}": _under(report, name, metric) for name, metric in PAIRS}
    return bounds | {name: bound for name, (value, bound) in others.items() if not math.isnan(value)}


def stored_row(record: Record) -> dict[str, Any]:
    """What a file holds of a record in one mapping; the shares of the variance lie beside."""
    others = {name: plain_value(getattr(record, name)) for name in ("step", "samples", "d", "bounds", "notes", "clock")}
    return record.scalars() | others


def csv_of(records: Sequence[Record]) -> str:
    """Records as the text of a CSV file: the step and all scalars, nothing without records."""
    rows = [{"step": record.step} | record.scalars() for record in records]
    lines = io.StringIO()
    if rows:
        writer = csv.DictWriter(lines, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return lines.getvalue()


def shown_bound(record: DrawnRecord, name: str) -> float | None:
    """The bound of a number as a history shows it; none of NRC3, whose bound is for the gamma of the step itself."""
    return None if name == "nrc3" else record.bounds.get(name)


def table_of(records: Sequence[Record], n: int) -> list[str]:
    """Some records of n targets, spread over a training, as the lines of a table: of what is known of any.

    Numbers have the digits that their bounds allow.
    """
    rows = sorted({round((len(records) - 1) * k / ROWS) for k in range(ROWS + 1)})
    shown = [records[row] for row in rows]
    known = known_columns(SHOWN, shown, n)
    lines = [f"{'step':>8}" + "".join(f"{SHOWN[name]:>{COLUMN}}" for name in known)]
    for record in shown:
        numbers = [format_digits(getattr(record, name), shown_bound(record, name), digits=4) for name in known]
        lines.append(f"{record.step:>8}" + "".join(f"{number:>{COLUMN}}" for number in numbers))
    return lines


def known_columns(names: Iterable[str], records: Sequence[DrawnRecord], n: int) -> list[str]:
    """Of the names of scalars those that say something of one of the records, where there are n targets."""
    # Of one target the shape of a balance is a sign.
    names = [name for name in names if n > 1 or name not in ("balance_distance", "balance_asymmetry")]
    return [name for name in names if not all(math.isnan(getattr(record, name)) for record in records)]


def name_of_gamma(gamma: GammaChoice) -> str:
    """In words, for which gamma NRC3 of a history is shown.

    Examples
    --------
    >>> name_of_gamma("each")
    'the best gamma of each step'
    """
    chosen = {"last": "gamma of the last step", "each": "the best gamma of each step"}
    return chosen.get(str(gamma), f"gamma = {gamma}")


def restored_steps(values: object) -> tuple[dict[str, Any], list[Record]]:
    """The fields of a history, and its records, from what a file holds.

    Raises
    ------
    ValueError
        A field is missing, is none of its type, or does not fit the others.
    """
    kept = restored_fields(STORED, values, others={"records": _rows, "explained_variance_ratio": _lists})
    rows, shares, grams, n = (kept[name] for name in ("records", "explained_variance_ratio", "head_grams", "n"))
    if not len(rows) == len(shares) == len(grams):
        msg = f"it has {len(rows)} records, explained_variance_ratio of {len(shares)} and head_grams of {len(grams)}"
        raise ValueError(msg)
    if rows and any(matrix.shape != (n, n) for matrix in (*grams, kept["target_covariance"])):
        msg = f"n is {n}; head_grams and target_covariance are expected to be {n} x {n}"
        raise ValueError(msg)
    declared, restorers = declared_fields(Record), {"bounds": restored_bounds}
    parts = [{**row, "explained_variance_ratio": ratio} for row, ratio in zip(rows, shares, strict=True)]
    records = [Record(**restored_fields(declared, part, LATER, restorers)) for part in parts]
    steps = [record.step for record in records]
    if steps != sorted(steps):
        msg = "its records are not in the order of their steps"
        raise ValueError(msg)
    return kept, records


def _rows(values: Any) -> list[dict[str, Any]]:
    if not isinstance(values, list) or not all(isinstance(row, dict) for row in values):
        msg = "records are no list of mappings"
        raise ValueError(msg)
    return values


def _lists(values: Any) -> list[Any]:
    if not isinstance(values, list):
        msg = f"explained_variance_ratio is a {type(values).__name__}; a list for each record is expected"
        raise ValueError(msg)
    return values
