"""Features and targets of a model's head, batch by batch, from running the model over a loader."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Literal, TypeAlias

import numpy as np

from nrc_fast.base.arrays import FloatArray
from nrc_fast.base.options import NonFinite
from nrc_fast.base.processes import Team
from nrc_fast.kernels.devices import placed_beside
from nrc_fast.measurement.feature_statistics import FeatureStatistics
from nrc_fast.training.evaluation import Split
from nrc_fast.training.watched_layers import WatchedLayer

if TYPE_CHECKING:
    from torch import Tensor
    from torch.distributed import ProcessGroup

__all__ = ["FeatureReading", "HeadBatches"]

# Whether features are kept while they are measured, see `nrc_fast.Monitor`.
FeatureReading: TypeAlias = Literal["held", "streamed", "again"]

# Squares of larger features leave the range of float64, as those of a training that diverges may.
LARGEST = 1e140


class HeadBatches:
    """Pairs of features and targets, from running the model over the loader; again for every iteration.

    Parameters
    ----------
    loader : iterable of batches
    split : callable
        Takes a batch and returns what the model is called with, and the targets.
    run : callable
        Calls the model with what `split` returned.
    head : WatchedLayer
        The layer whose inputs are the features.
    nonfinite : {"raise", "skip"}
        With "skip", rows whose squares are no float64 numbers are given as NaN.
    """

    def __init__(
        self,
        loader: Iterable[object],
        split: Split,
        run: Callable[[object], object],
        *,
        head: WatchedLayer,
        nonfinite: NonFinite,
    ) -> None:
        self._loader, self._split, self._run, self._head = loader, split, run, head
        self._nonfinite = nonfinite
        self._given: list[tuple[Tensor, Tensor]] = []
        self._targets: FeatureStatistics | None = None
        self._counts = np.zeros(2)  # rows, and those that are finite, of the first iteration
        self.n_and_d = 0, 0  # as the batches have it
        self.dtype_name = ""
        # Copies: what comes after the layer may overwrite its input, and loaders reuse their memory.
        head.on_rows = lambda H, Y: self._given.append((H.clone(), Y))

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        is_first = self._targets is None
        empty = True
        for number, batch in enumerate(self._loader):
            empty = False
            H, Y = self._rows_of(batch, number)
            if is_first:
                self._add(H, Y)
            yield H, Y
        if empty:
            msg = "the loader has no batches; there is nothing to measure"
            raise ValueError(msg)

    def look(self) -> None:
        """Run the model on the first batch, for what is to be known of its head before all are read."""
        for batch in self._loader:
            self._rows_of(batch, 0)
            return

    def _rows_of(self, batch: object, number: int) -> tuple[Tensor, Tensor]:
        inputs, targets = self._split(batch)
        self._given.clear()
        self._head.set_targets(targets)
        self._run(inputs)
        if len(self._given) != 1:
            msg = (
                f"layer {self._head.name} was called {len(self._given)} times for batch {number}; a layer that is "
                "called once, with the features of the batch, is expected"
            )
            raise ValueError(msg)
        H, Y = self._given[0]
        if self._nonfinite == "skip" and str(H.dtype) == "torch.float64":
            H = H.masked_fill((H.abs() > LARGEST).any(dim=1, keepdim=True), float("nan"))
        return H, Y

    def _add(self, H: Tensor, Y: Tensor) -> None:
        column = Y[:, None] if Y.ndim == 1 else Y
        if self._targets is None:
            self._targets = FeatureStatistics(
                int(column.shape[1]), unit_rows=False, precision="highest", nonfinite=self._nonfinite
            )
            self.n_and_d, self.dtype_name = (int(column.shape[1]), int(H.shape[1])), str(H.dtype).removeprefix("torch.")
        self._targets.update(column)
        finite = H.isfinite().all(dim=1) & placed_beside(column, H).isfinite().all(dim=1)
        self._counts += [len(H), int(finite.sum())]

    def counts(self, group: ProcessGroup | None) -> tuple[int, int]:
        """Rows, and rows that are finite, of the first iteration, over all processes of the group."""
        counts = self._counts.copy()
        if group is not None:
            Team(group).sum([counts])
        return int(counts[0]), int(counts[1])

    def target_covariance(self, group: ProcessGroup | None) -> FloatArray:
        """Covariance of the targets of the first iteration, over all processes of the group; NaN without any."""
        assert self._targets is not None
        if group is not None:
            self._targets.all_reduce(group)
        n = self._targets.d
        if self._targets.count == 0:
            return np.full((n, n), np.nan)
        covariance: FloatArray = np.atleast_2d(self._targets.covariance)
        return covariance
