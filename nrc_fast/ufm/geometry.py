"""Distances between heads up to what the UFM leaves open: a rotation of the feature space.

Two weights W and W R, R orthogonal, are the same head; what they share is the Gram ``W W^T``. Unlike NRC3 these
distances see the scale of a head as well as its shape.
"""

from __future__ import annotations

import numpy as np

from nrc_fast.base.arrays import Array, FloatArray
from nrc_fast.base.linalg import covariance_spectrum
from nrc_fast.kernels.inputs import as_matrix
from nrc_fast.ufm.closed_form import minimum
from nrc_fast.ufm.inputs import Batched, plain
from nrc_fast.ufm.targets import target_moments

__all__ = ["aligned_distance", "bures_wasserstein", "least_distance", "optimal_gram", "relative_gram_error"]


def optimal_gram(covariance: Array, *, lambda_W: Array, lambda_H: Array) -> FloatArray:
    """Gram of the optimal head, ``[sqrt(lambda_H/lambda_W) Sigma^(1/2) - lambda_H I]_+``: ``minimum(...).gram``.

    Parameters
    ----------
    covariance : (..., n, n) array or tensor
    lambda_W, lambda_H : float or array

    Returns
    -------
    (..., n, n) float64 array

    Raises
    ------
    ValueError, TypeError
        The covariance or the penalties cannot be used, see `minimum`.

    References
    ----------
    Ma and Obuchi (2026), "Understanding head geometry and dynamics in federated regression", the map phi.

    Examples
    --------
    >>> optimal_gram(np.diag([4.0, 1.0]), lambda_W=0.5, lambda_H=0.5).tolist()
    [[1.5, 0.0], [0.0, 0.5]]
    """
    return minimum(covariance=covariance, lambda_W=lambda_W, lambda_H=lambda_H).gram


def bures_wasserstein(G: Array, other: Array) -> Batched:
    """Bures-Wasserstein distance of two Grams: the least ``|W - V|_F`` of weights with these Grams.

    Its square is ``tr G + tr G' - 2 tr (G^(1/2) G' G^(1/2))^(1/2)``, which cancels for Grams that are close; here the
    roots are aligned by a rotation and their difference is taken.

    Parameters
    ----------
    G, other : (..., n, n) arrays or tensors
        Symmetric positive semidefinite; batches broadcast.

    Returns
    -------
    float, or (...) float64 array

    Raises
    ------
    ValueError
        A Gram is not symmetric positive semidefinite or not finite, or the sizes differ.
    TypeError
        What is given is no real array.

    References
    ----------
    Ma and Obuchi (2026), section on the natural solution selection rule; Bhatia, Jain and Lim, "On the
    Bures-Wasserstein distance between positive definite matrices", 2019.

    Examples
    --------
    >>> bures_wasserstein(np.diag([4.0, 1.0]), np.diag([1.0, 1.0]))
    1.0
    """
    first, second = (_root(matrix, name) for matrix, name in ((G, "G"), (other, "other")))
    return plain(least_distance(first, second))


def relative_gram_error(G: Array, expected: Array) -> Batched:
    """``|G - G'|_F/|G'|_F``: how far a Gram is from the one expected, in scale and in shape.

    Parameters
    ----------
    G, expected : (..., n, n) arrays or tensors
        Symmetric positive semidefinite; batches broadcast.

    Returns
    -------
    float, or (...) float64 array
        NaN where the expected Gram is 0.

    Raises
    ------
    ValueError
        A Gram is not symmetric positive semidefinite or not finite, or the sizes differ.
    TypeError
        What is given is no real array.

    References
    ----------
    Ma and Obuchi (2026), the evaluation metric e_F.

    Examples
    --------
    >>> relative_gram_error(np.diag([3.0, 4.0]), np.diag([3.0, 0.0]))
    1.3333333333333333
    """
    first, second = (_gram(matrix, name) for matrix, name in ((G, "G"), (expected, "expected")))
    _require_same_size(first, second)
    scale = np.abs(second).max(axis=(-2, -1), keepdims=True)
    scale = np.where(scale > 0.0, scale, np.nan)
    difference, norm = (np.sqrt(np.sum((part / scale) ** 2, axis=(-2, -1))) for part in (first - second, second))
    return plain(difference / norm)


def aligned_distance(W: Array, expected: Array) -> float:
    """``min over rotations R of |W - W' R|_F``: distance of trained weights from those predicted.

    Parameters
    ----------
    W : (n, d) array or tensor
    expected : (n, d') array or tensor
        Weights as `Minimum.weights` gives them; of the two widths the smaller one is filled up with zeros.

    Returns
    -------
    float

    Raises
    ------
    ValueError
        The numbers of rows differ, or values are not finite.
    TypeError
        What is given is no real matrix.

    References
    ----------
    Schönemann, "A generalized solution of the orthogonal Procrustes problem", 1966.

    Examples
    --------
    >>> aligned_distance([[0.0, 3.0]], [[2.0, 0.0]])
    1.0
    """
    first, second = (as_matrix(matrix, name)[0] for matrix, name in ((W, "W"), (expected, "expected")))
    if len(first) != len(second):
        msg = f"W has {len(first)} rows and expected has {len(second)}; both need one for each output"
        raise ValueError(msg)
    # Only the Gram counts: W = L Q with L of at most n columns.
    factors = [np.linalg.qr(matrix.T)[1].T for matrix in (first, second)]
    width = max(factor.shape[1] for factor in factors)
    padded = [np.pad(factor, ((0, 0), (0, width - factor.shape[1]))) for factor in factors]
    return float(least_distance(padded[0], padded[1]))


def least_distance(first: FloatArray, second: FloatArray) -> FloatArray:
    """Least Frobenius distance over rotations of the second one's columns, for matrices of one size.

    Raises
    ------
    ValueError
        The sizes differ.

    Examples
    --------
    >>> least_distance(np.array([[3.0, 0.0]]), np.array([[0.0, 1.0]])).item()
    2.0
    """
    _require_same_size(first, second)
    largest = np.maximum(*(np.abs(part).max(axis=(-2, -1), keepdims=True) for part in (first, second)))
    scale = np.where(largest > 0.0, largest, 1.0)
    first, second = first / scale, second / scale
    left, _, right = np.linalg.svd(np.swapaxes(second, -1, -2) @ first)
    difference = first - second @ (left @ right)
    distance: FloatArray = np.sqrt(np.sum(difference**2, axis=(-2, -1))) * scale[..., 0, 0]
    return distance


def _require_same_size(first: FloatArray, second: FloatArray) -> None:
    if first.shape[-2:] != second.shape[-2:]:
        msg = f"the matrices differ in size: {first.shape[-2:]} and {second.shape[-2:]}"
        raise ValueError(msg)


def _gram(matrix: Array, name: str) -> FloatArray:
    """A matrix that passes the same checks as a covariance."""
    try:
        return target_moments(covariance=matrix).covariance
    except (TypeError, ValueError) as error:
        kind = TypeError if isinstance(error, TypeError) else ValueError
        raise kind(str(error).replace("covariance", name)) from None


def _root(matrix: Array, name: str) -> FloatArray:
    values, vectors = covariance_spectrum(_gram(matrix, name))
    return np.asarray((vectors * np.sqrt(values)[..., np.newaxis, :]) @ np.swapaxes(vectors, -1, -2))
