"""What follows a training measures each step once, whoever counts and however often the training goes back."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from nrc_fast.reports.history import History
from nrc_fast.reports.steps import Record
from nrc_fast.training.recorder import Recorder
from nrc_fast.training.schedule import Every


class Counting(Recorder):
    """Records weights whose NRC3 says which evaluation it was."""

    def __init__(self, every: Every, loggers: Any = ()) -> None:
        super().__init__(every, History(), loggers, None)
        self.evaluations = 0

    def evaluate(self, step: int | None = None) -> Record:
        number = self._next_step if step is None else step
        self.evaluations += 1
        self._forget(number, number)
        record = self.history.add_weights(number, np.diag([1.0, 1.0 + self.evaluations]), np.eye(2))
        self._send(record)
        return record

    @property
    def steps(self) -> list[int]:
        return [record.step for record in self.history.records("each")]


def told(recorder: Counting, steps: Sequence[int]) -> list[int]:
    for step in steps:
        record = recorder.step(step)
        assert record is None or record.step == step
    return recorder.steps


def test_steps_are_counted_or_given() -> None:
    counted, given = Counting(10), Counting(10)
    for _ in range(25):
        counted.step()
    assert counted.steps == told(given, range(25)) == [0, 10, 20]
    assert [given.step(np.int64(30)).step, given.step(), given.steps[-1]] == [30, None, 30]  # type: ignore[union-attr]
    with pytest.raises(TypeError, match=r"step is 0\.5; a whole number is expected"):
        given.step(0.5)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="step is -1; the number of steps that a training has made is expected"):
        given.step(-1)


def test_steps_that_leap_are_measured_where_a_multiple_was_reached() -> None:
    assert told(Counting(10), [0, 4, 8, 12, 16, 20, 24, 28, 32]) == [0, 12, 20, 32]
    assert told(Counting(10), [3, 6, 9, 12]) == [3, 12]  # the first that is told, whatever it is
    assert told(Counting("log"), range(0, 60, 5)) == [0, 5, 10, 15, 20, 25, 30, 35, 40, 50]
    assert told(Counting(10), [0, 1, 100, 101]) == [0, 100]


def test_a_step_is_measured_once() -> None:
    recorder = Counting(10)
    assert told(recorder, [0, 0, 10, 10, 11, 11]) == [0, 10]
    assert recorder.evaluations == 2
    recorder.evaluate(20)
    assert told(recorder, [12, 20, 21]) == [0, 10, 20]
    assert recorder.evaluations == 3
    first = recorder.history.records("each")[-1]
    assert recorder.evaluate(20) != first  # in place of the other
    assert recorder.steps == [0, 10, 20]


def test_a_training_that_goes_back_replaces_its_records() -> None:
    recorder = Counting(10)
    told(recorder, range(36))
    kept = recorder.history.records("each")[:2]
    assert told(recorder, range(20, 31)) == [0, 10, 20, 30]
    assert recorder.history.records("each")[:2] == kept
    assert recorder.evaluations == 6
    assert told(recorder, [17, 18, 19]) == [0, 10]
    assert told(recorder, [20]) == [0, 10, 20]
    assert told(recorder, [0, 1]) == [0]


def test_epochs_and_evaluations() -> None:
    epochs, evaluations = Counting("2 epochs"), Counting("2 evaluations")
    for recorder in (epochs, evaluations):
        for _ in range(4):
            for _ in range(3):
                recorder.step()
            recorder.end_evaluation()
            recorder.end_epoch()
    assert epochs.steps == [0, 6, 12]
    assert evaluations.steps == [6, 12]  # whoever evaluates says when: not at the start either
    assert [epochs.end_epoch(epoch=7, step=40), epochs.end_epoch(step=41).step] == [None, 41]  # type: ignore[union-attr]
    steps = Counting(5)
    assert (steps.end_epoch(), steps.end_evaluation(), steps.steps) == (None, None, [])
    alone = Counting("epoch")  # whose steps are never told
    for _ in range(3):
        alone.end_epoch()
    assert alone.steps == [1, 2, 3]


def test_loggers_forget_what_the_history_does(tmp_path: Any) -> None:
    sent: list[int] = []
    paths = [tmp_path / "run.csv", tmp_path / "run.jsonl"]
    recorder = Counting(10, [*paths, lambda step, _: sent.append(step)])
    told(recorder, range(31))
    told(recorder, range(15, 26))
    assert sent == [0, 10, 20, 30, 20]
    lines = [path.read_text().splitlines() for path in paths]
    assert [line.split(",")[0] for line in lines[0]] == ["step", "0", "10", "20"]
    assert [line.split(",")[0] for line in lines[1]] == [f'{{"step": {step}' for step in (0, 10, 20)]
