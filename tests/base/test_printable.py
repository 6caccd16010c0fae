"""Names cannot do to a terminal what a program may."""

from __future__ import annotations

import pytest

from nrc_fast.base.printable import printable


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("\x1b]0;title\x07", "\\x1b]0;title\\x07"),
        ("a\nnrc-fast: all is well\r", "a\\nnrc-fast: all is well\\r"),
        ("\x9b2J\x7f", "\\x9b2J\\x7f"),
        ("\u202egnp.exe", "\\u202egnp.exe"),
        ("\udc80", "\\udc80"),
        ("Merkmale_ä_特徴 [h].npy", "Merkmale_ä_特徴 [h].npy"),
    ],
)
def test_what_is_no_visible_character_is_escaped(text: str, shown: str) -> None:
    assert printable(text) == shown


def test_newlines_of_reports_stay() -> None:
    assert printable("a\n\tb\x1b", keep="\n\t") == "a\n\tb\\x1b"
