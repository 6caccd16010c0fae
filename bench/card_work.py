"""A kernel of a card with its rows, what it must give, and whether it does."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from card import Card
from limits import Pass

__all__ = ["OUTPUTS", "Counts", "Work", "chunks", "column_norms", "dtype_of", "orthonormal", "positive", "row_counts"]

OUTPUTS = 3  # of targets and of linear models
# Rows of which a reference is in float64 at a time.
CHUNK = 65_536


@dataclass
class Counts:
    """What is counted of the rows, in memory of the card.

    Attributes
    ----------
    numbers : tensor
    begun : list of int
        Before the first call.
    added : list of int or None
        What every call adds to each number; None where that is not held against anything.
    """

    numbers: Any
    begun: list[int]
    added: Sequence[int | None]

    def are_right(self, calls: int) -> bool:
        """Whether so many calls have counted what they must."""
        found = zip(self.numbers.tolist(), self.begun, self.added, strict=True)
        return all(more is None or number == start + calls * more for number, start, more in found)


@dataclass
class Work:
    """A kernel with its rows.

    Attributes
    ----------
    call : callable
        Launches it.
    results : dict
        What it adds to, by name.
    exact : dict
        What one call adds, in float64, and what its error is relative to: two tensors that broadcast.
    counts : Counts or None
        Of zero rows and of rows that are not finite.
    passes : list of Pass
        What limits it.
    written : sequence of str
        Results that every call writes anew, and does not add to.
    kept : list
        Memory that the call reads.
    """

    call: Callable[[], None]
    results: dict[str, Any]
    exact: dict[str, tuple[Any, Any]]
    counts: Counts | None = None
    passes: list[Pass] = field(default_factory=list)
    written: Sequence[str] = ()
    kept: list[Any] = field(default_factory=list)

    def errors(self, calls: int) -> dict[str, float]:
        """The largest error of each result after so many calls; NaN where one holds NaN."""
        return {
            name: float(((self.results[name] / (1 if name in self.written else calls) - exact).abs() / scale).max())
            for name, (exact, scale) in self.exact.items()
        }

    def error(self, calls: int) -> float:
        """The largest of all; infinite where rows were miscounted."""
        found = [*self.errors(calls).values()]
        if self.counts is not None and not self.counts.are_right(calls):
            found.append(float("inf"))
        return max(found, key=lambda error: (math.isnan(error), error))


# ---- what works are made of ----


def dtype_of(H: Any) -> str:
    """The dtype of a tensor by its name."""
    return str(H.dtype).removeprefix("torch.")


def chunks(H: Any) -> Any:
    """The rows in float64, some at a time."""
    return (part.double() for part in H.split(CHUNK))


def row_counts(card: Card, H: Any) -> Counts:
    """Rows of zeros, rows that are not finite, and the first of these; all of H are finite."""
    begun = [0, 0, -1]
    return Counts(card.place_values(begun), begun, [int((H == 0).all(1).sum()), 0, 0])


def column_norms(gram: Any) -> Any:
    """Norms of columns from a Gram; 1 for those that are zero."""
    return positive(gram.diagonal().sqrt())


def positive(values: Any) -> Any:
    """Values to divide by: 1 in the place of zeros."""
    return values.where(values > 0, values.new_ones(()))


def orthonormal(card: Card, d: int, k: int, seed: int) -> Any:
    """Orthonormal rows of d numbers: k, or d where there are no more."""
    return card.torch.linalg.qr(card.random(d, min(k, d), "float64", seed))[0].T.contiguous()
