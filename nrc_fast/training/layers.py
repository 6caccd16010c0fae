"""Deep neural regression collapse: the four conditions of arXiv 2603.23805 for every layer, in one pass over the data.

They have names of their own here (noise fraction, signal alignment, weight alignment, linear readout), because the
paper calls them NRC1 to NRC4 although they differ from the NRC1 to NRC3 of the rest of this package.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

import numpy as np

from nrc_fast.base.linalg import EPSILON, FloatArray, clipped_spectrum, covariance_spectrum, scale_to_unit
from nrc_fast.kernels.cuda.device import on_host, placed_beside
from nrc_fast.kernels.rows import as_matrix
from nrc_fast.metrics import residuals
from nrc_fast.metrics.targets import explained_variance_ratio, linear_cka, linear_readout_error, stable_rank
from nrc_fast.passes.moments import Moments
from nrc_fast.reports.features import NAN, without_nan
from nrc_fast.training.evaluation import evaluating, require_module, run_model, runnable, split_batch
from nrc_fast.training.watching import WatchedLayers, named_layers, watch

__all__ = ["COLLAPSED_NOISE", "DeepReport", "LayerCollapse", "first_collapsed", "layer_collapse", "measure_layers"]

# The paper marks the first collapsed layer without printing a threshold; this one is the project's.
COLLAPSED_NOISE = 0.05


@dataclass(frozen=True, eq=False)
class LayerCollapse:
    """The conditions of Deep NRC for the features that one layer is given.

    Attributes
    ----------
    name : str
        Of the layer that takes the features as its input.
    d : int
        Number of features; channels of a convolution.
    rank : int
        How many components count as signal: the target dimension unless another rank was given.
    noise_fraction : float
        ``1 - tr(U^T C U)/tr(C)``, U the leading eigenvectors of the covariance C of the features: the share of the
        variance outside them (NRC1 of the paper). 0 when collapsed.
    signal_alignment : float
        Linear CKA of the projected features ``U U^T h`` and the targets (NRC2 of the paper). Near 1 when collapsed;
        exactly 1 only for isotropic targets.
    weight_alignment : float
        Mean cosine of the principal angles between the span of U and the leading right singular vectors of W (NRC3 of
        the paper). 1 when collapsed. NaN for layers whose weights are no matrix of their inputs.
    linear_mse : float
        Least mean squared error of an affine readout of the targets, summed over the outputs (NRC4 of the paper, to
        be compared with the network's own).
    feature_stable_rank, weight_stable_rank : float
        ``sum s^2 / s_1^2`` over the eigenvalues of C, and over the singular values of W.
    bounds : mapping of str to float
        Absolute bound of the number of that name. One as large as what it bounds means that nothing is known: where
        the last component that counts as signal cannot be told from the next, no alignment is.
    """

    name: str
    d: int
    rank: int
    noise_fraction: float
    signal_alignment: float
    weight_alignment: float
    linear_mse: float
    feature_stable_rank: float
    weight_stable_rank: float
    bounds: Mapping[str, float] = field(default_factory=dict)


def layer_collapse(
    statistics: Moments, weights: Any = None, *, rank: int | None = None, name: str = ""
) -> LayerCollapse:
    r"""The conditions of Deep NRC from statistics of features and targets.

    Parameters
    ----------
    statistics : FeatureStatistics
        With targets. Their Gram matrix of unit rows is not needed.
    weights : (outputs, d) or (outputs, d, ...) array or tensor, optional
        Of the layer that takes the features; those of a convolution are flattened to (d, outputs times pixels).
    rank : int, optional
        How many components count as signal, by default the target dimension, at most d.
    name : str

    Returns
    -------
    LayerCollapse
        What is not defined (no variance, W = 0) is NaN.

    Raises
    ------
    ValueError
        There are no rows or no targets, the weights do not fit, or the rank is not in 1..d.

    References
    ----------
    arXiv 2603.23805 (Deep Neural Regression Collapse), section 3. The paper's code truncates the features to their
    first columns instead of projecting them, and reads out without an intercept; here both are as in its text, with
    centred features and targets.

    Examples
    --------
    >>> from nrc_fast import FeatureStatistics
    >>> rng = np.random.default_rng(0)
    >>> Y = rng.standard_normal((500, 2))
    >>> W = rng.standard_normal((2, 8))
    >>> layer = layer_collapse(FeatureStatistics(8, n_targets=2).update(Y @ W, Y), W)
    >>> layer.noise_fraction < 1e-14, round(layer.weight_alignment, 12), layer.linear_mse < 1e-12
    (True, 1.0, True)
    """
    if statistics.count == 0 or statistics.n_targets == 0:
        msg = f"the statistics have {statistics.count} rows and {statistics.n_targets} targets; both are needed"
        raise ValueError(msg)
    d = statistics.d
    signal = min(statistics.n_targets, d) if rank is None else rank
    if not 1 <= signal <= d:
        msg = f"rank is {rank}; a number of components between 1 and d = {d} is expected"
        raise ValueError(msg)
    sigma, cross = statistics.target_covariance, statistics.cross_covariance
    readable, vectors = statistics.readable_spectrum()
    eigenvalues = clipped_spectrum(statistics.spectrum()[0])
    leading = vectors[:, :signal]
    error = statistics.covariance_error
    turned = residuals.angle_bound(eigenvalues, signal, error)
    # A sum of what lies outside, not 1 minus what lies inside: it keeps its digits near collapse.
    shares = explained_variance_ratio(eigenvalues)
    values = {
        "noise_fraction": float(np.sum(shares[signal:])) if shares[0] == shares[0] else math.nan,
        "signal_alignment": linear_cka(np.diag(eigenvalues[:signal]), sigma, leading.T @ cross),
        "linear_mse": linear_readout_error(readable, vectors, sigma, cross),
        "feature_stable_rank": stable_rank(eigenvalues),
    }
    loadings, variance = np.linalg.norm(vectors.T @ cross, axis=1), float(np.trace(sigma))
    found = {
        "noise_fraction": residuals.tail_bound(eigenvalues, signal, error),
        "signal_alignment": _signal_bound(values["signal_alignment"], statistics, signal, turned),
        "linear_mse": residuals.readout_bound(
            values["linear_mse"], readable, loadings, variance, (error, statistics.cross_error)
        ),
        "feature_stable_rank": residuals.stable_rank_bound(values["feature_stable_rank"], eigenvalues, error),
    }
    of_weights, bounds_of_weights = _weight_conditions(weights, leading, turned)
    return LayerCollapse(name=name, d=d, rank=signal, **values, **of_weights, bounds=found | bounds_of_weights)


def _signal_bound(value: float, statistics: Moments, signal: int, turned: float) -> float:
    """Turned components change what the projected features share with the targets."""
    sigma, cross = statistics.target_covariance, statistics.cross_covariance
    eigenvalues, vectors = statistics.spectrum()
    own, targets, both = eigenvalues[:signal], sigma, vectors[:, :signal].T @ cross
    norms = tuple(float(np.linalg.norm(part)) for part in (own, targets, both))
    root = statistics.n_targets**0.5
    errors = (
        signal**0.5 * statistics.covariance_error,
        root * statistics.target_error,
        turned * float(np.linalg.norm(cross)) + root * statistics.cross_error,
    )
    return residuals.cka_bound(value, norms, errors)  # type: ignore[arg-type]


def _weight_conditions(weights: Any, leading: FloatArray, turned: float) -> tuple[dict[str, float], dict[str, float]]:
    """Alignment of the weights with the features' leading components, the weights' stable rank, and their bounds."""
    names = ("weight_alignment", "weight_stable_rank")
    if weights is None:
        return dict.fromkeys(names, math.nan), {}
    d, signal = leading.shape
    shape = tuple(np.shape(weights))
    if len(shape) < 2 or shape[1] != d:
        msg = f"the weights have shape {shape} and the layer is given {d} features; (outputs, {d}) is expected"
        raise ValueError(msg)
    # (outputs, d, pixels...) -> (d, outputs * pixels), whose left singular vectors lie in the space of the features.
    columns = weights.reshape(shape[0], d, -1)
    columns = columns.swapaxes(0, 1).reshape(d, -1)
    matrix, _ = scale_to_unit(as_matrix(on_host(columns), "weights")[0])
    inputs, values, _ = np.linalg.svd(matrix, full_matrices=False)
    if not values.size or values[0] == 0.0:
        return dict.fromkeys(names, math.nan), {}
    used = inputs[:, : min(signal, inputs.shape[1])]
    cosines = np.linalg.svd(leading.T @ used, compute_uv=False)
    # Where W has fewer outputs than there are components, the missing angles are right ones.
    found = float(np.sum(np.minimum(cosines, 1.0)) / signal), stable_rank(values)
    rounding = max(matrix.shape) * EPSILON * float(values[0])
    scales = np.append(values, np.zeros(d - len(values)))
    angle = turned + residuals.angle_bound(scales, used.shape[1], rounding) + 4.0 * signal * EPSILON
    limits = min(angle, 1.0), residuals.stable_rank_bound(found[1], values, rounding)
    return dict(zip(names, found, strict=True)), dict(zip(names, limits, strict=True))


def first_collapsed(layers: Sequence[LayerCollapse], threshold: float = COLLAPSED_NOISE) -> str | None:
    """The name of the first layer from which on all layers have a noise fraction below a threshold.

    Parameters
    ----------
    layers : sequence of LayerCollapse
        In the order in which the data goes through them.
    threshold : float
        The paper prints none; 0.05 is this project's.

    Returns
    -------
    str or None
        None where the last layer is not collapsed. A layer with NaN is not.

    Examples
    --------
    >>> def layer(name, noise):
    ...     return LayerCollapse(name, 8, 2, noise, 1.0, 1.0, 0.0, 2.0, 2.0)
    >>> first_collapsed([layer("fc1", 0.01), layer("fc2", 0.3), layer("fc3", 0.02), layer("fc4", 0.01)])
    'fc3'
    """
    found = None
    for layer in reversed(layers):
        if not layer.noise_fraction < threshold:
            break
        found = layer.name
    return found


@dataclass(frozen=True, eq=False)
class DeepReport:
    """Deep NRC of all layers.

    Attributes
    ----------
    layers : tuple of LayerCollapse
        In the order in which the data first went through them.
    samples : int
    n : int
        Target dimension.
    mse : float
        Of the network itself, summed over the outputs, to compare ``linear_mse`` with; NaN where its outputs do not
        have the shape of the targets.
    target_variance : float
        ``tr(Sigma)``, the MSE of the best constant.
    target_stable_rank : float
    threshold : float
        Of `first_collapsed`.
    bounds : mapping of str to float
        Absolute bounds of ``mse``, ``target_variance`` and ``target_stable_rank``; every layer has those of its own.
    """

    layers: tuple[LayerCollapse, ...]
    samples: int
    n: int
    mse: float
    target_variance: float
    target_stable_rank: float
    threshold: float = COLLAPSED_NOISE
    bounds: Mapping[str, float] = field(default_factory=dict)

    @property
    def first_collapsed(self) -> str | None:
        """The first layer from which on all layers have a noise fraction below the threshold; None for none."""
        return first_collapsed(self.layers, self.threshold)

    def __str__(self) -> str:
        width = max(5, *(len(layer.name) for layer in self.layers))
        summary = (
            f"{self.samples:,} samples, {self.n} targets; MSE of the network {self.mse:.4g}, variance of the targets "
            f"{self.target_variance:.4g}, their stable rank {self.target_stable_rank:.3g}"
        )
        names = (
            f"{'layer':<{width}}{'d':>7}{'noise':>10}{'signal CKA':>12}{'weights':>9}{'readout MSE':>13}"
            f"{'rank H':>8}{'rank W':>8}"
        )
        lines = [summary, "", names]
        lines += [
            f"{layer.name:<{width}}{layer.d:>7}{layer.noise_fraction:>10.2e}{layer.signal_alignment:>12.4f}"
            f"{layer.weight_alignment:>9.4f}{layer.linear_mse:>13.4g}{layer.feature_stable_rank:>8.3g}"
            f"{layer.weight_stable_rank:>8.3g}"
            for layer in self.layers
        ]
        found = self.first_collapsed
        rule = f"noise below {self.threshold:g} here and in all later layers"
        lines += ["", f"first collapsed layer: {found} ({rule})" if found else f"no layer is collapsed ({rule})"]
        return "\n".join(lines)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> DeepReport:
        """A report from what `to_dict` gave or `to_json` wrote; null becomes NaN.

        Raises
        ------
        ValueError
            The mapping holds something else.
        """
        try:
            layers = tuple(LayerCollapse(**_numbers(layer, LayerCollapse)) for layer in values["layers"])
            return cls(**_numbers(values, cls) | {"layers": layers})
        except (KeyError, TypeError, AttributeError) as error:
            msg = f"the mapping holds no report of layers: {type(error).__name__} {error}"
            raise ValueError(msg) from error

    def to_dict(self) -> dict[str, Any]:
        """Plain numbers, lists and strings."""
        return asdict(self) | {
            "layers": [asdict(layer) for layer in self.layers],
            "first_collapsed": self.first_collapsed,
        }

    def to_json(self, path: str | Path | None = None) -> str:
        """The report as JSON text (NaN becomes null), also written to `path` if one is given."""
        text = json.dumps(without_nan(self.to_dict()), indent=2)
        if path is not None:
            Path(path).write_text(text + "\n", encoding="utf-8")
        return text

    def plot(self) -> Any:
        """Draw a heat map of layers and metrics; returns the figure. See `nrc_fast.reports.plots.panels.plot_layers`.

        Raises
        ------
        ImportError
            matplotlib is not installed.
        """
        from nrc_fast.reports.plots.panels import plot_layers

        return plot_layers(self)


def _numbers(values: Mapping[str, Any], kind: type) -> dict[str, Any]:
    """What the fields of a class hold, with NaN for None."""

    def restored(value: Any) -> Any:
        if isinstance(value, Mapping):
            return {name: restored(part) for name, part in value.items()}
        return NAN if value is None else value

    return {part.name: restored(values[part.name]) for part in fields(kind)}


def measure_layers(
    model: Any,
    loader: Iterable[Any],
    layers: Sequence[Any] | None = None,
    *,
    rank: int | None = None,
    threshold: float = COLLAPSED_NOISE,
    precision: str = "highest",
    positions: str | None = None,
    mask: Any = None,
    split: Callable[[Any], tuple[Any, Any]] = split_batch,
    group: Any = None,
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
        By default every ``torch.nn.Linear`` and convolution.
    rank : int, optional
        How many components count as signal; by default the target dimension. Layers with fewer features use these.
    threshold : float
        Of `first_collapsed`.
    precision : {"highest", "high", "fast"}
        As in `nrc_fast.FeatureStatistics`. The rows are read once, so the default is float64 throughout; with float32
        products the bounds are wider and the readout leaves out directions of little variance.
    positions, mask
        As in `nrc_fast.watch`.
    split : callable, optional
        From a batch to what the model is called with, and the targets.
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
        As `nrc_fast.watch`; ValueError for a loader without batches or a layer that is not used.

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
    options: dict[str, Any] = {"positions": positions, "mask": mask, "precision": precision}
    order: list[str] = []
    with evaluating(model, loader), watch(model, chosen, unit_rows=False, nonfinite="raise", **options) as watched:
        for name, layer in watched.items():
            layer.on_first = lambda name=name: order.append(name)
        errors = _run(model, loader, watched, split)
    if group is not None:
        errors = _sum_over(group, errors)
    if errors[1] == 0:
        msg = "the loader has no samples; there is nothing to measure"
        raise ValueError(msg)
    for layer in watched.values():
        if group is not None:
            layer.all_reduce(group)
    order += [name for name in watched if name not in order]
    found = tuple(_collapse_of(name, watched, rank) for name in order)
    statistics, mse = watched[order[0]].statistics, float(errors[0] / errors[1])
    n, sigma = statistics.n_targets, statistics.target_covariance
    spectrum = covariance_spectrum(sigma)[0]
    rank_of_targets = stable_rank(spectrum)
    return DeepReport(
        layers=found,
        samples=int(errors[1]),
        n=n,
        mse=mse,
        target_variance=float(np.trace(sigma)),
        target_stable_rank=rank_of_targets,
        threshold=threshold,
        bounds={
            "mse": (4.0 + (n * statistics.count) ** 0.5) * EPSILON * mse,
            "target_variance": n * statistics.target_error,
            "target_stable_rank": residuals.stable_rank_bound(rank_of_targets, spectrum, statistics.target_error),
        },
    )


def _has_weights(layer: Any) -> bool:
    import torch

    return isinstance(layer, (torch.nn.Linear, torch.nn.modules.conv._ConvNd))


def _run(model: Any, loader: Iterable[Any], watched: WatchedLayers, split: Any) -> FloatArray:
    """The network's squared errors, summed, and the number of samples."""
    import torch

    errors = np.zeros(2)
    for batch in loader:
        inputs, targets = split(batch)
        watched.set_targets(targets)
        outputs = run_model(runnable(model), inputs)
        Y = torch.as_tensor(targets)
        matches = isinstance(outputs, torch.Tensor) and outputs.shape == Y.shape
        expected = placed_beside(Y, outputs)
        errors[0] += float((outputs.double() - expected.double()).square().sum()) if matches else math.nan
        errors[1] += len(Y)
    return errors


def _sum_over(group: Any, values: FloatArray) -> FloatArray:
    from nrc_fast.base.processes import Team

    Team(group).sum([values])
    return values


def _collapse_of(name: str, watched: WatchedLayers, rank: int | None) -> LayerCollapse:
    layer, statistics = watched[name].layer, watched[name].statistics
    weights = getattr(layer, "weight", None)
    if getattr(layer, "transposed", False):
        weights = weights.transpose(0, 1) if weights is not None else None
    # Grouped convolutions see only some channels: there is no matrix of all inputs.
    if weights is not None and (weights.ndim < 2 or weights.shape[1] != statistics.d):
        weights = None
    signal = None if rank is None else min(rank, statistics.d)
    return layer_collapse(statistics, None if weights is None else weights.detach(), rank=signal, name=name)
