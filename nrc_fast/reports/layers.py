"""What was found in the layers of a network: each layer's conditions of collapse, and the first that holds all."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from nrc_fast.base.json_values import JSONValue
from nrc_fast.reports.plots.layers import plot_layers
from nrc_fast.reports.records import StoredResult

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["COLLAPSED_NOISE", "DeepReport", "LayerCollapse", "first_collapsed"]

# The paper marks the first collapsed layer without printing a threshold; this one is the project's.
COLLAPSED_NOISE = 0.05


@dataclass(frozen=True, eq=False)
class LayerCollapse(StoredResult):
    """The conditions of Deep NRC for the features that one layer is given.

    Attributes
    ----------
    name : str
        Name of the layer that takes the features as its input.
    d : int
        Number of features; channels of a convolution.
    n : int
        How many components count as signal: the target dimension unless another number was given.
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

    __module__ = "nrc_fast.reports"
    _described = "layer"

    name: str
    d: int
    n: int
    noise_fraction: float
    signal_alignment: float
    weight_alignment: float
    linear_mse: float
    feature_stable_rank: float
    weight_stable_rank: float
    bounds: Mapping[str, float] = field(default_factory=dict)


def first_collapsed(layers: Sequence[LayerCollapse], threshold: float = COLLAPSED_NOISE) -> str | None:
    """The name of the first layer from which on all layers have a noise fraction below a threshold.

    Parameters
    ----------
    layers : sequence of LayerCollapse
        The layers in the order in which the data goes through them.
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


def _layers(values: Any) -> tuple[LayerCollapse, ...]:
    if not isinstance(values, (list, tuple)) or not values:
        msg = f"layers is a {type(values).__name__}; a list of at least one layer is expected"
        raise ValueError(msg)
    return tuple(map(LayerCollapse.from_dict, values))


@dataclass(frozen=True, eq=False)
class DeepReport(StoredResult):
    """Deep NRC of all layers.

    Attributes
    ----------
    layers : tuple of LayerCollapse
        The layers in the order in which the data first went through them.
    samples : int
    n : int
        Target dimension.
    mse : float
        MSE of the network itself, summed over the outputs, to compare ``linear_mse`` with; NaN where its outputs do not
        have the shape of the targets.
    target_variance : float
        ``tr(Sigma)``, the MSE of the best constant.
    target_stable_rank : float
    threshold : float
        Noise fraction below which a layer counts as collapsed.
    bounds : mapping of str to float
        Absolute bounds of ``mse``, ``target_variance`` and ``target_stable_rank``; every layer has those of its own.
    notes : tuple of str
        What the reader should know before believing the numbers, such as layers that were left out.
    """

    __module__ = "nrc_fast"
    _described = "report of layers"
    _may_be_missing = frozenset({"notes"})

    layers: tuple[LayerCollapse, ...]
    samples: int
    n: int
    mse: float
    target_variance: float
    target_stable_rank: float
    threshold: float = COLLAPSED_NOISE
    bounds: Mapping[str, float] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

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
        lines += [f"note: {note}" for note in self.notes]
        return "\n".join(lines)

    def to_dict(self) -> dict[str, JSONValue]:
        """The fields as plain numbers, lists and strings by their names, and the first collapsed layer."""
        return super().to_dict() | {"first_collapsed": self.first_collapsed}

    @classmethod
    def _restorers(cls) -> dict[str, Callable[[Any], Any]]:
        return {"layers": _layers}

    def plot(self) -> Figure:
        """Draw a heat map of layers and metrics; returns the figure. See `nrc_fast.reports.plots.layers.plot_layers`.

        Raises
        ------
        ImportError
            matplotlib is not installed.
        """
        return plot_layers(self)
