"""The report of features with class labels: NC1 to NC4, each published variant under a name of its own."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from nrc_fast.metrics.classes import VARIANTS
from nrc_fast.reports.records import NAN, format_value, without_nan

__all__ = ["ClassReport"]


@dataclass(frozen=True, eq=False)
class ClassReport:
    """NC1 to NC4, each variant under its own name; all of them but the accuracy are 0 when collapsed.

    The attributes are described in `VARIANTS`. What needs weights, or rows that are read again (``nc4`` and
    ``accuracy``), is NaN without them. ``bounds`` maps names to absolute bounds, of first order in the errors of the
    moments and infinite where these are too large for that; ``nc4`` and ``accuracy`` are counts and have none.
    """

    __module__ = "nrc_fast.reports"

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
    bounds: Mapping[str, float] = field(default_factory=dict)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> ClassReport:
        """A report from what `to_dict` gave or `to_json` wrote; null becomes NaN.

        Raises
        ------
        ValueError
            The mapping holds something else.
        """
        names = set(cls.__dataclass_fields__) - {"bounds"}
        if not names <= set(values):
            msg = f"the mapping holds no report of classes: {', '.join(sorted(names - set(values)))} are missing"
            raise ValueError(msg)
        bounds = {name: math.inf if value is None else value for name, value in values.get("bounds", {}).items()}
        restored: dict[str, Any] = {name: NAN if values[name] is None else values[name] for name in names}
        return cls(**restored, bounds=bounds)

    def to_dict(self) -> dict[str, Any]:
        """The numbers by name; NaN stays NaN."""
        return asdict(self)

    def to_json(self, path: str | Path | None = None) -> str:
        """The report as JSON text (NaN and infinite bounds become null), also written to `path` if one is given."""
        text = json.dumps(without_nan(self.to_dict()), indent=2)
        if path is not None:
            Path(path).write_text(text + "\n", encoding="utf-8")
        return text

    def __str__(self) -> str:
        lines = [f"{self.samples:,} samples of {self.n_classes} classes, d = {self.d}", ""]
        lines += [
            f"  {name:<16}{format_value(getattr(self, name), self.bounds.get(name)):<24}{about}"
            for name, about in VARIANTS.items()
            if not math.isnan(getattr(self, name))
        ]
        return "\n".join(lines)
