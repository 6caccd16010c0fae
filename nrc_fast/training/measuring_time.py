"""How long it takes to measure a training, told once where that is the larger part of its time."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["MeasuringTime"]

# Not by a warning, which may be made an error: that a machine is slow ends no training.
LOGGER = logging.getLogger("nrc_fast")
# What is shorter is waited for without a word, and the first steps may all be measured.
LEAST_SECONDS, LEAST_STEPS = 10.0, 100


class MeasuringTime:
    """Adds up what evaluations take beside the steps between them.

    Attributes
    ----------
    seconds : float
        What all evaluations have taken.
    count : int
        How many there were.
    """

    def __init__(self) -> None:
        self.seconds, self.count = 0.0, 0
        self._first: tuple[float, int] | None = None  # when the first one began, and at which step
        self._is_told = False

    @contextmanager
    def counted(self, step: int) -> Iterator[None]:
        """Count what is done inside as the evaluation of a step."""
        start = time.perf_counter()
        if self._first is None:
            self._first = start, step
        yield
        end = time.perf_counter()
        self.seconds += end - start
        self.count += 1
        self._tell(end - self._first[0], step - self._first[1])

    def _tell(self, passed: float, steps: int) -> None:
        if self._is_told or self.seconds < LEAST_SECONDS or steps < LEAST_STEPS or 2.0 * self.seconds <= passed:
            return
        self._is_told = True
        per_step = max(passed - self.seconds, 1e-9) / steps
        LOGGER.warning(
            "measuring has taken %.0f s of the %.0f s of the last %d steps: an evaluation takes as long as %.0f steps "
            "of the training. A larger every= costs less, and so does a loader= with fewer rows (told once)",
            self.seconds,
            passed,
            steps,
            self.seconds / self.count / per_step,
        )
