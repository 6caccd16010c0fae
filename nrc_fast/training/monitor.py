"""`Monitor`: evaluates a model on a loader every so often while it trains, and keeps the history."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from typing import TYPE_CHECKING, TypedDict, get_args

import numpy as np

from nrc_fast.base.arrays import Array
from nrc_fast.base.options import ByK, NonFinite, Spectrum, require_nonfinite
from nrc_fast.kernels.cpu.backend import CPU
from nrc_fast.measurement.all_metrics import measure
from nrc_fast.measurement.extent import Extent, extent_of
from nrc_fast.measurement.feature_statistics import FeatureStatistics
from nrc_fast.metrics.alignment import GammaChoice
from nrc_fast.metrics.conventions import ConventionName
from nrc_fast.metrics.prediction import PenaltyProduct
from nrc_fast.reports.features import Report
from nrc_fast.reports.history import History
from nrc_fast.reports.steps import Record
from nrc_fast.training.evaluation import (
    Split,
    beside_model,
    evaluating,
    require_module,
    run_model,
    runnable,
    split_batch,
)
from nrc_fast.training.head_batches import FeatureReading, HeadBatches
from nrc_fast.training.heads import UsedHead, choose_head, is_head, last_linear
from nrc_fast.training.kept_state import KeptState
from nrc_fast.training.layer_rows import Positions
from nrc_fast.training.watched_layers import WatchedLayer, WatchedLayers
from nrc_fast.training.watching import watch

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from torch import Tensor
    from torch.distributed import ProcessGroup
    from torch.nn import Module

__all__ = ["Monitor"]

FEATURES: tuple[str, ...] = get_args(FeatureReading)


class _ReportOptions(TypedDict):
    convention: ConventionName
    penalties: PenaltyProduct | None
    by_k: ByK
    spectrum: Spectrum


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
        The last layer, whose inputs are the features, or an adapter around it, whose weights are taken as merged. By
        default, of the linear layers with an output for each target, the one whose output is the model's, which the
        first evaluation finds out; where there are several, a note of the report names them. Its weights are those that
        it was called with.
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
    by_k, spectrum : str
        How far `Report.nrc1_by_k` and the eigenvalues of the covariance go, see `nrc_fast.measure`.
    positions, mask
        Which positions count, and as what, see `nrc_fast.watch`.
    nonfinite : {"skip", "raise"}
        "skip", the default here, counts samples with NaN or infinite values and leaves them out; where all are, or the
        weights, the record holds NaN and the report says so: a training that diverges is not ended by being watched.
    split : callable, optional
        Takes a batch and returns what the model is called with, and the targets. What lies on the host is copied to the
        device of the model.
    context : callable, optional
        Returns a context manager in which the model is called, such as that of ``torch.autocast`` with its arguments.
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
        features: FeatureReading = "held",
        gamma: GammaChoice = "last",
        convention: ConventionName = "nrc24",
        penalties: PenaltyProduct | None = None,
        by_k: ByK = "leading",
        spectrum: Spectrum = "auto",
        positions: Positions | None = None,
        mask: str | Callable[[], Array] | None = None,
        nonfinite: NonFinite = "skip",
        split: Split = split_batch,
        context: Callable[[], AbstractContextManager[object]] = nullcontext,
        loggers: Sequence[Callable[[int, dict[str, float]], object]] = (),
        group: ProcessGroup | None = None,
        name: str = "",
    ) -> None:
        require_module(model)
        require_nonfinite(nonfinite)
        self._extent = extent_of(by_k, spectrum)
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
        self._options: _ReportOptions = {
            "convention": convention,
            "penalties": penalties,
            "by_k": by_k,
            "spectrum": spectrum,
        }
        self._positions, self._mask, self._nonfinite = positions, mask, nonfinite
        self._split, self._context = split, context
        self._loggers, self._group = loggers, group
        self._steps = 0
        self._is_chosen = layer is not None
        self._notes: tuple[str, ...] = ()
        with self._watch() as head:
            if not is_head(head.layer):
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
            ValueError for a loader without batches, and for a layer that returns something else than W h + b.
        """
        number = self._steps if step is None else step
        with evaluating(self.model, self.loader):
            self._choose_layer()
            with self._watch() as head, UsedHead(head.name, head.layer) as used:
                batches = HeadBatches(self.loader, self._split, self._run, head=head, nonfinite=self._nonfinite)
                self.report = self._measured(batches, used)
                covariance = batches.target_covariance(self._group)
        record = self.history.add(number, self.report, used.finite()[0], covariance)
        for logger in self._loggers:
            logger(number, record.scalars())
        return record

    def _run(self, inputs: object) -> object:
        with self._context():
            return run_model(runnable(self.model), beside_model(self.model, inputs))

    def _watch(self) -> WatchedLayer:
        # A watch of its own for every evaluation: training passes are not slowed down.
        watched: WatchedLayers = watch(
            self.model, [self.layer], nonfinite="raise", positions=self._positions, mask=self._mask
        )
        return next(iter(watched.values()))

    def _choose_layer(self) -> None:
        """Where no layer was named: the one whose output is the model's, from the first batch."""
        if self._is_chosen:
            return
        first = next(iter(self.loader), None)
        if first is None:
            return
        inputs, targets = self._split(first)
        state = KeptState(self.model)
        self.layer, self._notes = choose_head(self.model, targets, lambda: self._run(inputs))
        state.restore()
        self._is_chosen = True

    def _measured(self, batches: HeadBatches, used: UsedHead) -> Report:
        """The report of an evaluation; one of NaN where no row is finite and such rows are to be left out."""
        try:
            report = self._report_of(batches, used)
        except ValueError:
            rows, finite = batches.counts(self._group)
            if self._nonfinite == "raise" or finite or not rows:
                raise
            report = _unknown_report(batches, rows, self._options["convention"], self._extent)
        return replace(report, notes=(*report.notes, *self._notes, *_notes_on_nonfinite(report, used)))

    def _report_of(self, batches: HeadBatches, used: UsedHead) -> Report:
        if self.features == "again":
            batches.look()
            W, b = self._weights_of(used)
            return measure(batches, W=W, b=b, group=self._group, nonfinite=self._nonfinite, **self._options)
        if self.features == "held":
            import torch

            parts = list(batches)
            H, Y = (torch.cat(part) if len(parts) > 1 else part[0] for part in zip(*parts, strict=True))
            W, b = self._weights_of(used)
            return measure(H, Y, W, b, group=self._group, nonfinite=self._nonfinite, **self._options)
        statistics: FeatureStatistics | None = None
        for H, Y in batches:
            if statistics is None:
                n, d = batches.n_and_d
                statistics = FeatureStatistics(d, n_targets=n, nonfinite=self._nonfinite)
            statistics.update(H, Y)
        assert statistics is not None  # a loader without batches is an error
        if self._group is not None:
            statistics.all_reduce(self._group)
        return statistics.report(*self._weights_of(used), **self._options)

    def _weights_of(self, used: UsedHead) -> tuple[Tensor | None, Tensor | None]:
        """Weights and bias for a report: where rows that are not finite are left out, so are such weights."""
        return (used.weights, used.bias) if self._nonfinite == "raise" else used.finite()

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


def _unknown_report(batches: HeadBatches, rows: int, convention: str, extent: Extent) -> Report:
    """What is known of features of which no row is finite."""
    n, d = batches.n_and_d
    return Report(
        samples=0,
        d=d,
        n=n,
        dtype=batches.dtype_name,
        backend=CPU.name,
        convention=convention,
        nrc1=np.nan,
        nrc1_by_k=np.full(extent.numbers(min(n, d), d), np.nan),
        explained_variance_ratio=np.full(d, np.nan),
        effective_rank=np.nan,
        stable_rank=np.nan,
        skipped_rows=rows,
    )


def _notes_on_nonfinite(report: Report, used: UsedHead) -> list[str]:
    notes = []
    if report.skipped_rows:
        rows = report.samples + report.skipped_rows
        notes.append(
            f"{report.skipped_rows:,} of {rows:,} samples have features or targets that are NaN or infinite: they are "
            "left out, and the numbers are those of the others. Has the training diverged?"
        )
    weights, bias = used.finite()
    if weights is None or bias is None:
        name, lost = ("W", "NRC2, NRC3 and the MSE") if weights is None else ("b", "the MSE")
        notes.append(f"{name} holds values that are NaN or infinite: {lost} are NaN. Has the training diverged?")
    return notes
