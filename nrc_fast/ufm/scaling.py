"""What the penalties of a training set-up mean in the scaling of the unconstrained feature model (UFM).

The paper's loss is ``(1/2M) |W H + b - Y|^2 + (lambda_H/2M) |H|^2 + (lambda_W/2) |W|^2``. Code scales its terms
otherwise; multiplying the whole loss by a number moves no minimum, so each form has its lambda_W and lambda_H.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Generic, Literal, NamedTuple, TypeAlias, TypeVar, overload

import numpy as np

from nrc_fast.base.arrays import Array, FloatArray
from nrc_fast.base.cards import card
from nrc_fast.base.options import as_integer
from nrc_fast.metrics.deep_directions import root_of_product
from nrc_fast.ufm.inputs import Batched, as_layers, as_penalty, broadcast_shape, plain

__all__ = ["LOSSES", "Decays", "LossName", "Penalties", "penalties", "scaled_weight_decay"]


# One number, or an array with one for each of several trainings.
Number_co = TypeVar("Number_co", bound=Batched, covariant=True)


class Factor(NamedTuple):
    """A factor ``coefficient n^a M^b`` of a training loss with n outputs and M samples."""

    coefficient: float
    power_of_n: int = 0
    power_of_samples: int = 0

    def at(self, n: float, samples: float) -> float:
        """The value of the factor for n outputs and M samples."""
        return float(self.coefficient * n**self.power_of_n * samples**self.power_of_samples)


class LossForm(NamedTuple):
    """A training loss, and its lambda_W and lambda_H for decays of 1."""

    formula: str
    weights: Factor
    features: Factor


# The keys of `LOSSES`.
LossName: TypeAlias = Literal["paper", "id25", "torch_mse", "torch_mse_sum", "half_mse", "half_sum", "mse_and_norms"]

# wd: weight decay, fd: feature decay; mean and sum run over the samples and over the n outputs.
LOSSES: dict[LossName, LossForm] = {
    "paper": LossForm("1/(2M) |E|^2 + wd/2 |W|^2 + fd/(2M) |H|^2", Factor(1.0), Factor(1.0)),
    "id25": LossForm("1/(2M) |E|^2 + wd/2 |W|^2 + fd/2 |H|^2", Factor(1.0), Factor(1.0, 0, 1)),
    "torch_mse": LossForm("MSELoss() + wd/2 |W|^2 + fd/(2M) |H|^2", Factor(0.5, 1), Factor(0.5, 1)),
    "torch_mse_sum": LossForm("MSELoss(reduction='sum') + wd/2 |W|^2 + fd/2 |H|^2", Factor(0.5, 0, -1), Factor(0.5)),
    "half_mse": LossForm("MSELoss()/2 + wd/2 |W|^2 + fd/(2M) |H|^2", Factor(1.0, 1), Factor(1.0, 1)),
    "half_sum": LossForm("1/2 |E|^2 + wd/2 |W|^2 + fd/2 |H|^2", Factor(1.0, 0, -1), Factor(1.0)),
    "mse_and_norms": LossForm("MSELoss() + wd |W|^2 + fd/M |H|^2", Factor(1.0, 1), Factor(1.0, 1)),
}


UNKNOWN = "without feature_decay nothing says how strongly the features are penalised"


class Decays(NamedTuple):
    """Coefficients of a training loss: of the weights and of the features."""

    weight_decay: Batched
    feature_decay: Batched


@dataclass(frozen=True, eq=False, repr=False)
class Penalties(Generic[Number_co]):
    """Penalties in the paper's scaling; floats, or float64 arrays where arrays were given.

    Attributes
    ----------
    lambda_W, lambda_H : float or float64 array
        lambda_H is NaN as long as nothing is known of a penalty on the features.
    """

    __module__ = "nrc_fast.ufm"

    lambda_W: Number_co
    lambda_H: Number_co

    @property
    def c(self) -> Number_co:
        """``lambda_W lambda_H``, all that spectra and errors depend on; NaN where lambda_H is."""
        return self.lambda_W * self.lambda_H  # type: ignore[operator,return-value] # numbers of one kind

    def decays(self, loss: LossName = "torch_mse", *, n: int | None = None, samples: int | None = None) -> Decays:
        """The way back: the decays that these penalties are in a training loss.

        Parameters
        ----------
        loss : str
            The name of a training loss, see `penalties`.
        n : int, optional
            Outputs; needed where the loss depends on them.
        samples : int, optional
            Samples that the sums of one step run over; needed where the loss depends on them.

        Returns
        -------
        Decays
            ``(weight_decay, feature_decay)``.

        Raises
        ------
        ValueError
            The loss is unknown, or n or `samples` is missing or below 1.

        Examples
        --------
        >>> Penalties(lambda_W=5e-4, lambda_H=1e-3).decays("torch_mse", n=2)
        Decays(weight_decay=0.0005, feature_decay=0.001)
        """
        weight_factor, feature_factor = _factors(loss, n, samples)
        return Decays(self.lambda_W / weight_factor, self.lambda_H / feature_factor)

    def __str__(self) -> str:
        def shown(value: Batched) -> str:
            return f"{value:.6g}" if np.ndim(value) == 0 else f"{np.min(value):.6g} to {np.max(value):.6g}"

        text = f"lambda_W = {shown(self.lambda_W)}, lambda_H = {shown(self.lambda_H)}, c = {shown(self.c)}"
        return f"{text}: {UNKNOWN}" if np.isnan(self.lambda_H).any() else text

    def __repr__(self) -> str:
        return f"<Penalties {self}>"

    def _repr_html_(self) -> str:
        numbers, _, reason = str(self).partition(": ")
        rows = (part.split(" = ") for part in numbers.split(", "))
        return card("penalties in the scaling of the paper", rows=rows, notes=[reason] if reason else [])


@overload
def penalties(
    weight_decay: float,
    *,
    feature_decay: float | None = ...,
    loss: LossName = ...,
    n: int | None = ...,
    samples: int | None = ...,
) -> Penalties[float]: ...


@overload
def penalties(
    weight_decay: Array,
    *,
    feature_decay: Array | None = ...,
    loss: LossName = ...,
    n: int | None = ...,
    samples: int | None = ...,
) -> Penalties[Batched]: ...


def penalties(
    weight_decay: Array,
    *,
    feature_decay: Array | None = None,
    loss: LossName = "torch_mse",
    n: int | None = None,
    samples: int | None = None,
) -> Penalties[float] | Penalties[Batched]:
    """Turn the penalties of a training loss into lambda_W, lambda_H and c of the paper's scaling.

    With the error matrix E of M samples and n outputs, ``MSELoss()`` the mean of its M n squares:

    ===============  ======================================================  ===========  ==========
    loss             what is minimised (wd, fd: the decays)                  lambda_W     lambda_H
    ===============  ======================================================  ===========  ==========
    `paper`          ``1/(2M) |E|^2 + wd/2 |W|^2 + fd/(2M) |H|^2``           ``wd``       ``fd``
    `id25`           ``1/(2M) |E|^2 + wd/2 |W|^2 + fd/2 |H|^2``              ``wd``       ``M fd``
    `torch_mse`      ``MSELoss() + wd/2 |W|^2 + fd/(2M) |H|^2``              ``n wd/2``   ``n fd/2``
    `torch_mse_sum`  ``MSELoss(reduction="sum") + wd/2 |W|^2 + fd/2 |H|^2``  ``wd/(2M)``  ``fd/2``
    `half_mse`       ``MSELoss()/2 + wd/2 |W|^2 + fd/(2M) |H|^2``            ``n wd``     ``n fd``
    `half_sum`       ``1/2 |E|^2 + wd/2 |W|^2 + fd/2 |H|^2``                 ``wd/M``     ``fd``
    `mse_and_norms`  ``MSELoss() + wd |W|^2 + fd/M |H|^2``                   ``n wd``     ``n fd``
    ===============  ======================================================  ===========  ==========

    The optimisers' ``weight_decay=wd`` adds ``wd W`` to the gradient of SGD, so it is the term ``wd/2 |W|^2``
    (`torch_mse`). Decoupled decay, as in AdamW, minimises none of these losses.

    Parameters
    ----------
    weight_decay : float or array
        wd of the table, on the last layer, >= 0.
    feature_decay : float or array, optional
        fd. Without a penalty on the features lambda_H and c are NaN: weight decay on the layers below acts like
        one, but of a size that nobody knows.
    loss : str
        A name of the table.
    n : int, optional
        Outputs; needed where the table names it.
    samples : int, optional
        M, the number of samples that the sums of one step run over; needed where the table names it.

    Returns
    -------
    Penalties

    Raises
    ------
    ValueError
        A decay is negative or not finite, arrays of decays do not broadcast, the loss is unknown, or n or `samples`
        is missing or below 1.
    TypeError
        A decay is no number.

    References
    ----------
    arXiv 2409.04180 (NeurIPS 2024), section 4, for the loss; `half_mse` and `mse_and_norms` are what its authors'
    code minimises, `id25` is the loss printed in arXiv 2510.01105.

    Examples
    --------
    >>> print(penalties(weight_decay=5e-4, feature_decay=1e-3, loss="torch_mse", n=2))
    lambda_W = 0.0005, lambda_H = 0.001, c = 5e-07
    >>> penalties(weight_decay=5e-4, n=2).c
    nan
    """
    weight_factor, feature_factor = _factors(loss, n, samples)
    lambda_W = as_penalty(weight_decay, "weight_decay") * weight_factor
    lambda_H: FloatArray = np.full(lambda_W.shape, np.nan)
    if feature_decay is not None:
        lambda_H = as_penalty(feature_decay, "feature_decay") * feature_factor
    broadcast_shape(weight_decay=lambda_W, feature_decay=lambda_H)
    return Penalties(plain(lambda_W), plain(lambda_H))


@overload
def scaled_weight_decay(weight_decay: float, *, scale: float, layers: int) -> float: ...


@overload
def scaled_weight_decay(weight_decay: Array, *, scale: Array, layers: int) -> Batched: ...


def scaled_weight_decay(weight_decay: Array, *, scale: Array, layers: int) -> Batched:
    """The weight decay that does to targets times `scale` what another does to the targets: ``wd scale^(2 - 2/L)``.

    It holds for the squared error and a network of L layers with the same decay on each whose output is multiplied by
    a^L where all weights are multiplied by a: linear layers and ReLU without biases, or with such that are not decayed.
    Its minima are then those of the other training times ``scale^(1/L)``. So targets that are divided by their standard
    deviation s take ``wd (s^2)^(1/L - 1)``.

    Parameters
    ----------
    weight_decay : float or array
        wd for the targets as they are, >= 0.
    scale : float or array
        What the targets are multiplied by, positive.
    layers : int
        L, how many layers have weights, at least 1.

    Returns
    -------
    float or float64 array

    Raises
    ------
    ValueError
        A decay is negative, a scale is not positive, they are not finite or do not broadcast, `layers` is below 1 or
        above 10,000, or the decay that it asks for leaves the range of float64.
    TypeError
        They are no real numbers, or `layers` is no whole number.

    References
    ----------
    This project's.

    Examples
    --------
    >>> round(scaled_weight_decay(1e-3, scale=8.0, layers=3), 12)
    0.016
    """
    depth = as_layers(layers, "layers", least=1)
    decays, scales = as_penalty(weight_decay, "weight_decay"), as_penalty(scale, "scale", positive=True)
    broadcast_shape(weight_decay=decays, scale=scales)
    scaled = root_of_product([decays, scales], [depth, 2 * depth - 2], depth)
    if not np.isfinite(scaled).all():
        msg = (
            f"the weight decay for targets times {np.max(scales):.4g} leaves the range of float64; "
            "targets of a scale nearer to 1 are expected"
        )
        raise ValueError(msg)
    return plain(scaled)


def _factors(loss: LossName, n: int | None, samples: int | None) -> tuple[float, float]:
    """lambda_W and lambda_H for decays of 1."""
    if loss not in LOSSES:
        msg = f"loss is {loss!r}; {', '.join(map(repr, LOSSES))} are known"
        raise ValueError(msg)
    form = LOSSES[loss]
    factors = (form.weights, form.features)
    uses_n = any(factor.power_of_n for factor in factors)
    uses_samples = any(factor.power_of_samples for factor in factors)
    for name, size, is_used in (("n", n, uses_n), ("samples", samples, uses_samples)):
        if is_used and size is None:
            msg = f"loss {loss!r} ({form.formula}) depends on {name}; give {name}="
            raise ValueError(msg)
        if size is not None and as_integer(size, name) < 1:
            msg = f"{name} must be at least 1, got {size}"
            raise ValueError(msg)
    sizes = float(n or 1), float(samples or 1)
    return form.weights.at(*sizes), form.features.at(*sizes)
