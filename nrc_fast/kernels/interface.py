"""What both backends have, as far as other modules of the kernels name it."""

from __future__ import annotations

from typing import Any, Protocol

from numpy.typing import NDArray

__all__ = ["DescentArrays"]


class DescentArrays(Protocol):
    """The arrays of states of gradient descent on the host; `kernels.cpu.descent.DescentState` says what they are."""

    transforms: NDArray[Any]
    weights: NDArray[Any]
    biases: NDArray[Any]
    moments: NDArray[Any]
    moment_index: NDArray[Any]
    rates: NDArray[Any]
    velocities: tuple[NDArray[Any], NDArray[Any], NDArray[Any]] | None
