"""One evaluation of a model's head: the model is run over a loader, and what the head is given is measured."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias, TypedDict, get_args

from nrc_fast.base.arrays import Array, FloatArray
from nrc_fast.base.libraries import require_library
from nrc_fast.base.options import ByK, NonFinite, Spectrum, require_nonfinite
from nrc_fast.measurement.all_metrics import measure
from nrc_fast.measurement.extent import extent_of
from nrc_fast.measurement.feature_statistics import FeatureStatistics
from nrc_fast.metrics.conventions import ConventionName
from nrc_fast.metrics.decay_slopes import UNKNOWN_SLOPE, Slope
from nrc_fast.metrics.prediction import PenaltyProduct
from nrc_fast.reports.features import Report
from nrc_fast.training.divergence import notes_on_nonfinite, unknown_report
from nrc_fast.training.evaluation import Split, beside_model, evaluating, run_model, runnable
from nrc_fast.training.feature_layers import FeatureLayer
from nrc_fast.training.head_batches import FeatureReading, HeadBatches
from nrc_fast.training.heads import UsedHead, choose_head, is_head, last_linear
from nrc_fast.training.kept_state import KeptState
from nrc_fast.training.layer_rows import Positions
from nrc_fast.training.named_layers import find_layer
from nrc_fast.training.optimizers import slope_of_weight
from nrc_fast.training.watched_layers import WatchedLayer, WatchedLayers
from nrc_fast.training.watching import watch

if TYPE_CHECKING:
    from torch import Tensor
    from torch.distributed import ProcessGroup
    from torch.nn import Module
    from torch.optim import Optimizer

__all__ = ["Evaluated", "HeadEvaluation", "ReportOptions", "Run", "RunOptions"]

FEATURES: tuple[str, ...] = get_args(FeatureReading)

# Called with the model and with what a split returned of a batch.
Run: TypeAlias = Callable[[Any, Any], object]


class ReportOptions(TypedDict):
    """What is asked for, see `nrc_fast.measure`."""

    convention: ConventionName
    penalties: PenaltyProduct | None
    by_k: ByK
    spectrum: Spectrum


@dataclass(frozen=True)
class RunOptions:
    """How the model is run and its features are read, see `nrc_fast.Monitor`."""

    features: FeatureReading
    positions: Positions | None
    mask: str | Callable[[], Array] | None
    nonfinite: NonFinite
    split: Split
    run: Run | None
    context: Callable[[], AbstractContextManager[object]]
    group: ProcessGroup | None
    optimizers: tuple[Optimizer, ...] = ()


class Evaluated(NamedTuple):
    """What an evaluation found: a report, W where it is finite, what was not finite in words, and decay's slope."""

    report: Report
    weights: Tensor | None
    target_covariance: FloatArray
    divergence: tuple[str, ...]
    clock: Slope


class HeadEvaluation:
    """Runs a model over a loader and measures what its head is given; as often as it is asked to.

    Parameters
    ----------
    model : torch.nn.Module
    loader : iterable of batches
    layer : str, torch.nn.Module or None
        The head; None for the layer whose output is the model's, which the first evaluation finds out.
    options : RunOptions
    wishes : ReportOptions

    Attributes
    ----------
    layer : str or torch.nn.Module
    layer_name : str
        The layer's name in the model.
    is_chosen : bool
        Whether the layer was named or found.
    notes : tuple of str
        What a reader should know of how it was found.

    Raises
    ------
    TypeError, ValueError
        The layer is no ``torch.nn.Linear`` of the model, or an option is unknown.
    """

    def __init__(
        self,
        model: Module,
        loader: Iterable[object],
        layer: str | Module | None,
        options: RunOptions,
        wishes: ReportOptions,
    ) -> None:
        require_nonfinite(options.nonfinite)
        self._extent = extent_of(wishes["by_k"], wishes["spectrum"])
        if options.features not in FEATURES:
            msg = f"features is {options.features!r}; {', '.join(map(repr, FEATURES))} are known"
            raise ValueError(msg)
        self._model, self._loader = model, loader
        self._options, self._wishes = options, wishes
        self.layer = last_linear(model) if layer is None else layer
        self.is_chosen = layer is not None
        self._below: FeatureLayer | None = None
        self.notes: tuple[str, ...] = ()
        with self._watch() as head:
            if not is_head(head.layer):
                msg = f"layer {head.name} is a {type(head.layer).__name__}; a torch.nn.Linear is expected"
                raise TypeError(msg)
            self.layer_name = head.name

    def evaluate(self) -> Evaluated:
        """Run the model over the loader.

        Raises
        ------
        TypeError, ValueError, RuntimeError
            What the loader or the layer gives cannot be measured.
        """
        group = self._options.group
        with evaluating(self._model, self._loader):
            self._choose_layer()
            with self._watch() as head, UsedHead(head.name, head.layer) as used, self._looking_below(head.layer):
                batches = HeadBatches(
                    self._loader, self._options.split, self._run, head=head, nonfinite=self._options.nonfinite
                )
                report = self._measured(batches, used)
                divergence = notes_on_nonfinite(report, used)
                covariance = batches.target_covariance(group)
        report = replace(report, notes=(*report.notes, *self.notes, *divergence))
        return Evaluated(report, used.finite()[0], covariance, tuple(divergence), self._slope())

    def restore(self, layer: str, notes: tuple[str, ...]) -> None:
        """Take the layer that an earlier evaluation has found.

        Parameters
        ----------
        layer : str
            Its name; empty where none has been found.
        notes : tuple of str

        Raises
        ------
        ValueError
            The model has no such layer, or another one was named.
        """
        if not layer:
            return
        if self.is_chosen and layer != self.layer_name:
            msg = f"the state is that of a monitor of layer {layer} and this one is of {self.layer_name}; give the same"
            raise ValueError(msg)
        if not self.is_chosen:
            find_layer(require_library("torch", "torch"), self._model, layer)
            self.layer = self.layer_name = layer
        self.notes, self.is_chosen = notes, True

    def _run(self, inputs: object) -> object:
        placed = beside_model(self._model, inputs)
        with self._options.context():
            if self._options.run is not None:
                return self._options.run(runnable(self._model), placed)
            return run_model(runnable(self._model), placed)

    def _watch(self) -> WatchedLayer:
        # A watch of its own for every evaluation: training passes are not slowed down.
        watched: WatchedLayers = watch(
            self._model,
            [self.layer],
            nonfinite="raise",
            positions=self._options.positions,
            mask=self._options.mask,
        )
        return next(iter(watched.values()))

    def _looking_below(self, head: Module) -> AbstractContextManager[None]:
        """Find the linear layer that makes the features, once, where there is an optimizer to ask about its weights."""
        if not self._options.optimizers or (self._below is not None and self._below.is_seen):
            return nullcontext()
        self._below = FeatureLayer(self._model, head)
        return self._below.watching()

    def _slope(self) -> Slope:
        if self._below is None or self._below.layer is None:
            return UNKNOWN_SLOPE
        return slope_of_weight(self._options.optimizers, self._below.layer.weight)

    def _choose_layer(self) -> None:
        """Where no layer was named: the one whose output is the model's, from the first batch."""
        if self.is_chosen:
            return
        first = next(iter(self._loader), None)
        if first is None:
            return
        inputs, targets = self._options.split(first)
        state = KeptState(self._model)
        self.layer, self.notes = choose_head(self._model, targets, lambda: self._run(inputs))
        state.restore()
        self.layer_name, self.is_chosen = self.layer, True

    def _measured(self, batches: HeadBatches, used: UsedHead) -> Report:
        """The report of an evaluation; one of NaN where no row is finite and such rows are to be left out."""
        try:
            return self._report_of(batches, used)
        except ValueError:
            rows, finite = batches.counts(self._options.group)
            if self._options.nonfinite == "raise" or finite or not rows:
                raise
            return unknown_report(batches, rows, self._wishes["convention"], self._extent)

    def _report_of(self, batches: HeadBatches, used: UsedHead) -> Report:
        group, nonfinite = self._options.group, self._options.nonfinite
        if self._options.features == "again":
            batches.look()
            W, b = self._weights_of(used)
            return measure(batches, W=W, b=b, group=group, nonfinite=nonfinite, **self._wishes)
        if self._options.features == "held":
            import torch

            parts = list(batches)
            H, Y = (torch.cat(part) if len(parts) > 1 else part[0] for part in zip(*parts, strict=True))
            W, b = self._weights_of(used)
            return measure(H, Y, W, b, group=group, nonfinite=nonfinite, **self._wishes)
        statistics: FeatureStatistics | None = None
        for H, Y in batches:
            if statistics is None:
                n, d = batches.n_and_d
                statistics = FeatureStatistics(d, n_targets=n, nonfinite=nonfinite)
            statistics.update(H, Y)
        assert statistics is not None  # a loader without batches is an error
        if group is not None:
            statistics.all_reduce(group)
        return statistics.report(*self._weights_of(used), **self._wishes)

    def _weights_of(self, used: UsedHead) -> tuple[Tensor | None, Tensor | None]:
        """Weights and bias for a report: where rows that are not finite are left out, so are such weights."""
        return (used.weights, used.bias) if self._options.nonfinite == "raise" else used.finite()
