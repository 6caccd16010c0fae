"""Global minima of the unconstrained feature model, drawn with their targets."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike

from nrc_fast.testing.rows import EPSILON, FloatArray, about_mean, reference_rows

__all__ = ["ufm_optimum"]


def _targets_with(covariance: FloatArray, generator: np.random.Generator) -> FloatArray:
    """Draw 16 n + 16 targets whose covariance is the given one up to rounding, with a random mean."""
    n = len(covariance)
    values, vectors = np.linalg.eigh(covariance)
    white = np.linalg.qr(about_mean(generator.standard_normal((16 * n + 16, n))))[0]
    deviations = white * np.sqrt(len(white) * np.maximum(values, 0.0)) @ vectors.T
    return np.asarray(deviations + generator.standard_normal(n))


def ufm_optimum(
    covariance_or_targets: ArrayLike, d: int, lambda_W: float, lambda_H: float, seed: int = 0
) -> tuple[FloatArray, FloatArray, FloatArray, FloatArray]:
    """Draw one global minimum of the unconstrained feature model (UFM).

    The loss is ``(1/2N)|H W^T + b - Y|^2 + (lambda_H/2N)|H|^2 + (lambda_W/2)|W|^2``. With centred targets
    ``P diag(sqrt(N) s) U^T`` (SVD) and ``a = max(s - sqrt(lambda_W lambda_H), 0)`` the minima are
    ``W = k U diag(sqrt(a)) R`` and ``H = (1/k) sqrt(N) P diag(sqrt(a)) R``, ``k^4 = lambda_H/lambda_W``, for
    any R with orthonormal rows. Unlike theorem 4.1 as printed this holds for every lambda_W lambda_H.

    Parameters
    ----------
    covariance_or_targets : (n, n) or (N, n) array or tensor
        A matrix that is symmetric up to rounding is the covariance that the targets shall have; anything else
        is the targets.
    d : int
        Width of the features, at least n.
    lambda_W, lambda_H : float
        Penalties of that loss, positive.
    seed : int
        Seed of the rotation R, and of the targets where a covariance is given.

    Returns
    -------
    H : (N, d) float64 array
    W : (n, d) float64 array
    b : (n,) float64 array
    Y : (N, n) float64 array
        The targets, those given or those drawn.

    Raises
    ------
    ValueError
        If d is smaller than n.

    References
    ----------
    arXiv 2409.04180 (NeurIPS 2024), theorem 4.1, in spectral form.

    Examples
    --------
    >>> H, W, b, Y = ufm_optimum(np.diag([4.0, 1.0]), d=5, lambda_W=0.5, lambda_H=0.02)
    >>> round(float(np.mean(np.sum((H @ W.T + b - Y) ** 2, axis=1))), 12)
    0.02
    """
    given = reference_rows(covariance_or_targets)
    n = given.shape[1]
    if d < n:
        msg = f"d must be at least n = {n}, got {d}"
        raise ValueError(msg)
    generator = np.random.default_rng(seed)
    is_covariance = given.shape == (n, n) and bool(
        np.all(np.abs(given - given.T) <= 4 * n * EPSILON * np.abs(given).max())
    )
    targets = _targets_with(given, generator) if is_covariance else given
    rotation = np.linalg.qr(generator.standard_normal((d, n)))[0].T
    rows, singular_values, axes = np.linalg.svd(about_mean(targets), full_matrices=False)
    kept = np.maximum(singular_values / math.sqrt(len(targets)) - math.sqrt(lambda_W * lambda_H), 0.0)
    ratio = (lambda_H / lambda_W) ** 0.25
    rotation = rotation[: len(kept)]  # fewer samples than outputs
    weights = ratio * (axes.T * np.sqrt(kept)) @ rotation
    features = math.sqrt(len(targets)) / ratio * (rows * np.sqrt(kept)) @ rotation
    return features, weights, targets.mean(axis=0), targets
