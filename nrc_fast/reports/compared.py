"""What runs are compared by: the columns of a table for each kind of result, and a row for each run."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeAlias

from nrc_fast.metrics.alignment import GammaChoice
from nrc_fast.metrics.classes import VARIANTS
from nrc_fast.reports.classes import ClassReport
from nrc_fast.reports.features import Report
from nrc_fast.reports.history import History
from nrc_fast.reports.layers import DeepReport
from nrc_fast.reports.steps import Record

__all__ = ["Compared", "Row", "columns_of", "main_columns_of", "notes_on", "row_of"]

Compared: TypeAlias = "Report | History | ClassReport | DeepReport"

# By the names that frames have, what people read. The first lines of each are what a terminal shows.
OF_RUNS = {
    "step": "step",
    "mse": "MSE",
    "r2": "R2",
    "nrc1": "NRC1",
    "nrc2": "NRC2",
    "nrc3": "NRC3",
    "gamma": "gamma",
    "nrc3_quantile": "random heads below NRC3",
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
MAIN_OF_RUNS = ("step", "mse", "r2", "nrc1", "nrc2", "nrc3", "gamma")
# Of a report alone.
OF_REPORTS = ("linear_mse", "cka", "effective_rank", "stable_rank")
MAIN_OF_CLASSES = ("nc1", "cdnv", "nc2_equinorm", "nc2_equiangular", "nc3", "nc4", "accuracy")
OF_LAYERS = {
    "layers": "layers",
    "first_collapsed": "first collapsed",
    "mse": "MSE",
    "noise_fraction": "noise, last",
    "signal_alignment": "signal, last",
    "weight_alignment": "weights, last",
    "linear_mse": "readout MSE, last",
    "target_stable_rank": "rank of targets",
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
    unknown = [*(("step",) if History not in kinds else ()), *(OF_REPORTS if Report not in kinds else ())]
    return {name: label for name, label in OF_RUNS.items() if name not in unknown}


def main_columns_of(runs: Mapping[str, Compared]) -> dict[str, str]:
    """Those of the columns that a terminal has room for."""
    first = next(iter(runs.values()))
    if isinstance(first, DeepReport):
        return OF_LAYERS
    names = MAIN_OF_CLASSES if isinstance(first, ClassReport) else MAIN_OF_RUNS
    return {name: label for name, label in columns_of(runs).items() if name in names}


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
    return Row(name, {**last.scalars(), **facts, "step": last.step}, bounds)


def _row_of_layers(name: str, run: DeepReport) -> Row:
    last = run.layers[-1]
    parts = ("noise_fraction", "signal_alignment", "weight_alignment", "linear_mse")
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
