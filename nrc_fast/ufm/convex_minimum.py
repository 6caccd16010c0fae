"""A global minimum of the unconstrained feature model under a convex loss, or a batch of them, with its certificate."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from nrc_fast.base.arrays import Array, FloatArray, IntArray
from nrc_fast.base.cards import card
from nrc_fast.base.kept_values import cached_property
from nrc_fast.base.linalg import EPSILON
from nrc_fast.base.svg import spark_bars, sparkline
from nrc_fast.reports.classes import ClassReport
from nrc_fast.ufm.convex_classes import class_report, merge_thresholds, merged_classes
from nrc_fast.ufm.convex_targets import Merged, class_labels, target_rows
from nrc_fast.ufm.inputs import Batched, BatchedInt, as_width, plain, plain_counts
from nrc_fast.ufm.rotations import check_rotation
from nrc_fast.ufm.solution import nonzero

__all__ = ["ConvexMinimum"]

LOOSE = 1e-4  # relative gaps from which on directions of a minimum may be missing
UNCERTAIN_GROUPS = "note: at so large a gap the classes that merge may be others; give a smaller tolerance="


@dataclass(frozen=True, eq=False, repr=False)
class ConvexMinimum:
    """Global minima of the UFM under a convex loss; made by `convex`.

    Where penalties are arrays their common axes lead in every field, and ``found[i]`` is one of the batch; otherwise
    scalars are Python numbers. With shares p of the samples the predictions without the bias have the decomposition
    ``sqrt(p_i) z_i = U diag(a) v_i``, and k stands for ``(lambda_H/lambda_W)^(1/4)``.

    Attributes
    ----------
    given : Merged
        The samples, those that are equal merged into one with their weights.
    lambda_W, lambda_H, c : float or array
    loss : float or array
        ``(1/M) sum w l(W h + b, y) + lambda_W |W|^2/2 + lambda_H sum w |h|^2/(2M)``.
    data_loss : float or array
        Its first term.
    gap : float or array
        The duality gap: no other point has a loss that is lower by more. This is what is certified.
    bias : (..., n) float64 array
        b; of cross-entropy, which does not change with the mean of b, the one of mean 0.
    kept : (..., k) float64 array
        a, descending, 0 from the rank on; k is the smaller of n and the number of samples that differ.
    vectors : (..., n, k) float64 array
        U, orthonormal columns.
    coordinates : (..., m, k) float64 array
        ``v_i/sqrt(p_i)`` of the samples that differ.
    gradients : (..., m, n) float64 array
        ``dl/df`` of the samples that differ, as the certificate has them: a point of the dual problem.
    errors : (..., m, n) float64 array
        ``f - y`` of the samples that differ, which keep their digits where targets are far larger than their
        differences; the logits f of cross-entropy and logistic loss.
    steps : int or array
        Newton steps that it took.
    """

    __module__ = "nrc_fast.ufm"

    given: Merged
    lambda_W: Batched
    lambda_H: Batched
    c: Batched
    loss: Batched
    data_loss: Batched
    gap: Batched
    bias: FloatArray
    kept: FloatArray
    vectors: FloatArray
    coordinates: FloatArray
    gradients: FloatArray
    errors: FloatArray
    steps: BatchedInt

    @property
    def n(self) -> int:
        """Number of outputs, or of classes."""
        return int(self.bias.shape[-1])

    def __getitem__(self, index: int | tuple[int, ...]) -> ConvexMinimum:
        """One minimum of a batch."""
        numbers = ("lambda_W", "lambda_H", "c", "loss", "data_loss", "gap")
        arrays = ("bias", "kept", "vectors", "coordinates", "gradients", "errors")
        if np.ndim(self.c) == 0 or np.ndim(np.asarray(self.c)[index]):
            msg = f"the batch has shape {np.shape(self.c)}; one index for each of its axes is expected"
            raise IndexError(msg)
        fields: dict[str, Batched] = {name: float(np.asarray(getattr(self, name))[index]) for name in numbers}
        parts: dict[str, FloatArray] = {name: getattr(self, name)[index] for name in arrays}
        return ConvexMinimum(given=self.given, steps=int(np.asarray(self.steps)[index]), **fields, **parts)  # type: ignore[arg-type]

    # ---- numbers ----

    @cached_property
    def rank(self) -> BatchedInt:
        """Rank of W and of the features.

        Directions whose share of the penalty is below a thousandth of the tolerance are left out.
        """
        return plain_counts(np.asarray(np.count_nonzero(self.kept, axis=-1)))

    @cached_property
    def relative_gap(self) -> Batched:
        """The gap over the loss; 0 for a loss of 0."""
        return plain(np.asarray(self.gap / nonzero(np.asarray(self.loss))))

    @cached_property
    def mse(self) -> Batched:
        """Mean squared error summed over the outputs; NaN for cross-entropy and logistic loss."""
        if self.given.power == 0:
            return plain(np.full(np.shape(self.c), np.nan))
        return plain(np.sum(self.errors**2, axis=-1) @ self.given.problem.shares)

    @cached_property
    def scale(self) -> FloatArray:
        """``k^2 = sqrt(lambda_H/lambda_W)``, the ratio of weights to features."""
        return np.asarray(np.sqrt(self.lambda_H) / np.sqrt(self.lambda_W))

    @cached_property
    def weight_norm_squared(self) -> Batched:
        """``|W|_F^2 = k^2 sum a``."""
        return plain(np.asarray(self.scale * self.kept.sum(axis=-1)))

    @cached_property
    def feature_norm_squared(self) -> Batched:
        """Mean of ``|h|^2`` over the samples with their weights, ``sum a/k^2``."""
        return plain(np.asarray(self.kept.sum(axis=-1) / self.scale))

    @cached_property
    def weight_singular_values(self) -> FloatArray:
        """Singular values of W, ``k sqrt(a)``, (..., k), descending."""
        return np.asarray(np.sqrt(self.scale)[..., np.newaxis] * np.sqrt(self.kept))

    # ---- matrices ----

    @cached_property
    def gram(self) -> FloatArray:
        """``W W^T = k^2 U diag(a) U^T``, (..., n, n): k^2 times the root of the second moment of the predictions."""
        product = (self.vectors * (self.scale[..., np.newaxis] * self.kept)[..., np.newaxis, :]) @ np.swapaxes(
            self.vectors, -1, -2
        )
        return np.asarray(0.5 * (product + np.swapaxes(product, -1, -2)))

    @cached_property
    def head_gram_shape(self) -> FloatArray:
        """``W W^T`` over its Frobenius norm, (..., n, n); zeros for rank 0."""
        norm = np.sqrt(np.sum(self.gram**2, axis=(-2, -1), keepdims=True))
        return np.asarray(self.gram / nonzero(norm))

    @cached_property
    def cosines(self) -> FloatArray:
        """Cosines of the angles between the rows of W, (..., n, n); NaN beside a row that is 0."""
        lengths = np.sqrt(np.diagonal(self.gram, axis1=-2, axis2=-1))
        lengths = np.where(lengths > 0.0, lengths, np.nan)
        return np.clip(self.gram / lengths[..., :, np.newaxis] / lengths[..., np.newaxis, :], -1.0, 1.0)

    # ---- weights and features ----

    def weights(self, rotation: Array | None = None, d: int | None = None) -> FloatArray:
        """``W = k U diag(sqrt(a)) R``, (..., n, d).

        Parameters
        ----------
        rotation : (n, d) array or tensor, optional
            R with orthonormal rows; every such R gives a global minimum. The first axes if not given.
        d : int, optional
            Width of the features, at least the rank; n if neither it nor a rotation is given.

        Raises
        ------
        ValueError
            The rotation has no orthonormal rows, or another shape; d is below the rank, or not that of the rotation.
        """
        return self._rotated(self.vectors * self.weight_singular_values[..., np.newaxis, :], rotation, d)

    def features(self, Y: Array, rotation: Array | None = None, d: int | None = None) -> FloatArray:
        """``h = R^T diag(sqrt(a)) v/sqrt(p)/k`` for every sample, (..., M, d).

        Parameters
        ----------
        Y : (M, n) or (M,) array or tensor
            Samples among those that were given with a positive weight, in any order and number: targets, answers or
            labels.
        rotation : (n, d) array or tensor, optional
            R with orthonormal rows, the one that was given to `weights`.
        d : int, optional
            Width of the features, at least the rank.

        Raises
        ------
        ValueError
            A sample is not among those that were given with a positive weight; the rotation or d does not fit, see
            `weights`.
        """
        factors = np.sqrt(self.kept) / np.sqrt(self.scale)[..., np.newaxis]
        return self._rotated((self.coordinates * factors[..., np.newaxis, :])[..., self._rows_of(Y), :], rotation, d)

    def predictions(self, Y: Array) -> FloatArray:
        """``W h + b`` for every sample, (..., M, n); logits of cross-entropy and logistic loss.

        Parameters
        ----------
        Y : (M, n) or (M,) array or tensor
            Samples among those that were given with a positive weight.

        Raises
        ------
        ValueError
            A sample is not among those that were given with a positive weight.
        """
        return (self._predictions + self.bias[..., np.newaxis, :])[..., self._rows_of(Y), :]

    # ---- bounds ----

    @property
    def bounds(self) -> dict[str, Batched]:
        """What the duality gap certifies, as absolute bounds by name.

        ``loss`` is the gap itself. ``gradients`` and ``predictions`` are root mean squares over the samples of the
        distance from those of the exact minimum: ``sqrt(2 L gap)``, L the largest curvature of the loss, and
        ``sqrt(2 gap/m)``, m its smallest, so predictions of the squared loss only. ``mse`` follows from the predictions
        and the rounding of the errors, and is NaN where the MSE is. Infinite where nothing is certified; how near W,
        rank and angles are is then not certified either, though Newton's method leaves them near.
        """
        loss, gap = self.given.problem.loss, np.asarray(self.gap)
        largest = np.full(gap.shape, np.inf)
        predictions = np.sqrt(2.0 * gap / loss.convexity) if loss.convexity > 0.0 else largest
        return {
            "loss": self.gap,
            "gradients": plain(np.sqrt(2.0 * loss.smoothness * gap) if loss.smoothness < np.inf else largest),
            "predictions": plain(predictions),
            "mse": plain(self._mse_bound(predictions)),
        }

    # ---- classes ----

    @property
    def classes(self) -> ClassReport:
        """NC1 to NC4 of the minimum, as `nrc_fast.measure_classes` has them; of cross-entropy, of one minimum alone.

        All samples of a class share their features, so NC1 is 0 unless all features are 0. Where several classes tie
        for the largest logit, the accuracy counts each of them with its chance.
        """
        weights, features = self.weights(), self.features(self._one_of_classes())
        return class_report(self.given, weights, self.bias, features)

    @property
    def merged(self) -> tuple[tuple[int, ...], ...]:
        """Groups of two or more classes that share their features: distances below 1e-6 of the largest logit.

        With cross-entropy only, one of a batch at a time. At relative gaps above 1e-4 these are groups of the point
        that was found and need not be those of the minimum; `merge_thresholds` is exact.
        """
        return merged_classes(self.predictions(self._one_of_classes()) - self.bias)

    @property
    def merge_thresholds(self) -> FloatArray:
        """The c from which each class has merged with those of its size, ``n_k/M``, (K,); NaN for a size of its own.

        This holds with and without a bias, for cross-entropy and for the squared loss of one-hot targets. For classes
        of different sizes there is no such rule.
        """
        self._require_classes()
        return merge_thresholds(self.given.weights)

    def __repr__(self) -> str:
        return str(self)

    def __str__(self) -> str:
        name = f"of the UFM, {self.given.name} loss, n = {self.n}"
        if np.ndim(self.c):
            c, rank = np.asarray(self.c), np.asarray(self.rank)
            if c.size == 0:
                return f"no minima {name}: a batch of shape {c.shape}"
            ranges = f"c from {c.min():.4g} to {c.max():.4g}, rank {rank.min()} to {rank.max()}"
            return f"{c.size:,} minima {name}: {ranges}, relative gaps up to {np.max(self.relative_gap):.1e}"
        norms = f"|W|^2 {self.weight_norm_squared:.6g}, mean |h|^2 {self.feature_norm_squared:.6g}"
        lines = [
            f"minimum {name}, c = {self.c:.6g}",
            f"  rank {self.rank}, loss {self.loss:.6g}, no more than {self.gap:.1e} above the least there is",
            f"  without penalties {self.data_loss:.6g}, {norms}",
        ]
        return "\n".join([*lines, *(f"  {line}" for line in self._about_classes())])

    def _repr_html_(self) -> str:
        first, *lines = str(self).splitlines()
        if np.ndim(self.c):
            curve = sparkline(np.ravel(self.loss).tolist(), "loss of each, in the order of the batch")
            return card(first, rows=[("loss of each", curve)], notes=lines)
        values = self.weight_singular_values.tolist()
        rows: list[tuple[object, ...]] = [
            ("singular values of W", spark_bars(values, f"{len(values)} singular values of W", range(len(values)))),
            ("loss, penalties included", f"{self.loss:.6g}"),
            ("duality gap", f"{self.gap:.2g}"),
            ("loss without penalties", f"{self.data_loss:.6g}"),
        ]
        return card(first, [f"Features and head have rank {self.rank}.", *self._about_classes()], rows)

    # ---- helpers ----

    def _about_classes(self) -> list[str]:
        if self.given.name != "cross_entropy":
            return []
        groups = ", ".join("{" + ", ".join(map(str, group)) + "}" for group in self.merged) or "none"
        about = f"classes that have merged: {groups}; accuracy {self.classes.accuracy:.4g}"
        return [about, UNCERTAIN_GROUPS] if float(self.relative_gap) > LOOSE else [about]

    @cached_property
    def _predictions(self) -> FloatArray:
        """Predictions without the bias of the samples that differ, (..., m, n)."""
        return np.asarray((self.coordinates * self.kept[..., np.newaxis, :]) @ np.swapaxes(self.vectors, -1, -2))

    def _mse_bound(self, predictions: FloatArray) -> FloatArray:
        """Bound of the error of the MSE from that of the predictions, (...)."""
        mse, given = np.asarray(self.mse), self.given
        # Errors are sums of rounded products, from offsets that are rounded differences of the targets.
        terms = np.abs(self.coordinates) @ np.swapaxes(self.kept[..., np.newaxis, :] * np.abs(self.vectors), -1, -2)
        terms = terms + np.abs(given.unit * given.problem.offset)
        largest = np.sqrt(np.sum(terms**2, axis=-1) @ given.problem.shares)
        error = predictions + EPSILON * (self.kept.shape[-1] + 8.0) * largest
        return np.asarray((2.0 * np.sqrt(mse) + error) * error + EPSILON * (self.n + len(given.weights)) * mse)

    def _rotated(self, columns: FloatArray, rotation: Array | None, d: int | None) -> FloatArray:
        """Columns (..., k) turned into d features."""
        if rotation is not None:
            return np.asarray(columns @ check_rotation(rotation, self.n, d)[: columns.shape[-1]])
        width, rank = as_width(d) or self.n, int(np.max(self.rank, initial=0))
        if width < rank:
            msg = (
                f"d is {width}; at least the rank of the minimum, {rank}, is expected: with fewer features the problem "
                "is not convex and its minimum is not known"
            )
            raise ValueError(msg)
        return np.asarray(columns @ np.eye(columns.shape[-1], width))

    def _rows_of(self, Y: Array) -> IntArray:
        """Which of the samples that differ each row is."""
        if self.given.name == "cross_entropy":
            labels = class_labels(Y)
            if labels.max() >= self.n:
                msg = f"Y has the label {labels.max()}; 0..{self.n - 1} is expected"
                raise ValueError(msg)
            return labels
        rows = target_rows(Y)
        if rows.shape[1] != self.n:
            msg = f"Y has {rows.shape[1]} columns; {self.n} are expected, one for each output"
            raise ValueError(msg)
        found = [self._places.get(row.tobytes(), -1) for row in rows]
        if min(found) < 0:
            msg = f"row {found.index(-1)} of Y is not among the samples that were given with a positive weight"
            raise ValueError(msg)
        return np.array(found)

    @cached_property
    def _places(self) -> dict[bytes, int]:
        return {row.tobytes(): place for place, row in enumerate(np.asarray(self.given.rows))}

    def _require_classes(self) -> None:
        if self.given.name != "cross_entropy":
            msg = f"the loss is {self.given.name!r}; classes are those of 'cross_entropy'"
            raise ValueError(msg)

    def _one_of_classes(self) -> IntArray:
        """The labels of all classes."""
        self._require_classes()
        if np.ndim(self.c):
            msg = f"this is a batch of shape {np.shape(self.c)}; take one minimum of it, as in found[0]"
            raise ValueError(msg)
        return np.arange(self.n)
