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

import numpy as np

from nrc_fast.base.arrays import Array, FloatArray
from nrc_fast.base.cards import card
from nrc_fast.base.exact_products import sums_along
from nrc_fast.base.kept_values import cached_property
from nrc_fast.base.svg import spark_bars, sparkline
from nrc_fast.kernels.inputs import as_matrix
from nrc_fast.metrics.deep_directions import (
    Directions,
    factor_singular_values,
    gram_eigenvalues,
    root_of_product,
    solve_directions,
    threshold,
)
from nrc_fast.ufm.deep_bounds import deep_bounds, deep_rank_range
from nrc_fast.ufm.eigenvalues import Spectrum
from nrc_fast.ufm.inputs import (
    Batched,
    BatchedInt,
    as_layers,
    as_penalty,
    as_width,
    broadcast_shape,
    plain,
    plain_counts,
)
from nrc_fast.ufm.targets import TargetMoments, Targets, target_moments

__all__ = ["DeepMinimum", "deep"]


@dataclass(frozen=True, eq=False, repr=False)
class DeepMinimum:
    """Global minima of the UFM with m linear layers; made by `deep`. Batch axes lead in every field.

    Attributes
    ----------
    moments : TargetMoments
    spectrum : Spectrum
        Eigenvalues and eigenvectors of the target covariance (of the second moment where there is no bias).
    solved : Directions
        What becomes of each direction.
    penalties : (..., m + 1) float64 array
        lambda_H last.
    bias : (..., n) float64 array
        b, the target mean if it is free, 0 if there is none.
    """

    __module__ = "nrc_fast.ufm"

    moments: TargetMoments
    spectrum: Spectrum
    solved: Directions
    penalties: FloatArray
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
        return int(self.penalties.shape[-1]) - 1

    @property
    def directions(self) -> FloatArray:
        """U, eigenvectors of the target covariance in its columns, (..., n, n)."""
        return self.spectrum.vectors

    @property
    def target_values(self) -> FloatArray:
        """lambda, the eigenvalues that belong to `directions`, descending, (..., n)."""
        return np.broadcast_to(self.spectrum.values, self.error_share.shape)

    @property
    def error_share(self) -> FloatArray:
        """``1 - z/sqrt(lambda)``, what the predictions lose of each direction, (..., n); 1 where it is dropped."""
        return self.solved.share

    @cached_property
    def log_penalties(self) -> FloatArray:
        """Logarithms of the penalties, (..., m + 1), lambda_H last."""
        logarithms: FloatArray = np.log(self.penalties)
        return logarithms

    @cached_property
    def penalty_product(self) -> Batched:
        """``lambda_H lambda_1 ... lambda_m``, which is c for one layer."""
        factors = np.moveaxis(self.penalties, -1, 0)
        return plain(root_of_product(list(factors), [1] * len(factors)))

    @cached_property
    def thresholds(self) -> FloatArray:
        """The products of penalties at which directions go, (..., n): ``lambda^m (m - 1)^(m - 1)/m^(2m)``."""
        return threshold(self.target_values, self.layers)

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
    def rank_range(self) -> tuple[BatchedInt, BatchedInt]:
        """The least and the largest rank that errors leave open: they differ where penalties are at a threshold."""
        return deep_rank_range(self.spectrum, self.penalties, np.asarray(self.rank))

    @cached_property
    def bounds(self) -> dict[str, Batched]:
        """Absolute bounds of the errors of the numbers here, by name; of `gram` in Frobenius norm.

        They hold for targets and penalties as they were given, and are certified in the cases in which those of
        `Minimum.bounds` are. Where it is open whether a direction is kept, so is nearly all that belongs to it.

        Examples
        --------
        >>> found = deep(covariance=np.diag([4.0, 1.0]), lambda_W=[1e-200, 1e-200], lambda_H=1e-200)
        >>> found.loss, bool(found.bounds["loss"] < 1e-213)
        (3.881101577952299e-200, True)
        """
        names = [
            *("rank", "loss", "mse", "error_share", "prediction_singular_values", "layer_singular_values"),
            *("feature_singular_values", "penalty_product", "thresholds", "jumps", "bias"),
        ]
        numbers = {name: np.asarray(getattr(self, name)) for name in names} | {"gram_values": self._gram_values}
        return deep_bounds(self.spectrum, self.penalties, numbers, mean_error=self.moments.mean_error)

    @cached_property
    def prediction_singular_values(self) -> FloatArray:
        """z, singular values of the predictions over sqrt(M), (..., n)."""
        roots: FloatArray = np.sqrt(self.target_values) * (1.0 - self.error_share)
        return roots

    @cached_property
    def mse(self) -> Batched:
        """Mean squared error summed over the outputs, ``sum (sqrt(lambda) - z)^2``."""
        return plain(sums_along((self.target_values * self.error_share) * self.error_share, axis=-1))

    @cached_property
    def loss(self) -> Batched:
        """The least loss there is, penalties included."""
        paid = 0.5 * (self.layers + 1) * sums_along(self.solved.energy, axis=-1)
        return plain(0.5 * np.asarray(self.mse) + paid)

    @cached_property
    def layer_singular_values(self) -> FloatArray:
        """Singular values of every layer, (..., m, n), the layer on the features first: ``sqrt(e_j/lambda_i)``.

        ``e_j = kappa z_j^(2/(m + 1))`` is what direction j pays twice in each layer and in the features.
        """
        return self._singular_values[..., :-1, :]

    @cached_property
    def feature_singular_values(self) -> FloatArray:
        """Singular values of the features over sqrt(M), (..., n): ``sqrt(e_j/lambda_H)``."""
        return self._singular_values[..., -1, :]

    @cached_property
    def gram(self) -> FloatArray:
        """Gram of the rows of the product of all layers, (..., n, n)."""
        product = (self.directions * self._gram_values[..., np.newaxis, :]) @ np.swapaxes(self.directions, -1, -2)
        return np.asarray(0.5 * (product + np.swapaxes(product, -1, -2)))

    @cached_property
    def _singular_values(self) -> FloatArray:
        return factor_singular_values(self.target_values, self.penalties, self.error_share)

    @property
    def _gram_values(self) -> FloatArray:
        return gram_eigenvalues(self.target_values, self.penalties, self.error_share)

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

    def _repr_html_(self) -> str:
        title = f"minimum of the UFM with {self.layers} linear layers, n = {self.moments.n}"
        if np.ndim(self.mse):
            curve = sparkline(np.ravel(self.mse).tolist(), "MSE of each, in the order of the batch")
            return card(f"{np.size(self.mse):,} minima: {title}", rows=[("MSE of each", curve)])
        values = self.prediction_singular_values.tolist()
        bars = spark_bars(values, f"{len(values)} singular values of the predictions", range(len(values)))
        rows: list[tuple[object, ...]] = [
            ("singular values of the predictions", bars),
            ("product of the penalties", f"{self.penalty_product:.6g}"),
            ("loss, penalties included", f"{self.loss:.6g}"),
            ("MSE, summed over outputs", f"{self.mse:.6g}"),
        ]
        return card(title, [f"{self.rank} of {self.moments.n} target directions are kept."], rows)

    def _width(self, d: int | None) -> int:
        n = self.moments.n
        width = as_width(d) or n
        if width < n:
            msg = f"d is {d}; at least n = {n} is expected, for every layer holds all n target directions"
            raise ValueError(msg)
        return width


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
        Targets or penalties cannot be used, or there is no layer or more than 10,000.
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
    as_layers(len(layers), "the length of lambda_W", least=1)
    penalties = [as_penalty(value, f"lambda_W[{i}]", positive=True) for i, value in enumerate(layers)]
    penalties.append(as_penalty(lambda_H, "lambda_H", positive=True))
    named = {f"lambda_W[{i}]": penalty for i, penalty in enumerate(penalties[:-1])}
    batch = broadcast_shape(**named, lambda_H=penalties[-1], covariance=moments.mean[..., 0])
    stacked = np.stack([np.broadcast_to(penalty, batch) for penalty in penalties], axis=-1)
    found = moments.spectrum(about_mean=bias)
    values = np.broadcast_to(found.values, (*batch, moments.n))
    offset = moments.mean if bias else np.zeros_like(moments.mean)
    return DeepMinimum(
        moments=moments,
        spectrum=found,
        solved=solve_directions(values, stacked),
        penalties=stacked,
        bias=np.array(np.broadcast_to(offset, (*batch, moments.n)), order="C"),
    )
