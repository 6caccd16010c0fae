"""Charts of runs that are compared, as data, for the figures of matplotlib and of pages: what is drawn, not how."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias

from nrc_fast.metrics.alignment import GammaChoice
from nrc_fast.reports.classes import ClassReport
from nrc_fast.reports.features import MOST_SHARES, Report
from nrc_fast.reports.layers import DeepReport
from nrc_fast.reports.plots.drawn import DrawnHistory, DrawnRecord
from nrc_fast.reports.steps import Record, name_of_gamma

__all__ = [
    "Chart",
    "Curve",
    "charts_of_classes",
    "charts_of_layers",
    "charts_of_report",
    "charts_of_runs",
    "curve_of_training",
]

# Conventions whose rows differ, where both are drawn.
ROWS = {"nrc24": "nrc24 (rows as they are)", "id25": "id25 (rows minus their mean)"}
# Of classes, what has a chart; the others are variants of these.
OF_CLASSES = {
    "nc1": "NC1, tr(S_W S_B^+)/K",
    "cdnv": "CDNV",
    "nc2_equinorm": "NC2, spread of the norms",
    "nc2_equiangular": "NC2, spread of the angles",
    "nc3": "NC3",
    "nc4": "NC4, share that is decided otherwise",
}
# Of layers, with whether the scale is logarithmic.
OF_LAYERS = {
    "noise_fraction": ("noise fraction", True),
    "signal_alignment": ("signal alignment (CKA)", False),
    "weight_alignment": ("weight alignment", False),
    "linear_mse": ("MSE of linear readout", True),
    "feature_stable_rank": ("stable rank, features", False),
    "weight_stable_rank": ("stable rank, weights", False),
}

Run: TypeAlias = "DrawnHistory | Report"


@dataclass(frozen=True)
class Curve:
    """One run in one chart.

    Attributes
    ----------
    run : str
        The run that it belongs to, and whose colour it has.
    x, y : tuple of float
        Values that are not known are NaN.
    bounds : tuple of float
        Absolute bounds of the values; empty where they are not known.
    name : str
        What a legend calls it, where that is not the run.
    is_level : bool
        Whether it is one value of y that holds for all x.
    """

    run: str
    x: tuple[float, ...]
    y: tuple[float, ...]
    bounds: tuple[float, ...] = ()
    name: str = ""
    is_level: bool = False

    @property
    def label(self) -> str:
        """What a legend calls the curve."""
        return self.name or self.run


@dataclass(frozen=True)
class Chart:
    """Curves of several runs over the same axes.

    Attributes
    ----------
    title, x_label : str
    curves : tuple of Curve
    is_log : bool
        Whether values are shown on a logarithmic scale, where those that are not positive lie on the lower edge.
    places : tuple of str
        Names of the places 0, 1, ... where x is no number.
    scale : str
        Charts of the same name here have the same scale of values; of none by default.
    beside : tuple of Curve
        Thin lines without points behind the curves, each with the colour of its run.
    band : (float, float), optional
        Values between which a band is shaded behind all curves.
    dashed : tuple of Curve
        Dashed lines without points before the curves, of what theory predicts of their runs.
    words : str
        What these three are.
    """

    title: str
    x_label: str
    curves: tuple[Curve, ...]
    is_log: bool = False
    places: tuple[str, ...] = ()
    scale: str = ""
    beside: tuple[Curve, ...] = ()
    band: tuple[float, float] | None = None
    dashed: tuple[Curve, ...] = ()
    words: str = ""


def charts_of_runs(
    runs: Mapping[str, Run], gamma: GammaChoice = "last", predicted: Mapping[str, float] | None = None
) -> tuple[Chart, ...]:
    """Six charts of trainings and of reports: NRC1 twice, NRC2, NRC3, MSE and explained variance.

    A training is a curve over its steps. A report is a level beside trainings, and a point at a place of its own where
    there are only reports. Behind NRC3 of trainings at one gamma, thin lines are NRC3 at the best gamma of each step,
    and where all trainings have the same random heads, a band is the NRC3 of 90 of 100 of these.

    Parameters
    ----------
    runs : mapping of str to History or Report
    gamma : {"last", "each"} or float
        For which gamma NRC3 of a history is shown, see `nrc_fast.reports.History.records`.
    predicted : mapping of str to float, optional
        The MSE that the UFM predicts for some of the runs.
    """
    trainings = {name: run.records(gamma) for name, run in runs.items() if not isinstance(run, Report)}
    reports = {
        name: (place, Record.of(0, run)) for place, (name, run) in enumerate(runs.items()) if isinstance(run, Report)
    }
    places = () if trainings else tuple(runs)
    convention = ", ".join(dict.fromkeys(run.convention for run in runs.values()))
    n = " or ".join(dict.fromkeys(str(run.n) for run in runs.values()))
    fields = {
        "nrc1": (f"NRC1, convention {ROWS.get(convention, convention)}", True, "collapse"),
        "nrc1_id25": (f"NRC1, convention {ROWS['id25']}", True, "collapse"),
        "nrc2": ("NRC2", True, "collapse"),
        "nrc3": (f"NRC3, {name_of_gamma(gamma) if trainings else 'each at its own gamma'}", True, ""),
        "mse": ("training MSE, summed over outputs", True, ""),
        "explained_variance": (f"variance in the first {n} components", False, ""),
    }
    charts = []
    for field, (title, is_log, scale) in fields.items():
        curves = [
            _of_report(name, *reports[name], field, is_level=bool(trainings))
            if name in reports
            else curve_of_training(name, trainings[name], field)
            for name in runs
        ]
        levels = predicted or {} if field == "mse" else {}
        curves += [
            Curve(name, (), (mse,), name=f"MSE predicted for {name}", is_level=True) for name, mse in levels.items()
        ]
        label = "step" if trainings else "run"
        chart = Chart(title, label, tuple(curves), is_log, places=places, scale=scale)
        charts.append(_beside_heads(chart, runs, gamma) if field == "nrc3" else chart)
    return tuple(charts)


def _beside_heads(chart: Chart, runs: Mapping[str, Run], gamma: GammaChoice) -> Chart:
    """NRC3 of trainings before what it is without hindsight, and without any training."""
    trainings = {name: run for name, run in runs.items() if not isinstance(run, Report)}
    thin = (
        ()
        if gamma == "each"
        else tuple(curve_of_training(name, trainings[name].records("each"), "nrc3") for name in trainings)
    )
    bands = {(low, high) for low, _, high in (run.nrc3_null() for run in trainings.values())}
    band = bands.pop() if len(bands) == 1 else None
    if band is not None and math.isnan(sum(band)):
        band = None
    words = ["thin: gamma of each step"] * bool(thin) + ["band: 90% of random heads"] * (band is not None)
    return replace(chart, beside=thin, band=band, words="; ".join(words))


def curve_of_training(name: str, records: Sequence[DrawnRecord], field: str) -> Curve:
    """How a number of a training runs over its steps, with its bounds."""
    # The bound of NRC3 is for the gamma of each step.
    bounds = () if field == "nrc3" else tuple(record.bounds.get(field, 0.0) for record in records)
    values = tuple(getattr(record, field) for record in records)
    return Curve(name, tuple(record.step for record in records), values, bounds)


def _of_report(name: str, place: int, record: Record, field: str, *, is_level: bool) -> Curve:
    bounds = _known(record.bounds.get(field))
    return Curve(name, () if is_level else (place,), (getattr(record, field),), bounds, is_level=is_level)


def charts_of_report(report: Report) -> tuple[Chart, ...]:
    """NRC1 of every number of components, and the share of the variance in each of the leading ones."""
    by_k, shares = report.nrc1_by_k, report.explained_variance_ratio
    bounds = report.bounds.get("nrc1_by_k")
    count = min(len(shares), max(MOST_SHARES, report.n + 2))
    first = Curve(
        run="report",
        name="NRC1",
        x=tuple(range(1, len(by_k) + 1)),
        y=tuple(map(float, by_k)),
        bounds=() if bounds is None or isinstance(bounds, float) else tuple(map(float, bounds)),
    )
    second = Curve("report", tuple(range(1, count + 1)), tuple(map(float, shares[:count])), name="share")
    title = f"NRC1 against the number of components; n = {report.n}"
    return (
        Chart(title, "components", (first,), is_log=True),
        Chart("share of the variance in each component", "component", (second,)),
    )


def charts_of_classes(runs: Mapping[str, ClassReport]) -> tuple[Chart, ...]:
    """Six charts of reports of classes, each run at a place of its own."""
    return tuple(
        Chart(
            title=title,
            x_label="run",
            curves=tuple(
                Curve(name, (place,), (getattr(run, field),), _known(run.bounds.get(field)))
                for place, (name, run) in enumerate(runs.items())
            ),
            is_log=True,
            places=tuple(runs),
        )
        for field, title in OF_CLASSES.items()
    )


def _known(bound: float | None) -> tuple[float, ...]:
    return () if bound is None or not math.isfinite(bound) else (bound,)


def charts_of_layers(runs: Mapping[str, DeepReport]) -> tuple[Chart, ...]:
    """Six charts of Deep NRC, a curve over the layers for each run; layers have names where all runs have the same."""
    names = {tuple(layer.name for layer in run.layers) for run in runs.values()}
    places = names.pop() if len(names) == 1 else ()
    return tuple(
        Chart(
            title=title,
            x_label="layer",
            curves=tuple(
                Curve(
                    run=name,
                    x=tuple(range(len(run.layers))),
                    y=tuple(getattr(layer, field) for layer in run.layers),
                    bounds=tuple(layer.bounds.get(field, 0.0) for layer in run.layers),
                )
                for name, run in runs.items()
            ),
            is_log=is_log,
            places=places,
        )
        for field, (title, is_log) in OF_LAYERS.items()
    )
