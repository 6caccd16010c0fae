"""When a training is measured: one vocabulary, and log-spaced steps that are few."""

from __future__ import annotations

import math

import numpy as np
import pytest

from nrc_fast.training.schedule import Schedule, schedule_of


@pytest.mark.parametrize(
    ("every", "expected"),
    [
        (100, Schedule("step", 100)),
        (np.int64(7), Schedule("step", 7)),
        ("step", Schedule("step", 1)),
        ("100 steps", Schedule("step", 100)),
        ("epoch", Schedule("epoch", 1)),
        ("2 epochs", Schedule("epoch", 2)),
        ("1 epoch", Schedule("epoch", 1)),
        ("evaluation", Schedule("evaluation", 1)),
        ("3 evaluations", Schedule("evaluation", 3)),
        ("log", Schedule("step", None)),
    ],
)
def test_texts_and_numbers_of_every(every: int | str, expected: Schedule) -> None:
    assert schedule_of(every) == expected


@pytest.mark.parametrize(
    ("every", "error", "words"),
    [
        (0, ValueError, "every is 0; a number of steps from 1 on"),
        (-3, ValueError, "every is -3"),
        ("0 epochs", ValueError, "every is '0 epochs'; a number of epochs from 1 on"),
        ("epochs 2", ValueError, "every is 'epochs 2'; a number of steps, 'log', 'epoch'"),
        ("2epochs", ValueError, "every is '2epochs'"),
        ("", ValueError, "every is ''"),
        (2.5, TypeError, "every is 2.5; a whole number of steps"),
        (True, TypeError, "every is True"),
        (None, TypeError, "every is None"),
    ],
)
def test_what_is_no_schedule_is_said(every: object, error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        schedule_of(every)  # type: ignore[arg-type]


def test_log_spaced_steps_are_four_in_every_doubling() -> None:
    log = schedule_of("log")
    due = [number for number in range(100_001) if log.is_due(number)]
    assert due[:9] == list(range(9))
    for power in range(3, 16):
        inside = [number for number in due if 2**power <= number < 2 ** (power + 1)]
        assert inside == [2**power * part // 4 for part in (4, 5, 6, 7)]
    assert [sum(number <= last for number in due) for last in (1000, 100_000)] == [36, 63]
    assert all(sum(number <= last for number in due) <= 4 * math.log2(last) + 2 for last in due if last > 1)
    assert [log.last_due(number) for number in (9, 11, 999, 1023, 1024)] == [8, 10, 896, 896, 1024]
