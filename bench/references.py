"""Float64 values that every contender is compared with, from the definitions, some rows at a time."""

from __future__ import annotations

from typing import Any

import numpy as np
from features import wide_chunks

__all__ = [
    "centered_gram",
    "centered_product",
    "column_means",
    "gram",
    "leading_components",
    "lower_triangle_error",
    "nrc1",
    "principal_components",
    "unit_gram",
    "unit_residual",
]

# Above it the eigenvectors of the whole covariance take minutes.
MOST_FEATURES = 4096
BLOCK = 8  # vectors beyond the components: those that follow them converge too, and the gap is wider
CONVERGED = 1e-9  # residual of an eigenvector, relative to the largest eigenvalue; NRC1 errs by the square


def gram(H: Any) -> np.ndarray:
    """``sum h h^T``."""
    total = np.zeros((H.shape[1], H.shape[1]))
    for _, part in wide_chunks(H):
        total += part.T @ part
    return total


def column_means(H: Any) -> np.ndarray:
    """``sum h / N``."""
    return np.asarray(sum(part.sum(axis=0) for _, part in wide_chunks(H)) / len(H))


def centered_gram(H: Any, means: np.ndarray | None = None) -> np.ndarray:
    """``sum (h - mean)(h - mean)^T``."""
    means = column_means(H) if means is None else means
    total = np.zeros((H.shape[1], H.shape[1]))
    for _, part in wide_chunks(H):
        centered = part - means
        total += centered.T @ centered
    return total


def centered_product(H: Any, vectors: np.ndarray, shift: np.ndarray) -> np.ndarray:
    """``V sum (h - s)(h - s)^T`` for vectors V (k, d) and a shift s."""
    total = np.zeros(vectors.shape)
    for _, part in wide_chunks(H):
        centered = part - shift
        total += (centered @ vectors.T).T @ centered
    return total


def unit_rows(part: np.ndarray) -> np.ndarray:
    """``h/|h|``; a zero row stays zero."""
    norms = np.linalg.norm(part, axis=1, keepdims=True)
    return np.asarray(part / np.where(norms > 0.0, norms, 1.0))


def unit_gram(H: Any) -> np.ndarray:
    """``sum u u^T`` with ``u = h/|h|``."""
    total = np.zeros((H.shape[1], H.shape[1]))
    for _, part in wide_chunks(H):
        unit = unit_rows(part)
        total += unit.T @ unit
    return total


def principal_components(H: Any, k: int) -> np.ndarray:
    """The first k as rows (k, d), the largest first."""
    if H.shape[1] > MOST_FEATURES:
        return leading_components(H, k)
    return np.ascontiguousarray(np.linalg.eigh(centered_gram(H))[1][:, ::-1][:, :k].T)


def leading_components(H: Any, k: int) -> np.ndarray:
    """The same without a d x d matrix: block Krylov on the rows, every vector kept and orthogonal to all others."""
    d, means = H.shape[1], column_means(H)
    block = np.linalg.qr(np.random.default_rng(2).standard_normal((d, min(k + BLOCK, d))))[0]
    basis, images = np.zeros((d, 0)), np.zeros((d, 0))
    while True:
        block = block[:, : d - basis.shape[1]]
        basis, images = np.hstack([basis, block]), np.hstack([images, _times_covariance(H, means, block)])
        values, vectors = np.linalg.eigh(basis.T @ images)
        values, vectors = values[::-1][:k], vectors[:, ::-1][:, :k]
        found = basis @ vectors
        residual = np.linalg.norm(images @ vectors - found * values)
        if residual <= CONVERGED * values[0] or basis.shape[1] == d:
            return np.ascontiguousarray(np.linalg.qr(found)[0].T)
        block = images[:, -block.shape[1] :]
        for _ in range(2):  # once leaves what rounding left
            block = np.linalg.qr(block - basis @ (basis.T @ block))[0]


def _times_covariance(H: Any, means: np.ndarray, vectors: np.ndarray) -> np.ndarray:
    """``sum (h - mean)(h - mean)^T V / N``."""
    total = np.zeros(vectors.T.shape)
    for _, part in wide_chunks(H, 128):  # of 16,384 features: 16 MB
        centered = part - means
        total += (centered @ vectors).T @ centered  # twice as fast as the transposed product
    return np.asarray(total.T / len(H))


def unit_residual(H: Any, basis: np.ndarray) -> float:
    """Mean over the rows of ``|u - V^T V u|^2`` with ``u = h/|h|`` and V = basis (k, d)."""
    total = 0.0
    for _, part in wide_chunks(H):
        unit = unit_rows(part)
        rest = unit - (unit @ basis.T) @ basis
        total += float(np.sum(rest * rest))
    return total / len(H)


def nrc1(H: Any, k: int) -> float:
    """NRC1 of k components under the convention nrc24."""
    return unit_residual(H, principal_components(H, k))


def lower_triangle_error(found: Any, reference: np.ndarray) -> float:
    """Relative error in the Frobenius norm of one triangle: kernels and syrk fill only one, and differ in which."""
    values = np.asarray(found if isinstance(found, np.ndarray) else found.double().numpy(), dtype=np.float64)
    filled = np.any(np.tril(values, -1)) or len(values) == 1
    triangle = np.tril(reference)
    return float(np.linalg.norm(np.tril(values if filled else values.T) - triangle) / np.linalg.norm(triangle))
