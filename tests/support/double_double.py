"""Arrays of pairs of float64 numbers, about 31 digits, in plain numpy: the extended precision of the references.

`np.longdouble` has 18 digits on one processor, 34 in software on another and 15 on a third; these pairs are the same
everywhere. Each operation is an error-free transformation of its leading parts (Knuth's sum, Dekker's product, Ozaki's
split of matrices into slices whose products BLAS adds without rounding), with a rounding of about 2^-104 for what is
left. Numbers keep the range of float64, and products want room in it: factors between 1e-140 and 1e140.
"""

from __future__ import annotations

import math
from decimal import Decimal, localcontext
from typing import Any, NoReturn

import numpy as np
from numpy.typing import NDArray

from nrc_fast.base.blas_threads import one_blas_thread

FloatArray = NDArray[np.float64]

DIGITS = 60  # of the decimals that scalars become
SPLITTER = 2.0**27 + 1.0
SLICED_BITS = 200  # below the largest number of a row or column; what is smaller adds less than any rounding here


def _two_sum(a: FloatArray, b: FloatArray) -> tuple[FloatArray, FloatArray]:
    total = a + b
    other = total - a
    return total, (a - (total - other)) + (b - other)


def _two_product(a: FloatArray, b: FloatArray) -> tuple[FloatArray, FloatArray]:
    product = a * b
    scaled_a, scaled_b = SPLITTER * a, SPLITTER * b
    high_a, high_b = scaled_a - (scaled_a - a), scaled_b - (scaled_b - b)
    low_a, low_b = a - high_a, b - high_b
    return product, ((high_a * high_b - product) + high_a * low_b + low_a * high_b) + low_a * low_b


class Pairs:
    """An array of unevaluated sums high + low, high being what float64 makes of the sum.

    Operators take arrays and numbers beside pairs, and give pairs; numpy's functions refuse them, for most would round.
    """

    __array_ufunc__ = None  # operators of arrays leave the work to those here
    __hash__ = None  # type: ignore[assignment]

    def __init__(self, high: Any, low: Any = None) -> None:
        self.high: FloatArray = np.array(high, dtype=np.float64)
        self.low: FloatArray = np.zeros_like(self.high) if low is None else np.array(low, dtype=np.float64)

    def __array__(self, *arguments: Any, **options: Any) -> NoReturn:
        message = "pairs become an array by .astype(np.float64), which rounds them"
        raise TypeError(message)

    @property
    def shape(self) -> tuple[int, ...]:
        return self.high.shape

    @property
    def T(self) -> Pairs:
        return Pairs(self.high.T, self.low.T)

    def __len__(self) -> int:
        return len(self.high)

    def __getitem__(self, key: Any) -> Pairs:
        return Pairs(self.high[key], self.low[key])

    def __setitem__(self, key: Any, values: Any) -> None:
        values = _pairs(values)
        self.high[key], self.low[key] = values.high, values.low

    def __float__(self) -> float:
        return float(self.high)

    def astype(self, dtype: Any) -> NDArray[Any]:
        """The nearest numbers of a dtype of at most 53 bits."""
        assert np.finfo(dtype).nmant <= 52
        return self.high.astype(dtype)

    def reshape(self, *shape: int) -> Pairs:
        return Pairs(self.high.reshape(shape), self.low.reshape(shape))

    def __neg__(self) -> Pairs:
        return Pairs(-self.high, -self.low)

    def __abs__(self) -> Pairs:
        sign = np.where(self.high < 0.0, -1.0, 1.0)
        return Pairs(sign * self.high, sign * self.low)

    def __add__(self, other: Any) -> Pairs:
        other = _pairs(other)
        high, error = _two_sum(self.high, other.high)
        low, rest = _two_sum(self.low, other.low)
        high, error = _two_sum(high, error + low)
        return Pairs(*_two_sum(high, error + rest))

    __radd__ = __add__

    def __sub__(self, other: Any) -> Pairs:
        return self + (-_pairs(other))

    def __rsub__(self, other: Any) -> Pairs:
        return _pairs(other) - self

    def __mul__(self, other: Any) -> Pairs:
        other = _pairs(other)
        high, error = _two_product(self.high, other.high)
        return Pairs(*_two_sum(high, error + (self.high * other.low + self.low * other.high)))

    __rmul__ = __mul__

    def __truediv__(self, other: Any) -> Pairs:
        other = _pairs(other)
        first = self.high / other.high
        rest = self - other * first
        second = rest.high / other.high
        rest = rest - other * second
        return Pairs(*_two_sum(first, second)) + rest.high / other.high

    def __rtruediv__(self, other: Any) -> Pairs:
        return _pairs(other) / self

    def __pow__(self, exponent: float) -> Pairs:
        """Squares and square roots."""
        assert exponent in (2, 0.5)
        return self * self if exponent == 2 else self.root()

    def __matmul__(self, other: Any) -> Pairs:
        other = _pairs(other)
        left = self if self.high.ndim == 2 else self[np.newaxis]
        right = other if other.high.ndim == 2 else other[:, np.newaxis]
        return product(left, right).reshape(*self.shape[:-1], *other.shape[1:])

    def __rmatmul__(self, other: Any) -> Pairs:
        return _pairs(other) @ self

    def _sign_against(self, other: Any) -> FloatArray:
        return (self - other).high

    def __lt__(self, other: Any) -> NDArray[np.bool_]:
        return self._sign_against(other) < 0.0

    def __le__(self, other: Any) -> NDArray[np.bool_]:
        return self._sign_against(other) <= 0.0

    def __gt__(self, other: Any) -> NDArray[np.bool_]:
        return self._sign_against(other) > 0.0

    def __ge__(self, other: Any) -> NDArray[np.bool_]:
        return self._sign_against(other) >= 0.0

    def __eq__(self, other: object) -> NDArray[np.bool_]:  # type: ignore[override]
        return self._sign_against(other) == 0.0

    def __ne__(self, other: object) -> NDArray[np.bool_]:  # type: ignore[override]
        return self._sign_against(other) != 0.0

    def root(self) -> Pairs:
        """Square roots, 0 for 0."""
        guess = np.sqrt(self.high)
        safe = Pairs(np.where(guess > 0.0, guess, 1.0))
        found = safe + (self - safe * safe) / (safe + safe)
        return Pairs(np.where(guess > 0.0, found.high, 0.0), np.where(guess > 0.0, found.low, 0.0))

    def sum(self, axis: int | None = None, *, keepdims: bool = False) -> Pairs:
        """Sums along an axis, or of everything, by halves."""
        if axis is None:
            total = self.reshape(-1).sum(0)
            return total.reshape(*(1,) * self.high.ndim) if keepdims else total
        part = Pairs(np.moveaxis(self.high, axis, 0), np.moveaxis(self.low, axis, 0))
        if not len(part):
            part = Pairs(np.zeros((1, *part.shape[1:])))
        while len(part) > 1:
            half = len(part) // 2
            rest = part[2 * half :]
            part = part[:half] + part[half : 2 * half]
            if len(rest):
                part = Pairs(np.concatenate([part.high, rest.high]), np.concatenate([part.low, rest.low]))
        total = part[0]
        return Pairs(np.expand_dims(total.high, axis), np.expand_dims(total.low, axis)) if keepdims else total

    def mean(self, axis: int | None = None, *, keepdims: bool = False) -> Pairs:
        count = self.high.size if axis is None else self.shape[axis]
        return self.sum(axis, keepdims=keepdims) / float(count)

    def tril(self) -> Pairs:
        return Pairs(np.tril(self.high), np.tril(self.low))

    def diagonal(self) -> Pairs:
        return Pairs(np.diagonal(self.high), np.diagonal(self.low))

    def times_power(self, exponent: Any) -> Pairs:
        """Exactly, where nothing leaves the range."""
        return Pairs(np.ldexp(self.high, exponent), np.ldexp(self.low, exponent))

    def decimals(self) -> list[Decimal]:
        """The elements, exactly."""
        with localcontext() as context:
            context.prec = DIGITS
            return [
                Decimal(high) + Decimal(low)
                for high, low in zip(self.high.ravel().tolist(), self.low.ravel().tolist(), strict=True)
            ]


def _pairs(values: Any) -> Pairs:
    return values if isinstance(values, Pairs) else Pairs(values)


def stacked(rows: list[Pairs], axis: int = 0) -> Pairs:
    return Pairs(np.stack([row.high for row in rows], axis), np.stack([row.low for row in rows], axis))


def product(a: Pairs, b: Pairs) -> Pairs:
    """Matrix product of (m, p) and (p, n)."""
    if a.shape[0] > b.shape[1]:
        return product(b.T, a.T).T
    total = Pairs(np.zeros((a.shape[0], b.shape[1])))
    for one, other in ((a.high, b.low), (a.low, b.high)):
        if one.any() and other.any():
            total = total + one @ other
    bits = (53 - math.ceil(math.log2(max(a.shape[1], 2)))) // 2
    left = _slices(a.high, bits, axis=1)
    for j, other in enumerate(_slices(b.high, bits, axis=0)):
        # All at once: each large factor is read once.
        used = left[: max(SLICED_BITS // bits - j, 0)]
        with one_blas_thread():  # which would wait for each other longer than they work
            parts = np.split(np.concatenate(used) @ other, len(used)) if used else []
        for part in parts:
            total = total + part
    return total


def _slices(matrix: FloatArray, bits: int, *, axis: int) -> list[FloatArray]:
    """Matrices of `bits` significant bits that add up to one, aligned along an axis."""
    rest, found = matrix.copy(), []
    while rest.any() and len(found) * bits < SLICED_BITS:
        peak = np.abs(rest).max(axis=axis, keepdims=True)
        _, exponent = np.frexp(peak)
        grid = np.ldexp(0.75, exponent + 53 - bits + 1)
        head = (rest + grid) - grid
        rest = rest - head
        found.append(head)
    return found
