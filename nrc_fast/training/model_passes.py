"""Which pass of a watched model is running, so that a layer that is called several times in it counts it once."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from nrc_fast.base.libraries import require_library
from nrc_fast.training.evaluation import current_evaluation
from nrc_fast.training.hooks import PassHook

if TYPE_CHECKING:
    from torch.nn import Module

__all__ = ["ModelPasses", "is_read"]


# Multiples of it fall into every part of [0, 1) alike, together with whether they are even, and so on.
GOLDEN = 0.6180339887498949


def is_read(number: int, every: int) -> bool:
    """Whether a pass is one of those that are read: the first, and one of every so many, now earlier and now later.

    What alternates, such as the two batches of every step of a discriminator, is read alike, whatever its period.

    Examples
    --------
    >>> [number for number in range(40) if is_read(number, 4)]
    [0, 6, 8, 15, 17, 20, 26, 29, 35, 38]
    """
    block, place = divmod(number, every)
    return place == int(every * (block * GOLDEN % 1.0))


class ModelPasses:
    """Numbers the passes of a model, for as long as they run.

    Parameters
    ----------
    model : torch.nn.Module
    """

    def __init__(self, model: Module) -> None:
        self._evaluation = current_evaluation()
        torch = require_library("torch", "torch")
        # A torch that does not tell which backward pass it is in is taken to be in none.
        self._graph_task = getattr(torch._C, "_current_graph_task_id", lambda: -1)
        self._last = 0
        self._running = threading.local()  # replicas of a model run side by side
        begin, end = PassHook(self._begin), PassHook(self._end)
        # The first of all, as others may look at layers.
        self._handles = [
            model.register_forward_pre_hook(begin, with_kwargs=True, prepend=True),
            model.register_forward_hook(end, always_call=True),
        ]

    @property
    def current(self) -> int | None:
        """The number of the outermost pass that is running; None between passes."""
        numbers: list[int] = getattr(self._running, "numbers", [])
        return numbers[0] if numbers else None

    def _counts(self) -> bool:
        """Whether a pass is none of another's evaluation, nor computed again inside of a backward pass."""
        return self._graph_task() == -1 and current_evaluation() is self._evaluation

    def _begin(self) -> None:
        if self._counts():
            self._last += 1
            if not hasattr(self._running, "numbers"):
                self._running.numbers = []
            self._running.numbers.append(self._last)

    def _end(self) -> None:
        if self._counts() and getattr(self._running, "numbers", []):
            self._running.numbers.pop()

    def close(self) -> None:
        """Take the hooks away."""
        for handle in self._handles:
            handle.remove()
