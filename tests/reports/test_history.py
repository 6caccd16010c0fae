"""Histories go to files and come back; nrc3 is replayed with the gamma that is asked for."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from support.monitored import Run

import nrc_fast as nrc
from nrc_fast.reports.history import History
from nrc_fast.reports.report_rows import BALANCE


@pytest.fixture(scope="module")
def run() -> Run:
    return Run()


def test_history_survives_its_file(run: Run, tmp_path: Path) -> None:
    history = run.monitor.history
    history.to_json(tmp_path / "history.json")
    loaded = History.load(tmp_path / "history.json")
    for gamma in ("last", "each", 0.01):
        assert loaded.records(gamma) == history.records(gamma)
    np.testing.assert_array_equal(loaded.nrc3_curve()[1], history.nrc3_curve()[1])
    stored = json.loads((tmp_path / "history.json").read_text())
    assert stored["replayed_nrc3"] == [record.nrc3 for record in history.records("last")]
    history.to_csv(tmp_path / "history.csv")
    with (tmp_path / "history.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [float(row["nrc3"]) for row in rows] == [record.nrc3 for record in history.records("last")]
    assert [int(row["step"]) for row in rows] == [0, 10, 20]
    for name in BALANCE:
        assert [float(row[name]) for row in rows] == [getattr(record, name) for record in history.records()]


def test_a_monitor_is_told_as_its_history_is(run: Run) -> None:
    monitor = run.monitor
    assert monitor.verdict == monitor.history.verdict
    assert str(monitor) == str(monitor.history)
    assert monitor.verdict[0].startswith("At step 20: ")
    last = monitor.records()[-1]
    assert (last.notes, last.bounds["nrc1"]) == (monitor.report.notes, monitor.report.bounds["nrc1"])
    assert last.nrc2_id25 == monitor.report.alternatives["id25"]["nrc2"]
    assert (last.samples, last.d) == (96, 9)
    for name in BALANCE:
        assert getattr(last, name) == getattr(monitor.report, name)
        assert last.bounds[name] == monitor.report.bounds[name]


def test_other_files_are_no_history(tmp_path: Path) -> None:
    (tmp_path / "other.json").write_text("[1]")
    with pytest.raises(ValueError, match="holds no history"):
        History.load(tmp_path / "other.json")
    (tmp_path / "other.json").write_text("{")
    with pytest.raises(ValueError, match="no JSON"):
        History.load(tmp_path / "other.json")


def test_parts_that_do_not_fit_are_refused(run: Run) -> None:
    values = json.loads(run.monitor.history.to_json())
    record = values["records"][0]
    one = {"records": values["records"][:1]}
    sizes = {"n": values["n"] + 1}
    gram = {"head_grams": [[[1.0]], *values["head_grams"][1:]]}
    order = {"records": values["records"][::-1]}
    hostile = {"records": [record | {"step": "<script>"}, *values["records"][1:]]}
    for changed, words in ((one, "records"), (sizes, "n is"), (gram, "n is"), (order, "order"), (hostile, "step is")):
        with pytest.raises(ValueError, match=f"holds no history: .*{words}"):
            History.from_dict(values | changed)


def test_a_history_without_records_is_as_a_new_one() -> None:
    history = History()
    history.add_weights(3, np.eye(2), np.diag([2.0, 1.0]))
    history.forget(0)
    assert (len(history), history.n, history.target_covariance.shape) == (0, 0, (0, 0))
    assert history.to_dict() == History().to_dict()
    assert history.add_weights(5, np.eye(3), np.eye(3)).step == 5
    assert history.n == 3


def test_replayed_records_follow_the_history() -> None:
    """They are kept until a record comes, and for one gamma at a time."""
    history = History()
    heads = [np.diag([2.0, 1.0]), np.array([[2.0, 0.5], [0.5, 1.0]])]
    for step, head in enumerate(heads):
        history.add_weights(step, head, np.diag([4.0, 1.0]))
        assert history.records() is history.records()
        for gamma in (0.0, 0.5, "last", 0.0):
            shift = history.records("each")[-1].gamma if gamma == "last" else gamma
            expected = [nrc.nrc3(W, gamma=float(shift), covariance=np.diag([4.0, 1.0])) for W in heads[: step + 1]]
            assert [record.nrc3 for record in history.records(gamma)] == pytest.approx(expected, rel=1e-12, abs=1e-15)
