"""What NRC1 to NRC3 of features say: collapsed to the span of W, to an affine plane, on the way, or not at all."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

from nrc_fast.reports.affine import is_affine
from nrc_fast.reports.verdicts.balances import BalanceKnown, certain_balance
from nrc_fast.reports.verdicts.heads import HeadNumbers, head_verdict
from nrc_fast.reports.verdicts.levels import COLLAPSED, NEAR, UNFITTED, Known, first_that_holds, percent_inside

__all__ = ["ABOUT_MEAN", "ABOUT_ORIGIN", "FeatureNumbers", "features_verdict", "level_of_features", "sentences_on_head"]

# Of what features without any preferred direction leave outside n of d dimensions, from which on nothing is structured.
FEATURELESS = 0.9
UNKNOWN = Known(math.nan)
# Conventions about the origin and about the mean, by how well they can be compared with a level.
ABOUT_ORIGIN = ("nrc24", "uncentered", "raw")
ABOUT_MEAN = ("id25", "variance")


@dataclass(frozen=True)
class FeatureNumbers:
    """What a verdict on features looks at.

    Attributes
    ----------
    samples, d : int
        0 where they are not known.
    n : int
    nrc1, nrc2 : mapping of str to Known
        By convention; those under ``raw`` relative to the energy of the rows.
    energy_outside : float
        Share of the energy of the rows, that of their mean included, outside the plane of the first n components.
    nrc3 : Known
    nrc3_untrained : float
        NRC3 that half of the W of independent Gaussian numbers are below.
    r2 : Known
    has_weights, has_targets, has_bias : bool
    nrc3_quantile : Known
        Share of such W with a smaller NRC3.
    gamma_share : Known
        The best gamma over the smallest eigenvalue of the covariance of the targets.
    balance : BalanceKnown or None
    """

    samples: int
    d: int
    n: int
    nrc1: Mapping[str, Known]
    nrc2: Mapping[str, Known] = field(default_factory=dict)
    energy_outside: float = math.nan
    nrc3: Known = UNKNOWN
    nrc3_untrained: float = math.nan
    r2: Known = UNKNOWN
    has_weights: bool = False
    has_targets: bool = False
    has_bias: bool = True
    nrc3_quantile: Known = UNKNOWN
    gamma_share: Known = UNKNOWN
    balance: BalanceKnown | None = None

    def of(self, conventions: tuple[str, ...]) -> tuple[str, Known, Known]:
        """The first convention that is known of some, with its NRC1 and NRC2."""
        for name in conventions:
            nrc1 = self.nrc1.get(name, UNKNOWN)
            if not nrc1.is_nan:
                return name, nrc1, self.nrc2.get(name, UNKNOWN)
        return conventions[0], UNKNOWN, UNKNOWN

    @property
    def variance_outside(self) -> Known:
        """Share of the variance outside the first n components."""
        return self.nrc1.get("variance", UNKNOWN)

    @property
    def is_trivial(self) -> bool:
        """Whether nothing lies outside n components, whatever the features are."""
        return 0 < self.d <= self.n or 0 < self.samples <= self.n

    @property
    def is_in_affine_plane(self) -> bool:
        """Whether most of the variance is in an affine plane that does not hold the origin."""
        return self.variance_outside.is_below(NEAR) and is_affine(self.energy_outside, self.variance_outside.value)


def features_verdict(numbers: FeatureNumbers) -> tuple[str, ...]:
    """A few sentences: how far the features are collapsed, what NRC3 and the balance say, what to look at next.

    The rules, in their order:

    - Features that do not vary, and sizes for which NRC1 is 0 whatever they are, have no collapse to be found.
    - Below 1e-3 of each row outside (`nrc_fast.reports.verdicts.levels.COLLAPSED`), bounds included: collapsed, to
      the span of W if NRC2 is below it too.
    - Less than 0.05 of the variance (``NEAR``) outside an affine plane, by `nrc_fast.reports.affine.is_affine`: near
      it, and collapsed to it where NRC1 about the mean is below 1e-3; NRC2 about the mean tells whether it is parallel
      to the span of W.
    - A bound that reaches over a level leaves it open.
    - Below 0.05 (``NEAR``) of the rows or of their variance: on the way. From there on: not collapsed.

    Of the balance of the head a sentence stands there where it is certain, see
    `nrc_fast.reports.verdicts.balances.certain_balance`.

    Parameters
    ----------
    numbers : FeatureNumbers

    Returns
    -------
    tuple of str

    Examples
    --------
    >>> numbers = FeatureNumbers(
    ...     1000, 64, 2, {"nrc24": Known(2e-6, 1e-12)}, {"nrc24": Known(3e-6, 1e-12)}, nrc3=Known(0.4),
    ...     nrc3_untrained=0.3, has_weights=True, has_targets=True
    ... )
    >>> for sentence in features_verdict(numbers):
    ...     print(sentence)
    Collapsed: the features lie in the span of W (NRC1 2e-06, NRC2 3e-06 under nrc24).
    W W^T does not have the shape that the UFM predicts: NRC3 is 0.4, and that of an untrained W would be about 0.3.
    """
    on_head = sentences_on_head(numbers)
    return tuple(filter(None, (level_of_features(numbers), *on_head, _next_sentence(numbers))))


def level_of_features(numbers: FeatureNumbers) -> str:
    """The first sentence of a verdict: how far the features are collapsed, and to what."""
    name, nrc1, nrc2 = numbers.of(ABOUT_ORIGIN)
    if nrc1.is_nan:
        name, nrc1, nrc2 = numbers.of(ABOUT_MEAN)
    if nrc1.is_nan or numbers.is_trivial:
        return _trivial(numbers)
    if nrc1.is_below(COLLAPSED):
        return _collapsed(numbers, name, nrc1, nrc2)
    if numbers.is_in_affine_plane and not nrc2.is_below(COLLAPSED):
        return _affine(numbers, name, nrc1)
    in_span = (
        f"Collapsed to the span of W (NRC2 {nrc2} under {name}), and yet not to the first {numbers.n} components (NRC1 "
        f"{nrc1}): along some direction of W the features have a mean and hardly any variance."
    )
    unknown = (
        f"It cannot be told whether the features are collapsed: NRC1 under {name} is {nrc1} and its bound "
        f"{nrc1.bound:.1e}, where collapse begins below {COLLAPSED:g}."
    )
    rules = [(nrc2.is_below(COLLAPSED), in_span), (not nrc1.is_above(COLLAPSED), unknown)]
    return first_that_holds(rules) or _outside(numbers, name, nrc1, nrc2)


def _trivial(numbers: FeatureNumbers) -> str:
    if numbers.of(ABOUT_ORIGIN)[1].is_nan and numbers.of(ABOUT_MEAN)[1].is_nan:
        return "Nothing can be said of collapse: NRC1 is not defined for these features."
    if 0 < numbers.d <= numbers.n:
        reason = f"no more features (d = {numbers.d}) than targets (n = {numbers.n})"
    else:
        reason = f"no more samples ({numbers.samples}) than targets (n = {numbers.n})"
    return f"NRC1 says nothing here: with {reason} it is 0 whatever the features are."


def _collapsed(numbers: FeatureNumbers, name: str, nrc1: Known, nrc2: Known) -> str:
    n = numbers.n
    plane = "a line" if n == 1 else f"{n} dimensions"
    if nrc2.is_below(COLLAPSED):
        return f"Collapsed: the features lie in the span of W (NRC1 {nrc1}, NRC2 {nrc2} under {name})."
    if not numbers.has_weights:
        return f"Collapsed to {plane} through the origin (NRC1 {nrc1} under {name})."
    if nrc2.is_nan:
        return f"Collapsed to {plane} through the origin (NRC1 {nrc1} under {name}); NRC2 is not defined for this W."
    if nrc2.is_above(COLLAPSED):
        inside = "near the span of W, not yet in it" if nrc2.is_below(NEAR) else "not the span of W"
        return f"Collapsed to {plane} (NRC1 {nrc1} under {name}), {inside} (NRC2 {nrc2})."
    return f"Collapsed to {plane} (NRC1 {nrc1} under {name}); whether to the span of W, the bound of NRC2 leaves open."


def _affine(numbers: FeatureNumbers, name: str, nrc1: Known) -> str:
    mean_name, about_mean, nrc2 = numbers.of(ABOUT_MEAN)
    verb = "Collapsed to" if about_mean.is_below(COLLAPSED) else "Near"
    plane = "line" if numbers.n == 1 else f"plane of {numbers.n} dimensions"
    if nrc2.is_nan:
        beside = ""
    elif nrc2.is_below(COLLAPSED):
        beside = f"; it is parallel to the span of W (NRC2 {nrc2})"
    else:
        beside = f"; its directions are not those of W (NRC2 {nrc2})" if nrc2.is_above(NEAR) else f"; NRC2 is {nrc2}"
    inside = percent_inside(numbers.variance_outside.value)
    return (
        f"{verb} an affine {plane} that does not hold the origin, rather than a subspace: it has "
        f"{inside} of the variance, and NRC1 is {about_mean} under {mean_name}, "
        f"about the mean, and {nrc1} under {name}, about the origin{beside}."
    )


def _outside(numbers: FeatureNumbers, name: str, nrc1: Known, nrc2: Known) -> str:
    known = f"NRC1 {nrc1}" if nrc2.is_nan else f"NRC1 {nrc1}, NRC2 {nrc2}"
    components = "component" if numbers.n == 1 else f"{numbers.n} components"
    variance = numbers.variance_outside
    inside = "" if variance.is_nan else f"{percent_inside(variance.value)} of the variance in the first {components}, "
    if nrc1.is_below(NEAR) or variance.is_below(NEAR):
        return f"On the way, not collapsed: {inside}{known} under {name}."
    featureless = 1.0 - numbers.n / numbers.d if numbers.d else math.nan
    if min(nrc1.value, nrc1.value if variance.is_nan else variance.value) > FEATURELESS * featureless:
        beside = f", about what features without any preferred direction have ({featureless:.2g})"
    else:
        beside = ""
    return f"Not collapsed: {inside}{known} under {name}{beside}."


def sentences_on_head(numbers: FeatureNumbers) -> tuple[str, ...]:
    """What NRC3 is worth, by the rules of `head_verdict`, and the balance; empty without weights or targets."""
    if not numbers.has_weights or not numbers.has_targets:
        return ()
    head = HeadNumbers(
        n=numbers.n,
        nrc3=numbers.nrc3,
        quantile=numbers.nrc3_quantile,
        untrained=numbers.nrc3_untrained,
        gamma_share=numbers.gamma_share,
        d=numbers.d,
        is_moving=numbers.balance is not None and numbers.balance.is_off,
    )
    return tuple(filter(None, (*head_verdict(head), certain_balance(numbers.balance, numbers.nrc3))))


def _next_sentence(numbers: FeatureNumbers) -> str:
    """What to look at next."""
    _, nrc1, nrc2 = numbers.of(ABOUT_ORIGIN)
    if nrc1.is_nan or numbers.is_trivial:
        return ""
    is_collapsed = nrc1.is_below(COLLAPSED) or nrc2.is_below(COLLAPSED)
    is_near = nrc1.is_below(NEAR) or numbers.variance_outside.is_below(NEAR)
    fit = f"Look at the fit first: R2 is {numbers.r2}, and collapse is a statement about networks that fit."
    conventions = "Quote NRC1 and NRC2 under id25 or variance too: an affine plane keeps them large under nrc24."
    bias = "Give b too, zeros for a head without one, for the training error and the balance of the head."
    compare = (
        "Compare with the start of the training (Monitor), and with more weight decay: without any, none collapse."
    )
    rules = [
        (numbers.r2.is_below(UNFITTED), fit),
        (not numbers.has_weights, "Give W for NRC2, and W, b and the targets for NRC3 and the training error."),
        (numbers.has_targets and not numbers.has_bias, bias),
        (is_collapsed and nrc2.is_above(NEAR), "See whether W is the layer that is given these features."),
        (is_collapsed and not numbers.has_targets, "Give the targets for NRC3."),
        (is_collapsed, ""),
        (numbers.is_in_affine_plane, conventions),
        (not nrc1.is_above(COLLAPSED), "Give the features as arrays or files, which are read again where that helps."),
        (is_near, "A Monitor tells whether it still falls as training goes on."),
        (True, compare),
    ]
    return first_that_holds(rules)
