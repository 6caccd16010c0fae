"""Plain float64 references, written from the definitions and shipped with the package.

They are slow, hold everything in memory and share no code with the rest of nrc_fast: what the fast routines
say can be checked against them, here and by users. Rows are samples: features are (N, d), weights (n, d),
targets (N, n). Inputs may be numpy arrays or torch CPU tensors of any floating dtype; they are never changed.

Definitions: arXiv 2409.04180 (NeurIPS 2024), section 3.1, with five conventions for NRC1 and NRC2.

=============  ======================  ====================================
convention     basis of NRC1           rows that are projected
=============  ======================  ====================================
`nrc24`        PCs of centred rows     h / |h|
`id25`         PCs of centred rows     (h - mean) / |h - mean|
`raw`          PCs of centred rows     h
`uncentered`   PCs of rows as given    h / |h|
`variance`     PCs of centred rows     h - mean, over the total variance
=============  ======================  ====================================
"""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence
from typing import overload

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = [
    "reference_gram",
    "reference_nrc1",
    "reference_nrc2",
    "reference_nrc3",
    "reference_nrc3_gamma",
    "reference_residuals",
    "reference_rows",
    "ufm_optimum",
]

FloatArray = NDArray[np.float64]

_EPSILON = 2.0**-52

# name: (are the components those of centred rows, are the rows centred, are they scaled to norm 1)
_CONVENTIONS = {
    "nrc24": (True, False, True),
    "id25": (True, True, True),
    "raw": (True, False, False),
    "uncentered": (False, False, True),
    "variance": (True, True, False),
}


def reference_rows(H: ArrayLike) -> FloatArray:
    """Copy an array or a torch CPU tensor of any floating dtype to float64, which holds all of them exactly.

    Parameters
    ----------
    H : array or tensor of any shape
        float64, float32, float16, or bfloat16 (`ml_dtypes` for numpy); a Parameter is detached.

    Returns
    -------
    float64 array
        Never a view of the input.

    Examples
    --------
    >>> reference_rows(np.array([[0.1, 2.0]], dtype=np.float16)).tolist()
    [[0.0999755859375, 2.0]]
    """
    torch = sys.modules.get("torch")  # who has a tensor has imported torch; nobody else waits for it
    if torch is not None and isinstance(H, torch.Tensor):
        H = H.detach().to(torch.float64).numpy()
    return np.array(H, dtype=np.float64)


def _centered(rows: FloatArray) -> FloatArray:
    """Rows minus their mean, twice: the first mean is rounded, and equal rows shall give exactly zero."""
    if not len(rows):
        return rows
    centered = rows - rows.mean(axis=0)
    centered -= centered.mean(axis=0)
    return np.asarray(centered)


def _unit(rows: FloatArray) -> FloatArray:
    """Rows scaled to norm 1; a zero row stays zero."""
    peaks = np.abs(rows).max(axis=1, keepdims=True)
    scaled = rows / np.where(peaks > 0.0, peaks, 1.0)  # so that the squares of 1e-200 do not vanish
    norms = np.linalg.norm(scaled, axis=1, keepdims=True)
    return scaled / np.where(norms > 0.0, norms, 1.0)


def _projected_rows(rows: FloatArray, convention: str) -> FloatArray:
    """Rows that the convention projects."""
    if convention not in _CONVENTIONS:
        msg = f"unknown convention {convention!r}; there are {', '.join(_CONVENTIONS)}"
        raise ValueError(msg)
    _, centered_rows, unit_rows = _CONVENTIONS[convention]
    projected = _centered(rows) if centered_rows else rows
    return _unit(projected) if unit_rows else projected


def _principal_components(rows: FloatArray) -> FloatArray:
    """The right singular vectors as columns, the largest first; only the R of a QR is needed for them.

    Those whose deviation is not above ``8 sqrt(d) eps`` of the largest are rounding, and left out.
    """
    triangle = np.linalg.qr(rows, mode="r")
    _, scales, directions = np.linalg.svd(triangle, full_matrices=False)
    kept = scales > 8.0 * math.sqrt(rows.shape[1]) * _EPSILON * scales[0]
    return np.asarray(directions[kept].T)


def reference_gram(H: ArrayLike, shift: ArrayLike | None = None) -> FloatArray:
    """Shifted Gram matrix ``sum_i (h_i - shift)(h_i - shift)^T``.

    Parameters
    ----------
    H : (N, d) array or tensor
    shift : (d,) array or tensor, optional
        Zero if not given.

    Returns
    -------
    (d, d) float64 array
        Not divided by N.

    Examples
    --------
    >>> reference_gram(np.array([[1.0, 2.0], [3.0, 4.0]]), shift=np.array([1.0, 1.0])).tolist()
    [[4.0, 6.0], [6.0, 10.0]]
    """
    rows = reference_rows(H)
    if shift is not None:
        rows -= reference_rows(shift)
    gram: FloatArray = rows.T @ rows
    return gram


def reference_residuals(
    H: ArrayLike, basis: ArrayLike, shift: ArrayLike | None = None, *, unit: bool = False
) -> FloatArray:
    """Squared distance of every row from a subspace, ``|x - U U^T x|^2``, as the explicit difference.

    Parameters
    ----------
    H : (N, d) array or tensor
    basis : (d, k) array
        U, orthonormal columns; k = 0 leaves the rows as they are.
    shift : (d,) array or tensor, optional
        Subtracted from each row first.
    unit : bool
        Scale each shifted row to norm 1; a zero row has residual 0.

    Returns
    -------
    (N,) float64 array

    Examples
    --------
    >>> rows = np.array([[3.0, 4.0], [0.0, 0.0]])
    >>> reference_residuals(rows, np.array([[1.0], [0.0]])).tolist()
    [16.0, 0.0]
    >>> reference_residuals(rows, np.array([[1.0], [0.0]]), unit=True).round(12).tolist()
    [0.64, 0.0]
    """
    rows, columns = reference_rows(H), reference_rows(basis)
    if shift is not None:
        rows -= reference_rows(shift)
    if unit:
        rows = _unit(rows)
    projector = columns @ columns.T
    return np.asarray(np.sum((rows - rows @ projector) ** 2, axis=1))


@overload
def reference_nrc1(H: ArrayLike, n: int, convention: str = "nrc24") -> float: ...


@overload
def reference_nrc1(H: ArrayLike, n: Sequence[int] | None, convention: str = "nrc24") -> FloatArray: ...


def reference_nrc1(H: ArrayLike, n: int | Sequence[int] | None, convention: str = "nrc24") -> float | FloatArray:
    """NRC1: mean squared distance of the rows from their first n principal components.

    The components are taken from the rows one after the other, so every k costs no more than the largest one.
    Where the features vary in fewer than n directions, those directions are all the components there are. A zero row
    has residual 0 and stays in the mean; n = d is exactly 0.

    Parameters
    ----------
    H : (N, d) array or tensor
    n : int, sequence of ints, or None
        How many components; None for every number from 1 to d.
    convention : str
        See the table of this module.

    Returns
    -------
    float or float64 array
        A float for an int; else one element for each number of components, element k - 1 for k components if
        n is None. NaN where all projected rows are zero.

    Raises
    ------
    ValueError
        If the convention is unknown or a number of components is not in 1..d.

    Examples
    --------
    >>> rows = np.array([[2.0, 1.0], [-2.0, 1.0]])
    >>> round(reference_nrc1(rows, 1), 12), round(reference_nrc1(rows, 1, "id25"), 12)
    (0.2, 0.0)
    """
    rows = reference_rows(H)
    d = rows.shape[1]
    single = isinstance(n, int | np.integer)
    numbers = np.arange(1, d + 1) if n is None else np.atleast_1d(np.asarray(n))
    if np.any((numbers < 1) | (numbers > d)):
        msg = f"n must lie between 1 and d = {d}, got {n}"
        raise ValueError(msg)
    rest = _projected_rows(rows, convention)
    by_k = np.full(d, math.nan)
    if rest.any():
        total = np.sum(rest**2) if convention == "variance" else len(rows)
        components = _principal_components(_centered(rows) if _CONVENTIONS[convention][0] else rows)
        for k in range(1, int(numbers.max()) + 1):
            component = components[:, k - 1 : k]  # empty where the features vary in fewer directions
            rest = rest - (rest @ component) @ component.T
            by_k[k - 1] = np.sum(rest**2) / total if k < d else 0.0
    return float(by_k[int(numbers[0]) - 1]) if single else by_k[numbers - 1]


def reference_nrc2(H: ArrayLike, W: ArrayLike, convention: str = "nrc24") -> float:
    """NRC2: mean squared distance of the rows from the row space of the weights.

    The rank of W counts singular values above ``sigma_1 * max(n, d) * eps`` with the eps of float64, whatever the dtype
    of W: the weights are what is stored. A zero row has residual 0 and stays in the mean; rank d gives exactly 0.

    Parameters
    ----------
    H : (N, d) array or tensor
    W : (n, d) array or tensor
    convention : str
        See the table of this module; the basis is always that of W.

    Returns
    -------
    float
        NaN where W or all projected rows are zero.

    Raises
    ------
    ValueError
        If the convention is unknown.

    Examples
    --------
    >>> round(reference_nrc2(np.array([[3.0, 4.0], [0.0, 0.0]]), np.array([[2.0, 0.0]])), 12)
    0.32
    """
    rows = _projected_rows(reference_rows(H), convention)
    weights = reference_rows(W)
    if not rows.any() or not weights.any():
        return math.nan
    _, singular_values, directions = np.linalg.svd(weights / np.abs(weights).max(), full_matrices=False)
    rank = np.count_nonzero(singular_values > singular_values[0] * max(weights.shape) * _EPSILON)
    if rank == weights.shape[1]:
        return 0.0
    total = np.sum(rows**2) if convention == "variance" else len(rows)
    return float(np.sum(reference_residuals(rows, directions[:rank].T)) / total)


def _nrc3_matrices(W: ArrayLike, Y: ArrayLike) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Head Gram over its norm, root of the target covariance, and the eigenvalues of that root, ascending."""
    weights, centered = reference_rows(W), _centered(reference_rows(Y))
    weights /= np.abs(weights).max() or 1.0
    gram = weights @ weights.T
    n = len(gram)
    values, vectors = np.linalg.eigh(centered.T @ centered / len(centered))
    values[values <= n * _EPSILON * values[-1]] = 0.0  # rounding, whose root would be 1e-8
    root = vectors @ np.diag(np.sqrt(values)) @ vectors.T
    return gram / (np.linalg.norm(gram) or math.nan), root, np.sqrt(values)


def _nrc3_at(head: FloatArray, root: FloatArray, largest: float, shift: float) -> float:
    """NRC3 for one shift of the root; NaN where nothing but rounding is left of the shifted root."""
    shifted = root - shift * np.eye(len(root))
    norm = np.linalg.norm(shifted)
    if len(root) == 1 or norm <= 4 * len(root) ** 1.5 * _EPSILON * largest:
        return math.nan
    return float(np.sum((head - shifted / norm) ** 2))


def reference_nrc3_gamma(W: ArrayLike, Y: ArrayLike) -> float:
    """Search the gamma in [0, lambda_min] with the smallest NRC3: 1001 roots, then golden sections.

    It knows nothing of the closed form. NRC3 is flat at its minimum, so gamma itself is found to about
    sqrt(eps) only, while NRC3 is found to eps.

    Parameters
    ----------
    W : (n, d) array or tensor
    Y : (N, n) array or tensor

    Returns
    -------
    float
        NaN for n = 1, W = 0 and targets without variance; 0.0 where NRC3 does not depend on gamma.

    Examples
    --------
    >>> head = np.diag([1.0, 2.0]) - 0.3 * np.eye(2)
    >>> targets = np.diag([1.0, 2.0])[[0, 1, 0, 1]] * np.array([[1.0], [1.0], [-1.0], [-1.0]]) * 2**0.5
    >>> round(reference_nrc3_gamma(head**0.5, targets), 6)
    0.09
    """
    head, root, roots = _nrc3_matrices(W, Y)
    grid = np.linspace(0.0, roots[0], 1001)
    values = [_nrc3_at(head, root, roots[-1], shift) for shift in grid]
    if np.isnan(values[0]):
        return math.nan
    if roots[-1] - roots[0] <= 4 * len(root) * _EPSILON * roots[-1]:
        return 0.0  # a multiple of the identity: constant but for rounding, which grows towards lambda_min
    best = int(np.nanargmin(values))
    low, high = grid[max(best - 1, 0)], grid[min(best + 1, 1000)]
    golden = (math.sqrt(5.0) - 1.0) / 2.0
    for _ in range(80):  # 0.618^80 = 2e-17: down to neighbouring floats
        left, right = high - golden * (high - low), low + golden * (high - low)
        if _nrc3_at(head, root, roots[-1], left) <= _nrc3_at(head, root, roots[-1], right):
            high = right
        else:
            low = left
    refined = 0.5 * (low + high)
    # The ends of the interval belong to it, and golden sections only come near them.
    candidates = [grid[best], refined]
    return float(min(candidates, key=lambda shift: _nrc3_at(head, root, roots[-1], shift)) ** 2)


def reference_nrc3(W: ArrayLike, Y: ArrayLike, gamma: float | None = None) -> float:
    """NRC3: squared distance of the normalised head Gram from the normalised shifted root of the covariance.

    ``|| W W^T / |W W^T|_F - (Sigma^(1/2) - gamma^(1/2) I) / |Sigma^(1/2) - gamma^(1/2) I|_F ||_F^2`` with
    Sigma the centred 1/N covariance of the targets.

    Parameters
    ----------
    W : (n, d) array or tensor
    Y : (N, n) array or tensor
    gamma : float, optional
        The minimum over [0, lambda_min] if not given, found by `reference_nrc3_gamma`.

    Returns
    -------
    float
        NaN for n = 1, W = 0, and where the shifted root is zero.

    Examples
    --------
    >>> targets = np.diag([1.0, 2.0])[[0, 1, 0, 1]] * np.array([[1.0], [1.0], [-1.0], [-1.0]])
    >>> reference_nrc3(np.diag([1.0, 2.0]) ** 0.5, targets, gamma=0.0) < 1e-28
    True
    """
    head, root, roots = _nrc3_matrices(W, Y)
    chosen = reference_nrc3_gamma(W, Y) if gamma is None else gamma
    return math.nan if math.isnan(chosen) else _nrc3_at(head, root, roots[-1], math.sqrt(chosen))


def _targets_with(covariance: FloatArray, generator: np.random.Generator) -> FloatArray:
    """Draw 16 n + 16 targets whose covariance is the given one up to rounding, with a random mean."""
    n = len(covariance)
    values, vectors = np.linalg.eigh(covariance)
    white = np.linalg.qr(_centered(generator.standard_normal((16 * n + 16, n))))[0]
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
        np.all(np.abs(given - given.T) <= 4 * n * _EPSILON * np.abs(given).max())
    )
    targets = _targets_with(given, generator) if is_covariance else given
    rotation = np.linalg.qr(generator.standard_normal((d, n)))[0].T
    rows, singular_values, axes = np.linalg.svd(_centered(targets), full_matrices=False)
    kept = np.maximum(singular_values / math.sqrt(len(targets)) - math.sqrt(lambda_W * lambda_H), 0.0)
    ratio = (lambda_H / lambda_W) ** 0.25
    rotation = rotation[: len(kept)]  # fewer samples than outputs
    weights = ratio * (axes.T * np.sqrt(kept)) @ rotation
    features = math.sqrt(len(targets)) / ratio * (rows * np.sqrt(kept)) @ rotation
    return features, weights, targets.mean(axis=0), targets
