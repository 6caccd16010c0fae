"""The report of features with class labels: NC1 to NC4, each published variant under a name of its own."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from nrc_fast.base.cards import card
from nrc_fast.base.svg import spark_bars
from nrc_fast.metrics.classes import VARIANTS
from nrc_fast.reports.bound_kinds import BoundedResult, kinds_line
from nrc_fast.reports.fields import restored_bounds
from nrc_fast.reports.records import format_value
from nrc_fast.reports.verdicts.classes import classes_verdict

__all__ = ["ClassReport"]


@dataclass(frozen=True, eq=False, repr=False)
class ClassReport(BoundedResult):
    """NC1 to NC4, each variant under its own name; all of them but the accuracy are 0 when collapsed.

    The attributes are described in `nrc_fast.reports.VARIANTS`. What needs weights, or rows that are read again
    (``nc4`` and ``accuracy``), is NaN without them. ``bounds`` maps names to absolute bounds, of first order in the
    errors of the moments and infinite where these are too large for that; ``nc4`` and ``accuracy`` are counts and have
    none. ``bound_kinds`` says how sure each bound is, and ``bound_grounds`` what it rests on. ``skipped_rows`` were
    left out as not finite. ``notes`` says why a number that was asked for is NaN or infinite.
    """

    __module__ = "nrc_fast"
    _described = "report of classes"
    _may_be_missing = BoundedResult._may_be_missing | {"bounds", "skipped_rows", "notes"}

    samples: int
    d: int
    n_classes: int
    nc1: float
    nc1_sum: float
    nc1_ratio: float
    nc1_share: float
    nc1_total: float
    cdnv: float
    cdnv_unbiased: float
    nc2_equinorm: float
    nc2_equiangular: float
    nc2_log_norms: float
    nc2_cosines: float
    nc2_etf: float
    nc2_etf_weights: float = math.nan
    nc3: float = math.nan
    nc3_squared: float = math.nan
    nc3_etf: float = math.nan
    bias_offset: float = math.nan
    nc4: float = math.nan
    accuracy: float = math.nan
    skipped_rows: int = 0
    bounds: Mapping[str, float] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    bound_grounds: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    @classmethod
    def _restorers(cls) -> dict[str, Callable[[Any], Any]]:
        return {"bounds": restored_bounds}

    @property
    def verdict(self) -> tuple[str, ...]:
        """What the numbers say, in two or three sentences by fixed rules on them and their bounds.

        Whether the classes are collapsed to their means, the shape of these, and what to look at next. The rules are
        those of `nrc_fast.reports.verdicts.classes.classes_verdict`.
        """
        return classes_verdict(vars(self), self.bounds, samples=self.samples, d=self.d, n_classes=self.n_classes)

    def __repr__(self) -> str:
        size = f"{self.samples:,} samples of {self.n_classes} classes, d = {self.d}"
        names = ("nc1_share", "nc2_etf", "nc3", "nc4")
        return f"<ClassReport of {size}: {', '.join(f'{name} {getattr(self, name):.3g}' for name in names)}>"

    def _repr_html_(self) -> str:
        known = [name for name in VARIANTS if not math.isnan(getattr(self, name))]
        rows = [
            (name, format_value(getattr(self, name), self.bounds.get(name), digits=4), VARIANTS[name].partition(":")[0])
            for name in known
        ]
        distances = [name for name in ("nc1_share", "nc2_etf", "nc3_etf", "nc4") if name in known]
        bars = spark_bars(
            [getattr(self, name) for name in distances], f"{', '.join(distances)}: 0 when collapsed", range(4)
        )
        title = f"classes: {self.samples:,} samples of {self.n_classes} classes, d = {self.d}"
        return card(title, self.verdict, [(", ".join(distances), bars), *rows], notes=self.notes)

    def __str__(self) -> str:
        skipped = f", {self.skipped_rows:,} rows skipped as not finite" if self.skipped_rows else ""
        lines = [f"{self.samples:,} samples of {self.n_classes} classes, d = {self.d}{skipped}", "", *self.verdict, ""]
        lines += [
            f"  {name:<16}{format_value(getattr(self, name), self.bounds.get(name)):<24}{about}"
            for name, about in VARIANTS.items()
            if not math.isnan(getattr(self, name))
        ]
        lines += [f"note: {note}" for note in self.notes]
        lines += filter(None, [kinds_line(self.bound_kinds)])
        return "\n".join(lines)
