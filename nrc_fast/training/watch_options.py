"""What is asked for where layers are watched."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias, TypedDict

from nrc_fast.base.options import NonFinite, Precision
from nrc_fast.training.given_features import FeatureChoice
from nrc_fast.training.layer_rows import Positions

__all__ = ["Mode", "SumOptions", "WatchOptions"]

# The passes of layers that are counted, by the mode that the layer is in.
Mode: TypeAlias = Literal["any", "train", "eval"]


class SumOptions(TypedDict):
    """What the statistics of a layer are made with, see `nrc_fast.FeatureStatistics`."""

    unit_rows: bool
    precision: Precision
    nonfinite: NonFinite


@dataclass(frozen=True)
class WatchOptions:
    """What of a layer's passes is read, see `nrc_fast.watch`."""

    every: int
    max_rows: int | None
    positions: Positions | None
    mode: Mode
    features: FeatureChoice
    sums: SumOptions
