"""`Monitor`: evaluates a model on a loader every so often while it trains, and keeps the history."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, TypedDict

import numpy as np

from nrc_fast.base.arrays import Array, FloatArray
from nrc_fast.measurement.all_metrics import measure
from nrc_fast.measurement.feature_statistics import FeatureStatistics
from nrc_fast.metrics.prediction import PenaltyProduct
from nrc_fast.reports.features import Report
from nrc_fast.reports.history import History, Record
from nrc_fast.training.evaluation import Split, evaluating, require_module, run_model, runnable, split_batch
from nrc_fast.training.named_layers import head_of, last_linear
from nrc_fast.training.watching import WatchedLayer, WatchedLayers, watch

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from torch import Tensor
    from torch.distributed import ProcessGroup
    from torch.nn import Module

__all__ = ["Monitor"]

FEATURES = ("held", "streamed", "again")


class _ReportOptions(TypedDict):
    convention: str
    penalties: PenaltyProduct | None


class _WatchOptions(TypedDict):
    positions: str | None
    mask: str | Callable[[], Array] | None


class Monitor:
    """Measures the features of a model's last layer on a loader, every so many training steps.

    The model is put in evaluation mode without gradients, run over the loader, and left as it was: modes, weights,
    buffers, attributes of modules, gradients, and the random states of torch, numpy, Python, the loader and its data do
    not change, so a training with a monitor ends with the same bits as one without. An evaluation holds the weights
    twice.

    Parameters
    ----------
    model : torch.nn.Module
        The model, also wrapped by DistributedDataParallel or torch.compile.
    loader : iterable of batches
        Can be iterated again and again: a DataLoader, a list. Batches are pairs of inputs and targets, or mappings
        with "labels" or "targets" (see `nrc_fast.training.evaluation.split_batch`).
    layer : str or torch.nn.Linear, optional
        The last layer, whose inputs are the features; by default the last ``torch.nn.Linear`` of the model.
    every : int
        `step` evaluates at step 0 and then every so many.
    features : {"held", "streamed", "again"}
        "held": the features of all samples are kept while they are measured, and every metric is explicit. "streamed":
        one run over the loader and only statistics are kept; small values stop at the bounds that the report states,
        and id25 is NaN. "again": nothing is kept and the model is run again for every read that a metric needs.
    gamma : {"last", "each"} or float
        For which gamma `records` and `plot` show NRC3; see `nrc_fast.reports.history.History.records`.
    convention : str
        Definition of NRC1 and NRC2 in use, see `nrc_fast.CONVENTIONS`.
    penalties : object with an attribute ``c``, optional
        Sets the c of the prediction, see `nrc_fast.measure`.
    positions, mask
        Which positions count, and as what, see `nrc_fast.watch`.
    split : callable, optional
        Takes a batch and returns what the model is called with, and the targets.
    loggers : sequence of callables
        Each is called as ``logger(step, values)`` after an evaluation; `nrc_fast.integrations.loggers` has some. NRC3
        of these values is that of the step's own gamma, as the last one is not known yet.
    group : torch.distributed.ProcessGroup, optional
        Every process of the group has a part of the samples, at least one batch, and gets the numbers of all; all
        must call.
    name : str
        What plots call the run.

    Attributes
    ----------
    history : History
    report : Report or None
        The report of the last evaluation; None before the first.

    Raises
    ------
    ImportError
        torch is not installed.
    TypeError, ValueError
        The model is no module, the layer is no ``torch.nn.Linear`` of it, or an option is unknown.

    References
    ----------
    arXiv 2409.04180 (NeurIPS 2024), section 4 and appendix A.3: what is plotted against the epoch.

    Examples
    --------
    >>> import torch
    >>> generator = torch.Generator().manual_seed(0)
    >>> X, Y = torch.randn(100, 4, generator=generator), torch.randn(100, 2, generator=generator)
    >>> model = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.ReLU(), torch.nn.Linear(8, 2))
    >>> monitor = Monitor(model, [(X, Y)], every=10)
    >>> optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    >>> for step in range(21):
    ...     record = monitor.step()
    ...     optimizer.zero_grad()
    ...     torch.nn.functional.mse_loss(model(X), Y).backward()
    ...     optimizer.step()
    >>> [record.step for record in monitor.records()]
    [0, 10, 20]
    >>> monitor.records()[-1].mse < monitor.records()[0].mse
    True
    """

    __module__ = "nrc_fast"

    def __init__(
        self,
        model: Module,
        loader: Iterable[object],
        *,
        layer: str | Module | None = None,
        every: int = 1,
        features: str = "held",
        gamma: str | float = "last",
        convention: str = "nrc24",
        penalties: PenaltyProduct | None = None,
        positions: str | None = None,
        mask: str | Callable[[], Array] | None = None,
        split: Split = split_batch,
        loggers: Sequence[Callable[[int, dict[str, float]], object]] = (),
        group: ProcessGroup | None = None,
        name: str = "",
    ) -> None:
        require_module(model)
        if features not in FEATURES:
            msg = f"features is {features!r}; {', '.join(map(repr, FEATURES))} are known"
            raise ValueError(msg)
        if every < 1:
            msg = f"every is {every}; a number of steps from 1 on is expected"
            raise ValueError(msg)
        if isinstance(loader, Iterator):  # iter(loader) would draw from the random state
            msg = f"the loader is a {type(loader).__name__} that can be read only once; give a DataLoader or a list"
            raise TypeError(msg)
        self.model, self.loader = model, loader
        self.layer = last_linear(model) if layer is None else layer
        self.every, self.features, self.gamma = every, features, gamma
        self.history = History(name, convention)
        self.report: Report | None = None
        self._options: _ReportOptions = {"convention": convention, "penalties": penalties}
        self._watching: _WatchOptions = {"positions": positions, "mask": mask}
        self._split, self._loggers, self._group = split, loggers, group
        self._steps = 0
        with self._watch() as head:
            if head_of(head.layer)[0] is None:
                msg = f"layer {head.name} is a {type(head.layer).__name__}; a torch.nn.Linear is expected"
                raise TypeError(msg)

    def __repr__(self) -> str:
        layer = self.layer if isinstance(self.layer, str) else type(self.layer).__name__
        return f"<Monitor of layer {layer} of a {type(self.model).__name__}: {self.history!r}>"

    def step(self) -> Record | None:
        """Count a training step, and evaluate where it is one of every so many.

        Returns
        -------
        Record or None
            None where nothing was evaluated.

        Raises
        ------
        TypeError, ValueError, RuntimeError
            The model or what the loader gives cannot be measured, see `evaluate`.
        """
        number, self._steps = self._steps, self._steps + 1
        return None if number % self.every else self.evaluate(number)

    def evaluate(self, step: int | None = None) -> Record:
        """Run the model over the loader now.

        Parameters
        ----------
        step : int, optional
            What the record is called; by default the number of calls of `step` so far.

        Returns
        -------
        Record
            The numbers of the evaluation, with NRC3 for its own gamma.

        Raises
        ------
        TypeError, ValueError, RuntimeError
            What the loader or the layer gives cannot be measured, see `nrc_fast.measure` and `nrc_fast.watch`;
            ValueError for a loader without batches.
        """
        number = self._steps if step is None else step
        with evaluating(self.model, self.loader), self._watch() as head:
            W, b = head_of(head.layer)
            assert W is not None  # a layer without is refused at the start
            batches = _FeatureBatches(self, head)
            self.report = self._measured(batches, W, b)
            record = self.history.add(number, self.report, W, batches.target_covariance(self._group))
        for logger in self._loggers:
            logger(number, record.scalars())
        return record

    def _watch(self) -> WatchedLayer:
        # A watch of its own for every evaluation: training passes are not slowed down.
        watched: WatchedLayers = watch(self.model, [self.layer], nonfinite="raise", **self._watching)
        return next(iter(watched.values()))

    def _measured(self, batches: _FeatureBatches, W: Tensor, b: Array | None) -> Report:
        if self.features == "again":
            return measure(batches, W=W, b=b, group=self._group, **self._options)
        if self.features == "held":
            import torch

            parts = list(batches)
            H, Y = (torch.cat(part) if len(parts) > 1 else part[0] for part in zip(*parts, strict=True))
            return measure(H, Y, W, b, group=self._group, **self._options)
        statistics = FeatureStatistics(W.shape[1], n_targets=W.shape[0])
        for H, Y in batches:
            statistics.update(H, Y)
        if self._group is not None:
            statistics.all_reduce(self._group)
        return statistics.report(W, b, **self._options)

    def records(self) -> tuple[Record, ...]:
        """The history, with NRC3 for the gamma that the monitor was made with."""
        return self.history.records(self.gamma)

    def plot(self) -> Figure:
        """Draw the paper's panels; returns the figure. See `nrc_fast.reports.plots.histories.plot_history`.

        Raises
        ------
        ImportError
            matplotlib is not installed.
        ValueError
            Nothing was measured yet.
        """
        return self.history.plot(self.gamma)


class _FeatureBatches:
    """Pairs of features and targets, from running the model over the loader; again for every iteration."""

    def __init__(self, monitor: Monitor, head: WatchedLayer) -> None:
        self._monitor, self._head = monitor, head
        self._given: list[tuple[Tensor, Tensor]] = []
        self._targets: FeatureStatistics | None = None
        # Copies: what comes after the layer may overwrite its input, and loaders reuse their memory.
        head.on_rows = lambda H, Y: self._given.append((H.clone(), Y))

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        is_first = self._targets is None
        empty = True
        for number, batch in enumerate(self._monitor.loader):
            empty = False
            inputs, targets = self._monitor._split(batch)
            self._given.clear()
            self._head.set_targets(targets)
            run_model(runnable(self._monitor.model), inputs)
            if len(self._given) != 1:
                msg = (
                    f"layer {self._head.name} was called {len(self._given)} times for batch {number}; a layer that is "
                    "called once, with the features of the batch, is expected"
                )
                raise ValueError(msg)
            H, Y = self._given[0]
            if is_first:
                self._add_targets(Y)
            yield H, Y
        if empty:
            msg = "the loader has no batches; there is nothing to measure"
            raise ValueError(msg)

    def _add_targets(self, Y: Tensor) -> None:
        column = Y[:, None] if Y.ndim == 1 else Y
        if self._targets is None:
            self._targets = FeatureStatistics(int(column.shape[1]), unit_rows=False, precision="highest")
        self._targets.update(column)

    def target_covariance(self, group: ProcessGroup | None) -> FloatArray:
        """Covariance of the targets of the first iteration, over all processes of the group."""
        assert self._targets is not None
        if group is not None:
            self._targets.all_reduce(group)
        covariance: FloatArray = np.atleast_2d(self._targets.covariance)
        return covariance
