"""Loggers get every number of every record."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.monitored import Run, network, samples

import nrc_fast as nrc
from nrc_fast.integrations import loggers
from nrc_fast.training.loggers import loggers_of


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
@pytest.mark.parametrize("given", ["writer", "folder"])
def test_tensorboard_holds_the_numbers(given: str, tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    from torch.utils.tensorboard import SummaryWriter

    logger: Any = SummaryWriter(str(tmp_path)) if given == "writer" else loggers.TensorBoard(tmp_path)
    run = Run(loggers=logger)
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
    run = Run(loggers=target, n=1)
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
    run = Run(loggers=[target])
    last = run.monitor.history.records("each")[-1]
    summary = dict(target.summary)
    target.finish()
    assert summary["nrc/step"] == 20
    for name in ("nrc1", "nrc2", "nrc3", "mse"):
        assert summary[f"nrc/{name}"] == getattr(last, name)


# ---- what is a logger ----


def test_paths_and_callables_are_loggers(tmp_path: Path) -> None:
    sent: dict[int, dict[str, float]] = {}
    run = Run(loggers=[str(tmp_path / "run.CSV"), tmp_path / "run.jsonl", sent.__setitem__])
    records = run.monitor.history.records("each")
    assert sent == {record.step: record.scalars() for record in records}
    with (tmp_path / "run.CSV").open() as file:
        rows = [{name: float(value) for name, value in row.items()} for row in csv.DictReader(file)]
    lines = [json.loads(line) for line in (tmp_path / "run.jsonl").read_text().splitlines()]
    assert rows == lines == [{"step": record.step} | record.scalars() for record in records]


@pytest.mark.parametrize("given", ["one", "several"])
def test_kinds_of_destinations(given: str, tmp_path: Path) -> None:
    class Writer:
        def add_scalar(self, name: str, value: float, step: int) -> None:
            raise NotImplementedError

    def logger(step: int, values: dict[str, float]) -> None:
        raise NotImplementedError

    kinds: list[tuple[Any, type]] = [
        (tmp_path / "a.csv", loggers.CsvFile),
        ("a.jsonl", loggers.JsonLines),
        (Writer(), loggers.TensorBoard),
        (WandbRun(), loggers.WeightsAndBiases),
    ]
    if given == "one":
        assert [type(*loggers_of(one)) for one, _ in kinds] == [kind for _, kind in kinds]
        assert loggers_of(logger) == (logger,)
    else:
        found = loggers_of([*[one for one, _ in kinds], logger])
        assert [type(one) for one in found[:-1]] == [kind for _, kind in kinds]
        assert found[-1] is logger
        assert loggers_of(()) == ()


@pytest.mark.parametrize(
    ("destination", "error", "words"),
    [
        ("runs", ValueError, r"the logger runs does not say what it is to hold; a path that ends in \.csv or \.jsonl"),
        (Path("run.json"), ValueError, r"the logger run\.json does not say"),
        (3, TypeError, r"a logger is a int; a callable logger\(step, values\), a path"),
        ([None], TypeError, "a logger is a NoneType"),
    ],
)
def test_what_is_no_logger_is_said(destination: Any, error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        nrc.Monitor(network(), [samples()], loggers=destination)


# ---- steps that are taken back ----


@pytest.mark.parametrize(
    ("first", "last", "kept"), [(20, None, [0, 10]), (0, None, []), (10, 10, [0, 20]), (21, None, [0, 10, 20])]
)
def test_lines_of_steps_are_taken_out_of_files(first: int, last: int | None, kept: list[int], tmp_path: Path) -> None:
    paths = [tmp_path / "run.csv", tmp_path / "run.jsonl"]
    for path in paths:
        (before,) = loggers_of(path)
        for step in (0, 10, 20):
            before(step, {"nrc1": step / 3, "nrc2": float("nan")})
        (after,) = loggers_of(path)  # as in a process that goes on
        after.forget(first, last)  # type: ignore[attr-defined]
        after(30, {"nrc1": 10.0, "nrc2": 0.5})
    rows = paths[0].read_text().splitlines()
    assert rows == ["step,nrc1,nrc2", *[f"{step},{step / 3},nan" for step in kept], "30,10.0,0.5"]
    lines = [json.loads(line) for line in paths[1].read_text().splitlines()]
    assert lines == [
        *[{"step": step, "nrc1": step / 3, "nrc2": None} for step in kept],
        {"step": 30, "nrc1": 10.0, "nrc2": 0.5},
    ]


def test_lines_that_were_cut_off_are_taken_out(tmp_path: Path) -> None:
    table, lines = tmp_path / "run.csv", tmp_path / "run.jsonl"
    table.write_text("step,nrc1\n10,0.5\n2,0.")
    lines.write_text('{"step": 10, "nrc1": 0.5}\n{"step": 2')
    for path in (table, lines):
        (logger,) = loggers_of(path)
        logger.forget(15)  # type: ignore[attr-defined]
        logger(20, {"nrc1": 0.25})
    assert table.read_text() == "step,nrc1\n10,0.5\n20,0.25\n"
    assert lines.read_text() == '{"step": 10, "nrc1": 0.5}\n{"step": 20, "nrc1": 0.25}\n'


def test_lines_of_others_stay_in_files(tmp_path: Path) -> None:
    table, lines = tmp_path / "run.csv", tmp_path / "run.jsonl"
    for path in (table, lines):
        loggers_of(path)[0].forget(0)  # type: ignore[attr-defined]
        assert not path.exists()
    table.write_text("epoch,loss\n1,2\n")
    lines.write_text('{"epoch": 1}\nstarted\n[20]\n{"step": 20}\n')
    for path in (table, lines):
        loggers_of(path)[0].forget(0)  # type: ignore[attr-defined]
    assert table.read_text() == "epoch,loss\n1,2\n"
    assert lines.read_text() == '{"epoch": 1}\nstarted\n[20]\n'
