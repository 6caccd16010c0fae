"""What the records of a training say: the level of the last ones, and the direction of the curve."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from statistics import median

from nrc_fast.reports.report_rows import BALANCE
from nrc_fast.reports.steps import Record
from nrc_fast.reports.verdicts.balances import BalanceKnown
from nrc_fast.reports.verdicts.features import (
    ABOUT_MEAN,
    ABOUT_ORIGIN,
    FeatureNumbers,
    level_of_features,
    sentences_on_head,
)
from nrc_fast.reports.verdicts.levels import COLLAPSED, UNFITTED, Known, known

__all__ = ["direction", "history_verdict"]

# Change of a curve between its last quarter and the one before it, below which it stands still.
STILL = 0.1
# What is left of the first value where a training has come part of the way.
FALLEN = 0.5
LEAST_RECORDS = 3  # with a direction


def history_verdict(
    records: Sequence[Record],
    *,
    n: int,
    convention: str,
    untrained_nrc3: float = math.nan,
    smallest_eigenvalue: float = math.nan,
) -> tuple[str, ...]:
    """Two to six sentences on a training.

    The rules:

    - Where the last record is NaN, the training has diverged, and what follows is about the records before.
    - The level is that of the last record, by the rules of
      `nrc_fast.reports.verdicts.features.features_verdict`.
    - The direction is that of NRC1, about the mean near an affine plane: the median of its last quarter against that
      of the quarter before. The curve falls below 0.9 of it, rises above 1.1 of it, and else stands still. Of a
      curve that is 0 whatever the features are none is told.
    - A curve that is not collapsed has, so far, not come nearer to it unless half of the first value is gone; where
      NRC1 about the mean (id25) falls beside it, that is said.
    - Of the balance of the head one sentence, where it is certain: see
      `nrc_fast.reports.verdicts.balances.certain_balance`.

    Parameters
    ----------
    records : sequence of Record
        In the order of their steps.
    n : int
        Number of targets.
    convention : str
        Of ``nrc1`` and ``nrc2``.
    untrained_nrc3 : float
        NRC3 that half of the random heads are below, for these targets.
    smallest_eigenvalue : float
        That of the covariance of the targets, which gamma reaches up to.

    Returns
    -------
    tuple of str
    """
    if not records:
        return ("Nothing was measured yet.",)
    sentences = []
    if math.isnan(records[-1].mse) and any(not math.isnan(record.mse) for record in records):
        sentences.append(_diverged(records))
    measured = [record for record in records if not math.isnan(record.nrc1)]
    heads = [record for record in records if not math.isnan(record.nrc3)]
    last = (measured or heads or records)[-1]
    numbers = replace(
        numbers_of(last, n=n, convention=convention),
        nrc3_untrained=untrained_nrc3,
        gamma_share=known("gamma", vars(last), last.bounds).over(smallest_eigenvalue),
    )
    if measured:
        sentences.append(f"At step {last.step:,}: {level_of_features(numbers)}")
        sentences.append("" if numbers.is_trivial else _curve(measured, numbers, convention))
    else:
        sentences.append("The features were not measured, or are not finite: only NRC3 and gamma are known.")
    fit = _fit(last)
    return tuple(filter(None, [*sentences, *([fit] if fit else sentences_on_head(numbers))]))


def direction(values: Sequence[float]) -> str:
    """Whether a curve is "falling", "rising" or "still" at its end; empty for less than three values.

    Examples
    --------
    >>> direction([1.0, 0.5, 0.25, 0.1]), direction([1.0, 0.5, 0.5, 0.5]), direction([0.1, 0.2, 0.5]), direction([1.0])
    ('falling', 'still', 'rising', '')
    """
    if len(values) < LEAST_RECORDS:
        return ""
    quarter = max(len(values) // 4, 1)
    late, before = median(values[-quarter:]), median(values[-2 * quarter : -quarter])
    if late < (1.0 - STILL) * before:
        return "falling"
    return "rising" if late > (1.0 + STILL) * before else "still"


def numbers_of(record: Record, *, n: int, convention: str) -> FeatureNumbers:
    """What a verdict looks at, from one record."""
    own, bounds = vars(record), record.bounds
    names = {name: f"_{name}" for name in ABOUT_MEAN} | {convention: ""}
    nrc1 = {name: known(f"nrc1{end}", own, bounds) for name, end in names.items()}
    nrc2 = {name: known(f"nrc2{end}", own, bounds) for name, end in names.items()}
    if "raw" in nrc1:
        # Its energy is not kept; what lies outside is known relative to it.
        nrc1["raw"], nrc2["raw"] = Known(record.energy_outside), Known(math.nan)
    return FeatureNumbers(
        samples=record.samples,
        d=record.d,
        n=n,
        nrc1=nrc1,
        nrc2=nrc2,
        energy_outside=record.energy_outside,
        nrc3=known("nrc3", own, bounds),
        nrc3_quantile=known("nrc3_quantile", own, bounds),
        r2=known("r2", own, bounds),
        has_weights=not all(map(math.isnan, (record.nrc2, record.nrc3, record.mse))),
        has_targets=True,
        balance=BalanceKnown(n, *(known(name, own, bounds) for name in BALANCE)),
    )


def _diverged(records: Sequence[Record]) -> str:
    finite = [record.step for record in records if not math.isnan(record.mse)]
    return f"The error is NaN after step {finite[-1]:,}: the training has diverged; look at its learning rate."


def _curve(records: Sequence[Record], numbers: FeatureNumbers, convention: str) -> str:
    """The direction of NRC1, and how far it has come."""
    attribute, name = "nrc1", convention
    if numbers.is_in_affine_plane and convention in ABOUT_ORIGIN:
        name = numbers.of(ABOUT_MEAN)[0]
        attribute = f"nrc1_{name}"
    values = [value for record in records if not math.isnan(value := getattr(record, attribute))]
    way = direction(values)
    if not way:
        return ""
    change = f"NRC1 under {name} went from {values[0]:.2g} to {values[-1]:.2g}"
    if values[-1] < COLLAPSED:
        return f"{change} and is {way}." if way != "still" else f"{change} and stands still."
    if way == "falling":
        return f"{change} and is still falling: train on."
    if values[-1] > FALLEN * values[0]:
        about_mean = [value for record in records if not math.isnan(value := record.nrc1_id25)]
        if direction(about_mean) == "falling":
            ends = f"from {about_mean[0]:.2g} to {about_mean[-1]:.2g}"
            return f"{change}, but about the mean (id25), {ends}, it is falling: train on."
        wanted = "that takes weight decay, or more of it, and training after the fit"
        return f"{change}, and nothing points to collapse so far: {wanted}."
    return f"{change} and is rising again." if way == "rising" else f"{change} and stands still there."


def _fit(record: Record) -> str:
    if not known("r2", vars(record), record.bounds).is_below(UNFITTED):
        return ""
    return f"Look at the fit first: R2 is {record.r2:.2g}, and collapse is a statement about networks that fit."
