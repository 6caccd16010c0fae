"""Layers that are watched: what they are given, added up, for as long as they are watched."""

from __future__ import annotations

import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from types import TracebackType
from typing import TYPE_CHECKING, Any

import numpy as np

from nrc_fast.base.arrays import Array
from nrc_fast.base.libraries import require_library
from nrc_fast.base.processes import Team
from nrc_fast.kernels.placement import rows_in_place
from nrc_fast.measurement.feature_statistics import FeatureStatistics, ReportOptions
from nrc_fast.reports.features import Report
from nrc_fast.training.evaluation import current_evaluation
from nrc_fast.training.gathering import GatheredRows, Kind, kind_of_batch
from nrc_fast.training.given_features import GivenFeatures, UnreadableError, readable
from nrc_fast.training.heads import head_of, notes_on_network
from nrc_fast.training.hooks import Arguments, Keywords, LayerHook
from nrc_fast.training.layer_axes import Surroundings
from nrc_fast.training.layer_rows import layer_rows, padded
from nrc_fast.training.model_passes import ModelPasses, is_read
from nrc_fast.training.pass_mask import PassMask
from nrc_fast.training.watch_options import WatchOptions

if TYPE_CHECKING:
    from torch import Tensor
    from torch.distributed import ProcessGroup
    from torch.nn import Module
    from torch.nn.utils.rnn import PackedSequence
    from typing_extensions import Self, Unpack

__all__ = ["WatchedLayer", "WatchedLayers"]


class _Closing(ABC):
    """What is closed at the end of a ``with`` block."""

    @abstractmethod
    def close(self) -> None:
        """Stop watching."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()


class WatchedLayer(_Closing):
    """What one layer is given, added up; made by `watch`.

    Attributes
    ----------
    name : str
    layer : torch.nn.Module
    passes : int
        Calls of the layer in the chosen mode, read or not.
    left_out : int
        Calls that could not be read, such as those with nested tensors; a warning tells why, once.
    on_rows : callable or None
        Is given the rows and targets instead of the statistics.
    on_first : callable or None
        Called at the first pass.
    """

    __module__ = "nrc_fast"

    def __init__(
        self,
        layer: Module,
        name: str,
        options: WatchOptions,
        *,
        mask: PassMask,
        model: Module,
        passes: ModelPasses | None,
    ) -> None:
        self.name = name
        self.layer = layer
        self.passes = 0
        self.left_out = 0
        self.on_rows: Callable[[Tensor, Any], None] | None = None
        self.on_first: Callable[[], None] | None = None
        self._options, self._mask, self._model_passes = options, mask, passes
        self._is_whole = layer is model
        self._surroundings = Surroundings(layer, model)
        self._given = GivenFeatures(layer, options.features)
        self._gathered: GatheredRows | None = None
        self._width: int | None = None
        self._targets: Array | None = None
        self._targets_now: Array | None = None  # of the pass that is counted
        self._reason = ""
        self._is_open = True
        self._evaluation = current_evaluation()
        self._last_pass: int | None = None
        self._reads, self._rows_read, self._counted = False, 0, 0
        torch = require_library("torch", "torch")
        # A torch that does not tell which backward pass it is in, or which transform, is taken to be in none.
        self._graph_task = getattr(torch._C, "_current_graph_task_id", lambda: -1)
        self._transform = getattr(torch._C._functorch, "peek_interpreter_stack", lambda: None)
        hook = LayerHook(self._given, self._is_due, self._read, self._take)
        if mask.hook is not None:
            hook.follow(mask.hook)
        self._handle = layer.register_forward_pre_hook(hook, with_kwargs=True)

    # ---- in a forward pass ----

    def _take(self, values: Tensor | None) -> None:
        """What a compiled graph calls."""
        if self._is_due():
            self._try(self._add_rows_of, values)

    def _read(self, args: Arguments, kwargs: Keywords) -> None:
        self._try(self._add_rows_given, args, kwargs)

    def _is_due(self) -> bool:
        """Count a call; whether it is in one of the passes that are read."""
        mode = self._options.mode
        # A compiled model may go on calling a hook that was removed.
        if not self._is_open or (mode != "any" and self.layer.training != (mode == "train")):
            return False
        # Inside a backward pass checkpointed activations, which were read before, are computed again.
        if self._graph_task() != -1 or current_evaluation() is not self._evaluation:
            return False
        targets, self._targets = self._targets, None
        self.passes += 1
        current = None if self._model_passes is None else self._model_passes.current
        if current is None or current != self._last_pass:
            self._last_pass = current
            self._reads = is_read(self._counted, self._options.every)
            self._counted += 1
        if not self._reads:
            return False
        self._targets_now = targets
        if self.passes == 1 and self.on_first is not None:
            self.on_first()
        return self._options.max_rows is None or self._rows_read < self._options.max_rows

    def _try(self, add: Callable[..., None], *given: object) -> None:
        """Add what a pass gives; one that cannot be read is counted and told once, and the model goes on."""
        try:
            if self._transform() is not None:
                msg = f"layer {self.name} runs inside a transform of torch.func, where tensors have no values yet"
                raise UnreadableError(msg)
            add(*given)
        except UnreadableError as error:
            self._targets_now = None
            self.left_out += 1
            if not self._reason:
                self._reason = str(error)
                warnings.warn(f"{error}. Such passes are left out (told once)", stacklevel=2)

    def _add_rows_given(self, args: Arguments, kwargs: Keywords) -> None:
        try:
            given = self._given.find(args, kwargs)
        except Exception as error:  # of the user's function, or of an object that is no container after all
            msg = f"the features of layer {self.name} were not found: {type(error).__name__}: {error}"
            raise UnreadableError(msg) from error
        self._add_rows_of(given)

    def _add_rows_of(self, given: Tensor | PackedSequence | None) -> None:
        targets, self._targets_now = self._targets_now, None
        import torch

        steps: Tensor | None = None
        if given is not None and not isinstance(given, torch.Tensor):
            given, steps = padded(given, time_first=bool(self._surroundings.is_time_first))
        values = readable(given, self.name)
        takes_all = self._options.max_rows is None and self.on_rows is None and self._mask.is_empty and steps is None
        kind = kind_of_batch(values, targets) if takes_all else None
        count = None if self._gathered is None else self._gathered.add_like(kind, values, targets)
        if count is not None:
            self._rows_read += count
            return
        values = values.detach()
        mask = self._mask.get()
        H, Y = layer_rows(
            self.layer,
            values,
            targets,
            positions=self._options.positions,
            mask=steps if mask is None else mask,
            surroundings=self._surroundings,
            name=self.name,
        )
        if self._options.max_rows is not None:
            room = self._options.max_rows - self._rows_read
            H, Y = H[:room], None if Y is None else Y[:room]
        self._rows_read += len(H)
        if self.on_rows is not None:
            self.on_rows(H, Y)
        else:
            self._add(H, Y, kind if H is values else None)

    def _add(self, H: Tensor, Y: Tensor | None, kind: Kind | None) -> None:
        if self._width is not None and H.shape[1] != self._width:
            msg = f"layer {self.name} is given {H.shape[1]} features and was given {self._width} before"
            raise UnreadableError(msg)
        if self._gathered is None:
            self._width = int(H.shape[1])
            n_targets = 0 if Y is None else (1 if Y.ndim == 1 else int(Y.shape[1]))
            self._gathered = GatheredRows(self._empty(int(H.shape[1]), n_targets))
        if Y is None and self._gathered.n_targets:
            msg = (
                f"layer {self.name} was watched with targets and is now given a batch without them; call set_targets "
                "before every forward pass, or watch the passes of one mode only (mode='train' or 'eval'). A layer "
                "that is called several times in a pass can only be watched without targets"
            )
            raise ValueError(msg)
        features = rows_in_place(H, "H")
        self._gathered.add(features, None if Y is None else rows_in_place(Y, "Y", vector_is_column=True), kind)

    def _empty(self, d: int, n_targets: int) -> FeatureStatistics:
        return FeatureStatistics(d, n_targets=n_targets, **self._options.sums)

    # ---- for the user ----

    def __repr__(self) -> str:
        state = "watched" if self._is_open else "closed"
        return f"<WatchedLayer {self.name}, {state}: {self.passes:,} passes, {self._rows_read:,} rows read>"

    def set_targets(self, Y: Array) -> None:
        """Give the targets of the next forward pass, and of that pass only.

        Parameters
        ----------
        Y : (B,) or (B, n) tensor or array
            One for each sample; (B, ..., n) where every position is a row.
        """
        self._targets = Y

    @property
    def statistics(self) -> FeatureStatistics:
        """What was added up so far: ask again for what the passes after it have added.

        Raises
        ------
        RuntimeError
            The layer was given nothing yet.
        """
        gathered = self._gathered
        if gathered is None:
            left = (
                f"all {self.left_out:,} calls were left out: {self._reason}"
                if self.left_out
                else ("run its model while it is watched (torch.compile only after the watch has begun)")
            )
            msg = f"layer {self.name} was given nothing in the watched passes; {left}"
            raise RuntimeError(msg)
        return gathered.statistics

    @property
    def is_read(self) -> bool:
        """Whether rows were read."""
        return self._gathered is not None

    @property
    def count(self) -> int:
        """Rows that were added."""
        gathered = self._gathered
        return 0 if gathered is None else gathered.statistics.count

    def report(self, W: Array | None = None, b: Array | None = None, **options: Unpack[ReportOptions]) -> Report:
        """Every metric that the statistics allow.

        Parameters
        ----------
        W, b : arrays or tensors, optional
            Weights and bias; by default those of the watched layer itself, as they are now, where it is a
            ``torch.nn.Linear``; a layer without bias has zeros.
        **options
            Options of `nrc_fast.FeatureStatistics.report`.

        Returns
        -------
        Report

        Raises
        ------
        TypeError, ValueError, RuntimeError
            Weights or options do not fit, see `nrc_fast.FeatureStatistics.report`; RuntimeError where nothing was read.
        """
        statistics = self.statistics
        notes = notes_on_network(self.layer, self.name) if W is None and self._is_whole else ()
        if W is None and b is None and not self._has_other_outputs(statistics):
            W, b = head_of(self.layer)
        report = statistics.report(W, b, **options)
        return replace(report, notes=(*report.notes, *notes))

    def _has_other_outputs(self, statistics: FeatureStatistics) -> bool:
        """Whether the layer is no last layer: it has other outputs than there are targets."""
        return statistics.n_targets > 0 and getattr(self.layer, "out_features", 0) != statistics.n_targets

    def all_reduce(self, group: ProcessGroup | None = None) -> WatchedLayer:
        """Add up what the processes of a group have read; a process that has read nothing must call it too.

        Raises
        ------
        RuntimeError
            torch.distributed was not initialised, or no process has read anything.
        """
        if not self.all_reduce_if_read(group):
            msg = f"layer {self.name} was given nothing in any process of the group"
            raise RuntimeError(msg)
        return self

    def all_reduce_if_read(self, group: ProcessGroup | None = None) -> bool:
        """As `all_reduce`, but where no process has read anything this returns False and does nothing."""
        own = None if self._gathered is None else self._gathered.statistics
        sizes = Team(group).first(None if own is None else np.array([own.d, own.n_targets], dtype=np.float64), 2)
        if sizes is None:
            return False
        if own is None:
            self._gathered = GatheredRows(self._empty(int(sizes[0]), int(sizes[1])))
        self.statistics.all_reduce(group)
        return True

    def reset(self) -> WatchedLayer:
        """Forget all rows and passes; returns itself."""
        self._gathered, self._targets, self._width, self.passes, self.left_out = None, None, None, 0, 0
        self._last_pass, self._rows_read, self._counted = None, 0, 0
        return self

    def close(self) -> None:
        """Stop watching; what was added up stays. Closing twice does nothing."""
        self._is_open = False
        self._handle.remove()
        if self._gathered is not None:
            self._gathered.flush()
        self._mask.close()


class WatchedLayers(_Closing, Mapping[str, WatchedLayer]):
    """Several layers of one model, by name, in the order in which they were named; made by `watch`."""

    __module__ = "nrc_fast"

    def __init__(self, layers: dict[str, WatchedLayer], mask: PassMask, passes: ModelPasses | None) -> None:
        self._layers, self._mask, self._passes = layers, mask, passes

    def __repr__(self) -> str:
        return f"<WatchedLayers {', '.join(map(repr, self.values()))}>"

    def __getitem__(self, name: str) -> WatchedLayer:
        return self._layers[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._layers)

    def __len__(self) -> int:
        return len(self._layers)

    def set_targets(self, Y: Array) -> None:
        """Give the targets of the next forward pass to every layer."""
        for layer in self.values():
            layer.set_targets(Y)

    def reset(self) -> WatchedLayers:
        """Forget all rows; returns itself."""
        for layer in self.values():
            layer.reset()
        return self

    def close(self) -> None:
        """Stop watching; what was added up stays."""
        for layer in self.values():
            layer.close()
        self._mask.close()
        if self._passes is not None:
            self._passes.close()
