"""The UFM in the eigenbasis of the target covariance: which directions are kept, and how much of each.

Whatever the bias, the best features for given weights and bias are ``h = W^T (W W^T + lambda_H I)^-1 (y - b)``, and at
the minimum the Gram of the head and the targets share eigenvectors: ``W W^T = sqrt(lambda_H/lambda_W) U diag(a) U^T``.
Then ``lambda_H (W W^T + lambda_H I)^-1 = U diag(q) U^T`` with ``q = sqrt(c)/(a + sqrt(c))`` is what the residual
keeps of the targets.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from nrc_fast.base.arrays import FloatArray
from nrc_fast.base.linalg import covariance_spectrum
from nrc_fast.ufm.eigenvalues import Spectrum
from nrc_fast.ufm.targets import TargetMoments

__all__ = ["Shrinkage", "left_within", "shrink", "within_width"]

BISECTIONS = 128


@dataclass(frozen=True, eq=False)
class Shrinkage:
    """What is kept of each target direction; batch axes lead, n is last.

    Attributes
    ----------
    vectors : (..., n, n) float64 array
        U, one direction in each column.
    values : (..., n) float64 array
        Variance of the targets in each direction; about 0 and not their mean where there is no bias.
    kept : (..., n) float64 array
        a, the eigenvalues of ``W W^T`` over ``sqrt(lambda_H/lambda_W)``.
    feature_values : (..., n) float64 array
        Eigenvalues of the covariance of the features times ``sqrt(lambda_H/lambda_W)``, where `is_diagonal`.
    residual_values : (..., n) float64 array
        Second moment of the errors in each direction.
    offset : (..., n) float64 array
        Target mean minus bias.
    is_diagonal : bool
        Whether the centred targets are uncorrelated along U, which a missing bias may prevent.
    spectrum : Spectrum or None
        The values with their errors; None where the bias is penalised.
    kappa : (...) float64 array or None
        ``lambda_b/(1 + lambda_b)`` there; None elsewhere.
    """

    vectors: FloatArray
    values: FloatArray
    kept: FloatArray
    feature_values: FloatArray
    residual_values: FloatArray
    offset: FloatArray
    is_diagonal: bool
    spectrum: Spectrum | None = None
    kappa: FloatArray | None = None


def shrink(
    moments: TargetMoments, c: FloatArray, root_c: FloatArray, lambda_b: FloatArray | None, *, is_precise: bool = True
) -> Shrinkage:
    """Solve for the kept spectrum.

    Parameters
    ----------
    moments : TargetMoments
    c, root_c : (...) float64 arrays
        lambda_W lambda_H and its root, infinity included.
    lambda_b : (...) float64 array or None
        Penalty of the bias, 0 for a free one; None for no bias at all.
    is_precise : bool
        Whether small eigenvalues are to have all their digits.

    Returns
    -------
    Shrinkage

    Raises
    ------
    ValueError
        The bias is penalised and the mean is no eigenvector of the covariance: there is no closed form.

    Examples
    --------
    >>> moments = TargetMoments(np.diag([4.0, 1.0]), np.zeros(2))
    >>> shrink(moments, np.array(2.25), np.array(1.5), np.array(0.0)).kept.tolist()
    [0.5, 0.0]
    """
    if lambda_b is None:
        mean, found = moments.mean, moments.spectrum(about_mean=False, is_precise=is_precise)
        kept, residual = _thresholded(found.values, c, root_c)
        return Shrinkage(
            vectors=found.vectors,
            values=found.values,
            kept=kept,
            feature_values=kept,
            residual_values=residual,
            offset=mean,
            is_diagonal=not mean.any(),
            spectrum=found,
        )
    if np.any(lambda_b > 0.0):
        return _with_penalised_bias(moments, c, root_c, lambda_b)
    found = moments.spectrum(is_precise=is_precise)
    kept, residual = _thresholded(found.values, c, root_c)
    return Shrinkage(
        vectors=found.vectors,
        values=found.values,
        kept=kept,
        feature_values=kept,
        residual_values=residual,
        offset=np.zeros(moments.mean.shape),
        is_diagonal=True,
        spectrum=found,
    )


def _thresholded(values: FloatArray, c: FloatArray, root_c: FloatArray) -> tuple[FloatArray, FloatArray]:
    """What is kept and what is left by soft thresholding: Lemma D.1 of the paper, eigenvalue by eigenvalue."""
    kept = np.maximum(np.sqrt(values) - root_c[..., np.newaxis], 0.0)
    return kept, np.minimum(values, c[..., np.newaxis])


def left_within(values: FloatArray, c: FloatArray, d: int | None) -> FloatArray:
    """What errors hold of variances (..., n), descending, that are thresholded by c (..., 1): of those beyond d all.

    Examples
    --------
    >>> left_within(np.array([4.0, 1.0]), np.array([0.25]), 1).tolist()
    [0.25, 1.0]
    """
    has_room = np.arange(values.shape[-1]) < (values.shape[-1] if d is None else d)
    return np.where(has_room, np.minimum(values, c), values)


def within_width(shrinkage: Shrinkage, d: int) -> Shrinkage:
    """What is kept by features of width d: the leading d directions, as thresholding every singular value is best.

    Examples
    --------
    >>> moments = TargetMoments(np.diag([4.0, 1.0]), np.zeros(2))
    >>> narrow = within_width(shrink(moments, np.array(0.25), np.array(0.5), np.array(0.0)), 1)
    >>> narrow.kept.tolist(), narrow.residual_values.tolist()
    ([1.5, 0.0], [0.25, 1.0])
    """
    is_inside = np.arange(shrinkage.values.shape[-1]) < d
    return replace(
        shrinkage,
        kept=np.where(is_inside, shrinkage.kept, 0.0),
        feature_values=np.where(is_inside, shrinkage.feature_values, 0.0),
        residual_values=np.where(is_inside, shrinkage.residual_values, shrinkage.values),
    )


# ---- a penalised bias ----


def _with_penalised_bias(moments: TargetMoments, c: FloatArray, root_c: FloatArray, lambda_b: FloatArray) -> Shrinkage:
    """The closed form where the mean points along an eigenvector of the covariance.

    All other directions are thresholded as ever. Along the mean, the predictions' deviation s and mean t make one
    singular value r = sqrt(s^2 + t^2), which minimises ``(s - sqrt(lambda))^2/2 + kappa (t - |mean|)^2/2 +
    sqrt(c) r`` with ``kappa = lambda_b/(1 + lambda_b)``.
    """
    vectors, values = _mean_first(moments)
    root = root_c[..., np.newaxis]
    penalty = lambda_b[..., np.newaxis]
    length = _norm(moments.mean)[..., np.newaxis]
    kept, residual = _thresholded(values, c, root_c)
    along = _kept_along_mean(values[..., :1], length, root, penalty / (1.0 + penalty))
    with np.errstate(invalid="ignore"):
        share = np.where(along > 0.0, root / (along + root), 1.0)
        outside = np.where(penalty > 0.0, penalty / (share + penalty), 0.0)  # share of the mean that the bias leaves
    shape = np.broadcast_shapes(kept.shape, along.shape)
    kept, residual = (np.array(np.broadcast_to(part, shape)) for part in (kept, residual))
    kept[..., :1] = along
    spread = kept.copy()
    with np.errstate(invalid="ignore"):
        spread[..., :1] = np.where(along > 0.0, along * (np.sqrt(values[..., :1]) / (along + root)) ** 2, 0.0)
    residual[..., :1] = share**2 * (values[..., :1] + (outside * length) ** 2)
    return Shrinkage(
        vectors=vectors,
        values=values,
        kept=kept,
        feature_values=spread,
        residual_values=residual,
        offset=moments.mean * outside,
        is_diagonal=True,
        kappa=(penalty / (1.0 + penalty))[..., 0],
    )


def _kept_along_mean(variance: FloatArray, length: FloatArray, root_c: FloatArray, kappa: FloatArray) -> FloatArray:
    """The root r of ``lambda/(r + sqrt(c))^2 + kappa^2 |mean|^2/(kappa r + sqrt(c))^2 = 1``, or 0 without one.

    The left side falls with r, and is at most 1 where ``r^2 = lambda + |mean|^2``.
    """
    low: FloatArray = np.zeros(np.broadcast_shapes(variance.shape, length.shape, root_c.shape, kappa.shape))
    high = np.hypot(np.sqrt(variance), length) + low
    is_on = np.hypot(np.sqrt(variance), kappa * length) > root_c
    with np.errstate(divide="ignore", invalid="ignore"):
        for _ in range(BISECTIONS):
            middle = 0.5 * (low + high)
            side = np.hypot(np.sqrt(variance) / (middle + root_c), kappa * length / (kappa * middle + root_c))
            low, high = np.where(side > 1.0, middle, low), np.where(side > 1.0, high, middle)
    return np.where(is_on, high, 0.0)


def _mean_first(moments: TargetMoments) -> tuple[FloatArray, FloatArray]:
    """An eigenbasis of the covariance whose first vector points along the mean, and its eigenvalues."""
    values, vectors = covariance_spectrum(moments.covariance, moments.epsilon)
    length = _norm(moments.mean)[..., np.newaxis]
    unit = np.where(length > 0.0, moments.mean / np.where(length > 0.0, length, 1.0), vectors[..., 0])
    image = (moments.covariance @ unit[..., np.newaxis])[..., 0]
    variance = np.sum(unit * image, axis=-1, keepdims=True)
    n = moments.n
    if np.any(_norm(image - variance * unit) > 8 * n * moments.epsilon * values[..., 0]):
        msg = (
            "the bias is penalised and the mean of the targets is no eigenvector of their covariance: there is no "
            "closed form; use nrc_fast.ufm.refine, which takes the same arguments"
        )
        raise ValueError(msg)
    # Householder: a reflection that takes the first axis to the mean takes the others to its complement.
    first: FloatArray = np.zeros(n)
    first[0] = 1.0
    sign = np.where(unit[..., :1] > 0.0, -1.0, 1.0)
    normal = unit - sign * first
    normal = normal / _norm(normal)[..., np.newaxis]
    reflection = np.eye(n) - 2.0 * normal[..., :, np.newaxis] * normal[..., np.newaxis, :]
    others = reflection[..., 1:]
    if n == 1:
        return sign[..., np.newaxis] * reflection, np.maximum(variance, 0.0)
    inner = np.swapaxes(others, -1, -2) @ moments.covariance @ others
    inner_values, inner_vectors = np.linalg.eigh(inner)
    inner_values = np.concatenate([np.maximum(variance, 0.0), inner_values[..., ::-1]], axis=-1)
    floor = n * moments.epsilon * values[..., :1]
    basis = np.concatenate([unit[..., np.newaxis], others @ inner_vectors[..., ::-1]], axis=-1)
    return basis, np.where(inner_values > floor, inner_values, 0.0)


def _norm(vectors: FloatArray) -> FloatArray:
    """Length along the last axis, safe from over- and underflow for lengths inside the range of targets."""
    largest = np.abs(vectors).max(axis=-1, keepdims=True)
    scale = np.where(largest > 0.0, largest, 1.0)
    length: FloatArray = scale[..., 0] * np.sqrt(np.sum((vectors / scale) ** 2, axis=-1))
    return length
