"""How far a reported number can be from its definition on the stored rows.

The bounds are statistical: rounding errors of a sum are taken to grow like the square root of its length. They
cover the basis (an eigenvector turns by the error of its matrix over the gap of the eigenvalues), the rounding of
the projection, and of the sums.
"""

from __future__ import annotations

import math

import numpy as np

from nrc_fast.base.linalg import EPSILON, FloatArray, covariance_spectrum

__all__ = [
    "FAST_ROUNDING",
    "SINGLE_EPSILON",
    "TENSOR_CORE_ROUNDING",
    "angle_bound",
    "block_rounding",
    "cka_bound",
    "effective_rank_bound",
    "readout_bound",
    "refined_angle_bound",
    "residual_bound",
    "shape_bounds",
    "share_bounds",
    "stable_rank_bound",
    "tail_bound",
    "trace_bound",
]

# Unit roundoff of float32.
SINGLE_EPSILON = 2.0**-24
# Relative error of a sum of products on the tensor cores of a CUDA device. They round toward zero, so that the errors
# of sums of squares do not cancel: 2^-24 for each addition of 8 rows (of 16 on later cards), up to the 512 rows after
# which sums are folded into float64.
TENSOR_CORE_ROUNDING = 512 / 8 * 2.0**-24
# The same where rows are first rounded to bfloat16, 2^-9 of each factor.
FAST_ROUNDING = 2.0**-8 + TENSOR_CORE_ROUNDING


def block_rounding(kind: str, rows: int) -> float:
    """Relative error of a sum of squares over a block of rows, before it is added to others in float64.

    Statistical, sqrt(rows) units, but not where tensor cores truncate.

    Parameters
    ----------
    kind : {"double", "single", "device", "fast"}
        Products in float64, in float32 on the CPU, and on a CUDA device with that precision.
    rows : int
        Of a block of the CPU.

    Examples
    --------
    >>> block_rounding("single", 256) == 16 * SINGLE_EPSILON
    True
    """
    walk = math.sqrt(rows)
    return {
        "double": EPSILON / 2 * walk,
        "single": SINGLE_EPSILON * walk,
        "device": TENSOR_CORE_ROUNDING,
        "fast": FAST_ROUNDING,
    }[kind]


def angle_bound(eigenvalues: FloatArray, k: int, matrix_error: float) -> float:
    """Largest angle by which the leading k eigenvectors turn when the matrix is off by `matrix_error` in norm.

    Davis and Kahan: the sine is at most error/gap, the gap being that of exact to computed eigenvalues; without a gap
    it is 1.
    """
    if k >= len(eigenvalues):
        return 0.0
    gap = float(eigenvalues[k - 1] - eigenvalues[k]) - matrix_error
    return 1.0 if matrix_error >= gap else matrix_error / gap


def refined_angle_bound(eigenvalues: FloatArray, k: int, matrix_error: float, exact_error: float) -> float:
    """The same after one step of subspace iteration whose own matrix is off by `exact_error`.

    The step shortens the wrong part of the basis by the ratio of the eigenvalues on either side of the gap.
    """
    if k >= len(eigenvalues):
        return 0.0
    largest_dropped = max(float(eigenvalues[k]), matrix_error)
    kept = float(eigenvalues[k - 1])
    ratio = min(1.0, largest_dropped / kept) if kept > 0.0 else 1.0
    exact = min(1.0, exact_error / kept) if kept > 0.0 else 1.0
    return min(1.0, angle_bound(eigenvalues, k, matrix_error) * ratio + exact)


def _mixed_in(value: float, energy: float, angle: float) -> float:
    """What a basis turned by `angle` may add to, or take from, a mean residual."""
    return 2.0 * angle * math.sqrt(max(value, 0.0)) * math.sqrt(energy) + angle * angle * energy


def residual_bound(value: float, energy: float, angle: float, d: int, count: int, *, double_precision: bool) -> float:
    """Bound of a mean explicit residual of `count` rows with mean energy `energy`, on a basis off by up to `angle`.

    Turning a subspace by a mixes at most ``a sqrt(energy)`` into a residual vector of mean size sqrt(value), in the
    mean over rows; the rounding of the projection acts the same way.
    """
    unit = EPSILON / 2 if double_precision else SINGLE_EPSILON
    turn = angle + unit * (4.0 + 2.0 * math.sqrt(d))
    return min(_mixed_in(value, energy, turn) + EPSILON * (d + 4.0 * math.sqrt(count)) * value, max(energy, value))


def trace_bound(value: float, energy: float, angle: float, floor: float) -> float:
    """The same for a residual taken from a second moment, which has an absolute floor: the error of that moment."""
    return min(_mixed_in(value, energy, angle) + floor, max(energy, value))


# ---- spectra ----


def share_bounds(eigenvalues: FloatArray, matrix_error: float) -> FloatArray:
    """Bounds of the shares ``lambda_k / sum lambda`` when the matrix is off by `matrix_error` in norm.

    Weyl: no eigenvalue is off by more; the trace, a sum of squares, is not either.
    """
    trace = float(eigenvalues.sum())
    if not trace > 0.0:
        return np.full(len(eigenvalues), math.nan)
    shares: FloatArray = np.minimum(matrix_error / trace * (1.0 + eigenvalues / trace), 1.0)
    return shares


def tail_bound(eigenvalues: FloatArray, k: int, matrix_error: float) -> float:
    """Bound of the share of all but the leading k eigenvalues: the trace less k of them, each off by that much."""
    trace = float(eigenvalues.sum())
    if not trace > 0.0:
        return math.nan
    if k >= len(eigenvalues):
        return 0.0
    share = float(eigenvalues[k:].sum()) / trace
    return min((1.0 + k + share) * matrix_error / trace + 4.0 * EPSILON * share, 1.0)


def stable_rank_bound(value: float, eigenvalues: FloatArray, matrix_error: float) -> float:
    """Bound of ``sum lambda^2 / lambda_1^2``: the Frobenius norm of the error is at most sqrt(d) of its norm."""
    largest = float(eigenvalues[0])
    if not largest > matrix_error:
        return math.nan
    d = len(eigenvalues)
    relative = 2.0 * math.sqrt(d / value) * matrix_error / largest + 2.0 * matrix_error / (largest - matrix_error)
    return min(value * relative, float(d))


def effective_rank_bound(value: float, eigenvalues: FloatArray, matrix_error: float) -> float:
    """Bound of exp(entropy): Fannes and Audenaert, with half the sum of the errors of the shares."""
    d, trace = len(eigenvalues), float(eigenvalues.sum())
    if not trace > 0.0:
        return math.nan
    distance = d * matrix_error / trace
    if d == 1 or distance >= 1.0 - 1.0 / d:
        return 0.0 if d == 1 else float(d)
    mixing = -distance * math.log(distance) - (1.0 - distance) * math.log1p(-distance) if distance > 0.0 else 0.0
    entropy = distance * math.log(d - 1) + mixing if d > 2 else mixing
    return min(value * math.expm1(entropy), float(d))


# ---- features and targets ----


def cka_bound(value: float, norms: tuple[float, float, float], errors: tuple[float, float, float]) -> float:
    """Bound of ``|C_hy|^2 / (|C_hh| |C_yy|)`` from the three norms, of C_hh, C_yy and C_hy, and of their errors."""
    features, targets, both = norms
    if not (features > 0.0 and targets > 0.0):
        return math.nan
    own = errors[0] / features + errors[1] / targets
    bound = value * own + (2.0 * both + errors[2]) * errors[2] / (features * targets) + 8.0 * EPSILON
    return min(bound, 1.0)


def readout_bound(
    value: float,
    eigenvalues: FloatArray,
    loadings: FloatArray,
    variance: float,
    errors: tuple[float, float],
) -> float:
    """Bound of the least error of a linear readout.

    Every direction explains ``|v^T C_hy|^2 / lambda`` of the variance, and all three are a little off.

    Parameters
    ----------
    value : float
    eigenvalues : (d,) float64 array
        0 for directions that are not read from.
    loadings : (d,) float64 array
        ``|v^T C_hy|``.
    variance : float
        Of the targets.
    errors : pair of float
        Of the feature covariance and of the cross covariance.
    """
    kept = eigenvalues > 0.0
    slopes = loadings[kept] / eigenvalues[kept]
    total = float((slopes**2 * errors[0] + 2.0 * slopes * errors[1]).sum())
    bound = min(total + 4.0 * len(eigenvalues) * EPSILON * variance, variance)
    # What the other directions could explain is not known: the truth may be anywhere below the value.
    return bound if kept.all() else max(bound, value)


def shape_bounds(
    value: float, gamma: float, head_gram: FloatArray, covariance: FloatArray, covariance_error: float
) -> tuple[float, float]:
    """Bounds of gamma and of NRC3 there, from the rounding of the target covariance and of W W^T.

    The root of a matrix that is off by e is off by at most ``e / (2 sqrt(lambda_min))``, and by sqrt(e); it moves
    both ``A = Sigma^(1/2) - gamma^(1/2) I`` and the stationary point of NRC3.
    """
    n = len(covariance)
    eigenvalues, vectors = covariance_spectrum(covariance)
    if math.isnan(value):
        return math.nan, math.nan
    roots = np.sqrt(eigenvalues)
    error = covariance_error + 4.0 * n * EPSILON * float(eigenvalues.sum())
    root_error = min(error / (2.0 * roots[-1]) if roots[-1] > 0.0 else math.inf, error**0.5)
    size = float(np.linalg.norm(roots - gamma**0.5))
    turn = 2.0 * n**0.5 * root_error / size + 4.0 * n * EPSILON if size > 0.0 else math.inf
    nrc3 = min(2.0 * value**0.5 * turn + turn**2, 4.0)
    spread = roots - roots.mean()
    diagonal = np.einsum("ij,ik,kj->j", vectors, head_gram, vectors)
    centered = diagonal - diagonal.mean()
    overlap, energy = float(centered @ spread), float(spread @ spread)
    largest = float(eigenvalues[-1])
    if overlap <= 0.0:
        return min(2.0 * (gamma * largest) ** 0.5, largest), nrc3
    slack = root_error * n**0.5 + 4.0 * n * EPSILON * float(roots.sum())
    gram_norm = float(np.linalg.norm(head_gram))
    relative = 2.0 * slack / energy**0.5 + (gram_norm * slack + 4.0 * n * EPSILON * gram_norm * energy**0.5) / overlap
    shift = slack + float(diagonal.mean()) * energy / overlap * relative
    return min(2.0 * gamma**0.5 * shift + shift**2, largest), nrc3
