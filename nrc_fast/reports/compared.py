"""What runs are compared by: the columns of a table for each kind of result, and a row for each run."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TypeAlias

from nrc_fast.metrics.alignment import GammaChoice
from nrc_fast.metrics.classes import VARIANTS
from nrc_fast.reports.classes import ClassReport
from nrc_fast.reports.features import Report
from nrc_fast.reports.history import History
from nrc_fast.reports.layers import DeepReport
from nrc_fast.reports.steps import Record

__all__ = ["SPARED", "Compared", "Row", "columns_of", "in_words", "main_columns_of", "notes_on", "row_of"]

Compared: TypeAlias = "Report | History | ClassReport | DeepReport"

# By the names that frames have, what people read.
OF_RUNS = {
    "step": "step",
    "mse": "MSE",
    "r2": "R2",
    "nrc1": "NRC1",
    "nrc2": "NRC2",
    "nrc3": "NRC3",
    "gamma": "gamma",
    "nrc3_quantile": "random heads below",
    "balance_distance": "balance, distance",
    "balance_decay": "balance, lambda_W",
    "measured_slope": "slope of log NRC1",
    "predicted_slope": "by decay alone",
    "nrc1_id25": "NRC1, id25",
    "nrc1_variance": "NRC1, variance",
    "nrc2_id25": "NRC2, id25",
    "nrc2_variance": "NRC2, variance",
    "explained_variance": "variance in n",
    "linear_mse": "MSE of best readout",
    "cka": "CKA",
    "effective_rank": "effective rank",
    "stable_rank": "stable rank",
    "n": "n",
    "convention": "convention",
}
# What a terminal shows, with names that are as short as the numbers.
MAIN_OF_RUNS = {
    "step": "step",
    "mse": "MSE",
    "r2": "R2",
    "nrc1": "NRC1",
    "nrc2": "NRC2",
    "nrc3": "NRC3",
    "gamma": "gamma",
    "nrc3_quantile": "heads",
    "balance_decay": "lambda_W",
}
# What it goes without where there is no room, the first one first.
SPARED = ("gamma", "r2", "target_stable_rank", "layers")
# Of a report alone.
OF_REPORTS = ("linear_mse", "cka", "effective_rank", "stable_rank")
OF_TRAININGS = ("step", "measured_slope", "predicted_slope")
MAIN_OF_CLASSES = ("nc1", "cdnv", "nc2_equinorm", "nc2_equiangular", "nc3", "nc4", "accuracy")
OF_LAYERS = {
    "layers": "layers",
    "first_collapsed": "first collapsed",
    "mse": "MSE",
    "noise_fraction": "noise, last",
    "signal_alignment": "signal, last",
    "weight_alignment": "weights, last",
    "linear_mse": "readout MSE, last",
    "balance": "balance, last",
    "target_stable_rank": "rank of targets",
}
MAIN_OF_LAYERS = {
    "layers": "layers",
    "first_collapsed": "first collapsed",
    "mse": "MSE",
    "noise_fraction": "noise",
    "signal_alignment": "signal",
    "weight_alignment": "weights",
    "linear_mse": "readout",
    "balance": "balance",
    "target_stable_rank": "rank Y",
}
# What the short names mean that are not the paper's.
MEANINGS = {
    "heads": "share of random heads with a smaller NRC3",
    "lambda_W": "the weight decay that the balance of the head implies",
    "balance": "imbalance of the last layer and the one below it",
}


@dataclass(frozen=True)
class Row:
    """One run of a comparison.

    Attributes
    ----------
    name : str
    values : mapping of str to float, int, str or None
        None and NaN for what is not known of it.
    bounds : mapping of str to float
        Absolute bounds of some of the values.
    """

    name: str
    values: Mapping[str, float | int | str | None]
    bounds: Mapping[str, float]


def columns_of(runs: Mapping[str, Compared]) -> dict[str, str]:
    """The columns of a comparison, and what people read of each."""
    first = next(iter(runs.values()))
    if isinstance(first, ClassReport):
        return {"n_classes": "classes"} | {name: name for name in VARIANTS}
    if isinstance(first, DeepReport):
        return OF_LAYERS
    kinds = {type(run) for run in runs.values()}
    unknown = [*(OF_TRAININGS if History not in kinds else ()), *(OF_REPORTS if Report not in kinds else ())]
    return {name: label for name, label in OF_RUNS.items() if name not in unknown}


def main_columns_of(runs: Mapping[str, Compared]) -> dict[str, str]:
    """Those of the columns that a terminal has room for, and what it calls them."""
    first = next(iter(runs.values()))
    if isinstance(first, ClassReport):
        return {name: label for name, label in columns_of(runs).items() if name in MAIN_OF_CLASSES}
    names = MAIN_OF_LAYERS if isinstance(first, DeepReport) else MAIN_OF_RUNS
    return {name: label for name, label in names.items() if name in columns_of(runs)}


def in_words(labels: Iterable[str]) -> tuple[str, ...]:
    """What those of the short names mean that are not the paper's.

    Examples
    --------
    >>> in_words(["NRC3", "heads"])
    ('heads: share of random heads with a smaller NRC3',)
    """
    return tuple(f"{label}: {MEANINGS[label]}" for label in labels if label in MEANINGS)


def row_of(name: str, run: Compared, gamma: GammaChoice) -> Row:
    """What is known of a run: of a history its last record."""
    if isinstance(run, ClassReport):
        return Row(name, {column: getattr(run, column) for column in ("n_classes", *VARIANTS)}, run.bounds)
    if isinstance(run, DeepReport):
        return _row_of_layers(name, run)
    facts: dict[str, float | int | str | None] = {"n": run.n, "convention": run.convention}
    if isinstance(run, Report):
        record = Record.of(0, run)
        facts |= {"step": None, **{column: getattr(run, column) for column in OF_REPORTS}}
        own = {column: bound for column, bound in run.bounds.items() if isinstance(bound, float)}
        return Row(name, {**record.scalars(), **facts}, {**own, **record.bounds})
    records = run.records(gamma)
    if not records:
        return Row(name, facts, {})
    last = records[-1]
    # That of NRC3 is for the gamma of the step.
    bounds = {column: bound for column, bound in last.bounds.items() if column != "nrc3" or isinstance(gamma, str)}
    facts |= {"step": last.step}
    clock = run.clock
    if clock is not None:
        facts |= {"measured_slope": clock.measured, "predicted_slope": clock.predicted}
        bounds |= {f"{slope}_slope": bound for slope, bound in clock.bounds.items()}
    return Row(name, {**last.scalars(), **facts}, bounds)


def _row_of_layers(name: str, run: DeepReport) -> Row:
    last = run.layers[-1]
    parts = ("noise_fraction", "signal_alignment", "weight_alignment", "linear_mse", "balance")
    values: dict[str, float | int | str | None] = {column: getattr(last, column) for column in parts}
    values |= {"layers": len(run.layers), "first_collapsed": run.first_collapsed, "mse": run.mse}
    values["target_stable_rank"] = run.target_stable_rank
    return Row(name, values, {**run.bounds, **{part: last.bounds.get(part, math.nan) for part in parts}})


def notes_on(runs: Mapping[str, Compared], gamma: GammaChoice) -> tuple[str, ...]:
    """What tells runs apart besides their numbers, which a reader of the table has to know."""
    words = []
    for attribute, what in (("convention", "NRC1 and NRC2 are defined differently"), ("n", "the targets differ")):
        known = {name: getattr(run, attribute) for name, run in runs.items() if hasattr(run, attribute)}
        if len(set(known.values())) > 1:
            listed = ", ".join(f"{value} ({name})" for name, value in known.items())
            words.append(f"{what}, {attribute} is {listed}: these numbers cannot be compared")
    if any(isinstance(run, History) for run in runs.values()):
        chosen = "its own gamma" if isinstance(gamma, str) else f"gamma = {gamma:g}"
        words.append(f"of a training the last step is shown, with NRC3 for {chosen}")
    return tuple(words)
