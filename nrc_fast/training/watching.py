"""`watch`: the statistics of what a layer is given, while its model trains or runs."""

from __future__ import annotations

import inspect
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any, TypedDict, overload

import numpy as np

from nrc_fast.base.arrays import Array
from nrc_fast.base.libraries import require_library
from nrc_fast.base.options import require_nonfinite, require_precision
from nrc_fast.base.processes import Team
from nrc_fast.kernels.placement import rows_in_place
from nrc_fast.measurement.feature_statistics import FeatureStatistics
from nrc_fast.reports.features import Report
from nrc_fast.training.evaluation import current_evaluation, require_module, unwrapped
from nrc_fast.training.gathering import GatheredRows, Kind, kind_of_batch
from nrc_fast.training.heads import head_of
from nrc_fast.training.hooks import ArgumentHook, Arguments, Keywords, LayerHook
from nrc_fast.training.layer_rows import POSITIONS, layer_rows
from nrc_fast.training.named_layers import find_layer

if TYPE_CHECKING:
    from torch import Tensor
    from torch.distributed import ProcessGroup
    from torch.nn import Module
    from typing_extensions import Self

__all__ = ["WatchedLayer", "WatchedLayers", "watch"]

MODES = ("any", "train", "eval")


class SumOptions(TypedDict):
    """What the statistics of a layer are made with, see `nrc_fast.FeatureStatistics`."""

    unit_rows: bool
    precision: str
    nonfinite: str


@overload
def watch(
    model: Module,
    layers: None = None,
    *,
    every: int = ...,
    max_rows: int | None = ...,
    positions: str | None = ...,
    mask: str | Callable[[], Array] | None = ...,
    mode: str = ...,
    unit_rows: bool = ...,
    precision: str = ...,
    nonfinite: str = ...,
) -> WatchedLayer: ...


@overload
def watch(
    model: Module,
    layers: Sequence[str | Module],
    *,
    every: int = ...,
    max_rows: int | None = ...,
    positions: str | None = ...,
    mask: str | Callable[[], Array] | None = ...,
    mode: str = ...,
    unit_rows: bool = ...,
    precision: str = ...,
    nonfinite: str = ...,
) -> WatchedLayers: ...


def watch(
    model: Module,
    layers: Sequence[str | Module] | None = None,
    *,
    every: int = 1,
    max_rows: int | None = None,
    positions: str | None = None,
    mask: str | Callable[[], Array] | None = None,
    mode: str = "any",
    unit_rows: bool = True,
    precision: str = "high",
    nonfinite: str = "skip",
) -> WatchedLayer | WatchedLayers:
    """Add up the statistics of what layers are given, from now on until `close` or the end of a ``with`` block.

    A forward pre-hook reads the first tensor that the layer is called with, where it lies: no graph is kept, nothing is
    copied but what pooling or a mask selects, and weights, gradients and random states are never touched. Small batches
    on the host are copied and, up to a few megabytes, added up together, which costs less. On a CUDA device the pass
    does not wait for the sums, but for a mask it does, as that decides how many rows there are. Watches can be nested
    and know nothing of one another; what a `Monitor` or `measure_layers` runs is not seen, and copies of the model are
    not watched. In a model wrapped by DistributedDataParallel every process watches its own rows; `all_reduce` adds
    them up. Under torch.compile the watch must begin before the first call of the compiled model (hooks added later are
    not seen by it, which is torch's own rule). It stands in the compiled graph as an operator and does not break it.

    Parameters
    ----------
    model : torch.nn.Module
        The layer, or with `layers` the model that holds them.
    layers : sequence of str or torch.nn.Module, optional
        Names as in ``model.named_modules()``, without the prefixes of wrappers.
    every : int
        The first forward pass of a layer in the chosen `mode` is read, and then one of every so many.
    max_rows : int, optional
        Stop after so many rows of a layer; the last batch is cut.
    positions : {None, "mean", "each"}
        What to do where a sample has several positions: take the mean over them, or each as a row of its own. None:
        the mean over the pixels of maps (B, C, ...), which convolutions, poolings and norms over channels are given;
        each position of sequences (B, ..., d), which all other layers are given. A module that holds layers is given
        what suits the first of them that fits.
    mask : str or callable, optional
        Which positions of sequences count, (B, ...) and nonzero where they do: the name of the argument with which
        the model is called ("attention_mask"), or a function without arguments that returns it for this pass. It also
        holds for a layer that is given all positions as rows (N, d); one that is given a row for each sample has no
        positions to leave out.
    mode : {"any", "train", "eval"}
        Whether only passes of layers in training or in evaluation mode are counted.
    unit_rows, precision
        What is added up, and how precisely, see `nrc_fast.FeatureStatistics`.
    nonfinite : {"skip", "raise"}
        "skip", the default here, counts rows with NaN or infinite values and leaves them out, as a diverging step
        must not stop the training.

    Returns
    -------
    WatchedLayer, or WatchedLayers with `layers`
        A mapping from names to `WatchedLayer`. Both are context managers.

    Raises
    ------
    ImportError
        torch is not installed.
    TypeError, ValueError
        The model is no module, a layer is not in it, or an option is unknown. In a forward pass: what a layer is
        given does not fit the mask, the targets or what it was given before.
    RuntimeError
        In a forward pass: the layer is given a tensor on a device that this build has no kernels for; tensors are not
        moved behind your back.

    Examples
    --------
    >>> import torch
    >>> model = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.ReLU(), torch.nn.Linear(8, 2))
    >>> with torch.no_grad(), watch(model[2]) as features:
    ...     output = model(torch.randn(100, 4, generator=torch.Generator().manual_seed(0)))
    >>> features.count, 0.0 < features.report().nrc2 < 1.0
    (100, True)
    >>> with watch(model, layers=["0", "2"]) as watched:
    ...     output = model(torch.zeros(5, 4))
    >>> [(name, layer.statistics.d) for name, layer in watched.items()]
    [('0', 4), ('2', 8)]
    """
    torch = require_library("torch", "torch")
    require_module(model)
    _check_options(every, max_rows, positions, mode)
    _check_kinds(layers, mask)
    require_precision(precision)
    require_nonfinite(nonfinite)
    sums: SumOptions = {"unit_rows": unit_rows, "precision": precision, "nonfinite": nonfinite}
    layer = unwrapped(model)
    named = [(type(layer).__name__, layer)] if layers is None else [find_layer(torch, model, name) for name in layers]
    shared = _Mask(model, mask)
    watched = {
        name: WatchedLayer(
            module, name, every=every, max_rows=max_rows, positions=positions, mask=shared, mode=mode, sums=sums
        )
        for name, module in named
    }
    return WatchedLayers(watched, shared) if layers is not None else next(iter(watched.values()))


def _check_options(every: int, max_rows: int | None, positions: str | None, mode: str) -> None:
    if every < 1 or (max_rows is not None and max_rows < 1):
        msg = f"every is {every} and max_rows is {max_rows}; both count from 1 on"
        raise ValueError(msg)
    if positions not in POSITIONS:
        msg = f"positions is {positions!r}; None, 'mean' or 'each' is expected"
        raise ValueError(msg)
    if mode not in MODES:
        msg = f"mode is {mode!r}; {', '.join(map(repr, MODES))} are known"
        raise ValueError(msg)


def _check_kinds(layers: object, mask: object) -> None:
    if isinstance(layers, str):
        msg = f"layers is {layers!r}; a list of layers is expected, such as [{layers!r}]"
        raise TypeError(msg)
    if mask is not None and not isinstance(mask, str) and not callable(mask):
        msg = f"mask is a {type(mask).__name__}; the name of an argument of the model, or a function, is expected"
        raise TypeError(msg)


class _Mask:
    """The mask of the current forward pass."""

    def __init__(self, model: Module, mask: str | Callable[[], Array] | None) -> None:
        self._name = mask if isinstance(mask, str) else None
        self._current: Any = None
        self._function = mask if callable(mask) else None
        self._handle = None
        self._is_open = True
        self._evaluation = current_evaluation()
        self.hook: ArgumentHook | None = None
        if self._name is not None:
            self._parameters = list(inspect.signature(unwrapped(model).forward).parameters)
            self.hook = ArgumentHook(self._name, self._parameters, self._remember, self._keep)
            self._handle = unwrapped(model).register_forward_pre_hook(self.hook, with_kwargs=True)

    def _remember(self, module: Module, args: Arguments, kwargs: Keywords) -> None:
        del module
        if not self._is_open or current_evaluation() is not self._evaluation:
            return
        named = dict(zip(self._parameters, args, strict=False)) | dict(kwargs)
        if self._name not in named:
            msg = f"the model was called without {self._name!r}, which is to mask positions; it got {', '.join(named)}"
            raise ValueError(msg)
        self._current = named[self._name]

    def _keep(self, value: Tensor) -> None:
        """What a compiled graph calls, which may use the memory of the mask for something else later on."""
        if self._is_open and current_evaluation() is self._evaluation:
            self._current = value.clone()

    @property
    def is_empty(self) -> bool:
        return self._name is None and self._function is None

    def get(self) -> Array | None:
        return self._current if self._function is None else self._function()

    def close(self) -> None:
        self._current, self._is_open = None, False
        if self._handle is not None:
            self._handle.remove()


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
        Forward passes in the chosen mode, read or not.
    on_rows : callable or None
        Is given the rows and targets instead of the statistics.
    on_first : callable or None
        Called at the first pass.
    """

    def __init__(
        self,
        layer: Module,
        name: str,
        *,
        every: int,
        max_rows: int | None,
        positions: str | None,
        mask: _Mask,
        mode: str,
        sums: SumOptions,
    ) -> None:
        torch = require_library("torch", "torch")
        self.name = name
        self.layer = layer
        self.passes = 0
        self.on_rows: Callable[[Tensor, Any], None] | None = None
        self.on_first: Callable[[], None] | None = None
        self._every, self._max_rows, self._positions, self._mode = every, max_rows, positions, mode
        self._mask, self._options = mask, sums
        self._gathered: GatheredRows | None = None
        self._targets: Array | None = None
        self._targets_now: Array | None = None  # of the pass that is counted
        self._rows_read = 0
        self._is_open = True
        self._evaluation = current_evaluation()
        # A torch that does not tell which backward pass it is in is taken to be in none.
        self._graph_task = getattr(torch._C, "_current_graph_task_id", lambda: -1)
        hook = LayerHook(self._is_due, self._add_rows_of, self._take)
        if mask.hook is not None:
            hook.follow(mask.hook)
        self._handle = layer.register_forward_pre_hook(hook, with_kwargs=True)

    # ---- in a forward pass ----

    def _take(self, values: Tensor | None) -> None:
        """What a compiled graph calls."""
        if self._is_due():
            self._add_rows_of(values)

    def _is_due(self) -> bool:
        """Count a pass; whether it is one of those that are read."""
        # A compiled model may go on calling a hook that was removed.
        if not self._is_open or (self._mode != "any" and self.layer.training != (self._mode == "train")):
            return False
        # Inside a backward pass checkpointed activations, which were read before, are computed again.
        if self._graph_task() != -1 or current_evaluation() is not self._evaluation:
            return False
        targets, self._targets = self._targets, None
        passes, self.passes = self.passes, self.passes + 1
        if passes % self._every:
            return False
        self._targets_now = targets
        if passes == 0 and self.on_first is not None:
            self.on_first()
        return self._max_rows is None or self._rows_read < self._max_rows

    def _add_rows_of(self, values: Tensor | None) -> None:
        targets, self._targets_now = self._targets_now, None
        if values is None:
            msg = f"layer {self.name} was called without a tensor; there are no features to read"
            raise TypeError(msg)
        takes_all = self._max_rows is None and self.on_rows is None and self._mask.is_empty
        kind = kind_of_batch(values, targets) if takes_all else None
        count = None if self._gathered is None else self._gathered.add_like(kind, values, targets)
        if count is not None:
            self._rows_read += count
            return
        given = values.detach()
        H, Y = layer_rows(self.layer, given, targets, positions=self._positions, mask=self._mask.get(), name=self.name)
        if self._max_rows is not None:
            room = self._max_rows - self._rows_read
            H, Y = H[:room], None if Y is None else Y[:room]
        self._rows_read += len(H)
        if self.on_rows is not None:
            self.on_rows(H, Y)
        else:
            self._add(H, Y, kind if H is given else None)

    def _add(self, H: Tensor, Y: Tensor | None, kind: Kind | None) -> None:
        if self._gathered is None:
            n_targets = 0 if Y is None else (1 if Y.ndim == 1 else int(Y.shape[1]))
            self._gathered = GatheredRows(FeatureStatistics(int(H.shape[1]), n_targets=n_targets, **self._options))
        if Y is None and self._gathered.n_targets:
            msg = (
                f"layer {self.name} was watched with targets and is now given a batch without them; call set_targets "
                "before every forward pass, or watch the passes of one mode only (mode='train' or 'eval'). A layer "
                "that is called several times in a pass can only be watched without targets"
            )
            raise ValueError(msg)
        features = rows_in_place(H, "H")
        self._gathered.add(features, None if Y is None else rows_in_place(Y, "Y", vector_is_column=True), kind)

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
        if self._gathered is None:
            msg = (
                f"layer {self.name} was given nothing in the watched passes; run its model while it is watched (torch."
                "compile only after the watch has begun)"
            )
            raise RuntimeError(msg)
        return self._gathered.statistics

    @property
    def count(self) -> int:
        """Rows that were added."""
        return 0 if self._gathered is None else self._gathered.statistics.count

    def report(self, W: Array | None = None, b: Array | None = None, **options: Any) -> Report:
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
        if W is None and b is None and not self._has_other_outputs(statistics):
            W, b = head_of(self.layer)
        return statistics.report(W, b, **options)

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
        own = None if self._gathered is None else self._gathered.statistics
        sizes = Team(group).first(None if own is None else np.array([own.d, own.n_targets], dtype=np.float64), 2)
        if sizes is None:
            msg = f"layer {self.name} was given nothing in any process of the group"
            raise RuntimeError(msg)
        if own is None:
            self._gathered = GatheredRows(FeatureStatistics(int(sizes[0]), n_targets=int(sizes[1]), **self._options))
        self.statistics.all_reduce(group)
        return self

    def reset(self) -> WatchedLayer:
        """Forget all rows and passes; returns itself."""
        self._gathered, self._targets, self.passes, self._rows_read = None, None, 0, 0
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

    def __init__(self, layers: dict[str, WatchedLayer], mask: _Mask) -> None:
        self._layers, self._mask = layers, mask

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
