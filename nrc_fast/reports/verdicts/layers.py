"""What Deep NRC says of a network: from which layer on it is collapsed, and whether its weights follow."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Protocol

from nrc_fast.reports.verdicts.levels import Known, first_that_holds, known

__all__ = ["MeasuredLayer", "layers_verdict"]

# Mean cosine between the signal's directions and those of the weights from which on these follow it: 8 degrees.
FOLLOWS = 0.99
# What the best affine readout may have, of the network's own error, that tells that its features suffice.
AS_GOOD = 1.1


class MeasuredLayer(Protocol):
    """The part of `nrc_fast.reports.LayerCollapse` that a verdict looks at."""

    @property
    def name(self) -> str: ...  # noqa: D102 - documented where it is defined
    @property
    def d(self) -> int: ...  # noqa: D102
    @property
    def n(self) -> int: ...  # noqa: D102
    @property
    def noise_fraction(self) -> float: ...  # noqa: D102
    @property
    def weight_alignment(self) -> float: ...  # noqa: D102
    @property
    def linear_mse(self) -> float: ...  # noqa: D102
    @property
    def bounds(self) -> Mapping[str, float]: ...  # noqa: D102


def layers_verdict(
    layers: Sequence[MeasuredLayer], first: str | None, *, threshold: float, mse: float
) -> tuple[str, ...]:
    """Two or three sentences: the first collapsed layer, what follows it, what to look at next.

    The rules:

    - The first collapsed layer is the first from which on all noise fractions are below the threshold. Where one of
      them may be above it by its bound, that is said.
    - A layer with no more features than components that count as signal has no noise whatever they are.
    - Weights follow the signal where the mean cosine between their directions and the components' is 0.99.
    - The features of the first collapsed layer suffice where the best affine readout has no more than 1.1 times the
      error of the network.

    Parameters
    ----------
    layers : sequence of LayerCollapse
        In the order in which the data goes through them.
    first : str or None
        The first collapsed one.
    threshold : float
        Noise fraction below which a layer counts as collapsed.
    mse : float
        Error of the network; NaN where it is not known.

    Returns
    -------
    tuple of str
    """
    trivial = [layer.name for layer in layers if layer.d <= layer.n]
    sentences = [_depth(layers, first, threshold)]
    if first is not None:
        start = next(place for place, layer in enumerate(layers) if layer.name == first)
        sentences.append(_weights(layers[start:]))
        sentences.append(_readout(layers[start], mse))
    else:
        sentences.append(_least(layers))
    if trivial:
        sentences.append(f"No noise is possible in {', '.join(trivial)}, with no more features than targets.")
    return tuple(filter(None, sentences))


def _noise(layer: MeasuredLayer) -> Known:
    return known("noise_fraction", {"noise_fraction": layer.noise_fraction}, layer.bounds)


def _depth(layers: Sequence[MeasuredLayer], first: str | None, threshold: float) -> str:
    rule = f"less than {threshold:g} of the variance lies outside the signal"
    if first is None:
        last_noise = f"the noise fraction of the last, {layers[-1].name}, is {_noise(layers[-1])}"
        return f"No layer is collapsed: {last_noise}, not below {threshold:g}."
    start = next(place for place, layer in enumerate(layers) if layer.name == first)
    last = layers[start:]
    open_ = [layer.name for layer in last if not _noise(layer).is_below(threshold)]
    doubt = f"; the bound of {', '.join(open_)} leaves it open" if open_ else ""
    if start == len(layers) - 1:
        return f"Only the last layer, {first}, is given collapsed features: {rule}{doubt}."
    if start == 0:
        return f"All {len(layers)} layers are given collapsed features, from {first} on: {rule}{doubt}."
    return f"Collapsed from {first} on, in the last {len(last)} of {len(layers)} layers: {rule}{doubt}."


def _weights(layers: Sequence[MeasuredLayer]) -> str:
    aligned = [layer for layer in layers if not math.isnan(layer.weight_alignment)]
    if not aligned:
        return ""
    least = min(aligned, key=lambda layer: layer.weight_alignment)
    found = known("weight_alignment", {"weight_alignment": least.weight_alignment}, least.bounds)
    where = f"weight alignment {found.value:.3g} at the least, in {least.name}"
    rules = [
        (found.bound >= abs(found.value), ""),
        (found.is_above(FOLLOWS), f"The weights of these layers follow the signal: {where}."),
        (True, f"Not all weights of these layers follow the signal: {where}."),
    ]
    return first_that_holds(rules)


def _readout(layer: MeasuredLayer, mse: float) -> str:
    readout = known("linear_mse", {"linear_mse": layer.linear_mse}, layer.bounds)
    if readout.is_nan or math.isnan(mse):
        return ""
    errors = f"{readout}, that of the network {mse:.2g}"
    rules = [
        (
            readout.is_below(AS_GOOD * mse),
            f"What {layer.name} is given suffices: the error of its best affine readout is {errors}.",
        ),
        (
            readout.is_above(AS_GOOD * mse),
            f"The layers from {layer.name} on still change the fit: the best affine readout has {errors}.",
        ),
    ]
    return first_that_holds(rules)


def _least(layers: Sequence[MeasuredLayer]) -> str:
    finite = [layer for layer in layers if not math.isnan(layer.noise_fraction)]
    least = min(finite, key=lambda layer: layer.noise_fraction, default=None)
    if least is None or least is layers[-1]:
        return "Measure again after more training, or with more weight decay."
    return f"The least noise is in {least.name} ({_noise(least)}): what comes after it makes more."
