"""NRC3 in decimals of 40 digits, the gamma that it is smallest at, and where that may lie."""

from __future__ import annotations

from collections.abc import Iterable
from decimal import Decimal, localcontext

from nrc_fast.base.double_double import Pair

__all__ = ["DecimalShapes"]

DIGITS = 40


class DecimalShapes:
    """NRC3 of W W^T in the eigenbasis of Sigma, and its minimiser over ``[0, lambda_min]``.

    With ``G = W W^T``, ``S = Sigma^(1/2)``, their traces ``t`` and ``tau``, their traceless parts ``G0`` and ``S0``,
    ``p = <G0, S0>`` and ``q = |S0|^2``, NRC3 has one stationary point over the real line, at
    ``gamma^(1/2) = tau/n - t q / (n p)``. For p > 0 it is the minimum, and NRC3 is monotone on either side of it: the
    minimum over the interval is there or at the nearer end. For p < 0 it is a maximum beyond ``tau/n``, so above the
    whole interval, and the minimum is at 0; so it is for p = 0.

    Parameters
    ----------
    eigenvalues : pair of (n,) float64 arrays
        Of Sigma, descending and not negative, the largest positive.
    diagonal : pair of (n,) float64 arrays
        Of G.
    outside : pair of floats
        ``sum G_ij^2`` beside the diagonal.

    Examples
    --------
    >>> import numpy as np
    >>> zero = np.zeros(2)
    >>> eigenvalues, diagonal = Pair(np.array([4.0, 1.0]), zero), Pair(np.array([1.5, 0.5]), zero)
    >>> shapes = DecimalShapes(eigenvalues, diagonal, (0.0, 0.0))
    >>> shapes.best_gamma, shapes.least < 1e-70, round(shapes.distance(0.0), 3)
    (0.25, True, 0.02)
    """

    def __init__(self, eigenvalues: Pair, diagonal: Pair, outside: tuple[float, float]) -> None:
        with localcontext() as context:
            context.prec = DIGITS
            self._roots = [value.sqrt() for value in _decimals(eigenvalues)]
            entries, n = _decimals(diagonal), len(self._roots)
            self._mean_root, self._mean_entry = _sum(self._roots) / n, _sum(entries) / n
            spread = [root - self._mean_root for root in self._roots]
            # The entries of G off the diagonal are orthogonal to S and to I.
            apart = [entry - self._mean_entry for entry in entries]
            self._p = _sum(a * b for a, b in zip(apart, spread, strict=True))
            self._size = _sum(part**2 for part in spread).sqrt()
            self._entries, self._outside = entries, sum(map(Decimal, outside), Decimal(0))
            self._traceless = (_sum(part**2 for part in apart) + self._outside).sqrt()

    def distance(self, gamma: float) -> float:
        """NRC3 for one gamma, at which ``S - gamma^(1/2) I`` is not 0, rounded once."""
        with localcontext() as context:
            context.prec = DIGITS
            return self._distance(Decimal(gamma).sqrt())

    @property
    def least(self) -> float:
        """NRC3 at the best gamma before that is rounded."""
        with localcontext() as context:
            context.prec = DIGITS
            return self._distance(self._root_at(Decimal(0), Decimal(0), 0))

    def _distance(self, root: Decimal) -> float:
        target = [own - root for own in self._roots]
        norm, size = _sum(part**2 for part in target).sqrt(), _sum(entry**2 for entry in self._entries) + self._outside
        pairs, length = zip(self._entries, target, strict=True), size.sqrt()
        return float(self._outside / size + _sum((entry / length - part / norm) ** 2 for entry, part in pairs))

    @property
    def best_gamma(self) -> float:
        """The minimiser, rounded once."""
        with localcontext() as context:
            context.prec = DIGITS
            return float(self._root_at(Decimal(0), Decimal(0), 0) ** 2)

    @property
    def share(self) -> float:
        """Gamma over the smallest eigenvalue, which is not 0, rounded once."""
        with localcontext() as context:
            context.prec = DIGITS
            return float((self._root_at(Decimal(0), Decimal(0), 0) / self._roots[-1]) ** 2)

    def _root_at(self, root_error: Decimal, gram_error: Decimal, sign: int) -> Decimal:
        """The root of gamma where everything that it depends on is off, to one side."""
        n = len(self._roots)
        overlap = self._p + sign * (self._traceless * root_error + gram_error * (self._size + root_error))
        largest = self._roots[-1] + sign * root_error
        if overlap <= 0:
            return Decimal(0)
        spread = max(self._size - sign * root_error, Decimal(0)) ** 2
        entry = max(self._mean_entry - sign * gram_error / Decimal(n).sqrt(), Decimal(0))
        root = self._mean_root + sign * root_error / Decimal(n).sqrt() - entry * spread / overlap
        return max(min(root, largest), Decimal(0))

    def range(self, root_error: float, gram_error: float) -> tuple[float, float]:
        """The smallest and largest gamma that may be the best one.

        It rises with ``tau`` and p, and falls with t and q: it is taken at either end of what each of them may be.

        Parameters
        ----------
        root_error, gram_error : float
            Bounds of the Frobenius norms of the errors of S and G.
        """
        with localcontext() as context:
            context.prec = DIGITS
            errors = Decimal(root_error), Decimal(gram_error)
            lowest, highest = (float(self._root_at(*errors, sign) ** 2) for sign in (-1, 1))
            return lowest, highest

    def share_range(self, root_error: float, gram_error: float) -> tuple[float, float]:
        """The same of the share: what moves the smallest root by its error moves gamma by its own."""
        with localcontext() as context:
            context.prec = DIGITS
            errors, smallest = (Decimal(root_error), Decimal(gram_error)), self._roots[-1]
            lowest = self._root_at(*errors, -1) / (smallest + errors[0])
            highest = self._root_at(*errors, 1) / (smallest - errors[0]) if smallest > errors[0] else Decimal(1)
            return float(lowest**2), float(min(highest, Decimal(1)) ** 2)


def _sum(parts: Iterable[Decimal]) -> Decimal:
    return sum(parts, Decimal(0))


def _decimals(numbers: Pair) -> list[Decimal]:
    high, low = (part.tolist() for part in numbers)
    return [Decimal(a) + Decimal(b) for a, b in zip(high, low, strict=True)]
