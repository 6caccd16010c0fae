"""Elements of HTML: whatever is put into one is escaped, unless it is an element itself."""

from __future__ import annotations

import html

from nrc_fast.base.printable import printable

__all__ = ["Markup", "element", "joined", "with_signs"]

# Elements without content.
VOID = ("img", "input", "meta")


class Markup(str):
    """Text that is HTML already; made by `element` and `joined` alone."""

    __slots__ = ()


def element(kind: str, *content: object, **attributes: str) -> Markup:
    """An element of HTML.

    Parameters
    ----------
    kind : str
        Its name, such as "td".
    content : objects
        What stands in it. All but `Markup` is escaped.
    attributes : str
        Their names end with an underscore where Python has a word of that name, and have underscores for dashes.

    Examples
    --------
    >>> element("p", "a < b & ", element("b", 1), class_="note")
    '<p class="note">a &lt; b &amp; <b>1</b></p>'
    """
    named = ((name.rstrip("_").replace("_", "-"), value) for name, value in attributes.items())
    opening = kind + "".join(f' {name}="{_escaped(value)}"' for name, value in named)
    if kind in VOID:
        return Markup(f"<{opening}>")
    return Markup(f"<{opening}>{joined(*content, between='')}</{kind}>")


def joined(*parts: object, between: str = "\n") -> Markup:
    """Parts one after the other. All but `Markup` is escaped.

    Examples
    --------
    >>> joined("<", element("b", "x"), between=" ")
    '&lt; <b>x</b>'
    """
    return Markup(between.join(part if isinstance(part, Markup) else _escaped(part) for part in parts))


def _escaped(text: object) -> str:
    """What is no visible character, as a browser may not show it either, stands as its escape."""
    return html.escape(printable(text, keep="\n"))


def with_signs(text: str) -> str:
    """A text with the signs that a terminal does not have in place of what stands for them there.

    Examples
    --------
    >>> with_signs("0.5  +- 1e-3"), with_signs("<= 1e-9") == with_signs("<=1e-9")
    ('0.5 ± 1e-3', True)
    """
    return text.replace("  +- ", " \u00b1 ").replace("<= ", "<=").replace("<=", "\u2264 ")
