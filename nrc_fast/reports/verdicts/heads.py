"""What NRC3 of a head is worth: how many random heads do as well, and what the gamma says that is best for it."""

from __future__ import annotations

import math
from dataclasses import dataclass

from nrc_fast.reports.verdicts.levels import NEAR, RARE, SHAPED, Known, first_that_holds

__all__ = ["HeadNumbers", "head_verdict", "share_of_heads"]

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
    d : int
        Number of features; 0 where it is not known.
    is_moving : bool
        Whether training is, for certain, not at rest, so that its gamma says nothing of a weight decay.
    draws : int
        How many random heads there are; 0 where it is not known.
    """

    n: int
    nrc3: Known
    quantile: Known = UNKNOWN
    untrained: float = math.nan
    gamma_share: Known = UNKNOWN
    d: int = 0
    is_moving: bool = False
    draws: int = 0

    @property
    def is_narrow(self) -> bool:
        """Whether fewer features than outputs keep W W^T from the shape, for certain."""
        return 0 < self.d < self.n and self.nrc3.is_above(SHAPED)


def head_verdict(numbers: HeadNumbers) -> tuple[str, ...]:
    """What this NRC3 is worth, in one or two sentences by fixed rules.

    - Below 0.01 (`nrc_fast.reports.verdicts.levels.SHAPED`), its bound included, W W^T has the predicted shape.
    - It is worth something where less than 5 percent (``RARE``) of random heads do as well, and says little where more
      do; between them, where few were drawn, stands what is known of their share. It is near that shape where it is
      worth something and below 0.05 (``NEAR``).
    - A gamma at an end of [0, lambda_min] says how weight decay stands to the variance of the targets, unless training
      is not at rest or the head is like random ones; between the ends, and with two targets, it has fitted the ratio
      of the eigenvalues of W W^T.

    Examples
    --------
    >>> for sentence in head_verdict(HeadNumbers(2, Known(0.4), Known(0.83, 0.01), 0.3, Known(0.2))):
    ...     print(sentence)
    W W^T does not have the shape that the UFM predicts: NRC3 is 0.4, and 83% of random heads do as well.
    Gamma has fitted the ratio of the two eigenvalues: NRC3 is how far the eigenvectors are turned, no more.
    """
    is_known = not numbers.nrc3.is_nan and numbers.n > 1 and not numbers.is_narrow
    return tuple(filter(None, (_shape(numbers), _gamma(numbers) if is_known else "")))


def _shape(numbers: HeadNumbers) -> str:
    nrc3 = numbers.nrc3
    shape = f"the shape that the UFM predicts: NRC3 is {nrc3}{_worth(numbers)}."
    chance = f"NRC3 {nrc3} says little of the training: {share_of_heads(numbers.quantile)} do as well."
    little = f"NRC3 {nrc3} says little: an untrained W would have about {numbers.untrained:.2g}."
    is_rare, is_chance = numbers.quantile.is_below(RARE), numbers.quantile.is_above(RARE)
    narrow = (
        f"W W^T does not have the shape that the UFM predicts from n = {numbers.n} features on: NRC3 is {nrc3}. Its "
        f"rank is at most {numbers.d}, so that NRC3 is 0 for no gamma below lambda_min. See "
        f"ufm.minimum(..., d={numbers.d}).gram."
    )
    is_typical = numbers.quantile.is_nan and numbers.untrained < SHAPED
    rules = [
        (numbers.n == 1, "NRC3 is not defined for one target: W W^T is a number and has no shape."),
        (nrc3.is_nan, "NRC3 is not defined here: W, or the covariance of the targets, has no shape."),
        (numbers.is_narrow, narrow),
        (is_chance and not nrc3.is_above(SHAPED), chance),
        (is_typical and not nrc3.is_above(SHAPED), little),
        (nrc3.is_below(SHAPED), f"W W^T has {shape}"),
        (nrc3.is_above(SHAPED) and nrc3.is_below(NEAR) and is_rare, f"W W^T is near {shape}"),
        (nrc3.is_above(SHAPED), f"W W^T does not have {shape}"),
        (True, f"Whether W W^T has the shape that the UFM predicts, the bound of NRC3 leaves open: it is {nrc3}."),
    ]
    return first_that_holds(rules)


def _worth(numbers: HeadNumbers) -> str:
    """What stands behind the value of NRC3."""
    if numbers.quantile.is_nan:
        typical = numbers.untrained
        return "" if math.isnan(typical) else f", and that of an untrained W would be about {typical:.2g}"
    heads = share_of_heads(numbers.quantile)
    if numbers.quantile.is_below(RARE):
        return f", which {heads} reach"
    if numbers.quantile.value == 0.0 and numbers.draws:
        return f", and none of the {numbers.draws} random heads does as well"
    return f", and {heads} do as well"


def share_of_heads(quantile: Known) -> str:
    """How many random heads do as well, in words, as far as the draws tell.

    Examples
    --------
    >>> share_of_heads(Known(0.0, 4e-4)), share_of_heads(Known(0.437, 0.01)), share_of_heads(Known(1.0, 4e-4))
    ('at most 0.04% of random heads', '44% of random heads', 'more than 99% of random heads')
    >>> share_of_heads(Known(0.0, 0.17)), share_of_heads(Known(1.0, 0.17))
    ('at most 17% of random heads', 'at least 83% of random heads')
    """
    if quantile.value <= quantile.bound:
        return f"at most {100.0 * min(quantile.value + quantile.bound, 1.0):.2g}% of random heads"
    if quantile.is_above(0.99):
        return "more than 99% of random heads"
    if quantile.value > 0.99:
        return f"at least {100.0 * (quantile.value - quantile.bound):.2g}% of random heads"
    return f"{100.0 * quantile.value:.2g}% of random heads"


def _gamma(numbers: HeadNumbers) -> str:
    share = numbers.gamma_share
    is_close = share.bound < CLOSE
    at_zero = (
        "NRC3 is smallest at gamma = 0: W W^T is no steeper than Sigma^(1/2), as under weight decay that is weak "
        "beside the variance of the targets, or behind a deep trunk."
    )
    at_end = "NRC3 is smallest at gamma = lambda_min: a direction of the targets is about to drop out of W, or has."
    inside = "Gamma has fitted the ratio of the two eigenvalues: NRC3 is how far the eigenvectors are turned, no more."
    is_telling = not numbers.is_moving and (numbers.quantile.is_nan or numbers.quantile.is_below(RARE))
    is_inside = share.is_above(0.0) and share.value > share.bound and share.is_below(1.0)
    rules = [
        (share.is_nan, ""),
        (share.value == 0.0 and is_close and is_telling, at_zero),
        (share.value == 1.0 and is_close and is_telling, at_end),
        (numbers.n == 2 and is_inside, inside),
    ]
    return first_that_holds(rules)
