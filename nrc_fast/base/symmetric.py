"""Positive semidefinite matrices as what is asked of them, wherever they lie: covariances of thousands of features.

A matrix on a device never leaves it: products with a few vectors, leading pairs and single numbers do.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import TypeAlias

import numpy as np

from nrc_fast.base.arrays import FloatArray
from nrc_fast.base.factors import factored, solve_with_factor
from nrc_fast.base.leading import LeadingPairs, leading_pairs
from nrc_fast.base.linalg import eigh_descending, scaled_norm

__all__ = ["EigenPairs", "HostMatrix", "Solver", "Symmetric", "SymmetricMatrix", "as_symmetric"]

# X with ``(C + a I) X = B`` for a right side (d, n), up to the rounding of a factor of the matrix.
Solver: TypeAlias = Callable[[FloatArray], FloatArray]


class EigenPairs(ABC):
    """All eigenpairs of a matrix.

    Attributes
    ----------
    values : (d,) float64 array
        Descending, on the host.
    """

    values: FloatArray

    @abstractmethod
    def vectors(self, count: int) -> FloatArray:
        """The leading vectors as orthonormal rows (count, d) on the host, at least so many."""

    @abstractmethod
    def products(self, columns: FloatArray) -> FloatArray:
        """``V^T B`` of all vectors V with some columns B (d, n), (d, n), each row up to its sign."""

    @abstractmethod
    def along(self, matrix: SymmetricMatrix) -> FloatArray:
        """``v^T S v`` of all vectors with a matrix in the same memory, (d,)."""


class SymmetricMatrix(ABC):
    """A positive semidefinite matrix C of d x d; what is given and what comes back lies on the host."""

    @property
    @abstractmethod
    def d(self) -> int:
        """Its size."""

    @abstractmethod
    def diagonal(self) -> FloatArray:
        """(d,) float64 array."""

    @property
    def trace(self) -> float:
        """Sum of the diagonal."""
        return float(np.sum(self.diagonal()))

    @abstractmethod
    def scaled_norm(self) -> tuple[float, int]:
        """Frobenius norm as `linalg.scaled_norm` gives it."""

    @property
    def norm(self) -> float:
        """Frobenius norm."""
        with np.errstate(over="ignore"):
            return float(np.ldexp(*self.scaled_norm()))

    @abstractmethod
    def products(self, vectors: FloatArray) -> FloatArray:
        """``V C`` of some vectors (k, d)."""

    def along(self, vectors: FloatArray) -> FloatArray:
        """``v^T C v`` of each of some vectors (k, d)."""
        found: FloatArray = np.einsum("ij,ij->i", self.products(vectors), vectors)
        return found

    @abstractmethod
    def outside(self, vectors: FloatArray) -> float:
        """Trace of what lies outside the span of orthonormal vectors (k, d).

        Of what is left of the matrix, not 1 minus what is inside: it keeps its digits near collapse.
        """

    @abstractmethod
    def solver(self, added: float, *, single_precision: bool) -> Solver | None:
        """Solutions with ``C + added I``, by a factor in float32 or float64; None where it is not positive definite."""

    @abstractmethod
    def leading(self, count: int, *, tolerance: float, trace: float) -> LeadingPairs | None:
        """As `leading.leading_pairs`."""

    @abstractmethod
    def decomposed(self) -> EigenPairs:
        """All eigenpairs."""

    @abstractmethod
    def raised(self, vector: FloatArray) -> SymmetricMatrix:
        """``C + v v^T``."""

    @abstractmethod
    def on_host(self) -> FloatArray:
        """The matrix, (d, d), both triangles; not to be written to."""


Symmetric: TypeAlias = "FloatArray | SymmetricMatrix"


def as_symmetric(matrix: Symmetric) -> SymmetricMatrix:
    """The matrix; an array of numpy as one on the host.

    Examples
    --------
    >>> as_symmetric(np.diag([3.0, 1.0])).trace
    4.0
    """
    return matrix if isinstance(matrix, SymmetricMatrix) else HostMatrix(matrix)


class HostMatrix(SymmetricMatrix):
    """A matrix in numpy's memory.

    Parameters
    ----------
    values : (d, d) float64 array
        Both triangles filled.

    Examples
    --------
    >>> matrix = HostMatrix(np.diag([4.0, 3.0]))
    >>> matrix.norm, matrix.outside(np.array([[1.0, 0.0]])), matrix.raised(np.ones(2)).trace
    (5.0, 3.0, 9.0)
    """

    def __init__(self, values: FloatArray) -> None:
        self._values = values

    @property
    def d(self) -> int:
        """Its size."""
        return len(self._values)

    def diagonal(self) -> FloatArray:
        """(d,) float64 array."""
        return np.diagonal(self._values)

    def scaled_norm(self) -> tuple[float, int]:
        """Frobenius norm as `linalg.scaled_norm` gives it."""
        return scaled_norm(self._values)

    def products(self, vectors: FloatArray) -> FloatArray:
        """``V C`` of some vectors (k, d)."""
        found: FloatArray = vectors @ self._values
        return found

    def outside(self, vectors: FloatArray) -> float:
        """Trace of what lies outside the span of orthonormal vectors (k, d).

        Examples
        --------
        >>> HostMatrix(np.diag([1.0, 1e-20])).outside(np.array([[1.0, 0.0]]))
        1e-20
        """
        if len(vectors) == self.d:
            return 0.0
        rest = self._values - vectors.T @ (vectors @ self._values)
        rest -= (rest @ vectors.T) @ vectors
        return max(float(np.trace(rest)), 0.0)

    def solver(self, added: float, *, single_precision: bool) -> Solver | None:
        """Solutions with ``C + added I``, by a factor in float32 or float64; None where it is not positive definite."""
        raised = self._values.astype(np.float32 if single_precision else np.float64)
        raised.flat[:: len(raised) + 1] += added
        try:
            factor = factored(raised)
        except np.linalg.LinAlgError:
            return None
        return lambda right: solve_with_factor(factor, right)

    def leading(self, count: int, *, tolerance: float, trace: float) -> LeadingPairs | None:
        """As `leading.leading_pairs`."""
        return leading_pairs(self._values, count, tolerance=tolerance, trace=trace)

    def decomposed(self) -> HostPairs:
        """All eigenpairs."""
        return HostPairs(*eigh_descending(self._values))

    def raised(self, vector: FloatArray) -> HostMatrix:
        """``C + v v^T``."""
        return HostMatrix(self._values + np.outer(vector, vector))

    def on_host(self) -> FloatArray:
        """The matrix, (d, d), both triangles; not to be written to."""
        return self._values


class HostPairs(EigenPairs):
    """All eigenpairs in numpy's memory.

    Parameters
    ----------
    values : (d,) float64 array
    vectors : (d, d) float64 array
        In the columns.
    """

    def __init__(self, values: FloatArray, vectors: FloatArray) -> None:
        self.values = values
        self._vectors = vectors

    def vectors(self, count: int) -> FloatArray:  # noqa: ARG002 - all are there
        """The leading vectors as orthonormal rows (count, d) on the host, at least so many."""
        transposed: FloatArray = self._vectors.T
        return transposed

    def products(self, columns: FloatArray) -> FloatArray:
        """``V^T B`` of all vectors V with some columns B (d, n), (d, n), each row up to its sign."""
        found: FloatArray = self._vectors.T @ columns
        return found

    def along(self, matrix: SymmetricMatrix) -> FloatArray:
        """``v^T S v`` of all vectors with a matrix in the same memory, (d,)."""
        return matrix.along(self._vectors.T)
