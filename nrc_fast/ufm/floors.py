"""What training on targets will keep, and the floor of its error, before anything is trained: the public function."""

from __future__ import annotations

from typing import overload

from nrc_fast.base.arrays import Array
from nrc_fast.ufm.deep_floor import DeepErrorFloor
from nrc_fast.ufm.error_floor import ErrorFloor
from nrc_fast.ufm.inputs import as_layers, as_number, as_width
from nrc_fast.ufm.scaling import LossName, Penalties, penalties
from nrc_fast.ufm.targets import TargetMoments, Targets, target_moments

__all__ = ["predict"]


@overload
def predict(
    Y: Targets | None = ...,
    *,
    weight_decay: float | None = ...,
    feature_decay: float | None = ...,
    loss: LossName = ...,
    samples: int | None = ...,
    c: float | None = ...,
    layers: None = ...,
    covariance: Array | None = ...,
    mean: Array | None = ...,
    d: int | None = ...,
) -> ErrorFloor: ...


@overload
def predict(
    Y: Targets | None = ...,
    *,
    weight_decay: float,
    loss: LossName = ...,
    samples: int | None = ...,
    layers: int,
    covariance: Array | None = ...,
    mean: Array | None = ...,
    d: int | None = ...,
) -> DeepErrorFloor: ...


@overload
def predict(
    Y: Targets | None = ...,
    *,
    weight_decay: float | None = ...,
    feature_decay: float | None = ...,
    loss: LossName = ...,
    samples: int | None = ...,
    c: float | None = ...,
    layers: int | None,
    covariance: Array | None = ...,
    mean: Array | None = ...,
    d: int | None = ...,
) -> ErrorFloor | DeepErrorFloor: ...


def predict(
    Y: Targets | None = None,
    *,
    weight_decay: float | None = None,
    feature_decay: float | None = None,
    loss: LossName = "torch_mse",
    samples: int | None = None,
    c: float | None = None,
    layers: int | None = None,
    covariance: Array | None = None,
    mean: Array | None = None,
    d: int | None = None,
) -> ErrorFloor | DeepErrorFloor:
    """What training on these targets will keep, and the floor of its error, before anything is trained.

    The errors are those at the global minimum of the UFM, where features are free. A network cannot reach them in
    general: they are a floor and a trend, not a forecast of its training error, which may be many times as large. At a
    fixed c, raw, standardised and whitened targets differ because c counts relative to their variance, not because one
    is easier to represent.

    Parameters
    ----------
    Y : (M, n) or (M,) array or tensor, or an object with ``target_covariance`` and ``target_mean``
    covariance, mean
        Moments of the targets in place of Y, see `minimum`.
    weight_decay : float, optional
        Weight decay of the last layer, in the training loss `loss`.
    feature_decay : float, optional
        Penalty of the features in the same loss. If not given, as large a one is assumed as makes lambda_H =
        lambda_W, which the result says: decay of the layers below acts like one, but nobody knows its size.
    loss, samples
        The training loss and what it sums over, see `penalties`.
    c : float, optional
        lambda_W lambda_H itself, in place of the decays.
    layers : int, optional
        L, at least 2, for a linear network of L layers of width n or more with `weight_decay` on every one, on inputs
        whose covariance is the identity and from which the targets follow linearly. Its first layer takes the place of
        the features, so that nothing need be assumed of `feature_decay`: it is `deep` with L - 1 layers and all
        penalties the same. Two layers are the model that is meant without this, with lambda_H = lambda_W.
    d : int, optional
        Width of the features; fewer than n have room for the leading d directions alone, see `minimum`. Layers that
        are narrower than n are not solved here.

    Returns
    -------
    ErrorFloor, or DeepErrorFloor with `layers`

    Raises
    ------
    ValueError
        Neither or both of c and weight_decay, `layers` below 2, above 10,000 or with anything but a weight_decay, a
        batch, d below 1 or, with `layers`, below n, or values that `minimum` and `penalties` refuse.
    TypeError
        What is given is no real number or array, or `layers` no whole number.

    References
    ----------
    arXiv 2505.09308 for the comparisons (their formulas derived anew); arXiv 2409.04180, theorem 4.1.

    Examples
    --------
    >>> import numpy as np
    >>> floor = predict(covariance=np.diag([4.0, 1.0]), c=2.0)
    >>> floor.rank, floor.mse_floor, floor.single_task_floor, floor.whitened_floor
    (1, 3.0, 3.0, 5.0)

    With more layers a direction goes at another decay, and at once:

    >>> deep = predict(covariance=np.diag([4.0, 1.0]), weight_decay=0.1, layers=3)
    >>> deep.rank, deep.critical_weight_decays.round(4).tolist(), deep.error_share.round(4).tolist()
    (2, [1.0, 0.3969], [0.0402, 0.1037])
    """
    moments = target_moments(Y, covariance, mean)
    if moments.batch:
        msg = f"covariance has shape {moments.covariance.shape}; predict takes one at a time"
        raise ValueError(msg)
    if (c is None) == (weight_decay is None):
        msg = "give either weight_decay= (with feature_decay= where it is known) or c="
        raise ValueError(msg)
    width = as_width(d)
    if layers is not None:
        if weight_decay is None or feature_decay is not None:
            msg = "layers= goes with weight_decay= alone, which every layer has, the first in place of the features"
            raise ValueError(msg)
        if width is not None and width < moments.n:
            msg = f"d is {d}; with layers= at least n = {moments.n} is expected, for every layer holds all n directions"
            raise ValueError(msg)
        return _of_layers(moments, as_number(weight_decay, "weight_decay"), layers, loss=loss, samples=samples)
    found_spectrum = moments.spectrum()
    values, vectors = found_spectrum.values, found_spectrum.vectors
    if weight_decay is None:
        if feature_decay is not None:
            msg = "feature_decay goes with weight_decay, not with c"
            raise ValueError(msg)
        assert c is not None
        return ErrorFloor(moments, as_number(c, "c"), values, vectors, d=width)
    decay = as_number(weight_decay, "weight_decay")
    found = penalties(decay, feature_decay=feature_decay, loss=loss, n=moments.n, samples=samples)
    note = ""
    if feature_decay is None:
        found = Penalties(found.lambda_W, found.lambda_W)
        note = "no feature_decay was given; lambda_H = lambda_W is assumed"
    return ErrorFloor(
        moments=moments,
        c=as_number(found.c, "c"),
        eigenvalues=values,
        directions=vectors,
        penalties=found,
        weight_decay=decay,
        note=note,
        d=width,
    )


def _of_layers(
    moments: TargetMoments, decay: float, layers: int, *, loss: LossName, samples: int | None
) -> DeepErrorFloor:
    depth = as_layers(layers, "layers", least=2, why="for a single linear layer has no features")
    found = moments.spectrum()
    return DeepErrorFloor(
        moments=moments,
        layers=depth,
        weight_decay=decay,
        factor=penalties(1.0, loss=loss, n=moments.n, samples=samples).lambda_W,
        eigenvalues=found.values,
        directions=found.vectors,
    )
