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
    "lower_triangle_error",
    "nrc1",
    "principal_components",
    "unit_gram",
    "unit_residual",
]


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
    return np.ascontiguousarray(np.linalg.eigh(centered_gram(H))[1][:, ::-1][:, :k].T)


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
