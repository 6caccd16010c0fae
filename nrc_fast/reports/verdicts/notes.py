"""Notes that say again what a verdict has said: they are kept, and not shown beside it."""

from __future__ import annotations

from collections.abc import Iterable

__all__ = ["notes_beside"]

# What a note has in it, and what the verdict that says the same has.
SAID = (
    ("lie near an affine plane", "that does not hold the origin"),
    ("implies a negative weight decay", "the weight decay that would hold W is negative"),
    ("One target:", "NRC3 is not defined for one target"),
    ("One output:", "NRC3 is not defined for one target"),
    ("There are more outputs", "NRC1 says nothing here: with no more features"),
)


def notes_beside(verdict: Iterable[str], notes: Iterable[str]) -> tuple[str, ...]:
    """The notes of a result but for those whose matter a sentence of its verdict has.

    Examples
    --------
    >>> notes = ("One target: W W^T and Sigma are numbers without a shape, and NRC3 and gamma are NaN.", "Read once.")
    >>> notes_beside(("NRC3 is not defined for one target: W W^T is a number and has no shape.",), notes)
    ('Read once.',)
    """
    told = " ".join(verdict)
    return tuple(note for note in notes if not any(part in note and words in told for part, words in SAID))
