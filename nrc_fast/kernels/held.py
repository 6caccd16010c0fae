"""Memory for rows that is filled with copies of small batches."""

from __future__ import annotations

from collections.abc import Sequence

import nrc_fast.kernels._cpu as _cpu
from nrc_fast.base.kept_values import cached_property
from nrc_fast.kernels.interface import Rows

__all__ = ["HeldRows"]


class HeldRows:
    """Memory for rows of features and of targets beside them, filled with copies of batches.

    Parameters
    ----------
    features, targets : Rows
        Some of the kind that is to be held; the targets may be None. They are not copied yet.
    room : int
        How many rows there is to be memory for.
    name : str
        How error messages call the rows.

    Attributes
    ----------
    count : int
        How many rows were copied.

    Examples
    --------
    >>> import numpy as np
    >>> from nrc_fast.kernels.inputs import as_rows
    >>> batch = as_rows(np.ones((2, 3)), "batch")
    >>> held = HeldRows(batch, None, room=5, name="H")
    >>> held.append(batch, None)
    >>> held.append(batch, None)
    >>> held.count, held.part()[0].count
    (4, 4)
    """

    def __init__(self, features: Rows, targets: Rows | None, room: int, name: str) -> None:
        self.features = features.buffer(name, room)
        self.targets = None if targets is None else targets.buffer(name, room)
        self.room = room
        self.count = 0

    def append(self, features: Rows, targets: Rows | None) -> None:
        """Copy a batch, which must be of the kind of the first and have room."""
        last = self.count + features.count
        features.copy_to(self.features.array[self.count : last])
        if self.targets is not None and targets is not None:
            targets.copy_to(self.targets.array[self.count : last])
        self.count = last

    def append_from(self, count: int, addresses: Sequence[int]) -> None:
        """Copy a batch of the host that lies one value after the other, at the addresses of features and targets."""
        for (start, row_bytes), address in zip(self._memory, addresses, strict=True):
            _cpu.copy_past_cache(start + self.count * row_bytes, address, count * row_bytes)
        self.count += count

    @cached_property
    def _memory(self) -> list[tuple[int, int]]:
        """Where features and targets begin, and the bytes of a row."""
        held = [self.features.array] if self.targets is None else [self.features.array, self.targets.array]
        return [(_cpu.address_of(array), array.strides[0]) for array in held]

    def part(self) -> tuple[Rows, Rows | None]:
        """The rows that were copied, where they lie."""
        return self.features.part(0, self.count), None if self.targets is None else self.targets.part(0, self.count)
