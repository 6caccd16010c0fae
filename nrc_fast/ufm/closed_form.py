"""The global minimum of the unconstrained feature model (UFM) in closed form.

The loss is ``(1/2N) |H W^T + b - Y|^2 + (lambda_H/2N) |H|^2 + (lambda_W/2) |W|^2`` with free features H. Its
minimum is known: with the target covariance ``Sigma = U diag(lambda) U^T`` and ``c = lambda_W lambda_H`` the
singular values of the predictions are those of the targets, soft-thresholded by ``sqrt(c)``.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from nrc_fast import metrics
from nrc_fast.linalg import FloatArray, covariance_spectrum

__all__ = ["Prediction", "predicted_spectrum"]


@dataclass(frozen=True, eq=False)
class Prediction:
    """What the UFM says about a trained network, from the covariance of its targets and c alone.

    Here lambda_1 >= ... >= lambda_n are the eigenvalues of the target covariance Sigma = U diag(lambda) U^T,
    and ``a_j = max(sqrt(lambda_j) - sqrt(c), 0)``.

    Attributes
    ----------
    c : float
        lambda_W lambda_H in the paper's scaling of the loss; also the gamma for which NRC3 is 0.
    rank : int
        Rank of W and of the features: how many lambda_j are above c.
    mse : float
        ``sum_j min(lambda_j, c)``, summed over the outputs.
    r2 : float
        ``1 - mse / sum_j lambda_j``; NaN for targets without variance.
    explained_variance_ratio : (n,) float64 array
        ``a_j / sum a``, of the features; all further components have none. NaN for rank 0.
    cka : float
        Linear CKA of features and targets, ``sum lambda_j a_j / sqrt(sum lambda_j^2 sum a_j^2)``; NaN for
        rank 0.
    head_gram_shape : (n, n) float64 array
        ``W W^T`` over its Frobenius norm, ``U diag(a) U^T / |a|``; zeros for rank 0.
    residual_covariance : (n, n) float64 array
        Covariance of ``W h + b - y``, ``U diag(min(lambda, c)) U^T``.
    """

    c: float
    rank: int
    mse: float
    r2: float
    explained_variance_ratio: FloatArray
    cka: float
    head_gram_shape: FloatArray
    residual_covariance: FloatArray

    def to_dict(self) -> dict[str, int | float | list[float] | list[list[float]]]:
        """Return the same numbers as plain ints, floats and lists of floats.

        Examples
        --------
        >>> predicted_spectrum(np.diag([4.0, 1.0]), 1.0).to_dict()["residual_covariance"]
        [[1.0, 0.0], [0.0, 1.0]]
        """
        return {
            "c": self.c,
            "rank": self.rank,
            "mse": self.mse,
            "r2": self.r2,
            "explained_variance_ratio": self.explained_variance_ratio.tolist(),
            "cka": self.cka,
            "head_gram_shape": self.head_gram_shape.tolist(),
            "residual_covariance": self.residual_covariance.tolist(),
        }


def predicted_spectrum(covariance: FloatArray, c: float) -> Prediction:
    """Spectra and errors at the global minimum of the UFM.

    Theorem 4.1 of the paper as printed truncates columns where lambda_n < c < lambda_1, which is right only
    for a diagonal covariance; the spectral form used here holds for every c and every covariance, singular
    ones too.

    Parameters
    ----------
    covariance : (n, n) float64 array
        Sigma, the covariance of the targets (1/N); eigenvalues that cannot be told from 0 are 0.
    c : float
        lambda_W lambda_H, >= 0; infinity is fine.

    Returns
    -------
    Prediction

    Raises
    ------
    ValueError
        If c is negative or NaN.
    numpy.linalg.LinAlgError
        If the eigenvalues of the covariance do not converge (non-finite entries).

    References
    ----------
    arXiv 2409.04180 (NeurIPS 2024), theorem 4.1 and corollary 4.2.

    Examples
    --------
    >>> prediction = predicted_spectrum(np.diag([4.0, 1.0]), 0.25)
    >>> prediction.rank, prediction.mse, prediction.r2
    (2, 0.5, 0.9)
    >>> prediction.explained_variance_ratio.tolist()
    [0.75, 0.25]
    """
    if not c >= 0.0:
        msg = f"c = lambda_W * lambda_H must be at least 0, got {c}"
        raise ValueError(msg)
    values, vectors = covariance_spectrum(covariance)
    residual = np.minimum(values, c)
    kept = np.maximum(np.sqrt(values) - math.sqrt(c), 0.0)
    cross = np.sqrt(kept) * np.sqrt(values)  # in the eigenbasis of Sigma all three moments are diagonal
    norm = float(np.linalg.norm(kept))
    shape = kept / norm if norm > 0.0 else kept
    mse = float(residual.sum())
    return Prediction(
        c=float(c),
        rank=int(np.count_nonzero(values > c)),
        mse=mse,
        r2=metrics.r_squared(mse, np.diag(values)),
        explained_variance_ratio=metrics.explained_variance_ratio(kept),
        cka=metrics.linear_cka(np.diag(kept), np.diag(values), np.diag(cross)),
        head_gram_shape=(vectors * shape) @ vectors.T,
        residual_covariance=(vectors * residual) @ vectors.T,
    )
