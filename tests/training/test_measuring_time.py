"""What measuring costs is told once, where it is the larger part of a training's time."""

from __future__ import annotations

import itertools
import logging

import pytest

from nrc_fast.training import measuring_time
from nrc_fast.training.measuring_time import MeasuringTime


class Clock:
    """A time that passes as it is told."""

    def __init__(self) -> None:
        self.now = 50.0

    def perf_counter(self) -> float:
        return self.now


@pytest.mark.parametrize(
    ("each", "per_step", "words"),
    [
        (
            2.0,
            0.125,
            "measuring has taken 22 s of the 34 s of the last 100 steps: an evaluation takes as long as 16 steps",
        ),
        (2.0, 0.25, None),  # 202 s of 452 s: less than half
        (0.0625, 0.0001, None),  # 6 s
        (
            0.125,
            0.001,
            "measuring has taken 10 s of the 11 s of the last 790 steps: an evaluation takes as long as 125 s",
        ),
    ],
)
def test_the_larger_part_is_told_once(
    each: float, per_step: float, words: str | None, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock, spent = Clock(), MeasuringTime()
    monkeypatch.setattr(measuring_time, "time", clock)
    with caplog.at_level(logging.WARNING, logger="nrc_fast"):
        for step in itertools.takewhile(lambda step: step <= 1000, itertools.count(7)):
            clock.now += per_step if step > 7 else 0.0
            if step % 10 == 7:
                with spent.counted(step):
                    clock.now += each
    assert (spent.count, spent.seconds) == (100, pytest.approx(100 * each))
    assert len(caplog.messages) == (words is not None)
    if words is not None:
        assert caplog.messages[0].startswith(words)
        assert caplog.messages[0].endswith("(told once)")
