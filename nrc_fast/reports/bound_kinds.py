"""How sure the bounds of a result are: what each rests on, and its kind, in one place of every report."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from nrc_fast.base.json_values import JSONValue
from nrc_fast.metrics.grounds import BoundKind, Grounds, kind_of
from nrc_fast.reports.records import StoredResult

__all__ = ["BoundedResult", "kinds_line", "sorted_grounds"]


def sorted_grounds(grounds: Mapping[str, Grounds]) -> dict[str, tuple[str, ...]]:
    """Grounds as results keep them.

    Examples
    --------
    >>> sorted_grounds({"mse": frozenset({"float64 sums", "decomposition"})})
    {'mse': ('decomposition', 'float64 sums')}
    """
    return {name: tuple(sorted(of_one)) for name, of_one in grounds.items()}


def kinds_line(kinds: Mapping[str, BoundKind]) -> str:
    """The line of a text that says which bounds are assumed, as those of rows on a card are; empty if none is.

    Examples
    --------
    >>> kinds_line({"nrc1": "assumed", "cka": "assumed", "mse": "probable"})
    'bounds of nrc1, cka rest on how tensor cores round (assumed); see bound_kinds'
    >>> kinds_line({"nrc1": "probable"})
    ''
    """
    assumed = [name for name, kind in kinds.items() if kind == "assumed"]
    return (
        f"bounds of {', '.join(assumed)} rest on how tensor cores round (assumed); see bound_kinds" if assumed else ""
    )


class BoundedResult(StoredResult):
    """A result that says of each of its bounds what it rests on."""

    _may_be_missing: ClassVar[frozenset[str]] = frozenset({"bound_grounds"})

    bound_grounds: Mapping[str, tuple[str, ...]]

    @property
    def bound_kinds(self) -> dict[str, BoundKind]:
        """How sure each bound is: "certified", "probable", "assumed" or "statistical".

        Certified bounds count every rounding at its worst. Probable ones hold but for less than 1e-8, if roundings are
        independent of one another; assumed ones rest on how tensor cores round; statistical ones are two standard
        deviations of what is drawn. `bound_grounds` says what each rests on, `nrc_fast.reports.GROUNDS` in a sentence.
        Empty for results of versions that did not say.
        """
        return {name: kind_of(grounds) for name, grounds in self.bound_grounds.items()}

    def to_dict(self) -> dict[str, JSONValue]:
        """The fields as plain numbers, lists and strings by their names, and the kinds of the bounds; NaN stays NaN."""
        return super().to_dict() | {"bound_kinds": dict(self.bound_kinds)}
