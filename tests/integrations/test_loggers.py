"""Loggers get every number of every record."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from support.monitored import Run

from nrc_fast.integrations import loggers


def test_loggers_get_every_record(tmp_path: Path) -> None:
    sent = [loggers.CsvFile(tmp_path / "run.csv"), loggers.JsonLines(tmp_path / "run.jsonl")]
    run = Run(loggers=sent, n=1)
    expected = run.monitor.history.records("each")
    with (tmp_path / "run.csv").open() as file:
        rows = list(csv.DictReader(file))
    lines = [json.loads(line) for line in (tmp_path / "run.jsonl").read_text().splitlines()]
    assert [int(row["step"]) for row in rows] == [line["step"] for line in lines] == [0, 10, 20]
    for record, row, line in zip(expected, rows, lines, strict=True):
        for name, value in record.scalars().items():
            np.testing.assert_equal(float(row[name]), value)
            assert line[name] == (None if np.isnan(value) else value)
    with pytest.raises(ValueError, match="step 30 has values other"):
        sent[0](30, {"other": 1.0})


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # protobuf and numpy, inside tensorboard
def test_tensorboard_holds_the_numbers(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    logger = loggers.TensorBoard(tmp_path)
    run = Run(loggers=[logger])
    logger.close()
    events = EventAccumulator(str(tmp_path))
    events.Reload()
    for name in ("nrc1", "nrc2", "nrc3", "mse"):
        stored = events.Scalars(f"nrc/{name}")
        assert [event.step for event in stored] == [0, 10, 20]
        values = [getattr(record, name) for record in run.monitor.history.records("each")]
        assert [event.value for event in stored] == pytest.approx(values, rel=1e-6)


class WandbRun:
    """Records what the adaptor calls, with the signatures of wandb.Run."""

    def __init__(self) -> None:
        self.logged: list[dict[str, float]] = []
        self.metrics: list[tuple[str, str | None]] = []

    def define_metric(self, name: str, step_metric: str | None = None) -> None:
        self.metrics.append((name, step_metric))

    def log(self, data: dict[str, float]) -> None:
        self.logged.append(data)


def test_wandb_gets_the_numbers() -> None:
    target = WandbRun()
    run = Run(loggers=[loggers.WeightsAndBiases(target)], n=1)
    assert target.metrics == [("nrc/step", None), ("nrc/*", "nrc/step")]
    assert [values["nrc/step"] for values in target.logged] == [0, 10, 20]
    for record, values in zip(run.monitor.history.records("each"), target.logged, strict=True):
        assert values["nrc/nrc1"] == record.nrc1
        assert "nrc/nrc3" not in values


@pytest.mark.filterwarnings("ignore")  # wandb's own, of several kinds
def test_wandb_itself_takes_the_numbers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wandb = pytest.importorskip("wandb")
    monkeypatch.setenv("WANDB_SILENT", "true")
    target = wandb.init(project="nrc", dir=tmp_path, mode="offline")
    run = Run(loggers=[loggers.WeightsAndBiases(target)])
    last = run.monitor.history.records("each")[-1]
    summary = dict(target.summary)
    target.finish()
    assert summary["nrc/step"] == 20
    for name in ("nrc1", "nrc2", "nrc3", "mse"):
        assert summary[f"nrc/{name}"] == getattr(last, name)
