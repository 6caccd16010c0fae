"""What is put into elements is text: it cannot become markup."""

from __future__ import annotations

import pytest

from nrc_fast.base.markup import Markup, element, joined

HOSTILE = "<script>alert('1')</script>\" & '"


@pytest.mark.parametrize(
    "made", [element("p", HOSTILE), element("img", alt=HOSTILE), element("p", element("b", HOSTILE)), joined(HOSTILE)]
)
def test_text_is_escaped_once(made: Markup) -> None:
    inside = made.partition(">")[2].rpartition("</p")[0] if made.startswith("<p") else made
    assert "<script" not in made
    assert "&lt;script&gt;alert(&#x27;1&#x27;)&lt;/script&gt;&quot; &amp; &#x27;" in made
    assert "&amp;lt;" not in inside


def test_elements_stay_elements() -> None:
    assert element("p", "a", element("b", 1), class_="x") == '<p class="x">a<b>1</b></p>'
    assert element("meta", http_equiv="X") == '<meta http-equiv="X">'
    assert joined(element("b", "x"), "<", between=" ") == "<b>x</b> &lt;"
