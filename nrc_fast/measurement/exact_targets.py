"""Targets of rows that are held, in arithmetic of twice the digits: their covariance, and the errors of a model.

What is computed is rounded once, and its bounds count every rounding at its worst.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from nrc_fast.base.arrays import FloatArray
from nrc_fast.base.blas_threads import few_blas_threads
from nrc_fast.base.double_double import Pair, added, exactly, quotient, subtracted, two_sum
from nrc_fast.base.exact_products import UNIT_ROUNDOFF, column_means, gram, product
from nrc_fast.base.linalg import EPSILON, scale_to_unit
from nrc_fast.metrics.head_balances import BalanceMatrix
from nrc_fast.passes.balance_sums import LinearModel
from nrc_fast.passes.moments import Moments

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ["ExactErrors", "TargetCovariance", "exact_errors"]

# Relative error of one operation on pairs, with room for those of what is added to them.
OF_PAIRS = 2.0**-98
# Numbers of size 1 lose no more than this where they are scaled to the range of float64.
LEAST = 2.0**-1000


def rows_about_mean(rows: FloatArray) -> tuple[Pair, FloatArray]:
    """Rows less their mean, and a bound of what each column of them lacks alike, besides a share `OF_PAIRS`.

    Examples
    --------
    >>> rows_about_mean(np.array([[1e8 + 1.0], [1e8 - 1.0]]))[0].high.tolist()
    [[1.0], [-1.0]]
    """
    about = two_sum(rows, np.broadcast_to(-rows.mean(axis=0), rows.shape))
    means, of_means = column_means(about)
    return added(about, Pair(*(np.broadcast_to(-part, rows.shape) for part in means))), of_means


@dataclass(frozen=True, eq=False)
class TargetCovariance:
    """The covariance of targets, and how far it may be off.

    Attributes
    ----------
    matrix : (n, n) float64 array
        Sigma.
    error : float
        Bound of the Frobenius norm of its error.
    variance_error : float
        That of the error of its trace, as numpy adds it up.
    rest : (n, n) float64 array or None
        What rounding each entry to float64 has left; None for a matrix from float64 sums.
    long_error : float
        Bound of the Frobenius norm of the error of the matrix with the rest.
    """

    matrix: FloatArray
    error: float
    variance_error: float
    rest: FloatArray | None
    long_error: float

    @classmethod
    def known_to(cls, error: float, matrix: FloatArray) -> Self:
        """The one of float64 sums, or one that is given and has no error."""
        return cls(matrix, error, error, None, error)

    @classmethod
    def of_moments(cls, moments: Moments) -> Self:
        """The one that sums over rows tell: exact but for a rounding of each entry where they are pairs."""
        long, matrix, error = moments.long_targets, moments.target_covariance, moments.target_error
        if long is None:
            return cls.known_to(error, matrix)
        # The trace is less than that of the exact one by as much as each of its entries, and is rounded as it is added.
        n = len(matrix)
        of_trace = UNIT_ROUNDOFF * (n + 1.0) * float(np.trace(matrix)) + n**0.5 * long.covariance_error
        return cls(matrix, error, (1.0 + EPSILON) * of_trace, long.covariance.low, long.covariance_error)

    @classmethod
    def of_rows(cls, targets: FloatArray) -> Self:
        """The exact one, but for a rounding of each entry.

        Examples
        --------
        >>> found = TargetCovariance.of_rows(np.array([[1e8 + 1.0], [1e8 - 1.0]]))
        >>> found.matrix.item(), found.error < 1e-15
        (1.0, True)
        """
        scaled, exponent = scale_to_unit(targets)
        with few_blas_threads(scaled.shape[1]):
            centred, of_means = rows_about_mean(scaled)
            squares, off = gram(centred)
        count, n = scaled.shape
        sizes = np.sqrt(squares.high.diagonal())
        of_rows = of_means * count**0.5 + OF_PAIRS * sizes
        off = off + np.outer(sizes, of_rows) + np.outer(of_rows, sizes) + np.outer(of_rows, of_rows)
        sigma, rest = quotient(squares, float(count))
        unknown = off / count + OF_PAIRS * np.abs(sigma)
        error = UNIT_ROUNDOFF * (1.0 + EPSILON) * np.abs(sigma) + unknown
        of_trace = float(error.trace()) + n * UNIT_ROUNDOFF * float(sigma.trace())
        slack = 1.0 + n**2 * EPSILON  # of these bounds themselves
        norms = [slack * float(part) for part in (np.linalg.norm(error), of_trace, np.linalg.norm(unknown))]
        whole, of_trace, beyond = (float(np.ldexp(norm, 2 * exponent)) for norm in norms)
        matrix, rest = (np.ldexp(part, 2 * exponent) for part in (sigma, rest))
        return cls(matrix, whole, of_trace, rest, beyond)

    @property
    def long(self) -> Pair:
        """Sigma with what rounding has left, which is off by `long_error`."""
        return exactly(self.matrix) if self.rest is None else Pair(self.matrix, self.rest)

    @property
    def variance(self) -> float:
        """The trace."""
        return float(np.trace(self.matrix))


@dataclass(frozen=True, eq=False)
class ExactErrors:
    """What the errors of a model say.

    Attributes
    ----------
    mse, mse_error : float
        Mean of ``|W h + b - y|^2``, and the bound of its error.
    balance : BalanceMatrix
        ``(1/N) sum (y - W h - b)(W h)^T``.
    """

    mse: float
    mse_error: float
    balance: BalanceMatrix


def exact_errors(rows: FloatArray, targets: FloatArray, model: LinearModel) -> ExactErrors:
    """The errors of a model on rows and targets, and their products with its predictions.

    Parameters
    ----------
    rows, targets : (N, d) and (N, n) float64 arrays
        Exactly as they are stored.
    model : LinearModel

    Examples
    --------
    >>> model = LinearModel(np.array([[1.0, 1e-9]]), np.array([-1.0]))
    >>> found = exact_errors(np.array([[1.0, 1.0], [1.0, -1.0]]), np.zeros((2, 1)), model)
    >>> abs(found.mse - 1e-18) <= found.mse_error, found.mse_error < 1e-33
    (True, True)
    """
    (features, of_features), (weights, of_weights) = (scale_to_unit(part) for part in (rows, model.weights))
    (aims, of_targets), (bias, of_bias) = (scale_to_unit(part) for part in (targets, model.bias))
    exponent = max(of_features + of_weights, of_targets, of_bias)
    columns = np.ascontiguousarray(weights.T)
    count, n = targets.shape
    with few_blas_threads(max(rows.shape[1], n)):
        images, errors = product(exactly(features), exactly(columns))
        power = of_features + of_weights
        predictions = Pair(*(np.ldexp(part, power - exponent) for part in images))
        offset = np.broadcast_to(-np.ldexp(bias, of_bias - exponent), targets.shape)
        aimed = two_sum(np.ldexp(aims, of_targets - exponent), offset)
        residuals = subtracted(aimed, predictions)
        squares, of_squares = gram(residuals)
        crossed, of_crossed = product(Pair(*(np.ascontiguousarray(part.T) for part in residuals)), images)
    image, residual, whole = (float(np.linalg.norm(part)) for part in (images.high, residuals.high, aimed.high))
    of_images = float(np.linalg.norm(errors.of_rows @ errors.of_columns)) + OF_PAIRS * image
    # In the scale of the targets, where images may be too small for squares.
    prediction, of_predictions = (float(np.ldexp(part, power - exponent)) for part in (image, of_images))
    of_residuals = of_predictions + LEAST * (count * n) ** 0.5 + OF_PAIRS * (prediction + whole + residual)
    total = Pair(np.zeros(()), np.zeros(()))
    for high, low in zip(squares.high.diagonal(), squares.low.diagonal(), strict=True):
        total = added(total, Pair(np.asarray(high), np.asarray(low)))
    mse = float(quotient(total, float(count)).high)
    off = float(of_squares.trace()) + (2.0 * residual + of_residuals) * of_residuals
    mse_error = UNIT_ROUNDOFF * (1.0 + EPSILON) * mse + off / count
    balance = quotient(crossed, float(count)).high
    error = float(np.linalg.norm(of_crossed.of_rows @ of_crossed.of_columns)) / count
    error += (of_residuals * (image + of_images) + residual * of_images) / count
    error += UNIT_ROUNDOFF * (1.0 + EPSILON) * float(np.linalg.norm(balance))
    # A model that fits but for what rows, targets and predictions in float64 are rounded by has no balance that says
    # anything.
    sizes = float(np.ldexp(np.linalg.norm(features) * np.linalg.norm(weights), power - exponent))
    noise = EPSILON * (2.0 + rows.shape[1] ** 0.5) * (whole + sizes) * image / count
    if float(np.linalg.norm(balance)) <= noise:
        error = max(error, noise)
    slack = 1.0 + 4.0 * (count + n**2) * EPSILON  # of these bounds themselves
    return ExactErrors(
        mse=float(np.ldexp(mse, 2 * exponent)),
        mse_error=float(np.ldexp(mse_error * slack, 2 * exponent)),
        balance=BalanceMatrix(balance, error * slack, power + exponent),
    )
