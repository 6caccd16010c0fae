"""What was measured at one step of a training."""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np

from nrc_fast.reports.features import Report
from nrc_fast.reports.records import NAN

__all__ = ["Record"]

# Shares of the variance that are kept, beside those of the first n components.
MORE_COMPONENTS = 2


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

    __module__ = "nrc_fast.reports"

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
