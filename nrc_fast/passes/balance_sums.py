"""Sums of the products of residuals and predictions, row by row: what the balance of a head is made of."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from nrc_fast.base.arrays import FloatArray
from nrc_fast.base.blas_threads import one_blas_thread
from nrc_fast.base.linalg import EPSILON, long_norm, scale_to_unit
from nrc_fast.kernels import calls
from nrc_fast.kernels.errors import NonFiniteRowsError, UnreadableRowsError, too_large
from nrc_fast.kernels.interface import PredictionRequest, Rows
from nrc_fast.kernels.results import PredictionSums
from nrc_fast.metrics.head_balances import times_power
from nrc_fast.metrics.rounding import addition_rounding, projection_rounding, square_sum_rounding
from nrc_fast.metrics.training_losses import SQUARED, TrainingLoss
from nrc_fast.passes.sums import OtherStateError, Sums
from nrc_fast.sources import Chunk

__all__ = ["BalanceSums", "LinearModel", "prediction_request", "wanted_balance"]

# Of so many outputs the kernels add up the products of the squared loss, as they read the rows.
MOST_OUTPUTS = 64
# Rows whose products are added up before they are added to others, where the loss is another.
BLOCK_ROWS = 512
# Outputs of rows that are looked at together: what comes of them in float64 takes some megabytes.
SLICE_OUTPUTS = 1 << 17
# Unit roundoff of float64.
UNIT = EPSILON / 2.0
# Of the powers of two that are normal numbers of float64.
SMALLEST_EXPONENT, LARGEST_EXPONENT = -1022, 1023


@dataclass(frozen=True)
class LinearModel:
    """A model ``W h + b`` of the targets.

    Attributes
    ----------
    weights : (n, d) float64 array
        W.
    bias : (n,) float64 array
        b.
    wants_balance : bool
        Whether its errors are wanted with their products with the predictions.
    """

    weights: FloatArray
    bias: FloatArray
    wants_balance: bool = False


def wanted_balance(model: LinearModel) -> BalanceSums | None:
    """Sums of the products of errors and predictions, none yet, where a model wants them."""
    return BalanceSums(model, SQUARED) if model.wants_balance else None


def prediction_request(model: LinearModel, balance: BalanceSums | None, targets: Rows) -> PredictionRequest:
    """What kernels are asked for that bring the errors of a model, and what a balance adds up with them."""
    return PredictionRequest(model.weights, model.bias, targets) if balance is None else balance.request(targets)


class BalanceSums(Sums):
    """``sum r (V h)^T`` with ``r = -dl/df`` at ``f = W h + b``, in float64, and how far it may be off.

    V is W scaled by a power of two, so that its squares neither overflow nor vanish: ``W = V 2^exponent``.

    Parameters
    ----------
    model : LinearModel
    loss : TrainingLoss

    Attributes
    ----------
    products : (n, n) float64 array
    exponent : int
    """

    sees_targets = True

    def __init__(self, model: LinearModel, loss: TrainingLoss) -> None:
        self.model = model
        self.loss = loss
        self._scaled, self.exponent = _scaled(model.weights)
        n = len(model.bias)
        self.products = np.zeros((n, n))
        self._sizes = np.zeros(2)  # bounds of the errors that blocks of rows add, and norms of their sums
        self._counts = np.zeros(2)  # of rows and of blocks

    @property
    def count(self) -> int:
        """Rows that were added."""
        return int(self._counts[0])

    @property
    def error(self) -> float:
        """Bound of the Frobenius norm of the error of `products`.

        It is probable: roundings of a row are taken to grow like the root of d, those of a sum over blocks like the
        root of their number.
        """
        of_blocks, size = (float(part) for part in self._sizes)
        return of_blocks + addition_rounding(float(self._counts[1])) * size

    def add_chunk(self, chunk: Chunk) -> None:
        """Add the rows of a chunk; when it raises, nothing was added.

        Raises
        ------
        NonFiniteRowsError
            A row, of the features or of the targets, is not finite.
        ValueError
            Targets are none of the loss, or squares leave the range of float64.
        """
        features, targets = chunk.features, chunk.targets
        assert targets is not None
        if self.loss is SQUARED and len(self.products) <= MOST_OUTPUTS:
            _, found = calls.residual_and_errors(features, [], self.request(targets))
            self.add_predictions(found, chunk)
            return
        products, sizes, counts = np.zeros_like(self.products), np.zeros(2), np.zeros(2)
        step = max(SLICE_OUTPUTS // len(self.products) // BLOCK_ROWS, 1) * BLOCK_ROWS
        for first in range(0, features.count, step):
            rows = first, min(first + step, features.count)
            try:
                with one_blas_thread():  # its own wait actively after each of the small products
                    part = self._of_rows(features.part(*rows), targets.part(*rows))
            except NonFiniteRowsError:
                features.require_finite()
                targets.require_finite()
                raise
            except UnreadableRowsError as error:
                raise UnreadableRowsError(str(error), error.reason, first + error.row) from error
            products, sizes, counts = products + part[0], sizes + part[1], counts + part[2]
        self._add(products, sizes, counts)

    def request(self, targets: Rows) -> PredictionRequest:
        """What kernels are asked for that bring the products of the squared loss with the errors."""
        scale = math.ldexp(1.0, self.exponent)
        return PredictionRequest(self._scaled, self.model.bias, targets, scale=scale, wants_products=True)

    def add_predictions(self, found: PredictionSums, chunk: Chunk) -> None:
        """Add what the kernels have found in a chunk as asked; when it raises, nothing was added.

        Raises
        ------
        NonFiniteRowsError
            A row of the targets is not finite.
        ValueError
            Squares leave the range of float64.
        """
        assert found.products is not None
        count = chunk.features.count
        # What squares may have lost that are too small for float64.
        lost = math.ldexp(float(count * max(self._scaled.shape)), SMALLEST_EXPONENT - 52)
        if not math.isfinite(found.energy):
            raise too_large(chunk.features.name)
        if not np.isfinite(found.errors).all():
            assert chunk.targets is not None
            chunk.targets.require_finite()
        with np.errstate(over="ignore", invalid="ignore"):
            image, residual = math.sqrt(found.image_energy + lost), math.sqrt(float(np.sum(found.errors)) + lost)
            off = _along(self._scaled) * math.sqrt(found.energy + lost)
            outputs = times_power(image, self.exponent) + math.sqrt(count) * long_norm(self.model.bias)
            # The targets are the outputs and the residuals.
            turned = times_power(off, self.exponent) + UNIT * (3.0 * outputs + residual)
            rounding = turned * (image + off) + residual * off + square_sum_rounding(1) * residual * image
            sizes = np.array([rounding, residual * image])
        self._add(found.products, sizes, np.array([count, 1]))

    def _add(self, products: FloatArray, sizes: FloatArray, counts: FloatArray) -> None:
        if not (np.isfinite(products).all() and np.isfinite(sizes).all()):
            msg = "the products of residuals and predictions leave the range of float64; scale Y, W and b down first"
            raise ValueError(msg)
        self.products, self._sizes, self._counts = self.products + products, self._sizes + sizes, self._counts + counts

    def _of_rows(self, features: Rows, given: Rows) -> tuple[FloatArray, FloatArray, FloatArray]:
        """The products of some rows, their sizes and their counts."""
        bias = self.model.bias
        images, squares = calls.images(features, self._scaled)
        values = given.to_float64()
        if not np.isfinite(values).all():
            given.require_finite()
        with np.errstate(over="ignore", invalid="ignore"):
            targets, outputs = self.loss.targets(values, len(bias)), np.ldexp(images, self.exponent) + bias
            residuals = self.loss.residuals(outputs, targets)
            products, starts = np.zeros_like(self.products), range(0, len(images), BLOCK_ROWS)
            for first in starts:
                rows = slice(first, first + BLOCK_ROWS)
                products += residuals[rows].T @ images[rows]
            image, residual = long_norm(images), long_norm(residuals)
            off = _along(self._scaled) * math.sqrt(float(squares.sum()))
            turned = self._error_of_residuals(outputs, targets, residuals, off=off, squares=squares)
            rounding = turned * (image + off) + residual * off + addition_rounding(BLOCK_ROWS) * residual * image
            sizes = np.array([rounding, residual * image])
        return products, sizes, np.array([len(images), len(starts)])

    def _error_of_residuals(
        self, outputs: FloatArray, targets: FloatArray, residuals: FloatArray, *, off: float, squares: FloatArray
    ) -> float:
        """Bound of the norm of the error of the residuals of some rows, `off` that of the images of these rows."""
        loss = self.loss
        own = UNIT * loss.rounding * math.sqrt(outputs.size)
        if not math.isnan(loss.steepness):
            # The images, the sum with b, and the difference from y.
            moved = times_power(off, self.exponent) + UNIT * (2.0 * long_norm(outputs) + long_norm(targets))
            return loss.steepness * moved + own
        reach = np.ldexp(_along(self._scaled) * np.sqrt(squares), self.exponent)[:, np.newaxis]
        reach = reach + UNIT * (2.0 * np.abs(outputs) + np.abs(targets))
        ends = [np.abs(loss.residuals(outputs + side * reach, targets) - residuals) for side in (-1.0, 1.0)]
        return long_norm(np.maximum(*ends)) + own

    def arrays(self) -> dict[str, FloatArray]:
        """The state: everything that `restore` needs."""
        return {"balance": self.products, "balance sizes": self._sizes, "balance counts": self._counts}

    def restore(self, arrays: dict[str, FloatArray]) -> None:
        """Take over a state.

        Raises
        ------
        OtherStateError
            It knows nothing of these products.
        ValueError
            Something is missing, has another shape or is not finite.
        """
        if "balance" not in arrays:
            raise OtherStateError
        self.require_state(arrays)
        self.products, self._sizes, self._counts = (arrays[name] for name in self.arrays())


def _scaled(weights: FloatArray) -> tuple[FloatArray, int]:
    """V and the exponent with ``W = V 2^exponent``, so that this power is a float64 number without loss."""
    scaled, exponent = scale_to_unit(weights)
    left = exponent - min(max(exponent, SMALLEST_EXPONENT), LARGEST_EXPONENT)
    return np.ldexp(scaled, left), exponent - left


def _along(weights: FloatArray) -> float:
    """Rounding of ``W h``, in norm, relative to the norm of h."""
    rounding = projection_rounding(weights.shape[1], len(weights), double_precision=True, chunks=1)
    return rounding.along * float(np.linalg.norm(weights))
