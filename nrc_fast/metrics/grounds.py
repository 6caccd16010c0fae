"""What a bound rests on, and so whether it is certain: one word for each assumption, and one for a whole bound."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal, TypeAlias

__all__ = [
    "ALONG_ROWS",
    "DECOMPOSITION",
    "FIRST_ORDER",
    "FLOAT64_SUMS",
    "GROUNDS",
    "ITERATION",
    "KINDS",
    "BoundKind",
    "Grounds",
    "grounds_of_components",
    "grounds_of_sums",
    "kind_of",
]

BoundKind: TypeAlias = Literal["certified", "probable", "assumed", "statistical"]
# What a bound rests on beyond IEEE arithmetic, by names of `GROUNDS`.
Grounds: TypeAlias = frozenset[str]

# From the surest on; a bound is as sure as the least sure of what it rests on.
KINDS: dict[BoundKind, str] = {
    "certified": "every rounding is counted at its worst",
    "probable": "holds but for less than 1e-8, if roundings are independent of one another and LAPACK's are as ever",
    "assumed": "holds if a card's tensor cores round as they are taken to",
    "statistical": "two standard deviations of a number that is estimated by drawing",
}
GROUNDS: dict[str, tuple[BoundKind, str]] = {
    "float64 sums": ("probable", "roundings of float64 sums over rows grow like the root of their number"),
    "float32 blocks": ("probable", "so do those of float32 products within a block of rows"),
    "tensor cores": ("assumed", "sums of products on tensor cores are cut as the cards that cut most do it"),
    "products along rows": ("probable", "roundings of dot products grow like the root of their length"),
    "decomposition": ("probable", "LAPACK's roundings grow like the root of the size of a matrix"),
    "iteration": ("probable", "block Krylov iteration from a start with all directions has missed none"),
    "first order": (
        "probable",
        "higher orders of errors of moments and components are left out where these are small",
    ),
    "drawn heads": ("statistical", "the heads that were drawn stand for all"),
}
FLOAT64_SUMS: Grounds = frozenset({"float64 sums"})
ALONG_ROWS: Grounds = frozenset({"products along rows"})
DECOMPOSITION: Grounds = frozenset({"decomposition"})
ITERATION: Grounds = frozenset({"iteration"})
FIRST_ORDER: Grounds = frozenset({"first order"})
# How kernels multiply, in words of `passes.moments`.
OF_SUMS = {
    "double": FLOAT64_SUMS,
    "single": FLOAT64_SUMS | {"float32 blocks"},
    "device": FLOAT64_SUMS | {"tensor cores"},
    "fast": FLOAT64_SUMS | {"tensor cores"},
}


def kind_of(grounds: Iterable[str]) -> BoundKind:
    """How sure a bound is that rests on these; what a later version may name counts as assumed.

    Examples
    --------
    >>> kind_of([]), kind_of(["float64 sums", "tensor cores"]), kind_of(["float64 sums"])
    ('certified', 'assumed', 'probable')
    """
    order = list(KINDS)
    kinds: list[BoundKind] = [GROUNDS[ground][0] if ground in GROUNDS else "assumed" for ground in grounds]
    return max(kinds, key=order.index, default=order[0])


def grounds_of_sums(kinds: Iterable[str]) -> Grounds:
    """What sums of products of these kinds rest on.

    Examples
    --------
    >>> sorted(grounds_of_sums(["double", "single"]))
    ['float32 blocks', 'float64 sums']
    """
    found: Grounds = frozenset()
    return found.union(*(OF_SUMS[kind] for kind in kinds))


def grounds_of_components(*, is_whole: bool) -> Grounds:
    """What it rests on that components are the leading ones: whether all of them were found, or these alone.

    Examples
    --------
    >>> sorted(grounds_of_components(is_whole=True)), sorted(grounds_of_components(is_whole=False))
    (['decomposition'], ['iteration'])
    """
    return DECOMPOSITION if is_whole else ITERATION
