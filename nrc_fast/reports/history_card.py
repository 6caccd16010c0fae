"""What a notebook shows of a training: its verdict, the last record, and how each number came there."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from nrc_fast.base.cards import card, chart_grid
from nrc_fast.base.svg import sparkline
from nrc_fast.metrics.alignment import GammaChoice
from nrc_fast.reports.charts import charts_of_runs
from nrc_fast.reports.clocks import Clock
from nrc_fast.reports.plots.drawn import DrawnHistory
from nrc_fast.reports.records import format_digits
from nrc_fast.reports.steps import known_columns, shown_bound
from nrc_fast.reports.svg_charts import svg_charts
from nrc_fast.reports.verdicts.notes import notes_beside

__all__ = ["history_card"]

# Points of a chart that can be pointed at: a live figure sends them all to the notebook again and again.
DOTS = 40

# What is shown, and whether its curve is logarithmic.
SHOWN = {
    "nrc1": ("NRC1", True),
    "nrc1_id25": ("NRC1, id25", True),
    "nrc2": ("NRC2", True),
    "nrc3": ("NRC3", True),
    "gamma": ("gamma", False),
    "balance_distance": ("distance from the balance of the head", True),
    "balance_decay": ("lambda_W that the balance implies", False),
    "mse": ("MSE, summed over outputs", True),
    "r2": ("R2", False),
    "explained_variance": ("variance in the first n components", False),
}


class ToldHistory(DrawnHistory, Protocol):
    """A `nrc_fast.reports.History`, which says what it holds."""

    @property
    def verdict(self) -> Sequence[str]:
        """In sentences."""

    @property
    def clock(self) -> Clock | None:
        """How fast NRC1 falls, beside what weight decay predicts."""


def history_card(history: ToldHistory, gamma: GammaChoice, about: str, *, with_charts: bool = False) -> str:
    """HTML for a cell of a notebook.

    Parameters
    ----------
    history : History
    gamma : {"last", "each"} or float
        For which gamma NRC3 is shown.
    about : str
        What the history is of.
    with_charts : bool
        Whether six charts with axes stand below.
    """
    records = history.records(gamma)
    if not records:
        return card(f"{about}; nothing was measured yet")
    steps = f"{len(records):,} records, steps {records[0].step:,} to {records[-1].step:,}"
    if len(records) == 1:
        steps = f"1 record, step {records[0].step:,}"
    rows: list[tuple[object, ...]] = []
    for field in known_columns(SHOWN, records[-1:], history.n):
        label, is_log = SHOWN[field]
        values = [getattr(record, field) for record in records]
        line = sparkline(values, f"{label} from {values[0]:.3g} to {values[-1]:.3g}", is_log=is_log)
        rows.append((label, format_digits(values[-1], shown_bound(records[-1], field), 4), line))
    clock = history.clock
    if clock is not None:
        line = sparkline([record.nrc1_variance for record in records], "NRC1, variance", is_log=True)
        rows.append(("slope of log NRC1 (variance) a step", f"{clock.measured:.3g}", line))
        rows.append(("the same by weight decay alone", f"{clock.predicted:.3g}", ""))
    title = f"{about}; {steps}, n = {history.n}, convention {history.convention}"
    below = (
        [chart_grid(svg_charts(charts_of_runs({history.name or "run": history}, gamma), DOTS))] if with_charts else []
    )
    verdict = history.verdict
    notes = notes_beside(verdict, records[-1].notes)
    return card(title, verdict, rows, header=("", "last", "all steps"), below=below, notes=notes)
