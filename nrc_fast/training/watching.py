"""`watch`: the statistics of what a layer is given, while its model trains or runs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from types import ModuleType
from typing import TYPE_CHECKING, get_args, overload

from nrc_fast.base.arrays import Array
from nrc_fast.base.libraries import require_library
from nrc_fast.base.options import NonFinite, Precision, require_nonfinite, require_precision
from nrc_fast.training.evaluation import require_module, unwrapped
from nrc_fast.training.given_features import FeatureChoice
from nrc_fast.training.layer_rows import POSITIONS, Positions
from nrc_fast.training.model_passes import ModelPasses
from nrc_fast.training.named_layers import find_layer, named_layers
from nrc_fast.training.pass_mask import PassMask
from nrc_fast.training.watch_options import Mode, SumOptions, WatchOptions
from nrc_fast.training.watched_layers import WatchedLayer, WatchedLayers

if TYPE_CHECKING:
    from torch.nn import Module

__all__ = ["watch"]

MODES: tuple[str, ...] = get_args(Mode)


@overload
def watch(
    model: Module,
    layers: None = None,
    *,
    every: int = ...,
    max_rows: int | None = ...,
    positions: Positions | None = ...,
    mask: str | Callable[[], Array] | None = ...,
    mode: Mode = ...,
    features: FeatureChoice = ...,
    unit_rows: bool = ...,
    precision: Precision = ...,
    nonfinite: NonFinite = ...,
) -> WatchedLayer: ...


@overload
def watch(
    model: Module,
    layers: Sequence[str | Module],
    *,
    every: int = ...,
    max_rows: int | None = ...,
    positions: Positions | None = ...,
    mask: str | Callable[[], Array] | None = ...,
    mode: Mode = ...,
    features: FeatureChoice = ...,
    unit_rows: bool = ...,
    precision: Precision = ...,
    nonfinite: NonFinite = ...,
) -> WatchedLayers: ...


def watch(
    model: Module,
    layers: Sequence[str | Module] | None = None,
    *,
    every: int = 1,
    max_rows: int | None = None,
    positions: Positions | None = None,
    mask: str | Callable[[], Array] | None = None,
    mode: Mode = "any",
    features: FeatureChoice = None,
    unit_rows: bool = True,
    precision: Precision = "high",
    nonfinite: NonFinite = "skip",
) -> WatchedLayer | WatchedLayers:
    """Add up the statistics of what layers are given, from now on until ``close()`` or the end of a ``with`` block.

    A forward pre-hook reads the features that the layer is called with, where they lie: no graph is kept, nothing is
    copied but what pooling or a mask selects, and weights, gradients and random states are never touched. Small batches
    on the host are copied and, up to a few megabytes, added up together, which costs less. On a CUDA device the pass
    does not wait for the sums, but for a mask it does, as that decides how many rows there are. Watches can be nested
    and know nothing of one another; what a `Monitor` or `measure_layers` runs is not seen, and copies of the model are
    not watched. Passes that cannot be read (nested tensors, transforms of torch.func, layers that are given no floats,
    or features on an axis that cannot be told) are left out and counted, and a warning says so once. In a model wrapped
    by DistributedDataParallel every process watches its own rows; ``all_reduce()`` adds them up. Under torch.compile
    the watch must begin before the first call of the compiled model (hooks added later are not seen by it, which is
    torch's own rule). It stands in the compiled graph as an operator and does not break it.

    Parameters
    ----------
    model : torch.nn.Module
        The layer, or with `layers` the model that holds them.
    layers : sequence of str or torch.nn.Module, optional
        Names as in ``model.named_modules()``, without the prefixes of wrappers.
    every : int
        The first forward pass of the model in which a layer is called in the chosen `mode` is read, and then one of
        every so many, now earlier and now later, so that passes that alternate are read alike. All calls of a layer in
        such a pass are read. Calls outside of a pass of the model count as passes.
    max_rows : int, optional
        Stop after so many rows of a layer; the last batch is cut.
    positions : {None, "mean", "each", "last"}
        What to do where a sample has several positions: take the mean over them, each as a row of its own, or the last
        that counts, which decoders predict from. Layers with ``batch_first=False``, and those inside of transformers
        with it, are given sequences (T, B, d). None:
        the mean over the pixels of maps (B, C, ...), which convolutions, poolings and norms over channels are given;
        each position of sequences (B, ..., d), which all other layers are given. A module that holds layers is given
        what suits the first of them that fits, and one that does not say, what the layers before and after it in the
        model say.
    mask : str or callable, optional
        Which positions of sequences count, (B, ...) and nonzero where they do: the name of the argument with which
        the model is called ("attention_mask"), or a function without arguments that returns it for this pass. It also
        holds for a layer that is given all positions as rows (N, d); one that is given a row for each sample has no
        positions to leave out.
    mode : {"any", "train", "eval"}
        Whether only passes of layers in training or in evaluation mode are counted.
    features : str, int or callable, optional
        Which of the things that a layer is called with are its features: the name of an argument, a key or index inside
        of a tuple or mapping, or a function that is called as the layer is and returns them. By default the first
        tensor of floats in the order of the layer's signature, inside of tuples, mappings and packed sequences too;
        what is called a mask is none.
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
    _check_kinds(layers, mask, features)
    require_precision(precision)
    require_nonfinite(nonfinite)
    sums: SumOptions = {"unit_rows": unit_rows, "precision": precision, "nonfinite": nonfinite}
    options = WatchOptions(every, max_rows, positions, mode=mode, features=features, sums=sums)
    whole = unwrapped(model)
    named = [(type(whole).__name__, whole)] if layers is None else [find_layer(torch, model, name) for name in layers]
    _check_called(torch, model, named)
    shared = PassMask(model, mask)
    passes = ModelPasses(whole) if layers is not None and every > 1 else None
    watched = {
        name: WatchedLayer(module, name, options, mask=shared, model=whole, passes=passes) for name, module in named
    }
    return WatchedLayers(watched, shared, passes) if layers is not None else next(iter(watched.values()))


def _check_called(torch: ModuleType, model: Module, named: Sequence[tuple[str, Module]]) -> None:
    """Check that layers are called by torch's modules, which tell, and not by compiled code."""
    scripted = [name for name, module in named_layers(model) if isinstance(module, torch.jit.ScriptModule)]
    inside = tuple(f"{name}." for name in scripted if name)
    for name, layer in named:
        is_compiled = isinstance(layer, torch.jit.ScriptModule)
        if is_compiled and isinstance(layer, torch.jit.TopLevelTracedModule) and not name.startswith(inside):
            continue
        if is_compiled or name.startswith(inside):
            msg = (
                f"layer {name} is part of a scripted or traced model, which runs its layers unseen: watch the model "
                "that it was made from"
            )
            raise ValueError(msg)


def _check_options(every: int, max_rows: int | None, positions: Positions | None, mode: str) -> None:
    if every < 1 or (max_rows is not None and max_rows < 1):
        msg = f"every is {every} and max_rows is {max_rows}; both count from 1 on"
        raise ValueError(msg)
    if positions not in POSITIONS:
        msg = f"positions is {positions!r}; None, 'mean', 'each' or 'last' is expected"
        raise ValueError(msg)
    if mode not in MODES:
        msg = f"mode is {mode!r}; {', '.join(map(repr, MODES))} are known"
        raise ValueError(msg)


def _check_kinds(layers: object, mask: object, features: object) -> None:
    if isinstance(layers, str):
        msg = f"layers is {layers!r}; a list of layers is expected, such as [{layers!r}]"
        raise TypeError(msg)
    if mask is not None and not isinstance(mask, str) and not callable(mask):
        msg = f"mask is a {type(mask).__name__}; the name of an argument of the model, or a function, is expected"
        raise TypeError(msg)
    if features is not None and not isinstance(features, (str, int)) and not callable(features):
        msg = f"features is a {type(features).__name__}; a name, a key, an index or a function is expected"
        raise TypeError(msg)
