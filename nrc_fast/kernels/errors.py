"""Errors of rows: values that are not finite, rows that their file does not give."""

from __future__ import annotations

import os

__all__ = ["NonFiniteRowsError", "UnreadableRowsError", "too_large", "unreadable"]


class NonFiniteRowsError(ValueError):
    """An error for rows with NaN or infinite values, and the first of them.

    Parameters
    ----------
    name : str
        How messages call the features or targets.
    count : int
        How many rows are not finite.
    first : int
        Number of the first of them.
    rows : int
        How many rows there are.
    where : str, optional
        Where the first is, in words; its number if None.
    """

    def __init__(self, name: str, count: int, first: int, rows: int, where: str | None = None) -> None:
        super().__init__(
            f"{name}: {count} of {rows} rows hold NaN or infinite values, the first is {where or f'row {first}'}; "
            "mend them, or drop them with nonfinite='skip'"
        )
        self.name = name
        self.count = count
        self.first = first
        self.rows = rows

    def located(self, where: str) -> NonFiniteRowsError:
        """An error about these rows that says where the first is in the whole of the features."""
        return NonFiniteRowsError(self.name, self.count, self.first, self.rows, where)


class UnreadableRowsError(OSError):
    """An error for a row that its file does not give.

    Parameters
    ----------
    message : str
    reason : str
        What the system says.
    row : int
        Number of the row.
    """

    def __init__(self, message: str, reason: str, row: int) -> None:
        super().__init__(message)
        self.reason = reason
        self.row = row


def unreadable(name: str, row: int, error_number: int) -> UnreadableRowsError:
    """The error for a row that cannot be read; error number 0 means that the file ends before it."""
    reason = os.strerror(error_number) if error_number else "the file ends before it; was it truncated?"
    return UnreadableRowsError(f"row {row} of {name} cannot be read: {reason}", reason, row)


def too_large(name: str, where: str = "") -> ValueError:
    """The error for rows whose squares are no float64 numbers, saying where they are if that is not all of them."""
    place = f" in {where}" if where else ""
    return ValueError(
        f"{name} is so large{place} that squares leave the range of float64; divide it by a constant first"
    )
