"""How exact leading components are turned from those found, from the image of these under the exact matrix.

What the image ``V C`` of the vectors V leaves of them, ``E = V C - M V`` with ``M = V C V^T``, is what turns them: the
exact components are spanned by ``V + X`` with ``M X - X D = E - X E^T X``, D what C is on all that is orthogonal to V.
The image is known far better than C; of D a matrix that is off suffices, or how large it is at most.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from nrc_fast.base.arrays import FloatArray
from nrc_fast.base.leading import LeadingPairs
from nrc_fast.base.linalg import EPSILON
from nrc_fast.metrics.corrections import Correction

__all__ = ["MeasuredTurns", "measured_turns"]

# Gaps between eigenvalues, in sizes of what turns the vectors, from which on the turn is known.
CLEAR = 4.0
# Steps after which the equation of a turn is left as far as it is solved.
MOST_STEPS = 40
# Share of what is not known of the matrix that the solution need not know either.
SHARE = 0.125


@dataclass(frozen=True, eq=False)
class MeasuredTurns:
    """Turns of the leading k = 1..K components.

    Attributes
    ----------
    vectors : (K, d) float64 array
        That were found, V.
    parts : list of (k, d) float64 arrays
        X of the leading k, orthogonal to these; zeros where it is not known.
    angles : (K,) float64 array
        Bounds of the sines of the angles of V; infinite without a clear gap.
    unknown : (K,) float64 array
        Of what ``V + X`` are still turned by.
    floors : (K,) float64 array
        What the error of the image alone leaves of that.
    """

    vectors: FloatArray
    parts: list[FloatArray]
    angles: FloatArray
    unknown: FloatArray
    floors: FloatArray

    def correction(self, image: FloatArray, rounding: float) -> Correction:
        """What the mean residual of rows with second moment S changes on ``V + X``, from the image ``V S``.

        With ``G = (I + X X^T)^-1`` it is ``tr(X X^T G M) - 2 tr(G X (V S)^T) - tr(G X S X^T)``, ``M = V S V^T``. The
        last term alone is not known; it is at most ``|X|^2`` times the residual.

        Parameters
        ----------
        image : (K, d) float64 array
            V S, in units of the residual.
        rounding : float
            Bound of the norm of its error.
        """
        changes, errors, shares = np.zeros(len(self.parts)), np.zeros(len(self.parts)), np.zeros(len(self.parts))
        for place, part in enumerate(self.parts):
            rows = image[: place + 1]
            squares = part @ part.T
            shrunk = np.linalg.inv(np.eye(len(part)) + squares)
            inner = rows @ self.vectors[: place + 1].T
            terms = squares @ shrunk * inner, shrunk @ part * rows
            changes[place] = terms[0].sum() - 2.0 * terms[1].sum()
            size = float(np.linalg.norm(part))
            computed = 4.0 * EPSILON * rows.shape[1] ** 0.5 * sum(float(np.abs(term).sum()) for term in terms)
            errors[place] = (2.0 + size) * size * rounding * len(part) ** 0.5 + computed
            shares[place] = size**2
        return Correction(changes, self.angles, self.unknown, errors, shares)


def measured_turns(
    image: FloatArray,
    found: LeadingPairs,
    count: int,
    *,
    left: FloatArray,
    rounding: float,
    matrix_error: float,
    products: Callable[[FloatArray], FloatArray] | None,
) -> MeasuredTurns:
    """The turns of the leading components from their image.

    Parameters
    ----------
    image : (K, d) float64 array
        V C of the K leading vectors that were found.
    found : LeadingPairs
        At least K, of a matrix near C.
    count : int
        K, below d.
    left : (K,) float64 array
        What the leading 1, ..., K vectors leave of the trace of C, at most.
    rounding : float
        Bound of the norm of the error of the image.
    matrix_error : float
        Of the norm of the error of the matrix near C.
    products : callable, optional
        Products ``W C`` of some vectors (k, d) with the matrix near C.

    Examples
    --------
    >>> C, V = np.diag([4.0, 1.0]), np.array([[1.0, 1e-6]])
    >>> pairs = LeadingPairs(np.array([4.0]), V, np.zeros(1), 5.0)
    >>> turns = measured_turns(
    ...     V @ C, pairs, 1, left=np.ones(1), rounding=1e-15, matrix_error=1e-5, products=lambda W: W @ C
    ... )
    >>> turns.parts[0].round(9).tolist(), bool(turns.angles[0] < 1.1e-6), bool(turns.unknown[0] < 1e-11)
    ([[0.0, -1e-06]], True, True)
    """
    vectors = np.ascontiguousarray(found.vectors[:count])
    parts = [np.zeros((k, vectors.shape[1])) for k in range(1, count + 1)]
    angles, unknown, floors = (np.full(count, np.inf) for _ in range(3))
    for k in range(1, count + 1):
        next_value = found.next_value(k) + found.distance(k) + matrix_error
        top = min(float(left[k - 1]), next_value)
        beside = _Beside(vectors[:k], image[:k])
        turning = beside.size + rounding
        gap = float(beside.values[0]) - top - 2.0 * rounding
        if not gap > CLEAR * turning:
            continue
        if products is None or top <= matrix_error:
            part, unsolved, matrix_off = beside.without_matrix(0.5 * top), 0.0, 0.5 * top
        else:
            enough = SHARE * (rounding + matrix_error * turning / gap)
            part, unsolved = beside.solved(products, found, enough)
            matrix_off = matrix_error
        size = float(np.linalg.norm(part, 2))
        # Stewart: the smaller solution of |X| gap = |E| (1 + |X|^2).
        angle = 2.0 * turning / gap / (1.0 + (1.0 - 4.0 * (turning / gap) ** 2) ** 0.5)
        off = rounding + angle**2 * turning + (2.0 * rounding + matrix_off) * size + unsolved
        parts[k - 1], angles[k - 1] = part, min(angle * (1.0 + 1e-6), 1.0)
        unknown[k - 1], floors[k - 1] = off / gap + 4.0 * EPSILON * size, rounding / gap
    return MeasuredTurns(vectors, parts, angles, unknown, floors)


class _Beside:
    """What turns k vectors, E, rotated so that M is diagonal."""

    def __init__(self, vectors: FloatArray, image: FloatArray) -> None:
        self._vectors = vectors
        inner = image @ vectors.T
        self.values, self._rotation = np.linalg.eigh(0.5 * (inner + inner.T))
        beside = self._outside(image)
        self.size = float(np.linalg.norm(beside, 2))
        self._rows = self._rotation.T @ beside

    def _outside(self, rows: FloatArray) -> FloatArray:
        for _ in range(2):
            rows = rows - (rows @ self._vectors.T) @ self._vectors
        return rows

    def without_matrix(self, middle: float) -> FloatArray:
        """X where D is taken for a multiple of the identity."""
        part: FloatArray = self._rotation @ (self._rows / (self.values[:, np.newaxis] - middle))
        return self._outside(part)

    def solved(
        self, products: Callable[[FloatArray], FloatArray], found: LeadingPairs, enough: float
    ) -> tuple[FloatArray, float]:
        """X where D is that of a matrix, and the norm of what is left of the equation: steps with the pairs known."""
        k, known = len(self._vectors), len(found.vectors)
        others, values = found.vectors[k:], found.values[k:known]
        middle = 0.5 * max(float(found.values[-1]), 0.0)  # of all that is not known
        column = self.values[:, np.newaxis]

        def step(rows: FloatArray) -> FloatArray:
            along = rows @ others.T
            found_there: FloatArray = (along / (column - values)) @ others + (rows - along @ others) / (column - middle)
            return found_there

        part, before = step(self._rows), np.inf
        best, unsolved = part, np.inf
        for _ in range(MOST_STEPS):
            rest = self._rows - (column * part - self._outside(products(part)))
            size = float(np.linalg.norm(rest))
            if size < unsolved:
                best, unsolved = part, size
            if size <= enough or size > 0.9 * before:
                break
            part, before = self._outside(part + step(rest)), size
        return self._outside(self._rotation @ best), unsolved
