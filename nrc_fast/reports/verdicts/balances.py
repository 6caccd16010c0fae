"""What the balance of a head says: held by weight decay, near that, or not at a stationary point."""

from __future__ import annotations

from dataclasses import dataclass, replace

from nrc_fast.metrics.head_balances import LARGEST
from nrc_fast.reports.verdicts.levels import NEAR, SHAPED, Known, first_that_holds

__all__ = ["BALANCED", "BalanceKnown", "certain_balance", "sentence_on_balance"]

# Distance below which W W^T has the shape of its balance: trainings that came to rest reach 1e-10 to 1e-4.
BALANCED = 1e-4
# Asymmetry from which on a training is not at a stationary point.
ASYMMETRIC = 0.1


@dataclass(frozen=True)
class BalanceKnown:
    """The numbers of the balance of a head, beside their bounds.

    Attributes
    ----------
    n : int
        Outputs.
    distance, decay, asymmetry : Known
    """

    n: int
    distance: Known
    decay: Known
    asymmetry: Known

    @property
    def is_balanced(self) -> bool:
        """Whether a weight decay holds W, for certain."""
        return self.n > 1 and self.decay.is_above(0.0) and self.distance.is_below(BALANCED)

    @property
    def is_single(self) -> bool:
        """Whether there is one output, of which a decay is all that a balance has, and that decay is positive."""
        return self.n == 1 and self.decay.is_above(0.0)

    @property
    def is_off(self) -> bool:
        """Whether no weight decay holds W, for certain."""
        is_negative = self.decay.value + self.decay.bound < 0.0
        return is_negative or self.asymmetry.is_above(ASYMMETRIC) or self.distance.is_above(SHAPED)


def sentence_on_balance(numbers: BalanceKnown) -> str:
    """One sentence; the first rule that holds: nothing known, negative decay, one output, off, balanced, on the way.

    Examples
    --------
    >>> print(sentence_on_balance(BalanceKnown(2, Known(1e-9), Known(0.0125), Known(1e-5))))
    In balance: a weight decay lambda_W of 0.013 holds the head as it is (distance 1e-09).
    """
    decay = numbers.decay
    distance, asymmetry = (replace(getattr(numbers, name), most=most) for name, most in LARGEST.items())
    shape = f"distance {distance}, asymmetry {asymmetry}"
    undefined = "The balance of the head is not defined: W, or the balance itself, is 0."
    away = "Not at a stationary point of this loss with weight decay on these samples, or trained without any:"
    negative = f"{away} the weight decay that would hold W is negative ({decay})."
    single = f"One output: the weight decay lambda_W that would hold W is {decay}; see whether the training has it."
    off = f"{away} the head is out of balance ({shape})."
    balanced = f"In balance: a weight decay lambda_W of {decay} holds the head as it is (distance {distance})."
    rules = [
        (decay.is_nan or (distance.is_nan and numbers.n > 1), undefined),
        (decay.value + decay.bound < 0.0, negative),
        (numbers.n == 1, single),
        (numbers.is_off, off),
        (numbers.is_balanced, balanced),
        (distance.is_above(BALANCED), f"Near its balance, not in it ({shape}); the implied lambda_W is {decay}."),
        (True, f"Whether the head is in balance its bound leaves open ({shape}); the implied lambda_W is {decay}."),
    ]
    return first_that_holds(rules)


def certain_balance(numbers: BalanceKnown | None, nrc3: Known) -> str:
    """What a verdict on features or a training says of the balance: one sentence where it is certain, else nothing.

    A head in balance whose NRC3 is not even near that of the shape which the UFM predicts is in balance all the same:
    it is not the training that has to go on.

    Examples
    --------
    >>> balance = BalanceKnown(2, Known(1e-9), Known(0.0125), Known(1e-5))
    >>> print(certain_balance(balance, Known(0.2)))
    In balance all the same: a weight decay lambda_W of 0.013 holds the head as it is (distance 1e-09).
    >>> certain_balance(BalanceKnown(2, Known(1e-3), Known(0.0125), Known(1e-5)), Known(0.2))
    ''
    """
    if numbers is None or not (numbers.is_balanced or numbers.is_off or numbers.is_single):
        return ""
    said = sentence_on_balance(numbers)
    is_other = numbers.is_balanced and nrc3.is_above(NEAR)
    return said.replace("In balance:", "In balance all the same:", 1) if is_other else said
