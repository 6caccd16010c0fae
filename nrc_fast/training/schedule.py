"""When a training is measured: every so many steps, epochs or evaluations, or at log-spaced steps."""

from __future__ import annotations

import re
from dataclasses import dataclass
from operator import index
from typing import TypeAlias

__all__ = ["Every", "Schedule", "schedule_of"]

# A number of steps, or a text such as "log", "100 steps", "epoch", "2 epochs" or "evaluation".
Every: TypeAlias = int | str

UNITS = ("step", "epoch", "evaluation")
LOG_SPACED = "log"
# Leading binary digits of log-spaced steps: with three of them there are four steps in every doubling.
LEADING_DIGITS = 3
TEXT = re.compile(rf"(?:(\d+) +)?({'|'.join(UNITS)})s?")


@dataclass(frozen=True)
class Schedule:
    """What is counted, and which of the counted are measured.

    Attributes
    ----------
    unit : {"step", "epoch", "evaluation"}
    count : int or None
        One of so many is measured; None for log-spaced ones.
    """

    unit: str
    count: int | None

    def last_due(self, number: int) -> int:
        """The largest number up to this one that is to be measured.

        Parameters
        ----------
        number : int
            How many steps, epochs or evaluations there have been, from 0 on.

        Examples
        --------
        >>> [Schedule("step", 100).last_due(number) for number in (0, 99, 100, 250)]
        [0, 0, 100, 200]
        >>> sorted({Schedule("step", None).last_due(number) for number in range(41)})
        [0, 1, 2, 3, 4, 5, 6, 7, 8, 10, 12, 14, 16, 20, 24, 28, 32, 40]
        """
        if self.count is not None:
            return number - number % self.count
        shift = max(0, number.bit_length() - LEADING_DIGITS)
        return number >> shift << shift

    def is_due(self, number: int) -> bool:
        """Whether this number itself is to be measured."""
        return self.last_due(number) == number


def schedule_of(every: Every) -> Schedule:
    """The schedule that a parameter ``every`` stands for.

    Parameters
    ----------
    every : int or str
        A number of steps; "log", at log-spaced steps; or "step", "epoch" or "evaluation", also in the plural with a
        number before it.

    Raises
    ------
    TypeError
        It is no whole number and no text.
    ValueError
        The number is below 1, or the text is another.

    Examples
    --------
    >>> schedule_of(100) == schedule_of("100 steps")
    True
    >>> schedule_of("epoch"), schedule_of("log")
    (Schedule(unit='epoch', count=1), Schedule(unit='step', count=None))
    """
    if isinstance(every, str):
        if every == LOG_SPACED:
            return Schedule("step", None)
        found = TEXT.fullmatch(every)
        if found is None:
            msg = (
                f"every is {every!r}; a number of steps, 'log', 'epoch', 'evaluation', or these with a number before "
                "them, such as '100 steps' or '2 epochs', are known"
            )
            raise ValueError(msg)
        unit, count = found[2], int(found[1] or 1)
    else:
        unit, count = "step", _whole_count(every)
    if count < 1:
        msg = f"every is {every!r}; a number of {unit}s from 1 on is expected"
        raise ValueError(msg)
    return Schedule(unit, count)


def _whole_count(every: object) -> int:
    msg = f"every is {every!r}; a whole number of steps, or a text such as 'epoch', is expected"
    if isinstance(every, bool):
        raise TypeError(msg)
    try:
        return index(every)  # type: ignore[arg-type]
    except TypeError as error:
        raise TypeError(msg) from error
