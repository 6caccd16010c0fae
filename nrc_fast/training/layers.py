"""`measure_layers`: the four conditions of arXiv 2603.23805 for every layer, in one pass over the data.

They have names of their own here (noise fraction, signal alignment, weight alignment, linear readout), because the
paper calls them NRC1 to NRC4 although they differ from the NRC1 to NRC3 of the rest of this package.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, TypedDict

import numpy as np

from nrc_fast.base.arrays import Array, FloatArray
from nrc_fast.base.linalg import EPSILON, covariance_spectrum
from nrc_fast.base.options import Precision
from nrc_fast.base.processes import Team
from nrc_fast.kernels.devices import placed_beside
from nrc_fast.measurement.bound_grounds import OF_TARGETS
from nrc_fast.measurement.layer_conditions import layer_collapse
from nrc_fast.measurement.undefined import notes_of_layers
from nrc_fast.metrics.grounds import ALONG_ROWS, DECOMPOSITION
from nrc_fast.metrics.spectra import stable_rank, stable_rank_bound
from nrc_fast.reports.bound_kinds import sorted_grounds
from nrc_fast.reports.layers import COLLAPSED_NOISE, DeepReport, LayerCollapse
from nrc_fast.training.evaluation import (
    Split,
    beside_model,
    evaluating,
    require_module,
    run_model,
    runnable,
    split_batch,
)
from nrc_fast.training.given_features import FeatureChoice
from nrc_fast.training.layer_balance import balance_below
from nrc_fast.training.layer_rows import Positions
from nrc_fast.training.named_layers import named_layers
from nrc_fast.training.watched_layers import WatchedLayer, WatchedLayers
from nrc_fast.training.watching import watch

if TYPE_CHECKING:
    from torch.distributed import ProcessGroup
    from torch.nn import Module

__all__ = ["measure_layers"]


class _WatchOptions(TypedDict):
    positions: Positions | None
    mask: str | Callable[[], Array] | None
    features: FeatureChoice
    precision: Precision


def measure_layers(
    model: Module,
    loader: Iterable[object],
    layers: Sequence[str | Module] | None = None,
    *,
    n: int | None = None,
    threshold: float = COLLAPSED_NOISE,
    precision: Precision = "highest",
    positions: Positions | None = None,
    mask: str | Callable[[], Array] | None = None,
    features: FeatureChoice = None,
    split: Split = split_batch,
    group: ProcessGroup | None = None,
) -> DeepReport:
    """Deep NRC of the features that the layers of a model are given, in one pass over a loader for all of them.

    The model is run in evaluation mode without gradients and left as it was, with all random states. Maps of
    convolutions are averaged over their pixels, as in the paper, unless `positions` says otherwise. Memory is that of
    one batch and a d x d matrix for each layer.

    Parameters
    ----------
    model : torch.nn.Module
    loader : iterable of batches
        Pairs of inputs and targets, or mappings; see `nrc_fast.training.evaluation.split_batch`.
    layers : sequence of str or torch.nn.Module, optional
        By default every ``torch.nn.Linear`` and convolution; those that are not called are left out, and a note of the
        report names them.
    n : int, optional
        How many components count as signal; by default the target dimension. Layers with fewer features use these.
    threshold : float
        Noise fraction below which a layer counts as collapsed.
    precision : {"highest", "high", "fast"}
        Precision of the products, see `nrc_fast.FeatureStatistics`. The rows are read once, so the default is float64
        throughout; with float32 products the bounds are wider and the readout leaves out directions of little variance.
    positions, mask, features
        Which positions count, and as what, and what of the arguments of a layer are its features, see `nrc_fast.watch`.
    split : callable, optional
        Takes a batch and returns what the model is called with, and the targets.
    group : torch.distributed.ProcessGroup, optional
        Every process gives its own samples and gets the report of all; one without samples has the layers in the
        order of their names in the model.

    Returns
    -------
    DeepReport

    Raises
    ------
    ImportError
        torch is not installed.
    TypeError, ValueError, RuntimeError
        The model, its layers or an option cannot be used, see `nrc_fast.watch`; ValueError for a loader without
        batches or a layer that is not used.

    References
    ----------
    arXiv 2603.23805 (Deep Neural Regression Collapse), section 3.

    Examples
    --------
    >>> import torch
    >>> generator = torch.Generator().manual_seed(0)
    >>> X = torch.randn(200, 4, generator=generator)
    >>> model = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.Tanh(), torch.nn.Linear(8, 2))
    >>> report = measure_layers(model, [(X, X[:, :2])])
    >>> [layer.name for layer in report.layers], report.samples
    (['0', '2'], 200)
    """
    require_module(model)
    chosen = [name for name, layer in named_layers(model) if _has_weights(layer)] if layers is None else layers
    order: list[str] = []
    options: _WatchOptions = {"positions": positions, "mask": mask, "features": features, "precision": precision}
    with evaluating(model, loader), watch(model, chosen, unit_rows=False, nonfinite="raise", **options) as watched:
        for name, layer in watched.items():
            layer.on_first = lambda name=name: order.append(name)
        errors = _run(model, loader, watched, split)
    if group is not None:
        errors = _sum_over(group, errors)
    if errors[1] == 0:
        msg = "the loader has no samples; there is nothing to measure"
        raise ValueError(msg)
    called = list(watched)
    if group is not None or layers is None:
        called = [name for name, layer in watched.items() if _is_called(layer, group) or layers is not None]
    called = called or list(watched)  # which says what is wrong
    order = [name for name in order if name in called] + [name for name in called if name not in order]
    found = tuple(_with_balance(_collapse_of(name, watched, n), model) for name in order)
    statistics, mse = watched[order[0]].statistics, float(errors[0] / errors[1])
    n, sigma = statistics.n_targets, statistics.target_covariance
    spectrum = covariance_spectrum(sigma)[0]
    rank_of_targets = stable_rank(spectrum)
    bounds = {
        "mse": (4.0 + (n * statistics.count) ** 0.5) * EPSILON * mse,
        "target_variance": n * statistics.target_error,
        "target_stable_rank": stable_rank_bound(
            rank_of_targets, float(spectrum[0]), len(spectrum), statistics.target_error
        ),
    }
    return DeepReport(
        layers=found,
        samples=int(errors[1]),
        n=n,
        mse=mse,
        target_variance=float(np.trace(sigma)),
        target_stable_rank=rank_of_targets,
        threshold=threshold,
        bounds=bounds,
        bound_grounds=sorted_grounds(dict.fromkeys(bounds, OF_TARGETS | DECOMPOSITION)),
        notes=(*_notes(watched, called), *notes_of_layers(found, mse, target_variance=float(np.trace(sigma)))),
    )


def _is_called(layer: WatchedLayer, group: ProcessGroup | None) -> bool:
    """Whether a layer was given rows, in any process of the group: theirs are added to its own."""
    if group is None:
        return layer.is_read
    return layer.all_reduce_if_read(group)


def _notes(watched: WatchedLayers, called: Sequence[str]) -> tuple[str, ...]:
    notes = []
    absent = [name for name in watched if name not in called]
    if absent:
        notes.append(
            f"Layers that were given nothing are left out ({', '.join(absent)}): the model does not call them in "
            "evaluation, or computes with their weights itself."
        )
    notes += [
        f"{layer.left_out:,} of {layer.passes:,} calls of {name} could not be read and are left out."
        for name, layer in watched.items()
        if layer.left_out and name in called
    ]
    return tuple(notes)


def _has_weights(layer: Module) -> bool:
    import torch

    return isinstance(layer, (torch.nn.Linear, torch.nn.modules.conv._ConvNd))


def _run(model: Module, loader: Iterable[object], watched: WatchedLayers, split: Split) -> FloatArray:
    """The network's squared errors, summed, and the number of samples."""
    import torch

    errors = np.zeros(2)
    for batch in loader:
        inputs, targets = split(batch)
        watched.set_targets(targets)
        outputs = run_model(runnable(model), beside_model(model, inputs))
        Y = torch.as_tensor(targets)
        matches = isinstance(outputs, torch.Tensor) and outputs.shape == Y.shape
        expected = placed_beside(Y, outputs)
        errors[0] += float((outputs.double() - expected.double()).square().sum()) if matches else math.nan
        errors[1] += len(Y)
    return errors


def _sum_over(group: ProcessGroup, values: FloatArray) -> FloatArray:
    Team(group).sum([values])
    return values


def _collapse_of(name: str, watched: WatchedLayers, n: int | None) -> LayerCollapse:
    layer, statistics = watched[name].layer, watched[name].statistics
    weights = getattr(layer, "weight", None)
    if getattr(layer, "transposed", False):
        weights = weights.transpose(0, 1) if weights is not None else None
    # Grouped convolutions see only some channels: there is no matrix of all inputs.
    if weights is not None and (weights.ndim < 2 or weights.shape[1] != statistics.d):
        weights = None
    components = None if n is None else min(n, statistics.d)
    return layer_collapse(statistics, None if weights is None else weights.detach(), n=components, name=name)


def _with_balance(layer: LayerCollapse, model: Module) -> LayerCollapse:
    """The same with the balance of its weights and those of the linear layer below."""
    found = balance_below(model, layer.name)
    if math.isnan(found.value):
        return layer
    grounds = {**layer.bound_grounds, "balance": tuple(ALONG_ROWS)}
    return replace(layer, balance=found.value, bounds={**layer.bounds, "balance": found.bound}, bound_grounds=grounds)
