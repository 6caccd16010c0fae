"""What was measured at one step of a training, and the steps of a history as a file holds them."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

import numpy as np

from nrc_fast.reports.features import Report
from nrc_fast.reports.fields import declared_fields, restored_fields
from nrc_fast.reports.records import NAN

__all__ = ["Record", "restored_steps"]

# Shares of the variance that are kept, beside those of the first n components.
MORE_COMPONENTS = 2
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


@dataclass(frozen=True)
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

    @classmethod
    def of(cls, step: int, report: Report) -> Record:
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
            nrc1_id25=_nrc1_under(report, "id25"),
            nrc1_variance=_nrc1_under(report, "variance"),
            explained_variance_ratio=tuple(float(share) for share in shares[: report.n + MORE_COMPONENTS]),
        )

    def scalars(self) -> dict[str, float]:
        """Everything but the step that is one number, by name."""
        names = [part.name for part in fields(self) if part.name not in ("step", "explained_variance_ratio")]
        return {name: getattr(self, name) for name in names}


def _nrc1_under(report: Report, convention: str) -> float:
    if report.convention == convention:
        return report.nrc1
    return report.alternatives.get(convention, {}).get("nrc1", NAN)


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
    declared = declared_fields(Record)
    parts = [{**row, "explained_variance_ratio": ratio} for row, ratio in zip(rows, shares, strict=True)]
    records = [Record(**restored_fields(declared, part)) for part in parts]
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
