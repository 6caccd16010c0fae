"""Memory of a CUDA device that several streams and threads use, one after the other."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from nrc_fast.base.forks import Guard
from nrc_fast.kernels.cuda.device import CudaDevice

if TYPE_CHECKING:
    from torch import Tensor
    from torch.cuda import Event

__all__ = ["Turns"]


class Turns:
    """Who uses some memory waits on the device for those who used it before, on whatever stream that was.

    A CUDA graph that is captured may not wait for what came before the capture; its replays, and what is launched on
    other streams after them, are for the caller to keep apart.
    """

    def __init__(self, device: CudaDevice) -> None:
        self.device = device
        # A handler of signals may look at the sums while its thread adds to them.
        self._guard = Guard(reentrant=True)
        self._last: Event | None = None

    def settle(self) -> None:
        """Wait for the last user, so that nobody else waits long for a turn that reads."""
        last = self._last
        if last is not None:
            last.synchronize()

    @contextmanager
    def turn(self, *, captured: bool = False) -> Iterator[Turn]:
        """Launch on the current stream, inside, what uses the memory; what another thread launches comes after it."""
        with self._guard.lock:
            if captured:
                yield Turn(self.device, None)
                return
            try:
                yield Turn(self.device, self._last)
            finally:
                self._last = self.device.mark()


class Turn:
    """The right to use the memory now."""

    def __init__(self, device: CudaDevice, last: Event | None) -> None:
        self._device, self._last = device, last

    def take(self, *tensors: Tensor) -> None:
        """Make the current stream wait for the last user, and the memory of tensors for the current stream."""
        if self._last is not None:
            self._device.use_after(self._last, *tensors)
