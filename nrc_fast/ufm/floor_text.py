"""What floors of the error show alike, with features that are free and of linear networks."""

from __future__ import annotations

from nrc_fast.base.arrays import FloatArray
from nrc_fast.ufm.common_floor import CommonFloor

__all__ = ["components_of", "lines_of_others", "rows_of_others", "share_of_variance"]

MOST_ENTRIES = 6  # of a direction that are printed


def share_of_variance(value: float, total: float) -> str:
    """The share of a direction of the total variance; a dash where there is none.

    Examples
    --------
    >>> share_of_variance(1.0, 8.0), share_of_variance(0.0, 0.0)
    ('12.5%', '-')
    """
    return f"{value / total:.1%}" if total > 0.0 else "-"


def components_of(direction: FloatArray) -> str:
    """The first components of a direction.

    Examples
    --------
    >>> import numpy as np
    >>> components_of(np.array([0.6, 0.8])), components_of(np.zeros(7))
    ('[0.600, 0.800]', '[0.000, 0.000, 0.000, 0.000, 0.000, 0.000, ...]')
    """
    entries = ", ".join(f"{entry:.3f}" for entry in direction[:MOST_ENTRIES])
    return f"[{entries}{', ...' if len(direction) > MOST_ENTRIES else ''}]"


def rows_of_others(floor: CommonFloor, model: str) -> list[tuple[str, float]]:
    """The other floors with what they are, for a kind of model."""
    return [
        (f"one {model} for each output", floor.single_task_floor),
        ("trained on standardised targets, mapped back", floor.standardized_floor),
        ("trained on whitened targets, mapped back", floor.whitened_floor),
    ]


def lines_of_others(floor: CommonFloor, model: str) -> list[str]:
    """The same as lines of text."""
    return [f"    {label:<46}{value:.6g}" for label, value in rows_of_others(floor, model)]
