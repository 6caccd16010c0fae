"""Every number of a report from its definition on the stored rows, to about 30 digits; each an interval.

An interval is wider than its rounding where the definition leaves something open on these rows: components with equal
eigenvalues.
"""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal, localcontext

import numpy as np
from numpy.typing import NDArray

from nrc_fast import CONVENTIONS
from nrc_fast.testing import reference_rows
from support.double_double import DIGITS, Pairs, stacked
from support.eigenpairs import eigenpairs, row_space

FloatArray = NDArray[np.float64]

# Error of a matrix here, relative to its size.
ROUNDING = Decimal("1e-29")


@dataclass(frozen=True)
class Interval:
    low: Decimal
    high: Decimal

    def distance(self, value: float) -> Decimal:
        """How far a number lies outside."""
        given = Decimal(value)
        return max(self.low - given, given - self.high, Decimal(0))


def _exactly(value: Decimal, size: Decimal | None = None) -> Interval:
    slack = ROUNDING * (abs(value) if size is None else size)
    return Interval(value - slack, value + slack)


class ExactNumbers:
    """References of the numbers of a report, by the names of its bounds.

    Parameters
    ----------
    H, Y, W, b
        What was measured, as it is stored.
    components : int
        Up to which number NRC1 is computed.
    """

    def __init__(self, H: object, Y: object, W: object, b: object, *, components: int) -> None:
        rows, targets = Pairs(reference_rows(H)), Pairs(reference_rows(Y))
        self.weights, self.bias = Pairs(reference_rows(W)), Pairs(np.ravel(np.asarray(b, dtype=np.float64)))
        self.count, self.d = rows.shape
        self.components = components
        with localcontext() as context:
            context.prec = DIGITS
            self._measure(rows, targets)

    @staticmethod
    def stored(H: object) -> FloatArray:
        """The rows as they are stored, in float64."""
        return reference_rows(H)  # type: ignore[arg-type]

    def _measure(self, rows: Pairs, targets: Pairs) -> None:
        self.rows, self.centred = rows, _about_mean(rows)
        self.targets = _about_mean(targets)
        self.covariance = self._mean_product(self.centred, self.centred)
        self.eigenvalues, self.vectors = eigenpairs(self.covariance)
        self.numbers: dict[str, Interval | list[Interval]] = {}
        self.alternatives: dict[str, dict[str, Interval]] = {}
        self.by_k: dict[str, list[Interval]] = {}
        self._spectrum()
        for name in CONVENTIONS:
            self._collapse(name)
        self._alignment()
        self._readouts(rows, targets)
        self._shape()

    def _mean_product(self, a: Pairs, b: Pairs) -> Pairs:
        return (a.T @ b) / Pairs(np.full((1, 1), float(self.count)))

    # ---- the spectrum ----

    def _spectrum(self) -> None:
        values = [max(value, Decimal(0)) for value in self.eigenvalues.decimals()]
        total = sum(values)
        shares = [value / total for value in values]
        self.numbers["explained_variance_ratio"] = [_exactly(share, Decimal(1)) for share in shares]
        entropy = -sum(share * share.ln() for share in shares if share > Decimal("1e-28"))
        self.numbers["effective_rank"] = Interval(entropy.exp() - Decimal("1e-24"), entropy.exp() + Decimal("1e-24"))
        self.numbers["stable_rank"] = _exactly(sum(value**2 for value in values) / values[0] ** 2)

    # ---- NRC1 and NRC2 ----

    def _collapse(self, name: str) -> None:
        convention = CONVENTIONS[name]
        rows = self.centred if convention.centered_rows else self.rows
        if convention.unit_rows:
            rows = _unit(rows)
        eigenvalues, vectors = self.eigenvalues, self.vectors
        if not convention.centered_basis:
            eigenvalues, vectors = eigenpairs(self._mean_product(self.rows, self.rows))
        energy = _energy(rows) / self.count
        scale = energy if convention.relative else Decimal(1)
        left, found = rows, []
        for k in range(self.components):
            left = _without(left, vectors[k])
            value = _energy(left) / self.count if k + 1 < self.d else Decimal(0)
            found.append(Interval(*(end / scale for end in self._turned(value, energy, eigenvalues, k + 1))))
        within = _without(_without(rows, self.row_space), self.row_space)
        nrc2 = _energy(within) / self.count / scale if len(self.row_space.high) < self.d else Decimal(0)
        n = len(self.weights.high)
        self.alternatives[name] = {"nrc1": found[n - 1], "nrc2": _exactly(nrc2)}
        self.by_k[name] = found

    def _turned(self, value: Decimal, energy: Decimal, eigenvalues: Pairs, k: int) -> tuple[Decimal, Decimal]:
        """What a residual may be with components that are known to the digits of these matrices."""
        if k >= self.d:
            return Decimal(0), Decimal(0)
        decimals = eigenvalues.decimals()
        gap = decimals[k - 1] - decimals[k]
        angle = ROUNDING * decimals[0] / gap if gap > 0 else Decimal(1)
        slack = (2 * angle * (value * energy).sqrt() + angle**2 * energy) + Decimal("1e-24") * value
        return (Decimal(0), energy) if angle > Decimal("1e-3") else (value - slack, value + slack)

    @property
    def row_space(self) -> Pairs:
        """Orthonormal rows that span those of W."""
        return row_space(self.weights)

    # ---- features and targets ----

    def _alignment(self) -> None:
        self.sigma = self._mean_product(self.targets, self.targets)
        self.cross = self._mean_product(self.centred, self.targets)
        norms = [_energy(matrix) for matrix in (self.covariance, self.sigma, self.cross)]
        self.numbers["cka"] = _exactly(norms[2] / (norms[0] * norms[1]).sqrt())
        squares = [(part * part).sum(1) for part in (self.centred, self.targets)]
        count = self.count
        own, theirs, both = (
            count**2 * norm
            - paired
            + (first * second) * Decimal(count**2) / ((count - 1) * (count - 2))
            - 2 * paired / (count - 2)
            for norm, paired, first, second in (
                (norms[0], _dot(squares[0], squares[0]), self._trace(squares[0]), self._trace(squares[0])),
                (norms[1], _dot(squares[1], squares[1]), self._trace(squares[1]), self._trace(squares[1])),
                (norms[2], _dot(squares[0], squares[1]), self._trace(squares[0]), self._trace(squares[1])),
            )
        )
        if own > 0 and theirs > 0:
            self.numbers["cka_debiased"] = _exactly(both / (own * theirs).sqrt(), Decimal(count**2) * ROUNDING * 10**29)

    def _trace(self, squares: Pairs) -> Decimal:
        return squares.sum(0).decimals()[0] / self.count

    def _readouts(self, rows: Pairs, targets: Pairs) -> None:
        variance = _energy(self.targets) / self.count
        loadings = self.vectors @ self.cross
        left, unresolved = variance, False
        values = self.eigenvalues.decimals()
        for index, value in enumerate(values):
            if value > Decimal("1e-26") * values[0]:
                left -= _energy(loadings[index]) / value
            else:
                unresolved = True
        condition = values[0] / max(values[-1], Decimal("1e-26") * values[0])
        slack = ROUNDING * variance * condition
        low = Decimal(0) if unresolved else left - slack
        self.numbers["linear_mse"] = Interval(low, left + slack)
        bias = Pairs(np.broadcast_to(self.bias.high, targets.shape))
        errors = rows @ self.weights.T + bias - targets
        mse = _energy(errors) / self.count
        size = (_energy(rows @ self.weights.T) + _energy(targets)) / self.count
        self.numbers["mse"] = _exactly(mse, mse + size * Decimal("1e-29"))
        self.numbers["r2"] = _exactly(1 - mse / variance, Decimal(1) + mse / variance)
        self._balance(errors, rows @ self.weights.T)

    def _balance(self, errors: Pairs, images: Pairs) -> None:
        matrix = [-entry for entry in self._mean_product(errors, images).decimals()]
        gram = (self.weights @ self.weights.T).decimals()
        n, size = len(self.weights.high), (_energy(errors) * _energy(images)).sqrt() / self.count
        lengths = [sum(entry**2 for entry in entries).sqrt() for entries in (matrix, gram)]
        traces = [sum(entries[:: n + 1]) for entries in (matrix, gram)]
        if not lengths[0] > 1000 * ROUNDING * size:
            return
        pairs = zip(matrix, gram, strict=True)
        distance = sum((entry / lengths[0] - other / lengths[1]) ** 2 for entry, other in pairs)
        odd = sum((matrix[j * n + k] - matrix[k * n + j]) ** 2 for j in range(n) for k in range(n)).sqrt()
        turn = 10 * ROUNDING * size / lengths[0]
        slack = 2 * distance.sqrt() * turn + turn**2
        self.numbers["balance_distance"] = Interval(distance - slack, distance + slack)
        self.numbers["balance_decay"] = _exactly(traces[0] / traces[1], 10 * size / traces[1])
        self.numbers["balance_asymmetry"] = _exactly(odd / lengths[0], 10 * size / lengths[0])

    # ---- NRC3 ----

    def _shape(self) -> None:
        n = len(self.weights.high)
        if n == 1:
            return
        gram = self.weights @ self.weights.T
        size = _energy(gram).sqrt()
        eigenvalues, vectors = eigenpairs(self.sigma)
        rotated = vectors @ gram @ vectors.T
        shares = [entry / size for entry in rotated.decimals()]
        diagonal = [shares[j * n + j] for j in range(n)]
        outside = sum(share**2 for share in shares) - sum(share**2 for share in diagonal)
        roots = [max(value, Decimal(0)).sqrt() for value in eigenvalues.decimals()]

        def distance(shift: Decimal) -> Decimal:
            norm = sum((root - shift) ** 2 for root in roots).sqrt()
            return outside + sum((a - (root - shift) / norm) ** 2 for a, root in zip(diagonal, roots, strict=True))

        candidates = [Decimal(0), roots[-1]]
        mean_root, mean_share = sum(roots) / n, sum(diagonal) / n
        overlap = sum((a - mean_share) * (root - mean_root) for a, root in zip(diagonal, roots, strict=True))
        spread = sum((root - mean_root) ** 2 for root in roots)
        if overlap != 0 and 0 < mean_root - mean_share * spread / overlap < roots[-1]:
            candidates.append(mean_root - mean_share * spread / overlap)
        best = min((distance(shift), shift) for shift in candidates if roots[0] > shift)
        self.numbers["nrc3"] = _exactly(best[0], Decimal("1e-3"))
        self.numbers["gamma"] = _exactly(best[1] ** 2, roots[0] ** 2)
        self.numbers["nrc3_at_zero"] = _exactly(distance(Decimal(0)), Decimal("1e-3"))
        self.numbers["head_outside"] = _exactly(outside, Decimal("1e-3"))
        if roots[-1] > 0:
            condition = eigenvalues.decimals()[0] / eigenvalues.decimals()[-1]
            self.numbers["gamma_share"] = _exactly((best[1] / roots[-1]) ** 2, condition)


def _about_mean(rows: Pairs) -> Pairs:
    count = Pairs(np.full(rows.shape[1], float(rows.shape[0])))
    return rows - (rows.sum(0) / count)[np.newaxis]


def _unit(rows: Pairs) -> Pairs:
    norms = (rows * rows).sum(1).root()
    safe = Pairs(np.where(norms.high > 0.0, norms.high, 1.0), norms.low)
    return rows / safe[:, np.newaxis]


def _without(rows: Pairs, directions: Pairs) -> Pairs:
    """Rows without their parts along orthonormal directions."""
    if len(directions.shape) == 1:
        directions = stacked([directions])
    return rows - (rows @ directions.T) @ directions


def _dot(a: Pairs, b: Pairs) -> Decimal:
    return (a * b).sum(0).decimals()[0]


def _energy(matrix: Pairs) -> Decimal:
    flat = Pairs(matrix.high.ravel(), matrix.low.ravel())
    return _dot(flat, flat)
