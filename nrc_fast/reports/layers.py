"""What was found in the layers of a network: each layer's conditions of collapse, and the first that holds all."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from nrc_fast.base.cards import card
from nrc_fast.base.json_values import JSONValue
from nrc_fast.base.svg import sparkline
from nrc_fast.reports.bound_kinds import BoundedResult
from nrc_fast.reports.plots.layers import plot_layers
from nrc_fast.reports.plots.panels import GivenAxes, GivenPath, finished
from nrc_fast.reports.records import NAN, format_digits
from nrc_fast.reports.verdicts.layers import layers_verdict

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["COLLAPSED_NOISE", "DeepReport", "LayerCollapse", "first_collapsed"]

# The paper marks the first collapsed layer without printing a threshold; this one is the project's.
COLLAPSED_NOISE = 0.05

# What is printed of every layer.
COLUMNS = {
    "noise_fraction": "noise",
    "signal_alignment": "signal CKA",
    "weight_alignment": "weights",
    "linear_mse": "readout",
    "feature_stable_rank": "rank H",
    "weight_stable_rank": "rank W",
}
OF_CARDS = ("noise_fraction", "signal_alignment", "weight_alignment", "linear_mse")
# What stands where a number is not known.
UNKNOWN = "-"


@dataclass(frozen=True, eq=False, repr=False)
class LayerCollapse(BoundedResult):
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
    balance : float
        ``|W^T W - V V^T|_F`` over the sum of the norms of both, V the weights of the linear layer below and its bias,
        where nothing stands between; NaN elsewhere. See `nrc_fast.balance`.
    bound_grounds : mapping of str to tuple of str
        What each bound rests on, as in `nrc_fast.Report`; ``bound_kinds`` says how sure it therefore is.
    """

    __module__ = "nrc_fast.reports"
    _described = "layer"
    _may_be_missing = BoundedResult._may_be_missing | {"balance"}

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
    balance: float = NAN
    bound_grounds: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    def __repr__(self) -> str:
        noise, alignment = f"noise fraction {self.noise_fraction:.3g}", f"weight alignment {self.weight_alignment:.3g}"
        return f"<LayerCollapse of {self.name}, d = {self.d}: {noise}, {alignment}>"


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


@dataclass(frozen=True, eq=False, repr=False)
class DeepReport(BoundedResult):
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
    bound_grounds : mapping of str to tuple of str
        What these rest on, as in `nrc_fast.Report`; ``bound_kinds`` says how sure they therefore are.
    notes : tuple of str
        What the reader should know before believing the numbers, such as layers that were left out.
    """

    __module__ = "nrc_fast"
    _described = "report of layers"
    _may_be_missing = BoundedResult._may_be_missing | {"notes"}

    layers: tuple[LayerCollapse, ...]
    samples: int
    n: int
    mse: float
    target_variance: float
    target_stable_rank: float
    threshold: float = COLLAPSED_NOISE
    bounds: Mapping[str, float] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    bound_grounds: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    @property
    def first_collapsed(self) -> str | None:
        """The first layer from which on all layers have a noise fraction below the threshold; None for none."""
        return first_collapsed(self.layers, self.threshold)

    @property
    def verdict(self) -> tuple[str, ...]:
        """What the numbers say, in two or three sentences by fixed rules on them and their bounds.

        The first collapsed layer, what follows it, and what to look at next. The rules are those of
        `nrc_fast.reports.verdicts.layers.layers_verdict`.
        """
        return layers_verdict(self.layers, self.first_collapsed, threshold=self.threshold, mse=self.mse)

    def __repr__(self) -> str:
        found = self.first_collapsed
        first = f"collapsed from {found} on" if found else "none is collapsed"
        return f"<DeepReport of {len(self.layers)} layers, {self.samples:,} samples, n = {self.n}: {first}>"

    def __str__(self) -> str:
        width = max(5, *(len(layer.name) for layer in self.layers))
        summary = (
            f"{self.samples:,} samples, {self.n} targets; MSE of the network {self.mse:.4g}, variance of the targets "
            f"{self.target_variance:.4g}, their stable rank {self.target_stable_rank:.3g}"
        )
        columns = COLUMNS | self._balance_column
        names = f"{'layer':<{width}}{'d':>7}" + "".join(f"{title:>11}" for title in columns.values())
        lines = [summary, "", *self.verdict, "", names]
        lines += [
            f"{layer.name:<{width}}{layer.d:>7}" + "".join(f"{_shown(layer, name, 4):>11}" for name in columns)
            for layer in self.layers
        ]
        lines += [f"note: {note}" for note in self.notes]
        return "\n".join(lines)

    @property
    def _balance_column(self) -> dict[str, str]:
        """That of the balance, where it is known of a layer."""
        return {} if all(math.isnan(layer.balance) for layer in self.layers) else {"balance": "balance"}

    def to_dict(self) -> dict[str, JSONValue]:
        """The fields as plain numbers, lists and strings by their names, and the first collapsed layer."""
        return super().to_dict() | {"first_collapsed": self.first_collapsed}

    @classmethod
    def _restorers(cls) -> dict[str, Callable[[Any], Any]]:
        return {"layers": _layers}

    def _repr_html_(self) -> str:
        columns = {name: COLUMNS[name] for name in OF_CARDS} | self._balance_column
        noise = sparkline(
            [layer.noise_fraction for layer in self.layers], "noise fraction, layer by layer", is_log=True
        )
        rows: list[tuple[object, ...]] = [
            (
                layer.name,
                str(layer.d),
                *(_shown(layer, field, 3) for field in columns),
            )
            for layer in self.layers
        ]
        header = ("layer", "d", *columns.values())
        title = f"Deep NRC of {len(self.layers)} layers: {self.samples:,} samples, {self.n} targets"
        return card(title, self.verdict, [*rows, ("noise, layer by layer", noise)], header=header, notes=self.notes)

    def plot(self, *, path: GivenPath | None = None, ax: GivenAxes | None = None) -> Figure:
        """Draw a heat map of layers and metrics; returns the figure of matplotlib.

        See `nrc_fast.reports.plots.layers.plot_layers`.

        Parameters
        ----------
        path : path, optional
            A file to write the figure to as well, in the format that its name ends with.
        ax : matplotlib axes, optional
            Where to draw; a new figure if not given.

        Raises
        ------
        ImportError
            matplotlib is not installed.
        OSError
            The file cannot be written.
        ValueError
            `ax` holds several, or the name of the file ends with no format that matplotlib knows.
        """
        return finished(plot_layers(self, ax), path)


def _shown(layer: LayerCollapse, name: str, digits: int) -> str:
    value = getattr(layer, name)
    return UNKNOWN if math.isnan(value) else format_digits(value, layer.bounds.get(name), digits)
