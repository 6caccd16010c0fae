"""Training losses of a network's outputs f: for each the residuals ``-dl/df``, that which pulls the outputs."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from numbers import Real
from typing import Literal, TypeAlias

import numpy as np

from nrc_fast.base.arrays import FloatArray

__all__ = ["FORMULAS", "SQUARED", "Residual", "TrainingLoss", "TrainingLossName", "sigmoid", "softmax", "training_loss"]

# What `head_balance` and `ufm.convex` know.
TrainingLossName: TypeAlias = Literal["squared", "huber", "absolute", "cross_entropy", "logistic"]
Residual: TypeAlias = Callable[[FloatArray, FloatArray], FloatArray]

# The loss of one sample, summed over its outputs.
FORMULAS: dict[str, str] = {
    "squared": "1/2 |f - y|^2",
    "huber": "1/2 (f - y)^2 up to delta, delta |f - y| - delta^2/2 beyond",
    "absolute": "|f - y|",
    "cross_entropy": "log sum exp f - y . f",
    "logistic": "log(1 + exp f) - y f",
}
# Roundings of an exponential and of the quotient that it goes into, in units of half an epsilon.
EXPONENTIAL_ROUNDING = 8.0
# How far the sum of probabilities may be from 1: of those in 16 bits it is.
PROBABILITY = 1e-2


@dataclass(frozen=True)
class TrainingLoss:
    """A loss of outputs f and targets y.

    Attributes
    ----------
    name : str
        Of a function that was given "function" and its own name, which may be that of a loss.
    function : callable
        ``-dl/df`` of f and y, all of them (rows, n).
    steepness : float
        How much farther apart two residuals can be than the f that they are of, or the y; NaN where that is not known,
        or where there is no limit.
    rounding : float
        Of a residual itself, for each output, in units of half an epsilon.
    """

    name: str
    function: Residual
    steepness: float
    rounding: float = 0.0

    def residuals(self, outputs: FloatArray, targets: FloatArray) -> FloatArray:
        """``-dl/df`` of each row, (rows, n).

        Raises
        ------
        TypeError
            A function that was given takes no arrays of numpy.
        ValueError
            A function that was given gives another shape, or numbers that are not finite.
        """
        try:
            found = np.asarray(self.function(outputs, targets), dtype=np.float64)
        except (TypeError, AttributeError) as error:
            msg = (
                f"loss {self.name} cannot be called on arrays of numpy ({error}); a function that gives -dl/df of "
                f"outputs and targets, float64 arrays of shape {outputs.shape}, is expected, not the loss"
            )
            raise TypeError(msg) from error
        if found.shape != outputs.shape or not np.isfinite(found).all():
            what = f"shape {found.shape}" if found.shape != outputs.shape else "numbers that are not finite"
            msg = f"loss {self.name} gives {what}; -dl/df of outputs of shape {outputs.shape} is expected"
            raise ValueError(msg)
        return found

    def targets(self, given: FloatArray, n: int) -> FloatArray:
        """Targets as the loss takes them, (rows, n): of the numbers of classes rows with a one.

        Parameters
        ----------
        given : (rows, n) or, for classes, (rows, 1) float64 array
        n : int
            Outputs of the network.

        Raises
        ------
        ValueError
            Numbers of classes are none of 0..n-1, probabilities do not add up to 1, or answers are not from 0 to 1.

        Examples
        --------
        >>> training_loss("cross_entropy").targets(np.array([[2.0], [0.0]]), 3).tolist()
        [[0.0, 0.0, 1.0], [1.0, 0.0, 0.0]]
        """
        if self.name == "logistic" and not ((given >= 0.0) & (given <= 1.0)).all():
            wrong = given[(given < 0.0) | (given > 1.0)][0]
            msg = (
                f"Y holds {wrong:g}; loss 'logistic' takes answers of 0 and 1, or their probabilities, one for each "
                "output: of answers -1 and 1 give (y + 1)/2"
            )
            raise ValueError(msg)
        if self.name != "cross_entropy":
            return given
        if given.shape[1] == n:
            if (given < 0.0).any() or (np.abs(given.sum(axis=1) - 1.0) > PROBABILITY).any():
                msg = "Y holds rows that are no probabilities; loss 'cross_entropy' takes these, or numbers of classes"
                raise ValueError(msg)
            return given
        numbers = given[:, 0]
        if not np.isin(numbers, np.arange(n)).all():
            msg = f"Y holds {numbers[~np.isin(numbers, np.arange(n))][0]:g}; classes 0 to {n - 1} are expected"
            raise ValueError(msg)
        chosen = np.zeros((len(given), n))
        chosen[np.arange(len(given)), numbers.astype(np.int64)] = 1.0
        return chosen


# What kernels know, too: a function of the name may be another.
SQUARED = TrainingLoss("squared", lambda f, y: y - f, 1.0)


def training_loss(loss: TrainingLossName | Residual, delta: float = 1.0) -> TrainingLoss:
    """A loss by its name, or one whose ``-dl/df`` is given.

    Parameters
    ----------
    loss : str or callable
    delta : float
        Where the Huber loss turns from a square to a line.

    Raises
    ------
    ValueError
        The name is unknown, or delta is not positive.
    TypeError
        It is neither a name nor callable, or delta is no number.

    Examples
    --------
    >>> f, y = np.array([[0.5, 4.0]]), np.array([[1.0, 1.0]])
    >>> training_loss("squared").residuals(f, y).tolist(), training_loss("huber").residuals(f, y).tolist()
    ([[0.5, -3.0]], [[0.5, -1.0]])
    """
    given: object = loss
    if not (isinstance(given, str) or callable(given)):
        msg = f"loss is a {type(given).__name__}; a name or a function that gives -dl/df of (f, y) is expected"
        raise TypeError(msg)
    if callable(loss):
        return TrainingLoss(f"function {getattr(loss, '__name__', type(loss).__name__)}", loss, math.nan)
    width: object = delta
    if not isinstance(width, Real):
        msg = f"delta is {delta!r}; a positive number is expected"
        raise TypeError(msg)
    if not (delta > 0.0 and math.isfinite(delta)):
        msg = f"delta is {delta!r}; a positive number is expected"
        raise ValueError(msg)
    losses = {
        "squared": SQUARED,
        "huber": TrainingLoss(loss, lambda f, y: np.clip(y - f, -delta, delta), 1.0),
        "absolute": TrainingLoss(loss, lambda f, y: np.sign(y - f), math.nan),
        "cross_entropy": TrainingLoss(loss, _of_classes, 1.0, EXPONENTIAL_ROUNDING),
        "logistic": TrainingLoss(loss, lambda f, y: y - sigmoid(f), 1.0, EXPONENTIAL_ROUNDING),
    }
    if loss not in losses:
        msg = f"loss is {loss!r}; {', '.join(map(repr, losses))} are known, or a function that gives -dl/df of (f, y)"
        raise ValueError(msg)
    return losses[loss]


def _of_classes(f: FloatArray, y: FloatArray) -> FloatArray:
    found: FloatArray = y - softmax(f) * y.sum(axis=1, keepdims=True)
    return found


def softmax(f: FloatArray) -> FloatArray:
    """Probabilities of logits, row by row."""
    powers = np.exp(f - f.max(axis=1, keepdims=True))
    return np.asarray(powers / powers.sum(axis=1, keepdims=True))


def sigmoid(f: FloatArray) -> FloatArray:
    """``1/(1 + exp(-f))``, without loss for large f of either sign."""
    power = np.exp(-np.abs(f))
    return np.where(f >= 0.0, 1.0, power) / (1.0 + power)
