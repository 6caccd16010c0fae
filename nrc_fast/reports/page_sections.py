"""The sections of a page: one for each result, and one for results that are compared."""

from __future__ import annotations

import math
from collections.abc import Sequence

from nrc_fast.base.markup import Markup, element, joined
from nrc_fast.metrics.alignment import GammaChoice
from nrc_fast.metrics.classes import VARIANTS
from nrc_fast.reports.charts import Chart, charts_of_layers, charts_of_report, charts_of_runs
from nrc_fast.reports.classes import ClassReport
from nrc_fast.reports.clocks import Clock
from nrc_fast.reports.compared import Compared
from nrc_fast.reports.comparisons import Comparison, shown_value
from nrc_fast.reports.features import Report
from nrc_fast.reports.history import History
from nrc_fast.reports.layers import DeepReport, LayerCollapse
from nrc_fast.reports.page_style import MOST_TOGGLES
from nrc_fast.reports.page_tables import grouped_table, table
from nrc_fast.reports.records import format_digits, format_value
from nrc_fast.reports.report_rows import grouped_rows
from nrc_fast.reports.steps import Record, known_columns, shown_bound
from nrc_fast.reports.svg_charts import key_of, svg_charts
from nrc_fast.reports.training_charts import charts_of_trainings
from nrc_fast.reports.verdicts.notes import notes_beside

__all__ = ["comparison_section", "result_section"]

# Short names of what a history and a report of layers hold.
OF_STEPS = {
    "mse": "MSE",
    "r2": "R2",
    "nrc1": "NRC1",
    "nrc2": "NRC2",
    "nrc3": "NRC3",
    "gamma": "gamma",
    "nrc3_quantile": "random heads below",
    "balance_distance": "balance, distance",
    "balance_decay": "balance, lambda_W",
    "explained_variance": "explained variance",
    "nrc1_id25": "NRC1, id25",
    "nrc1_variance": "NRC1, variance",
    "nrc2_id25": "NRC2, id25",
    "nrc2_variance": "NRC2, variance",
}
OF_LAYERS = {
    "noise_fraction": "noise fraction",
    "signal_alignment": "signal alignment",
    "weight_alignment": "weight alignment",
    "linear_mse": "readout MSE",
    "feature_stable_rank": "rank of features",
    "weight_stable_rank": "rank of weights",
    "balance": "balance",
}


def result_section(name: str, part: Compared, gamma: GammaChoice, *, has_charts: bool) -> Markup:
    """What is known of one result; its charts only where no figure of several shows them."""
    if isinstance(part, Report):
        return _report_section(part)
    if isinstance(part, ClassReport):
        return _classes_section(part)
    if isinstance(part, History):
        return _history_section(name, part, gamma, has_charts=has_charts)
    return _layers_section(name, part, has_charts=has_charts)


def comparison_section(comparison: Comparison) -> Markup:
    """Several runs: one table, and one figure in which a run can be brought forward or taken out."""
    columns = comparison.columns
    rows = [(row.name, *(_known(shown_value(row, name)) for name in columns)) for row in comparison.rows]
    common = [name for name in ("n", "convention") if len({row.values.get(name, "") for row in comparison.rows}) == 1]
    same = "".join(f"; {columns[name]} {shown_value(comparison.rows[0], name)}" for name in common if name in columns)
    header = ["run", *columns.values()]
    hidden = [columns[name] for name in common if name in columns]
    shown = [k for k, label in enumerate(header) if k == 0 or (label not in hidden and any(row[k] for row in rows))]
    caption = f"{len(comparison)} runs side by side{same}"
    found = table(caption, [header[k] for k in shown], [[row[k] for k in shown] for row in rows])
    charts = (*comparison.charts(), *charts_of_trainings(comparison.runs))
    return joined(_figure(charts), found, *_notes(comparison.notes))


def _known(text: str) -> str:
    return "" if text == "-" else text


def _figure(charts: Sequence[Chart]) -> Markup:
    """Charts of several runs with a key: without scripts, the boxes of the key show and hide the runs."""
    key = [
        element("li", element("label", *_toggle(name, k), line, element("span", name)), class_=f"key-{k}")
        for name, k, line in key_of(charts)
    ]
    words = element("p", "Point at a line or a name; the boxes take runs out.", class_="soft")
    return element(
        "div",
        words,
        element("ul", *key, class_="key"),
        _charts(charts),
        class_="runs",
    )


def _toggle(name: str, k: int) -> list[Markup]:
    if k >= MOST_TOGGLES:
        return []
    return [element("input", type="checkbox", checked="", class_=f"toggle-{k}", aria_label=f"show {name}")]


def _charts(charts: Sequence[Chart]) -> Markup:
    return element("div", *svg_charts(charts), class_="charts")


def _notes(texts: Sequence[str]) -> list[Markup]:
    return [element("p", text, class_="note") for text in texts]


def _report_section(report: Report) -> Markup:
    size = f"{report.samples:,} samples, d = {report.d}, n = {report.n}, {report.dtype}; convention {report.convention}"
    return joined(
        element("p", f"{size}; computed by {report.backend}", class_="soft"),
        grouped_table("What was measured, with bounds of the error", ("metric", "value"), grouped_rows(report)),
        *_notes(notes_beside(report.verdict, report.notes)),
        _charts(charts_of_report(report)),
    )


def _history_section(name: str, history: History, gamma: GammaChoice, *, has_charts: bool) -> Markup:
    records = history.records(gamma)
    known = known_columns(OF_STEPS, records, history.n)
    rows = [(str(record.step), *(_of_record(record, field) for field in known)) for record in records]
    chosen = {"last": "that of the gamma of the last step", "each": "that of the best gamma of each step"}
    intro = (
        f"{len(records):,} evaluations, n = {history.n}, convention {history.convention}; NRC3 is "
        f"{chosen.get(str(gamma), f'for gamma = {gamma}')}."
    )
    runs = {name: history}
    figure = [_charts((*charts_of_runs(runs, gamma), *charts_of_trainings(runs)))] if has_charts else []
    return joined(
        element("p", intro, class_="soft"),
        *([] if history.clock is None else [_clock_line(history.clock)]),
        *figure,
        table("Every evaluation", ("step", *(OF_STEPS[field] for field in known)), rows),
    )


def _clock_line(clock: Clock) -> Markup:
    slopes = (format_digits(getattr(clock, name), clock.bounds.get(name), 4) for name in ("measured", "predicted"))
    return element(
        "p",
        "Steps {:,} to {:,}: log NRC1 (variance) changes by {} a step, and by {} under weight decay alone.".format(
            clock.first_step, clock.last_step, *slopes
        ),
    )


def _of_record(record: Record, name: str) -> str:
    """A number with as many digits as its bound supports."""
    value = getattr(record, name)
    return "" if math.isnan(value) else format_digits(value, shown_bound(record, name), 4)


def _layers_section(name: str, report: DeepReport, *, has_charts: bool) -> Markup:
    found = report.first_collapsed
    first = f"The first collapsed layer is {found}" if found else "No layer is collapsed"
    intro = (
        f"Deep NRC of what the layers are given: {report.samples:,} samples, n = {report.n}. MSE of the network "
        f"{report.mse:.4g}; variance of the targets {report.target_variance:.4g}, their stable rank "
        f"{report.target_stable_rank:.3g}. {first} (noise fraction below {report.threshold:g} here and in all later "
        "layers)."
    )
    known = [field for field in OF_LAYERS if not all(math.isnan(getattr(layer, field)) for layer in report.layers)]
    rows = [(layer.name, str(layer.d), *(_of_layer(layer, field) for field in known)) for layer in report.layers]
    figure = [_charts(charts_of_layers({name: report}))] if has_charts else []
    found_table = table(
        "Layers, in the order of the data", ("layer", "d", *(OF_LAYERS[field] for field in known)), rows
    )
    return joined(element("p", intro), found_table, *_notes(report.notes), *figure)


def _of_layer(layer: LayerCollapse, name: str) -> str:
    value = getattr(layer, name)
    return "" if math.isnan(value) else format_digits(value, layer.bounds.get(name), 4)


def _classes_section(report: ClassReport) -> Markup:
    rows = [
        (name, format_value(getattr(report, name), report.bounds.get(name)), about)
        for name, about in VARIANTS.items()
        if not math.isnan(getattr(report, name))
    ]
    intro = f"Neural collapse of {report.samples:,} samples of {report.n_classes} classes, d = {report.d}."
    found = table(
        "NC1 to NC4, each published variant under its name", ("variant", "value", "what it is"), rows, words=1
    )
    return joined(element("p", intro, class_="soft"), found, *_notes(report.notes))
