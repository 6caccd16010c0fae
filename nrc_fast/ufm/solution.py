"""A global minimum of the unconstrained feature model (UFM), or a batch of them, and all that follows from it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from nrc_fast.base.arrays import Array, FloatArray
from nrc_fast.base.cards import card
from nrc_fast.base.exact_products import sums_along
from nrc_fast.base.kept_values import cached_property
from nrc_fast.base.svg import spark_bars, sparkline
from nrc_fast.kernels.inputs import as_rows
from nrc_fast.ufm.correlated_features import CorrelatedFeatures, root_of_penalties
from nrc_fast.ufm.inputs import Batched, BatchedBool, BatchedInt, plain, plain_counts
from nrc_fast.ufm.minimum_bounds import NUMBERS, Solved, has_certain_directions, minimum_bounds, rank_range
from nrc_fast.ufm.rotations import rotation_within
from nrc_fast.ufm.spectral import Shrinkage
from nrc_fast.ufm.targets import TargetMoments

__all__ = ["UNCERTAIN_DIRECTIONS", "UNCERTAIN_RANK", "WITHOUT_PENALTIES", "Minimum", "nonzero"]

WITHOUT_PENALTIES = (
    "without penalties every W of full row rank is a global minimum, with h = W^+ (y - b) + (I - W^+ W) z for any z: "
    "neither features nor weights need collapse. What is shown is the limit of vanishing penalties, the minimum of "
    "least norm"
)

UNCERTAIN_RANK = (
    "c and an eigenvalue of the target covariance are equal within their errors: whether that direction is kept is "
    "not determined, and rank_range has the ranks that are possible"
)

UNCERTAIN_DIRECTIONS = (
    "the target covariance has equal eigenvalues, within their errors, on both sides of what d features have room for: "
    "which direction is kept is not determined, and other minima have other matrices"
)


@dataclass(frozen=True, eq=False, repr=False)
class Minimum:
    """Global minima of the UFM; made by `minimum`.

    Where penalties or covariances are arrays their common batch axes lead in every field; otherwise scalars are
    Python numbers. U diag(a) U^T stands for ``[Sigma^(1/2) - sqrt(c) I]_+``, the spectral positive part, and k for
    ``(lambda_H/lambda_W)^(1/4)``.

    Attributes
    ----------
    moments : TargetMoments
    shrinkage : Shrinkage
        Eigenbasis U and what is kept of each direction.
    lambda_W, lambda_H, lambda_b, c : float or (...) float64 array
    scale, root_c : (...) float64 array
        k^2, the ratio of weights to features: ``sqrt(lambda_H/lambda_W)``; and ``sqrt(c)``.
    is_unpenalised : (...) bool array
        Where both penalties are 0, so that the minimum is one of many.
    d : int or None
        Width of the features, where it was given: fewer than n hold the leading d directions of the targets alone.
    """

    __module__ = "nrc_fast.ufm"

    moments: TargetMoments
    shrinkage: Shrinkage
    lambda_W: Batched
    lambda_H: Batched
    lambda_b: Batched | None
    c: Batched
    root_c: FloatArray
    scale: FloatArray
    is_unpenalised: BatchedBool
    d: int | None = None

    @property
    def n(self) -> int:
        """Number of outputs."""
        return self.moments.n

    # ---- numbers ----

    @cached_property
    def rank(self) -> BatchedInt:
        """Rank of W and of the features: how many target directions are kept."""
        return plain_counts(np.count_nonzero(self.shrinkage.kept, axis=-1) + np.zeros(self._batch, dtype=np.int64))

    @cached_property
    def loss(self) -> Batched:
        """``mse/2 + lambda_W |W|^2/2 + lambda_H |H|^2/(2M) + lambda_b |b|^2/2``, the least there is."""
        # Weights and features pay the same, sqrt(c) sum a / 2 each, where c is finite.
        with np.errstate(invalid="ignore"):
            paid = np.where(self._kept_sum > 0.0, self.root_c * self._kept_sum, 0.0)
        penalty = np.asarray(0.0 if self.lambda_b is None else self.lambda_b)
        return plain(0.5 * np.asarray(self.mse) + paid + 0.5 * penalty * np.sum(np.asarray(self.bias) ** 2, axis=-1))

    @cached_property
    def mse(self) -> Batched:
        """Mean squared error summed over the outputs; ``sum_j min(lambda_j, c)`` for a free bias."""
        return plain(sums_along(self.shrinkage.residual_values, axis=-1) + np.zeros(self._batch))

    @cached_property
    def r2(self) -> Batched:
        """``1 - mse/tr Sigma``; NaN for targets without variance."""
        values, residual = self.shrinkage.values, self.shrinkage.residual_values
        if self.shrinkage.spectrum is not None and self.shrinkage.is_diagonal:
            # What is captured, which keeps its digits where it is little.
            variance = sums_along(values, axis=-1)
            captured = sums_along(np.maximum(values - residual, 0.0), axis=-1)
            return plain(captured / np.where(variance > 0.0, variance, np.nan) + np.zeros(self._batch))
        if not self.shrinkage.is_diagonal:
            values = np.diagonal(self.moments.covariance, axis1=-2, axis2=-1)
        variance = sums_along(values, axis=-1)
        return plain(1.0 - np.asarray(self.mse) / np.where(variance > 0.0, variance, np.nan))

    @cached_property
    def weight_norm_squared(self) -> Batched:
        """``|W|_F^2 = k^2 sum a``."""
        with np.errstate(over="ignore"):
            return plain(self.scale * self._kept_sum)

    @cached_property
    def feature_norm_squared(self) -> Batched:
        """Mean of ``|h|^2`` over the samples, ``sum a/k^2``."""
        with np.errstate(over="ignore"):
            return plain(self._kept_sum / self.scale)

    @cached_property
    def weight_singular_values(self) -> FloatArray:
        """Singular values of W, ``k sqrt(a)``, (..., n), in the order of the target directions."""
        singular_values: FloatArray = np.sqrt(self.scale)[..., np.newaxis] * np.sqrt(self.shrinkage.kept)
        return singular_values

    @cached_property
    def bias(self) -> FloatArray:
        """b, (..., n): the target mean if it is free, 0 if there is none."""
        shape = (*self._batch, self.n)
        # In C order, as where there is no batch: older numpy multiplies with other layouts in another order.
        return np.array(np.broadcast_to(self.moments.mean - self.shrinkage.offset, shape), order="C")

    # ---- matrices ----

    @cached_property
    def gram(self) -> FloatArray:
        """``W W^T = k^2 U diag(a) U^T``, (..., n, n)."""
        with np.errstate(over="ignore"):
            return np.asarray(self.scale[..., np.newaxis, np.newaxis] * self._along_directions(self.shrinkage.kept))

    @cached_property
    def head_gram_shape(self) -> FloatArray:
        """``W W^T`` over its Frobenius norm, (..., n, n); zeros for rank 0."""
        kept = self.shrinkage.kept
        relative = kept / nonzero(kept.max(axis=-1, keepdims=True))
        return self._along_directions(relative / nonzero(np.sqrt(np.sum(relative**2, axis=-1, keepdims=True))))

    @cached_property
    def residual_covariance(self) -> FloatArray:
        """``(1/M) E^T E`` of the errors ``E = H W^T + b - Y``, (..., n, n): ``U diag(min(lambda, c)) U^T``.

        With a free bias errors have mean 0 and this is their covariance, else their second moment.
        """
        return self._along_directions(self.shrinkage.residual_values)

    @cached_property
    def cosines(self) -> FloatArray:
        """Cosines of the angles between the rows of W, (..., n, n); NaN beside a row that is 0."""
        shape = self.head_gram_shape
        lengths = np.sqrt(np.diagonal(shape, axis1=-2, axis2=-1))
        lengths = np.where(lengths > 0.0, lengths, np.nan)
        cosines = shape / lengths[..., :, np.newaxis] / lengths[..., np.newaxis, :]
        return np.clip(cosines, -1.0, 1.0)

    # ---- the features ----

    @cached_property
    def explained_variance_ratio(self) -> FloatArray:
        """Share of the features' variance in each of their n components, (..., n), descending; NaN for rank 0.

        ``a_j / sum a`` for a free bias: not uniform, and with nothing beyond n.
        """
        if self._correlated is not None:
            return self._correlated.shares
        values = -np.sort(-self.shrinkage.feature_values, axis=-1)
        relative = values / nonzero(values.max(axis=-1, keepdims=True))
        total = sums_along(relative, axis=-1)[..., np.newaxis]
        return np.asarray(relative / np.where(total > 0.0, total, np.nan))

    @cached_property
    def cka(self) -> Batched:
        """Linear CKA of features and targets; NaN for rank 0.

        ``sum lambda_j a_j / sqrt(sum lambda_j^2 sum a_j^2)`` for a free bias: below 1 unless all that are kept and
        all targets have one variance.
        """
        if self._correlated is not None:
            return plain(self._correlated.cka)
        features, values = (
            part / nonzero(part.max(axis=-1, keepdims=True))
            for part in (self.shrinkage.feature_values, self.shrinkage.values)
        )
        cross = np.sum(features * values, axis=-1)
        squares = [np.sum(part**2, axis=-1) for part in (features, values)]
        norm = np.sqrt(squares[0]) * np.sqrt(squares[1])
        return plain(np.minimum(cross / np.where(norm > 0.0, norm, np.nan), 1.0))

    # ---- bounds ----

    @cached_property
    def rank_range(self) -> tuple[Batched, Batched]:
        """The least and the largest rank that errors leave open: they differ where c is within those of an eigenvalue.

        Examples
        --------
        >>> from nrc_fast.ufm import minimum
        >>> minimum(covariance=[[0.2, 0.0], [0.0, 0.09]], lambda_W=0.3, lambda_H=0.3).rank_range
        (1, 2)
        """
        return rank_range(self.solved(("rank",)))

    @cached_property
    def bounds(self) -> dict[str, Batched]:
        """Absolute bounds of the errors of the numbers above, by name; of matrices but `cosines` in Frobenius norm.

        They hold for the targets, or the covariance, and the penalties as they were given, every digit of them, and
        are certified up to 32 outputs: they count roundings at their worst. Beyond 32 outputs and for more than some
        millions of targets at a time, errors of LAPACK and of sums over the rows are taken to grow like the root of
        their length: these hold in practice. Statistics in place of targets hand on what they say of their own error.
        With a penalised bias bounds hold for the mean as it is, and widen as lambda_b goes to 0.

        Examples
        --------
        >>> from nrc_fast.ufm import minimum
        >>> found = minimum(covariance=[[4.0, 0.0], [0.0, 1.0]], lambda_W=0.5, lambda_H=0.5)
        >>> found.mse, bool(found.bounds["mse"] < 1e-14), found.bounds["rank"]
        (0.5, True, 0)
        """
        return minimum_bounds(self.solved(NUMBERS))

    # ---- weights and features ----

    def weights(self, rotation: Array | None = None, d: int | None = None) -> FloatArray:
        """``W = k U diag(sqrt(a)) R``, (..., n, d).

        Parameters
        ----------
        rotation : (min(n, d), d) array or tensor, optional
            R with orthonormal rows; every such R gives a global minimum. The first axes if not given.
        d : int, optional
            Width of the features; that of the minimum, or n, if neither it nor a rotation is given. Below n there must
            be room for every direction that is kept: give d to `minimum` too.

        Returns
        -------
        (..., n, d) float64 array

        Raises
        ------
        ValueError
            The rotation has no orthonormal rows, or another shape; d is not that of the rotation or of the minimum, or
            has no room for what is kept.

        References
        ----------
        arXiv 2409.04180 (NeurIPS 2024), theorem 4.1, in spectral form.
        """
        turn = rotation_within(rotation, self.shrinkage.kept, d, self.d)
        scaled = self.shrinkage.vectors * self.weight_singular_values[..., np.newaxis, :]
        return scaled[..., : len(turn)] @ turn

    def features(self, Y: Array, rotation: Array | None = None, d: int | None = None) -> FloatArray:
        """``h = R^T diag(sqrt(a)/(a + sqrt(c)))/k U^T (y - b)`` for every target, (..., M, d).

        With a free bias ``a + sqrt(c) = sqrt(lambda)`` in every direction that is kept.

        Parameters
        ----------
        Y : (M, n) or (M,) array or tensor
            The targets whose moments these are, or new ones.
        rotation : (min(n, d), d) array or tensor, optional
            R with orthonormal rows, the one that was given to `weights`. The first axes if not given.
        d : int, optional
            Width of the features, see `weights`.

        Raises
        ------
        ValueError
            The rotation or d does not fit, see `weights`, or the targets are not finite or have other than n columns.
        """
        rows = as_rows(Y, "Y", vector_is_column=True)
        if rows.columns != self.n:
            msg = f"Y has {rows.columns} columns; {self.n} are expected, one for each output"
            raise ValueError(msg)
        targets = rows.to_float64()
        if not np.isfinite(targets).all():
            msg = "Y has values that are not finite (NaN or infinite)"
            raise ValueError(msg)
        factors = self._feature_factors / np.sqrt(self.scale)[..., np.newaxis]
        coordinates = np.subtract(targets, self.bias[..., np.newaxis, :], order="C") @ self.shrinkage.vectors
        turn = rotation_within(rotation, self.shrinkage.kept, d, self.d)
        return (coordinates * factors[..., np.newaxis, :])[..., : len(turn)] @ turn

    def _repr_html_(self) -> str:
        first, *lines = str(self).splitlines()
        if np.ndim(self.c) or self._batch:
            curve = sparkline(np.ravel(self.mse).tolist(), "MSE of each, in the order of the batch")
            return card(first, rows=[("MSE of each", curve)], notes=lines)
        values = self.weight_singular_values.tolist()
        rows: list[tuple[object, ...]] = [
            ("singular values of W", spark_bars(values, f"{self.n} singular values of W", range(self.n))),
            ("loss, penalties included", f"{self.loss:.6g}"),
            ("MSE, summed over outputs", f"{self.mse:.6g}"),
            ("R2", f"{self.r2:.6g}"),
            ("CKA of features and targets", f"{self.cka:.6g}"),
        ]
        notes = [WITHOUT_PENALTIES] if np.any(self.is_unpenalised) else []
        return card(first, [f"Features and head have rank {self.rank} of {self.n}."], rows, notes=notes)

    def __repr__(self) -> str:
        return str(self)

    def __str__(self) -> str:
        sizes = f"n = {self.n}" if self.d is None else f"n = {self.n}, d = {self.d}"
        if np.size(self.c) == 0:
            lines = [f"no minima of the UFM: a batch of shape {np.shape(self.c)}"]
        elif np.ndim(self.c):
            c, rank = np.asarray(self.c), np.asarray(self.rank)
            ranges = f"c from {c.min():.4g} to {c.max():.4g}, rank {rank.min()} to {rank.max()}"
            lines = [f"{c.size:,} minima of the UFM, {sizes}: {ranges}"]
        else:
            lines = [
                f"minimum of the UFM, {sizes}, c = {self.c:.6g}",
                f"  rank {self.rank}, loss {self.loss:.6g}, MSE {self.mse:.6g} (summed over outputs), R2 {self.r2:.6g}",
                f"  |W|^2 {self.weight_norm_squared:.6g}, mean |h|^2 {self.feature_norm_squared:.6g}",
                f"  CKA of features and targets {self.cka:.6g}",
            ]
        if np.any(self.is_unpenalised):
            lines.append(f"note: {WITHOUT_PENALTIES}")
        if np.size(self.c) and np.any(np.not_equal(*self.rank_range)):
            lines.append(f"note: {UNCERTAIN_RANK}")
        if np.size(self.c) and not np.all(has_certain_directions(self.solved(("rank",)))):
            lines.append(f"note: {UNCERTAIN_DIRECTIONS}")
        return "\n".join(lines)

    # ---- helpers ----

    @property
    def _batch(self) -> tuple[int, ...]:
        """The shape of the batch, which some fields have only along some axes."""
        return np.broadcast_shapes(np.shape(self.scale), self.moments.batch)

    def solved(self, names: Iterable[str]) -> Solved:
        """What bounds of some numbers are made of."""
        numbers = {name: np.asarray(getattr(self, name)) for name in names}
        return Solved(
            *(self.moments, self.shrinkage, self.c),
            numbers=numbers,
            root_c=self.root_c,
            scale=self.scale,
            width=self.d,
            correlated=self._correlated,
        )

    @property
    def _kept_sum(self) -> FloatArray:
        return sums_along(self.shrinkage.kept, axis=-1)

    def _along_directions(self, values: FloatArray) -> FloatArray:
        """U diag(values) U^T, symmetric to the last digit."""
        vectors = self.shrinkage.vectors
        product = (vectors * values[..., np.newaxis, :]) @ np.swapaxes(vectors, -1, -2)
        return np.asarray(0.5 * (product + np.swapaxes(product, -1, -2)))

    @property
    def _feature_factors(self) -> FloatArray:
        """sqrt(a)/(a + sqrt(c)), and 0 where nothing is kept."""
        kept = self.shrinkage.kept
        root_kept = np.sqrt(kept)
        with np.errstate(over="ignore"):
            return np.asarray(root_kept / nonzero(kept + self.root_c[..., np.newaxis])) * (kept > 0.0)

    @cached_property
    def _correlated(self) -> CorrelatedFeatures | None:
        if self.shrinkage.is_diagonal:
            return None
        root = root_of_penalties(np.asarray(self.lambda_W), np.asarray(self.lambda_H))
        return CorrelatedFeatures(self.moments, self.shrinkage, root, self.d)


def nonzero(values: FloatArray) -> FloatArray:
    """The divisor that leaves zeros zero."""
    return np.where(values > 0.0, values, 1.0)
