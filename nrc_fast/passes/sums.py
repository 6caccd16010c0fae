"""What a pass over rows adds up."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping, Sequence

import numpy as np

from nrc_fast.base.arrays import FloatArray
from nrc_fast.base.processes import Team
from nrc_fast.sources import Chunk

__all__ = ["OtherStateError", "Sums"]


class OtherStateError(ValueError):
    """An error for a state in which other things were added up: by an earlier version, or with other vectors."""

    def __init__(self) -> None:
        super().__init__("the state is of other sums than those of this pass, which starts anew")


class Sums(ABC):
    """Sums over rows: chunks are added, parts of several processes too, and the state can be kept as arrays.

    Attributes
    ----------
    sees_targets : bool
        Whether `add_chunk` refuses targets that are not finite, as features.
    """

    sees_targets = False

    def begin(self, chunk: Chunk | None, team: Team | None) -> None:  # noqa: B027 - most need nothing
        """Called with the first chunk, or None where there are no rows, before anything is added."""

    @abstractmethod
    def add_chunk(self, chunk: Chunk) -> None:
        """Add the rows of a chunk; when it raises, nothing was added.

        Raises
        ------
        NonFiniteRowsError
            A row is not finite.
        UnreadableRowsError
            The file of the rows ends early or cannot be read.
        """

    def check(self) -> None:  # noqa: B027 - most are done when `add_chunk` returns
        """Wait for what was added.

        Raises
        ------
        NonFiniteRowsError, ValueError
            What was wrong with a chunk, where `add_chunk` did not wait to see it.
        """

    @abstractmethod
    def arrays(self) -> dict[str, FloatArray]:
        """The state: everything that `restore` needs."""

    @abstractmethod
    def restore(self, arrays: dict[str, FloatArray]) -> None:
        """Take over a state.

        Raises
        ------
        ValueError
            Something is missing, has another shape or is not finite.
        OtherStateError
            It is of other sums, and the pass must start anew.
        """

    def require_state(self, arrays: Mapping[str, FloatArray], may_be_nan: Collection[str] = ()) -> None:
        """Check that arrays are a state of these sums: the same names and shapes as now, and finite.

        Raises
        ------
        ValueError
            Something is missing, has another shape or is not finite.
        """
        for name, array in self.arrays().items():
            found = arrays[name].shape if name in arrays else "nothing"
            if found != array.shape or not (name in may_be_nan or np.isfinite(arrays[name]).all()):
                msg = f"the saved {name} is {found} or not finite; finite values of shape {array.shape} are expected"
                raise ValueError(msg)

    def reduce(self, team: Team) -> None:
        """Add up the parts of all processes."""
        arrays = self.arrays()
        team.sum(list(arrays.values()))
        self.restore(arrays)

    @staticmethod
    def combined(states: Sequence[dict[str, FloatArray]]) -> dict[str, FloatArray]:
        """The state for the rows of several, in their order."""
        first, *others = states
        total = {name: array.copy() for name, array in first.items()}
        for state in others:
            for name, array in state.items():
                total[name] += array
        return total
