"""`Monitor`: evaluates a model on a loader every so often while it trains, and keeps the history."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from copy import copy
from functools import partial
from typing import TYPE_CHECKING, Any

from nrc_fast.base.arrays import Array
from nrc_fast.base.json_values import JSONValue
from nrc_fast.base.options import ByK, NonFinite, Spectrum, as_integer
from nrc_fast.metrics.alignment import GammaChoice
from nrc_fast.metrics.conventions import ConventionName
from nrc_fast.metrics.prediction import PenaltyProduct
from nrc_fast.reports.features import Report
from nrc_fast.reports.history import History
from nrc_fast.reports.history_card import history_card
from nrc_fast.reports.plots.panels import GivenAxes, GivenPath
from nrc_fast.reports.steps import Record
from nrc_fast.training.evaluation import Split, require_module, split_batch
from nrc_fast.training.head_batches import FeatureReading
from nrc_fast.training.head_evaluation import HeadEvaluation, ReportOptions, Run, RunOptions
from nrc_fast.training.layer_rows import Positions
from nrc_fast.training.live import LiveFigure
from nrc_fast.training.loggers import Destination
from nrc_fast.training.monitor_state import MonitorState
from nrc_fast.training.optimizers import Optimizers, optimizers_of
from nrc_fast.training.recorder import Recorder
from nrc_fast.training.schedule import Every

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from torch.distributed import ProcessGroup
    from torch.nn import Module

__all__ = ["Monitor"]


class Monitor(Recorder):
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
    every : int or str
        When is measured: a number of training steps (100, or "100 steps"), "epoch" or "2 epochs", "evaluation" or "2
        evaluations", or "log", the default: at log-spaced steps, four in every doubling (0 to 8, 10, 12, 14, 16, 20,
        24, 28, 32, 40 ...). A training of 1,000 steps is measured 36 times then and one of 100,000 steps 63 times, so
        that what it costs is a smaller share the longer a training takes, on every machine at the same steps. Where
        measuring takes more than half of the time, the logger "nrc_fast" of ``logging`` says so once. All but
        "evaluation" also measure at the start. See `step`, `end_epoch` and `end_evaluation`.
    features : {"held", "streamed", "again"}
        "held": the features of all samples are kept while they are measured, and every metric is explicit. "streamed":
        one run over the loader and only statistics are kept; small values stop at the bounds that the report states,
        and id25 is NaN. "again": nothing is kept and the model is run again for every read that a metric needs.
    gamma : {"last", "each"} or float
        For which gamma `records` and `plot` show NRC3; see `nrc_fast.History.records`.
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
        weights, the record holds NaN. The report says so, and a warning does once: a training that diverges is not
        ended by being watched.
    split : callable, optional
        Takes a batch and returns what the model is called with, and the targets. What lies on the host is copied to the
        device of the model.
    run : callable, optional
        Called as ``run(model, inputs)`` with what `split` returned, for models whose features are not made by
        ``model(inputs)``.
    context : callable, optional
        Returns a context manager in which the model is called, such as that of ``torch.autocast`` with its arguments.
    loggers : path, SummaryWriter, wandb.Run or callable, or a sequence of them
        Where the numbers of every evaluation go: a path that ends in .csv or .jsonl, a writer of TensorBoard, a run of
        Weights & Biases, or a callable, which is called as ``logger(step, values)``; see
        `nrc_fast.integrations.loggers`. NRC3 of these values is that of the step's own gamma, as the last one is not
        known yet. In a group the first process alone sends them.
    group : torch.distributed.ProcessGroup, optional
        Every process of the group has a part of the samples, at least one batch, and gets the numbers of all; all
        must call.
    optimizer : torch.optim.Optimizer, or a sequence of them, optional
        What trains the model. Where a linear layer makes the features and nothing stands between it and the last layer,
        records have the slope of log NRC1 that its weight decay predicts (`Record.clock`), by the optimizer's numbers
        at that time, and `History.clock` says how fast NRC1 falls beside it. Known of ``torch.optim.SGD``, with
        `step` told once for each of its steps, and of one head: NaN where another module is given the features too, and
        wrong where the loss itself takes them.
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

    A training that is stopped goes on with its history: the state goes into the checkpoint.

    >>> checkpoint = {"model": model.state_dict(), "monitor": monitor.state_dict()}
    >>> resumed = Monitor(model, [(X, Y)], every=10)
    >>> resumed.load_state_dict(checkpoint["monitor"])
    >>> resumed.records() == monitor.records(), resumed.step()
    (True, None)
    """

    __module__ = "nrc_fast"

    def __init__(
        self,
        model: Module,
        loader: Iterable[object],
        *,
        layer: str | Module | None = None,
        every: Every = "log",
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
        run: Run | None = None,
        context: Callable[[], AbstractContextManager[object]] = nullcontext,
        loggers: Destination | Sequence[Destination] = (),
        group: ProcessGroup | None = None,
        optimizer: Optimizers | None = None,
        name: str = "",
    ) -> None:
        require_module(model)
        if isinstance(loader, Iterator):  # iter(loader) would draw from the random state
            msg = f"the loader is a {type(loader).__name__} that can be read only once; give a DataLoader or a list"
            raise TypeError(msg)
        options = RunOptions(
            features=features,
            positions=positions,
            mask=mask,
            nonfinite=nonfinite,
            split=split,
            run=run,
            context=context,
            group=group,
            optimizers=optimizers_of(optimizer),
        )
        wishes: ReportOptions = {
            "convention": convention,
            "penalties": penalties,
            "by_k": by_k,
            "spectrum": spectrum,
        }
        super().__init__(every, History(name, convention), loggers, group)
        self._evaluation = HeadEvaluation(model, loader, layer, options, wishes)
        self.model, self.loader = model, loader
        self.every, self.features, self.gamma = every, features, gamma
        self.report: Report | None = None
        self._has_diverged = False

    @property
    def layer(self) -> str | Module:
        """The last layer: its name, or the layer itself where it was given as one."""
        return self._evaluation.layer

    def __repr__(self) -> str:
        layer = self.layer if isinstance(self.layer, str) else type(self.layer).__name__
        return f"<Monitor of layer {layer} of a {type(self.model).__name__}: {self.history!r}>"

    def _repr_html_(self) -> str:
        return self._card(with_charts=False)

    def _card(self, *, with_charts: bool) -> str:
        history, layer = copy(self.history), self.layer if isinstance(self.layer, str) else type(self.layer).__name__
        about = f"{history.name or 'monitor'} of layer {layer} of a {type(self.model).__name__}"
        return history_card(history, self.gamma, about, with_charts=with_charts)

    def show(self) -> None:
        """Show the curves in this cell of a notebook, and draw them again there after every evaluation.

        Outside a notebook nothing happens. A figure that cannot be drawn is told once on the logger ``nrc_fast``, and
        the training goes on. A second call moves the figure to another cell.
        """
        figure = LiveFigure(partial(self._card, with_charts=True), repr(self))
        others = [logger for logger in self._loggers if not isinstance(logger, LiveFigure)]
        figure.open()
        self._loggers = (*others, figure)

    def evaluate(self, step: int | None = None) -> Record:
        """Run the model over the loader now.

        Parameters
        ----------
        step : int, optional
            What the record is called, in place of one that is called so already; by default one more than `step` was
            told last.

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
        number = self._next_step if step is None else as_integer(step, "step")
        found = self._evaluation.evaluate()
        self._forget(number, number)
        self.report = found.report
        record = self.history.add(number, found.report, found.weights, found.target_covariance, clock=found.clock)
        self._send(record)
        if found.divergence and not self._has_diverged:
            self._has_diverged = True
            notes = " ".join(found.divergence)
            warnings.warn(f"step {number}: {notes} (told once; the records go on)", stacklevel=2)
        return record

    # ---- a training that goes on ----

    def state_dict(self) -> dict[str, JSONValue]:
        """All that a training needs to go on with its history: what was counted, the records and the last report.

        Returns
        -------
        dict
            Of numbers, texts, lists and dictionaries alone, so that ``torch.save`` and ``torch.load`` with
            ``weights_only=True`` take it, and JSON does.
        """
        evaluation = self._evaluation
        return MonitorState(
            next_step=self._next_step,
            epochs=self._epochs,
            evaluations=self._evaluations,
            layer=evaluation.layer_name if evaluation.is_chosen else "",
            layer_notes=evaluation.notes,
            has_diverged=self._has_diverged,
            history=self.history,
            report=self.report,
        ).to_dict()

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Go on from what `state_dict` gave; records of this monitor are replaced by those of the state.

        From the files of loggers the lines of later steps are taken out, and what follows is added to the others, so
        that a training which is taken up at a checkpoint has every step once.

        Parameters
        ----------
        state_dict : mapping

        Raises
        ------
        ValueError
            It is something else, or the state of a monitor of another layer or convention. The monitor is as it was.
        """
        state = MonitorState.from_dict(state_dict)
        evaluation = self._evaluation
        if state.history.convention != self.history.convention:
            msg = (
                f"the state is that of a monitor with convention={state.history.convention!r} and this one has "
                f"{self.history.convention!r}; give the same"
            )
            raise ValueError(msg)
        evaluation.restore(state.layer, state.layer_notes)
        self._next_step, self._epochs, self._evaluations = state.next_step, state.epochs, state.evaluations
        self._has_diverged = state.has_diverged
        state.history.name = self.history.name or state.history.name
        self.history, self.report = state.history, state.report
        self._forget_logged(state.next_step)

    # ---- what was found ----

    @property
    def verdict(self) -> tuple[str, ...]:
        """What the records say, in plain sentences, see `nrc_fast.History.verdict`."""
        return self.history.verdict

    def __str__(self) -> str:
        return str(self.history)

    def records(self) -> tuple[Record, ...]:
        """The history, with NRC3 for the gamma that the monitor was made with."""
        return self.history.records(self.gamma)

    def plot(self, *, path: GivenPath | None = None, ax: GivenAxes | None = None) -> Figure:
        """Draw the paper's panels; returns the figure of matplotlib. See `nrc_fast.History.plot`.

        Raises
        ------
        ImportError
            matplotlib is not installed.
        OSError, ValueError
            The file cannot be written, `ax` does not hold six axes, or nothing was measured yet.
        """
        return self.history.plot(self.gamma, path=path, ax=ax)
