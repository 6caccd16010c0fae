"""Processes of a torch.distributed group that each hold a part of the rows."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from nrc_fast.base.arrays import FloatArray

if TYPE_CHECKING:
    from torch import Tensor
    from torch.distributed import ProcessGroup

__all__ = ["Team"]

Result = TypeVar("Result")


class Team:
    """The processes of a group. Every one of them must enter every call, in the same order.

    Sums end on the first process and are sent back from it, so that all hold the same bits and take the same
    decisions, whatever the backend.

    Parameters
    ----------
    group : torch.distributed.ProcessGroup or None
        None is the default group.

    Raises
    ------
    RuntimeError
        torch.distributed is not there or was not initialised: the program does that, not the library.
    """

    def __init__(self, group: ProcessGroup | None = None) -> None:
        from torch import distributed

        if not distributed.is_available() or not distributed.is_initialized():
            msg = (
                "torch.distributed is not initialised in this process; call torch.distributed.init_process_group "
                "first, or start the program with torchrun"
            )
            raise RuntimeError(msg)
        self._distributed = distributed
        chosen = distributed.group.WORLD if group is None else group
        assert chosen is not None  # once it is initialised there is a default group
        self.group: ProcessGroup = chosen
        self.rank: int = distributed.get_rank(self.group)
        self.size: int = distributed.get_world_size(self.group)
        if self.rank < 0:
            msg = "this process is not in the group; only members of a group can add up their rows over it"
            raise RuntimeError(msg)

    def sum(self, arrays: Sequence[FloatArray]) -> None:
        """Replace each array by its sum over all processes."""
        for array in arrays:
            tensor = self._tensor(array)
            self._distributed.reduce(tensor, dst=self._global(0), group=self.group)
            self._distributed.broadcast(tensor, src=self._global(0), group=self.group)
            array[...] = tensor.cpu().numpy()

    def broadcast(self, arrays: Sequence[FloatArray], root: int = 0) -> None:
        """Replace each array by that of one process."""
        for array in arrays:
            tensor = self._tensor(array)
            self._distributed.broadcast(tensor, src=self._global(root), group=self.group)
            array[...] = tensor.cpu().numpy()

    def require_success(self, failure: Exception | None) -> None:
        """Raise if any process has failed: its own error where it did, and everywhere else a RuntimeError.

        Raises
        ------
        RuntimeError
            Another process has failed; the message says which.
        """
        failed = np.zeros(self.size)
        failed[self.rank] = failure is not None
        self.sum([failed])
        if failure is not None:
            raise failure
        if failed.any():
            ranks = ", ".join(str(rank) for rank in np.flatnonzero(failed))
            msg = f"process {ranks} of the group has failed; its own message says why"
            raise RuntimeError(msg)

    def together(self, work: Callable[[], Result]) -> Result:
        """What a piece of work gives, if it succeeds in every process.

        Raises
        ------
        RuntimeError
            It has failed in another one; here its own error is raised.
        """
        results, failure = [], None
        try:
            results = [work()]
        except Exception as error:  # the others wait in the next call
            failure = error
        self.require_success(failure)
        return results[0]

    def gather(self, values: Sequence[float]) -> FloatArray:
        """The numbers of every process, a row for each."""
        table = np.zeros((self.size, len(values)))
        table[self.rank] = values
        self.sum([table])
        return table

    def first(self, values: FloatArray | None, size: int) -> FloatArray | None:
        """The values of the first process that has any; None if no process has."""
        flags = np.zeros(self.size)
        flags[self.rank] = values is not None
        self.sum([flags])
        holders = np.flatnonzero(flags)
        if len(holders) == 0:
            return None
        chosen = np.zeros(size) if values is None else values.copy()
        self.broadcast([chosen], root=int(holders[0]))
        return chosen

    def of_first(self, array: FloatArray) -> FloatArray:
        """The array of the first process, whose shape may differ from those of the others in all but its dimensions."""
        shape = np.array(array.shape, dtype=np.float64)
        self.broadcast([shape])
        chosen = array.copy() if self.rank == 0 else np.empty(shape.astype(np.int64))
        self.broadcast([chosen])
        return chosen

    def concatenated(self, rows: FloatArray) -> FloatArray:
        """The rows of all processes, those of the first one first; all have as many columns."""
        counts = self.gather([float(len(rows))])[:, 0].astype(np.int64)
        first = int(counts[: self.rank].sum())
        total = np.zeros((int(counts.sum()), rows.shape[1]))
        total[first : first + len(rows)] = rows
        self.sum([total])
        return total

    def _global(self, rank: int) -> int:
        result: int = self._distributed.get_global_rank(self.group, rank)
        return result

    def _tensor(self, array: FloatArray) -> Tensor:
        import torch

        tensor = torch.from_numpy(np.ascontiguousarray(array))
        # NCCL only moves what lies on the device that the process has chosen.
        return tensor.cuda() if self._distributed.get_backend(self.group) == "nccl" else tensor.clone()
