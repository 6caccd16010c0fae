"""A place is taken in a notebook, and nowhere else."""

from __future__ import annotations

import sys
from types import SimpleNamespace
from typing import Any

import pytest

from nrc_fast.base.notebooks import open_place


def ipython(shell: Any, shown: list[Any]) -> dict[str, Any]:
    """As much of IPython as is called."""
    handle = SimpleNamespace(update=lambda content: shown.append(("update", content)))

    def display(content: Any, *, display_id: bool) -> Any:
        shown.append(("display", content, display_id))
        return handle

    return {
        "IPython": SimpleNamespace(get_ipython=lambda: shell),
        "IPython.display": SimpleNamespace(display=display),
    }


def test_a_place_in_a_notebook_is_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    shown: list[Any] = []
    for name, module in ipython(SimpleNamespace(kernel=object()), shown).items():
        monkeypatch.setitem(sys.modules, name, module)
    place = open_place("first")
    assert place is not None
    place.update("second")
    assert shown == [("display", "first", True), ("update", "second")]


@pytest.mark.parametrize("shell", [None, SimpleNamespace(), SimpleNamespace(kernel=None)])
def test_nothing_is_shown_elsewhere(monkeypatch: pytest.MonkeyPatch, shell: Any) -> None:
    """No shell, that of a terminal, and one whose kernel has not begun."""
    shown: list[Any] = []
    for name, module in ipython(shell, shown).items():
        monkeypatch.setitem(sys.modules, name, module)
    assert open_place("first") is None
    monkeypatch.delitem(sys.modules, "IPython")
    assert open_place("first") is None
    assert shown == []
