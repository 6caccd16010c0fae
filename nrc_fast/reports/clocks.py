"""The clock of collapse: how fast NRC1 falls late in a training, beside how fast weight decay alone makes it fall."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Protocol

import numpy as np

from nrc_fast.base.arrays import FloatArray
from nrc_fast.base.cards import card
from nrc_fast.base.linalg import EPSILON
from nrc_fast.metrics.decay_slopes import fitted_slope, fitting_weights
from nrc_fast.reports.records import StoredResult, format_value

__all__ = ["Clock", "ClockRecord", "clock_of", "decay_line", "predicted_curve"]

LEAST_RECORDS = 3
# Relative bound from which on a prediction is printed with it.
WIDE = 1e-2
# How many times its bound NRC1 must be to count: what is below is rounding.
ABOVE_BOUND = 10.0


class ClockRecord(Protocol):
    """The part of `nrc_fast.Record` that a clock reads."""

    @property
    def step(self) -> int:
        """How many steps the training has made."""

    @property
    def nrc1_variance(self) -> float:
        """NRC1 under convention variance."""

    @property
    def clock(self) -> float:
        """The slope that weight decay predicts."""

    @property
    def bounds(self) -> Mapping[str, float]:
        """Absolute bounds by name."""


@dataclass(frozen=True, eq=False, repr=False)
class Clock(StoredResult):
    """Slopes of the logarithm of NRC1 (`variance`) per training step: as measured, and as weight decay predicts.

    Outside the row space of W the loss of linear features has no gradient, so that what lies there shrinks by weight
    decay alone. Early in a training, when the fit still moves W and what the features are made of, the measured slope
    is another; it comes to the predicted one as these stand still.

    Attributes
    ----------
    first_step, last_step : int
        The part of the training that the slopes are those of.
    records : int
        How many records it has.
    measured : float
        Slope of the least-squares line through log NRC1.
    predicted : float
        Slope of the same line through the curve that decay predicts, by the optimizer's numbers at each record. It is
        the law of features that the loss sees through one head alone: a second one, or a penalty on the features, has a
        gradient outside the row space of W.
    bounds : mapping of str to float
        Absolute bounds of both, from those of the records; where the optimizer's numbers change from one record to the
        next, that of the prediction holds every schedule between that stays within the range of the two. They hold no
        more than that: a curve that is no line has a line through it too.
    """

    __module__ = "nrc_fast"
    _described = "clock"

    first_step: int
    last_step: int
    records: int
    measured: float
    predicted: float
    bounds: Mapping[str, float] = field(default_factory=dict)

    @property
    def _predicted(self) -> str:
        """With its bound, where a schedule between records makes that one of its first digits."""
        bound = self.bounds.get("predicted", 0.0)
        is_wide = bound > WIDE * abs(self.predicted)
        return format_value(self.predicted, bound, 4) if is_wide else f"{self.predicted:.4g}"

    def __repr__(self) -> str:
        return str(self)

    def __str__(self) -> str:
        return (
            f"clock of steps {self.first_step:,} to {self.last_step:,} ({self.records} records): log NRC1 (variance) "
            f"changes by {self.measured:.4g} a step; weight decay alone predicts {self._predicted}"
        )

    def _repr_html_(self) -> str:
        rows: list[tuple[object, ...]] = [
            ("measured", f"{self.measured:.4g}"),
            ("by weight decay alone", self._predicted),
        ]
        title = f"slope of log NRC1 (variance) a step, steps {self.first_step:,} to {self.last_step:,}"
        return card(title, rows=rows)


def clock_of(records: Sequence[ClockRecord]) -> Clock | None:
    """The clock of the last part of a training; None where there is none.

    Counted are the records up to the last whose NRC1 is well above its bound, back to the last that knows no
    prediction, and of these the last half of the steps.

    Examples
    --------
    >>> from types import SimpleNamespace as Made
    >>> records = [Made(step=t, nrc1_variance=math.exp(-0.02 * t), clock=-0.02, bounds={}) for t in range(0, 90, 10)]
    >>> found = clock_of(records)
    >>> found.first_step, found.last_step, round(found.measured, 12), round(found.predicted, 12)
    (40, 80, -0.02, -0.02)
    """
    part = _counted(records)
    if len(part) < LEAST_RECORDS:
        return None
    middle = (part[0].step + part[-1].step) / 2
    late = [record for record in part if record.step >= middle]
    part = late if len(late) >= LEAST_RECORDS else part[-LEAST_RECORDS:]
    steps = [record.step for record in part]
    measured = fitted_slope(
        steps, [record.nrc1_variance for record in part], [record.bounds.get("nrc1_variance", 0.0) for record in part]
    )
    weights, curve = fitting_weights(steps), np.array(predicted_curve(part))
    errors = np.array(_curve_errors(part)) + (len(part) + 4.0) * EPSILON * np.abs(curve)
    return Clock(
        first_step=steps[0],
        last_step=steps[-1],
        records=len(part),
        measured=measured.value,
        predicted=float(weights @ curve),
        bounds={"measured": measured.bound, "predicted": float(np.abs(weights) @ errors)},
    )


def predicted_curve(records: Sequence[ClockRecord]) -> list[float]:
    """What decay predicts of log NRC1 at each record, from 0 at the first: slopes between records are their means.

    Examples
    --------
    >>> from types import SimpleNamespace as Made
    >>> predicted_curve([Made(step=0, clock=-0.5), Made(step=2, clock=-0.5), Made(step=4, clock=-0.25)])
    [0.0, -1.0, -1.75]
    """
    curve = [0.0]
    for before, after in pairwise(records):
        curve.append(curve[-1] + 0.5 * (before.clock + after.clock) * (after.step - before.step))
    return curve


def decay_line(records: Sequence[ClockRecord], first_step: int, last_step: int) -> tuple[list[int], FloatArray]:
    """What decay alone makes of NRC1, through the last record of the part that a clock is of: steps, and values.

    Examples
    --------
    >>> from types import SimpleNamespace as Made
    >>> records = [Made(step=t, nrc1_variance=0.5, clock=-0.1, bounds={}) for t in (0, 10, 20)]
    >>> steps, values = decay_line(records, 10, 20)
    >>> steps, values.round(3).tolist()
    ([10, 20], [1.359, 0.5])
    """
    part = [record for record in records if first_step <= record.step <= last_step]
    curve = np.array(predicted_curve(part))
    return [record.step for record in part], part[-1].nrc1_variance * np.exp(curve - curve[-1])


def _curve_errors(records: Sequence[ClockRecord]) -> list[float]:
    """Bounds of the predicted curve: a slope between two records may be that of either all the way."""
    errors = [0.0]
    for before, after in pairwise(records):
        own = 0.5 * (before.bounds.get("clock", 0.0) + after.bounds.get("clock", 0.0))
        jump = 0.5 * abs(before.clock - after.clock)
        errors.append(errors[-1] + (own + jump) * (after.step - before.step))
    return errors


def _counted(records: Sequence[ClockRecord]) -> list[ClockRecord]:
    part: list[ClockRecord] = []
    for record in reversed(records):
        is_resolved = record.nrc1_variance > ABOVE_BOUND * record.bounds.get("nrc1_variance", 0.0)
        # A slope of minus infinity is that of a step that leaves nothing: there is no line through what follows.
        if not math.isfinite(record.clock) or (part and not is_resolved):
            break
        if is_resolved:
            part.append(record)
    return part[::-1]
