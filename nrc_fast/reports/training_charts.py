"""Charts of trainings that pages have beside the six of `charts_of_runs`: the clock, and the balance of the head."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from nrc_fast.reports.charts import Chart, Curve, curve_of_training
from nrc_fast.reports.clocks import clock_of, decay_line
from nrc_fast.reports.history import History
from nrc_fast.reports.steps import Record, known_columns

__all__ = ["charts_of_trainings"]

OF_BALANCE = {
    "balance_distance": "distance from the balance of the head",
    "balance_decay": "lambda_W that the balance implies",
}


def charts_of_trainings(runs: Mapping[str, object]) -> tuple[Chart, ...]:
    """NRC1 under variance with what weight decay alone makes of it, the distance from balance, and the implied decay.

    Each is there where it is known of one of the runs at least. A negative decay lies on the lower edge.

    Parameters
    ----------
    runs : mapping of str to History or Report
        Reports have no curves and are left out.
    """
    trainings = {name: run for name, run in runs.items() if isinstance(run, History)}
    records = {name: run.records() for name, run in trainings.items()}
    outputs = {name: run.n for name, run in trainings.items()}
    charts = []
    predicted = tuple(line for name, part in records.items() for line in _predicted(name, part))
    if predicted:
        charts.append(
            Chart(
                "NRC1, convention variance",
                "step",
                tuple(curve_of_training(name, part, "nrc1_variance") for name, part in records.items()),
                is_log=True,
                dashed=predicted,
                words="dashed: by weight decay alone",
            )
        )
    for field, title in OF_BALANCE.items():
        known = {name: records[name] for name, n in outputs.items() if known_columns([field], records[name], n)}
        if known:
            curves = tuple(curve_of_training(name, part, field) for name, part in known.items())
            charts.append(Chart(title, "step", curves, is_log=True))
    return tuple(charts)


def _predicted(name: str, records: Sequence[Record]) -> list[Curve]:
    """What decay alone predicts, through the last record of the part that the clock is of; nothing without a clock."""
    clock = clock_of(records)
    if clock is None:
        return []
    steps, values = decay_line(records, clock.first_step, clock.last_step)
    return [Curve(name, tuple(steps), tuple(values.tolist()), name=f"{name}, by weight decay alone")]
