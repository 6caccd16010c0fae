"""What NRC3 of a head is worth: how many random heads do as well, and what the gamma says that is best for it."""

from __future__ import annotations

import math
from dataclasses import dataclass

from nrc_fast.reports.verdicts.levels import RARE, SHAPED, Known, first_that_holds

__all__ = ["HeadNumbers", "head_sentences"]

UNKNOWN = Known(math.nan)
# How much of [0, 1] a bound of gamma over lambda_min may leave open where gamma is said to lie at an end.
CLOSE = 0.05


@dataclass(frozen=True)
class HeadNumbers:
    """What a verdict on a head looks at.

    Attributes
    ----------
    n : int
    nrc3 : Known
        For its best gamma.
    quantile : Known
        Share of random heads with a smaller NRC3.
    untrained : float
        NRC3 that half of the random heads are below.
    gamma_share : Known
        That gamma over the smallest eigenvalue of the covariance of the targets.
    """

    n: int
    nrc3: Known
    quantile: Known = UNKNOWN
    untrained: float = math.nan
    gamma_share: Known = UNKNOWN


def head_sentences(numbers: HeadNumbers) -> str:
    """What this NRC3 is worth, in one to three sentences by fixed rules.

    - Below 0.01 (`nrc_fast.reports.verdicts.levels.SHAPED`), its bound included, W W^T has the predicted shape.
    - It is worth something where less than 5 percent (`RARE`) of random heads do as well.
    - A gamma at an end of [0, lambda_min] says how weight decay stands to the variance of the targets; between them,
      and with two targets, gamma has fitted the ratio of the eigenvalues of W W^T.

    Examples
    --------
    >>> print(head_sentences(HeadNumbers(3, Known(0.4), Known(0.83, 0.01), 0.3, Known(0.0))))
    W W^T does not have the shape that the UFM predicts: NRC3 is 0.4, and 83% of random heads do as well. It is smallest
    at gamma = 0: weight decay, if there is any, is weak beside the variance of the targets.
    """
    shape = _shape(numbers)
    is_known = not numbers.nrc3.is_nan and numbers.n > 1
    return " ".join(filter(None, (shape, _gamma(numbers) if is_known else "")))


def _shape(numbers: HeadNumbers) -> str:
    nrc3 = numbers.nrc3
    is_rare, worth = numbers.quantile.is_below(RARE), _worth(numbers)
    shape = f"the shape that the UFM predicts: NRC3 is {nrc3}{worth}."
    chance = f"NRC3 {nrc3} says little of the training: {share_of_heads(numbers.quantile)} do as well."
    little = f"NRC3 {nrc3} says little: an untrained W would have about {numbers.untrained:.2g}."
    is_chance = not numbers.quantile.is_nan and not is_rare
    is_typical = numbers.quantile.is_nan and numbers.untrained < SHAPED
    rules = [
        (numbers.n == 1, "NRC3 is not defined for one target: W W^T is a number and has no shape."),
        (nrc3.is_nan, "NRC3 is not defined here: W, or the covariance of the targets, has no shape."),
        (is_chance and not nrc3.is_above(SHAPED), chance),
        (is_typical and not nrc3.is_above(SHAPED), little),
        (nrc3.is_below(SHAPED), f"W W^T has {shape}"),
        (nrc3.is_above(SHAPED), f"W W^T does not have {shape}"),
        (True, f"Whether W W^T has the shape that the UFM predicts, the bound of NRC3 leaves open: it is {nrc3}."),
    ]
    return first_that_holds(rules)


def _worth(numbers: HeadNumbers) -> str:
    """What stands behind the value of NRC3."""
    untrained = (
        "" if math.isnan(numbers.untrained) else f"that of an untrained W would be about {numbers.untrained:.2g}"
    )
    if numbers.quantile.is_nan:
        return f", and {untrained}" if untrained else ""
    heads = share_of_heads(numbers.quantile)
    if not numbers.quantile.is_below(RARE):
        return f", and {heads} do as well"
    return f", which {heads} reach, and {untrained}" if untrained else f", which {heads} reach"


def share_of_heads(quantile: Known) -> str:
    """How many random heads do as well, in words.

    Examples
    --------
    >>> share_of_heads(Known(0.0, 4e-4)), share_of_heads(Known(0.437, 0.01)), share_of_heads(Known(1.0, 4e-4))
    ('at most 0.04% of random heads', '44% of random heads', 'more than 99% of random heads')
    """
    if quantile.bound > 0.0 and quantile.value <= quantile.bound:
        return f"at most {100.0 * (quantile.value + quantile.bound):.1g}% of random heads"
    if quantile.value > 0.99:
        return "more than 99% of random heads"
    return f"{100.0 * quantile.value:.2g}% of random heads"


def _gamma(numbers: HeadNumbers) -> str:
    share = numbers.gamma_share
    is_close = share.bound < CLOSE
    at_zero = "It is smallest at gamma = 0: weight decay, if there is any, is weak beside the variance of the targets."
    at_end = (
        "It is smallest at gamma = lambda_min: under weight decay a direction of targets is about to drop out of W."
    )
    inside = "With two targets and such a gamma, NRC3 is how far the eigenvectors are turned, and no more."
    is_inside = share.is_above(0.0) and share.value > share.bound and share.is_below(1.0)
    rules = [
        (share.is_nan, ""),
        (share.value == 0.0 and is_close, at_zero),
        (share.value == 1.0 and is_close, at_end),
        (numbers.n == 2 and is_inside, inside),
    ]
    return first_that_holds(rules)
