"""Text that somebody else has chosen, such as names of files, for terminals and plots."""

from __future__ import annotations

__all__ = ["printable"]


def printable(text: object, keep: str = "") -> str:
    r"""A text in which what is no visible character stands as its escape: no name moves a cursor or forges a line.

    Parameters
    ----------
    text : object
    keep : str
        Characters that stay, such as the newlines of a report.

    Examples
    --------
    >>> print(printable("h\x1b[2J\n.npy"))
    h\x1b[2J\n.npy
    """
    return "".join(
        character if character.isprintable() or character in keep else character.encode("unicode_escape").decode()
        for character in str(text)
    )
