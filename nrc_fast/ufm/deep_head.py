"""The UFM with a deep linear head: m linear layers on free features.

In the eigenbasis of the target covariance the loss separates. A direction of variance lambda is predicted with a
singular value z that minimises ``(z - sqrt(lambda))^2/2 + (m + 1)/2 kappa z^(2/(m + 1))``, ``kappa = (lambda_H
lambda_1 ... lambda_m)^(1/(m + 1))``. For m > 1 the second term has an infinite slope at 0: 0 is always a local
minimum, and where the other one rises above it z falls from ``(m - 1)/m sqrt(lambda)`` to 0 at once.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from nrc_fast.base.arrays import Array, FloatArray
from nrc_fast.base.linalg import covariance_spectrum
from nrc_fast.kernels.inputs import as_matrix
from nrc_fast.ufm.inputs import Batched, BatchedInt, as_integer, as_penalty, broadcast_shape, plain, plain_counts
from nrc_fast.ufm.targets import TargetMoments, Targets, target_moments

__all__ = ["DeepMinimum", "deep"]

BISECTIONS = 128


@dataclass(frozen=True, eq=False, repr=False)
class DeepMinimum:
    """Global minima of the UFM with m linear layers; made by `deep`. Batch axes lead in every field.

    Attributes
    ----------
    moments : TargetMoments
    directions : (..., n, n) float64 array
        U, eigenvectors of the target covariance (of the second moment where there is no bias) in its columns.
    target_values : (..., n) float64 array
        lambda, the eigenvalues that belong to `directions`, descending.
    error_share : (..., n) float64 array
        ``1 - z/sqrt(lambda)``, what the predictions lose of each direction; 1 where it is dropped.
    log_penalties : (..., m + 1) float64 array
        Logarithms of the penalties, lambda_H last.
    bias : (..., n) float64 array
        b, the target mean if it is free, 0 if there is none.
    """

    __module__ = "nrc_fast.ufm"

    moments: TargetMoments
    directions: FloatArray
    target_values: FloatArray
    error_share: FloatArray
    log_penalties: FloatArray
    bias: FloatArray

    def __repr__(self) -> str:
        n, batch = self.moments.n, self.error_share.shape[:-1]
        title = f"the UFM with {self.layers} linear layer{'s' if self.layers > 1 else ''}, n = {n}"
        if batch:
            return f"{math.prod(batch):,} minima of {title}, a batch of shape {batch}"
        return (
            f"minimum of {title}, product of penalties {self.penalty_product:.6g}\n"
            f"  rank {self.rank}, loss {self.loss:.6g}, MSE {self.mse:.6g} (summed over outputs)"
        )

    @property
    def layers(self) -> int:
        """Number of linear layers, m."""
        return int(self.log_penalties.shape[-1]) - 1

    @cached_property
    def penalty_product(self) -> Batched:
        """``lambda_H lambda_1 ... lambda_m``, which is c for one layer."""
        return plain(np.exp(self.log_penalties.sum(axis=-1)))

    @cached_property
    def thresholds(self) -> FloatArray:
        """The products of penalties at which directions go, (..., n): ``lambda^m (m - 1)^(m - 1)/m^(2m)``."""
        m = self.layers
        share = float(max(m - 1, 1)) ** (m - 1) / float(m) ** (2 * m)
        thresholds: FloatArray = self.target_values**m * share
        return thresholds

    @cached_property
    def jumps(self) -> FloatArray:
        """What the singular values of the predictions jump by at these thresholds, ``(m - 1)/m sqrt(lambda)``."""
        jumps: FloatArray = np.sqrt(self.target_values) * ((self.layers - 1) / self.layers)
        return jumps

    @cached_property
    def rank(self) -> BatchedInt:
        """How many target directions are kept."""
        return plain_counts(np.count_nonzero(self.error_share < 1.0, axis=-1))

    @cached_property
    def prediction_singular_values(self) -> FloatArray:
        """z, singular values of the predictions over sqrt(M), (..., n)."""
        roots: FloatArray = np.sqrt(self.target_values) * (1.0 - self.error_share)
        return roots

    @cached_property
    def mse(self) -> Batched:
        """Mean squared error summed over the outputs, ``sum (sqrt(lambda) - z)^2``."""
        return plain(np.sum(self.target_values * self.error_share**2, axis=-1))

    @cached_property
    def loss(self) -> Batched:
        """The least loss there is, penalties included."""
        paid = 0.5 * (self.layers + 1) * self._energy.sum(axis=-1)
        return plain(0.5 * np.asarray(self.mse) + paid)

    @cached_property
    def layer_singular_values(self) -> FloatArray:
        """Singular values of every layer, (..., m, n), the layer on the features first: ``sqrt(e_j/lambda_i)``.

        ``e_j = kappa z_j^(2/(m + 1))`` is what direction j pays twice in each layer and in the features.
        """
        penalties = np.exp(0.5 * self.log_penalties[..., :-1])
        return np.asarray(np.sqrt(self._energy)[..., np.newaxis, :] / penalties[..., np.newaxis])

    @cached_property
    def feature_singular_values(self) -> FloatArray:
        """Singular values of the features over sqrt(M), (..., n): ``sqrt(e_j/lambda_H)``."""
        return np.asarray(np.sqrt(self._energy) / np.exp(0.5 * self.log_penalties[..., -1:]))

    @cached_property
    def gram(self) -> FloatArray:
        """Gram of the rows of the product of all layers, (..., n, n)."""
        values = np.prod(self.layer_singular_values, axis=-2) ** 2
        product = (self.directions * values[..., np.newaxis, :]) @ np.swapaxes(self.directions, -1, -2)
        return np.asarray(0.5 * (product + np.swapaxes(product, -1, -2)))

    def weights(self, d: int | None = None) -> list[FloatArray]:
        """Weights of one minimum, the layer on the features first: (..., d, d), ..., (..., n, d).

        Any rotation between two layers, taken back in the next, gives another minimum.

        Parameters
        ----------
        d : int, optional
            Width of the features and of all layers but the last, at least n; n if not given.

        Raises
        ------
        ValueError
            d is below n.
        """
        width = self._width(d)
        values, n = self.layer_singular_values, self.moments.n
        layers = []
        for i in range(self.layers):
            last = i == self.layers - 1
            layer: FloatArray = np.zeros((*values.shape[:-2], n if last else width, width))
            layer[..., range(n), range(n)] = values[..., i, :]
            layers.append(np.asarray(self.directions @ layer) if last else layer)
        return layers

    def features(self, Y: Array, d: int | None = None) -> FloatArray:
        """Features of the minimum that `weights` gives, (..., M, d).

        Parameters
        ----------
        Y : (M, n) or (M,) array or tensor
            The targets whose moments these are, or new ones.
        d : int, optional
            Width of the features, at least n; n if not given.

        Raises
        ------
        ValueError
            d is below n, or the targets do not have n columns or are not finite.
        """
        targets = as_matrix(Y, "Y", vector_is_column=True)[0]
        n = self.moments.n
        if targets.shape[1] != n:
            msg = f"Y has {targets.shape[1]} columns; {n} are expected, one for each output"
            raise ValueError(msg)
        roots = np.sqrt(self.target_values)
        factors = self.feature_singular_values / np.where(roots > 0.0, roots, 1.0)
        deviations = np.subtract(targets, self.bias[..., np.newaxis, :], order="C")
        coordinates = deviations @ self.directions * factors[..., np.newaxis, :]
        rows: FloatArray = np.zeros((*coordinates.shape[:-1], self._width(d)))
        rows[..., :n] = coordinates
        return rows

    def _width(self, d: int | None) -> int:
        n = self.moments.n
        width = n if d is None else as_integer(d, "d")
        if width < n:
            msg = f"d is {d}; at least n = {n} is expected, for every layer holds all n target directions"
            raise ValueError(msg)
        return width

    @property
    def _energy(self) -> FloatArray:
        """What each direction pays twice in every factor; at the minimum z (sqrt(lambda) - z)."""
        share = self.error_share
        energy: FloatArray = self.target_values * share * (1.0 - share)
        return energy


def deep(
    Y: Targets | None = None,
    *,
    lambda_W: Sequence[Array],
    lambda_H: Array,
    covariance: Array | None = None,
    mean: Array | None = None,
    bias: bool = True,
) -> DeepMinimum:
    """Global minimum of the UFM with m linear layers on free features of width >= n.

    The loss is ``(1/2M) |H W_1^T ... W_m^T + b - Y|^2 + sum_i (lambda_i/2) |W_i|^2 + (lambda_H/2M) |H|^2``. A direction
    of variance lambda is dropped iff ``lambda_H lambda_1 ... lambda_m`` is above ``lambda^m (m - 1)^(m - 1)/m^(2m)``,
    for m = 1 above lambda. Stationary points other than 0 exist a little beyond; there 0 is lower.

    Parameters
    ----------
    Y, covariance, mean
        The targets, or their moments in place of them, see `minimum`.
    lambda_W : sequence of m floats or arrays
        Penalty of each layer, positive, the layer on the features first. One layer is the model of `minimum`.
    lambda_H : float or array
        Penalty of the features, positive. All penalties and covariances broadcast.
    bias : bool
        Whether the last layer has a free one.

    Returns
    -------
    DeepMinimum

    Raises
    ------
    ValueError
        Targets or penalties cannot be used, or there is no layer.
    TypeError
        What is given is no real number or array.

    References
    ----------
    Dang et al. 2023, "Neural collapse in deep linear networks", for one-hot targets; the threshold here compares the
    stationary point with 0, which their equation leaves to the reader.

    Examples
    --------
    Balanced classes and a free bias give a simplex frame, without a bias an orthogonal one.

    >>> classes = np.eye(3)[[0, 1, 2, 0, 1, 2]]
    >>> deep(classes, lambda_W=[0.01, 0.01], lambda_H=0.01).rank
    2
    >>> frame = deep(classes, lambda_W=[0.01, 0.01], lambda_H=0.01, bias=False).gram
    >>> (frame / frame[0, 0]).round(9).tolist()
    [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]]

    Of imbalanced classes the smaller ones go first: class k, of the share p_k of the samples, at ``p_k^m/16`` for
    two layers.

    >>> imbalanced = np.eye(2)[[0, 0, 0, 0, 0, 0, 0, 1]]
    >>> deep(imbalanced, lambda_W=[0.1, 0.1], lambda_H=0.1, bias=False).gram.round(3).tolist()
    [[0.779, 0.0], [0.0, 0.0]]
    """
    moments = target_moments(Y, covariance, mean)
    layers = list(lambda_W) if isinstance(lambda_W, Iterable) else []
    if not layers:
        msg = "lambda_W must be a sequence with one penalty for each of the m >= 1 layers, as in [0.01, 0.01]"
        raise ValueError(msg)
    penalties = [as_penalty(value, f"lambda_W[{i}]", positive=True) for i, value in enumerate(layers)]
    penalties.append(as_penalty(lambda_H, "lambda_H", positive=True))
    named = {f"lambda_W[{i}]": penalty for i, penalty in enumerate(penalties[:-1])}
    batch = broadcast_shape(**named, lambda_H=penalties[-1], covariance=moments.mean[..., 0])
    logarithms = np.stack([np.broadcast_to(np.log(penalty), batch) for penalty in penalties], axis=-1)
    matrix, offset = moments.covariance, moments.mean
    if not bias:
        matrix = matrix + offset[..., :, np.newaxis] * offset[..., np.newaxis, :]
        offset = np.zeros_like(offset)
    values, vectors = covariance_spectrum(matrix, moments.epsilon)
    values = np.broadcast_to(values, (*batch, moments.n))
    share = _error_share(values, logarithms.sum(axis=-1)[..., np.newaxis], len(penalties) - 1)
    shape = (*batch, moments.n)
    return DeepMinimum(
        moments=moments,
        directions=vectors,
        target_values=values,
        error_share=share,
        log_penalties=logarithms,
        bias=np.array(np.broadcast_to(offset, shape), order="C"),
    )


def _error_share(values: FloatArray, log_product: FloatArray, m: int) -> FloatArray:
    """Return t = 1 - z/sqrt(lambda) at the global minimum, 1 where that is z = 0.

    Stationarity is ``t (1 - t)^((m - 1)/(m + 1)) = r`` with ``r = (product/lambda^m)^(1/(m + 1))``. Its smaller root
    beats z = 0 iff t <= 1/m, and up to there the left side rises.
    """
    exponent = (m - 1) / (m + 1)
    with np.errstate(divide="ignore", over="ignore"):
        wanted = np.exp((log_product - m * np.log(values)) / (m + 1))
    most = (1.0 / m) * (1.0 - 1.0 / m) ** exponent if m > 1 else 1.0
    low: FloatArray = np.zeros(wanted.shape)
    high: FloatArray = np.full(wanted.shape, 1.0 / m)
    for _ in range(BISECTIONS):
        middle = 0.5 * (low + high)
        is_below = middle * (1.0 - middle) ** exponent < wanted
        low, high = np.where(is_below, middle, low), np.where(is_below, high, middle)
    return np.where(wanted < most, high, 1.0)
