"""What floors of the error show alike, with features that are free and of linear networks."""

from __future__ import annotations

from typing import Protocol

__all__ = ["HasFloors", "lines_of_others", "rows_of_others", "share_of_variance"]


class HasFloors(Protocol):
    """Floors beside that of one model for all outputs."""

    @property
    def single_task_floor(self) -> float:
        """Of one model for each output."""

    @property
    def standardized_floor(self) -> float:
        """Of standardised targets."""

    @property
    def whitened_floor(self) -> float:
        """Of whitened targets."""


def share_of_variance(value: float, total: float) -> str:
    """The share of a direction of the total variance; a dash where there is none.

    Examples
    --------
    >>> share_of_variance(1.0, 8.0), share_of_variance(0.0, 0.0)
    ('12.5%', '-')
    """
    return f"{value / total:.1%}" if total > 0.0 else "-"


def rows_of_others(floor: HasFloors, model: str) -> list[tuple[str, float]]:
    """The other floors with what they are, for a kind of model."""
    return [
        (f"one {model} for each output", floor.single_task_floor),
        ("trained on standardised targets, mapped back", floor.standardized_floor),
        ("trained on whitened targets, mapped back", floor.whitened_floor),
    ]


def lines_of_others(floor: HasFloors, model: str) -> list[str]:
    """The same as lines of text."""
    return [f"    {label:<46}{value:.6g}" for label, value in rows_of_others(floor, model)]
