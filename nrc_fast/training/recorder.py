"""What follows a training: it is told of steps and epochs, measures where it is due, and keeps every record once."""

from __future__ import annotations

from abc import ABC, abstractmethod
from bisect import bisect_left
from collections.abc import Sequence
from operator import attrgetter
from typing import TYPE_CHECKING

from nrc_fast.base.options import as_integer
from nrc_fast.base.processes import Team
from nrc_fast.reports.history import History
from nrc_fast.reports.steps import Record
from nrc_fast.training.loggers import Destination, loggers_of
from nrc_fast.training.measuring_time import MeasuringTime
from nrc_fast.training.schedule import Every, schedule_of

if TYPE_CHECKING:
    from torch.distributed import ProcessGroup

__all__ = ["Recorder"]


class Recorder(ABC):
    """Counts a training's steps, epochs and evaluations, and knows which of them are measured.

    Parameters
    ----------
    every : int or str
        See `nrc_fast.Monitor`.
    history : History
    loggers : destination or sequence of them
    group : torch.distributed.ProcessGroup, optional
        Its first process alone has loggers.

    Attributes
    ----------
    history : History
    """

    def __init__(
        self,
        every: Every,
        history: History,
        loggers: Destination | Sequence[Destination],
        group: ProcessGroup | None,
    ) -> None:
        self.history = history
        self._schedule = schedule_of(every)
        self._loggers = loggers_of(loggers) if group is None or Team(group).rank == 0 else ()
        self._next_step, self._epochs, self._evaluations = 0, 0, 0
        self._spent = MeasuringTime()

    @abstractmethod
    def evaluate(self, step: int | None = None) -> Record:
        """Measure now, and add the record to the history."""

    def step(self, step: int | None = None) -> Record | None:
        """Tell of a training step that is about to be made, and evaluate where the model is to be measured.

        With ``every=100`` that is at the first step that is told and whenever a multiple of 100 has been reached since
        the last record, so that steps may go by more than one. A step that was told already is not measured again. One
        before it says that the training has gone back: records from there on are forgotten, and measured anew.

        Parameters
        ----------
        step : int, optional
            How many steps the training has made; by default one more than was told last, from 0 on.

        Returns
        -------
        Record or None
            None where nothing was evaluated.

        Raises
        ------
        TypeError, ValueError, RuntimeError
            The step is no whole number from 0 on, or the model or what the loader gives cannot be measured, see
            `evaluate`.
        """
        number = self._next_step if step is None else as_integer(step, "step")
        if number < 0:
            msg = f"step is {number}; the number of steps that a training has made is expected, from 0 on"
            raise ValueError(msg)
        if number == self._next_step - 1:
            return None
        if number < self._next_step:
            self._forget(number)
        self._next_step = number + 1
        return self._evaluate_due(number) if self._is_step_due(number) else None

    def _is_step_due(self, number: int) -> bool:
        records = self.history.records("each")
        place = bisect_left(records, number, key=attrgetter("step"))
        if place < len(records) and records[place].step == number:
            return False
        if place == 0:
            return self._schedule.unit != "evaluation"
        return self._schedule.unit == "step" and self._schedule.last_due(number) > records[place - 1].step

    def end_epoch(self, epoch: int | None = None, step: int | None = None) -> Record | None:
        """Tell of the end of an epoch, and evaluate where `every` counts epochs and this one is to be measured.

        Parameters
        ----------
        epoch : int, optional
            How many epochs have ended; by default one more than before.
        step : int, optional
            How many steps the training has made, which is what the record is called; by default one more than `step`
            was told last, and the number of epochs where it was never called.

        Returns
        -------
        Record or None
            None where nothing was evaluated.

        Raises
        ------
        TypeError, ValueError, RuntimeError
            The model or what the loader gives cannot be measured, see `evaluate`.
        """
        self._epochs = self._epochs + 1 if epoch is None else as_integer(epoch, "epoch")
        return self._end("epoch", self._epochs, step)

    def end_evaluation(self, step: int | None = None) -> Record | None:
        """Tell of the end of an evaluation of your own, and evaluate where `every` counts them and this one is due.

        Parameters
        ----------
        step : int, optional
            How many steps the training has made, see `end_epoch`.

        Returns
        -------
        Record or None
            None where nothing was evaluated.

        Raises
        ------
        TypeError, ValueError, RuntimeError
            The model or what the loader gives cannot be measured, see `evaluate`.
        """
        self._evaluations += 1
        return self._end("evaluation", self._evaluations, step)

    def _end(self, unit: str, number: int, step: int | None) -> Record | None:
        if unit != self._schedule.unit or not self._schedule.is_due(number):
            return None
        return self._evaluate_due((self._next_step or number) if step is None else step)

    def _evaluate_due(self, step: int) -> Record:
        with self._spent.counted(step):
            return self.evaluate(step)

    def _send(self, record: Record) -> None:
        for logger in self._loggers:
            logger(record.step, record.scalars())

    def _forget(self, first: int, last: int | None = None) -> None:
        """Take records of these steps back, from the files of loggers too."""
        count = len(self.history)
        self.history.forget(first, last)
        if len(self.history) < count:
            self._forget_logged(first, last)

    def _forget_logged(self, first: int, last: int | None = None) -> None:
        for logger in self._loggers:
            forget = getattr(logger, "forget", None)
            if forget is not None:
                forget(first, last)
