"""`compare`: several runs side by side, as one table, one figure and one frame."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Protocol, overload

from nrc_fast.base.cards import card, chart_grid
from nrc_fast.base.frames import FrameLibrary, make_frame
from nrc_fast.base.json_values import JSONValue
from nrc_fast.base.kept_values import cached_property
from nrc_fast.base.markup import element
from nrc_fast.base.printable import printable
from nrc_fast.metrics.alignment import GammaChoice
from nrc_fast.reports.charts import Chart, charts_of_classes, charts_of_layers, charts_of_runs
from nrc_fast.reports.classes import ClassReport
from nrc_fast.reports.compared import SPARED, Compared, Row, columns_of, in_words, main_columns_of, notes_on, row_of
from nrc_fast.reports.features import Report
from nrc_fast.reports.history import History
from nrc_fast.reports.layers import DeepReport
from nrc_fast.reports.plots.comparisons import plot_charts
from nrc_fast.reports.plots.panels import GivenAxes, GivenPath, finished
from nrc_fast.reports.records import format_digits, plain_value
from nrc_fast.reports.svg_charts import key_of, svg_charts

if TYPE_CHECKING:
    import pandas
    import polars
    from matplotlib.figure import Figure

__all__ = ["Comparison", "compare", "shown_value"]

# What stands in a table where a number is not known.
UNKNOWN = "-"
# Of a name that the table of a terminal shows, and of a line of it.
MOST_LETTERS, WIDTH = 24, 100


class Recorded(Protocol):
    """What has a history, such as `nrc_fast.Monitor`."""

    @property
    def history(self) -> History:
        """What was measured so far."""


@dataclass(frozen=True, eq=False)
class Comparison:
    """Runs side by side; made by `compare`.

    As text it is one table with a line for each run, in a notebook the same table with all columns and the charts.

    Attributes
    ----------
    runs : mapping of str to History, Report, ClassReport or DeepReport
    gamma : {"last", "each"} or float
        For which gamma NRC3 of histories is shown.
    """

    __module__ = "nrc_fast"

    runs: Mapping[str, Compared]
    gamma: GammaChoice = "last"

    def __len__(self) -> int:
        return len(self.runs)

    def __repr__(self) -> str:
        return f"<Comparison of {len(self)} runs: {', '.join(map(printable, self.runs))}>"

    @cached_property
    def rows(self) -> tuple[Row, ...]:
        """What is known of each run, of histories the last record."""
        return tuple(row_of(name, run, self.gamma) for name, run in self.runs.items())

    @property
    def columns(self) -> dict[str, str]:
        """The columns of `rows` and `to_dataframe`, and what people read of each."""
        return columns_of(self.runs)

    @property
    def notes(self) -> tuple[str, ...]:
        """What the reader should know before comparing the numbers."""
        return notes_on(self.runs, self.gamma)

    def __str__(self) -> str:
        columns = {name: label for name, label in main_columns_of(self.runs).items() if _is_known(self.rows, name)}
        table = _table(self.rows, columns)
        for spared in SPARED:
            if len(table[0]) > WIDTH:
                columns.pop(spared, None)
                table = _table(self.rows, columns)
        notes = (*in_words(columns.values()), *self.notes)
        return "\n".join([*table, *(f"note: {printable(note)}" for note in notes)])

    def _repr_html_(self) -> str:
        known = {name: label for name, label in self.columns.items() if _is_known(self.rows, name)}
        charts = self.charts()
        key = [element("span", line, f" {name}", style="margin-right: 1em;") for name, _, line in key_of(charts)]
        return card(
            f"{len(self)} runs side by side",
            rows=[(row.name, *(shown_value(row, name) for name in known)) for row in self.rows],
            header=("run", *known.values()),
            below=[element("div", *key), chart_grid(svg_charts(charts))],
            notes=self.notes,
        )

    def to_dict(self) -> dict[str, JSONValue]:
        """The values of all runs by name, as plain numbers and strings, and the notes."""
        names = list(self.columns)
        found = {row.name: {name: plain_value(row.values.get(name)) for name in names} for row in self.rows}
        return {"runs": found, "notes": list(self.notes)}

    @overload
    def to_dataframe(self, library: Literal["pandas"]) -> pandas.DataFrame: ...
    @overload
    def to_dataframe(self, library: Literal["polars"]) -> polars.DataFrame: ...
    @overload
    def to_dataframe(self, library: FrameLibrary | None = None) -> pandas.DataFrame | polars.DataFrame: ...
    def to_dataframe(self, library: FrameLibrary | None = None) -> pandas.DataFrame | polars.DataFrame:
        """A data frame with a row for each run: its name in the column ``run``, and all `columns`.

        Parameters
        ----------
        library : {"pandas", "polars"}, optional
            By default the one that is imported already, else the one that is installed; pandas where both are.

        Raises
        ------
        ImportError
            The library is not installed.
        ValueError
            It is another one.
        """
        columns = {name: [row.values.get(name) for row in self.rows] for name in self.columns}
        return make_frame({"run": [row.name for row in self.rows]} | columns, library)

    def charts(self, predicted: Mapping[str, float] | None = None) -> tuple[Chart, ...]:
        """What `plot` and pages draw, as data."""
        first = next(iter(self.runs.values()))
        if isinstance(first, ClassReport):
            return charts_of_classes(self.runs)  # type: ignore[arg-type] # all are of one kind
        if isinstance(first, DeepReport):
            return charts_of_layers(self.runs)  # type: ignore[arg-type]
        return charts_of_runs(self.runs, self.gamma, predicted)  # type: ignore[arg-type]

    def plot(
        self,
        *,
        predicted: Mapping[str, float] | None = None,
        path: GivenPath | None = None,
        ax: GivenAxes | None = None,
    ) -> Figure:
        """Draw the runs together, six metrics in a panel each; returns the figure of matplotlib.

        Trainings are curves over their steps, beside which reports are levels; reports alone stand side by side, layers
        follow one another.

        Parameters
        ----------
        predicted : mapping of str to float, optional
            The MSE that the UFM predicts for trainings whose penalties are known, dotted in their colours.
        path : path, optional
            A file to write the figure to as well, in the format that its name ends with.
        ax : six matplotlib axes, optional
            Where to draw; a new figure if not given.

        Raises
        ------
        ImportError
            matplotlib is not installed.
        OSError
            The file cannot be written.
        ValueError
            `ax` holds another number of axes, or the name of the file ends with no format that matplotlib knows.
        """
        return finished(plot_charts(self.charts(predicted), ax), path)


def compare(runs: Mapping[str, Compared | Recorded], gamma: GammaChoice = "last") -> Comparison:
    """Put runs side by side: the trainings of a sweep, reports of several networks, or a report beside a training.

    Parameters
    ----------
    runs : mapping of str to History, Monitor or Report; or to ClassReport; or to DeepReport
        The runs by their names. Of a history the last record stands in the table, and all of it in the figure.
    gamma : {"last", "each"} or float
        For which gamma NRC3 of histories is shown, see `nrc_fast.History.records`; a report has its own.

    Returns
    -------
    Comparison
        A table as text, ``plot()``, ``to_dataframe()``, and all of that in a notebook.

    Raises
    ------
    TypeError
        Something else than a mapping was given, or results that have no number in common.
    ValueError
        There is no run, or gamma is another text or a negative number.

    Examples
    --------
    >>> import numpy as np, nrc_fast as nrc
    >>> rng = np.random.default_rng(0)
    >>> Y, W = rng.standard_normal((300, 2)), rng.standard_normal((2, 8))
    >>> noise = rng.standard_normal((300, 8))
    >>> runs = {f"noise {size:g}": nrc.measure(Y @ W + size * noise, Y, W) for size in (0.1, 0.5)}
    >>> print(nrc.compare(runs))
    run         NRC1   NRC2    NRC3  gamma  heads
    noise 0.1  0.016  0.016  0.0569   0.94  0.355
    noise 0.5  0.198  0.199  0.0569   0.94  0.355
    note: heads: share of random heads with a smaller NRC3
    """
    given: object = runs
    if not isinstance(given, Mapping):
        msg = f"runs is a {type(given).__name__}; a mapping is expected, of names to histories or reports"
        raise TypeError(msg)
    if not runs:
        msg = "runs is empty; at least one history or report is expected"
        raise ValueError(msg)
    found = {str(name): _result(str(name), run) for name, run in runs.items()}
    kinds = {name: _kind(run) for name, run in found.items()}
    if len(set(kinds.values())) > 1:
        listed = ", ".join(f"{name} is a {type(run).__name__}" for name, run in found.items())
        msg = f"{listed}; what is compared has to have numbers in common"
        raise TypeError(msg)
    comparison = Comparison(found, gamma)
    _ = comparison.rows  # what is wrong with gamma is told here
    return comparison


def _result(name: str, run: object) -> Compared:
    known = run if isinstance(run, (Report, History, ClassReport, DeepReport)) else getattr(run, "history", None)
    if not isinstance(known, (Report, History, ClassReport, DeepReport)):
        msg = f"run {name} is a {type(run).__name__}; a History, Monitor, Report, ClassReport or DeepReport is expected"
        raise TypeError(msg)
    return known


def _kind(run: Compared) -> type[Any]:
    return History if isinstance(run, Report) else type(run)


def _table(rows: Sequence[Row], columns: Mapping[str, str]) -> list[str]:
    """The lines of a text, the head first, all of one width."""
    lines = [["run", *columns.values()]]
    lines += [[_short(row.name), *(shown_value(row, name) for name in columns)] for row in rows]
    widths = [max(len(line[k]) for line in lines) for k in range(len(lines[0]))]
    return [
        "  ".join(cell.ljust(width) if k == 0 else cell.rjust(width) for k, (cell, width) in enumerate(pairs))
        for pairs in (list(zip(line, widths, strict=True)) for line in lines)
    ]


def _is_known(rows: Iterable[Row], column: str) -> bool:
    return any(shown_value(row, column) != UNKNOWN for row in rows)


def _short(name: str) -> str:
    shown = printable(name)
    return shown if len(shown) <= MOST_LETTERS else f"{shown[: MOST_LETTERS - 3]}..."


def shown_value(row: Row, column: str) -> str:
    """A value of a row as text, of at most three digits, as its bound allows; a dash where it is not known."""
    value = row.values.get(column)
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return UNKNOWN
    if not isinstance(value, float):
        return printable(value)
    return format_digits(value, row.bounds.get(column), 3)
