"""Properties that are computed once, without a lock that a forked child would wait for."""

from __future__ import annotations

import os
import select
import signal
import threading
from pathlib import Path

import pytest

import nrc_fast
from nrc_fast.base.kept_values import cached_property

PACKAGE = Path(nrc_fast.__file__).parent


class Slow:
    """Whose value is computed while others look at those of other objects."""

    def __init__(self, *, waits: bool) -> None:
        self.waits = waits
        self.is_entered, self.may_go_on = threading.Event(), threading.Event()
        self.computed = 0

    @cached_property
    def value(self) -> int:
        """Three."""
        self.computed += 1
        self.is_entered.set()
        if self.waits:
            self.may_go_on.wait(30)
        return 3


def test_it_is_computed_once_for_each_object_and_a_property_to_all_who_ask() -> None:
    one, other = Slow(waits=False), Slow(waits=False)
    assert (one.value, one.value, one.computed, other.computed) == (3, 3, 1, 0)
    del one.value
    assert (one.value, one.computed) == (3, 2)
    assert Slow.value.__doc__ == "Three."
    assert isinstance(Slow.value, cached_property)


def test_an_error_is_not_kept() -> None:
    class Failing:
        @cached_property
        def value(self) -> float:
            return 1 / 0

    failing = Failing()
    for _ in range(2):
        with pytest.raises(ZeroDivisionError):
            _ = failing.value


def test_other_objects_do_not_wait() -> None:
    """The property of functools has one lock for a class up to Python 3.11."""
    slow = Slow(waits=True)
    thread = threading.Thread(target=lambda: slow.value)
    thread.start()
    slow.is_entered.wait(30)
    found: list[int] = []
    other = threading.Thread(target=lambda: found.append(Slow(waits=False).value), daemon=True)
    other.start()
    other.join(10)
    without_waiting = list(found)
    slow.may_go_on.set()
    thread.join()
    assert without_waiting == [3]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system cannot fork")
def test_a_child_that_is_forked_meanwhile_does_not_wait() -> None:
    slow = Slow(waits=True)
    thread = threading.Thread(target=lambda: slow.value)
    thread.start()
    slow.is_entered.wait(30)
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.write(writer, str(Slow(waits=False).value).encode())
        os._exit(0)
    has_answered = bool(select.select([reader], [], [], 20)[0])
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    slow.may_go_on.set()
    thread.join()
    assert has_answered
    assert os.read(reader, 10) == b"3"
    os.close(reader)
    os.close(writer)


def test_nothing_here_uses_the_one_with_a_lock() -> None:
    own = PACKAGE / "base" / "kept_values.py"
    texts = {path: path.read_text() for path in PACKAGE.rglob("*.py") if path != own}
    assert len(texts) > 100
    for words in ("functools.cached_property", "from functools import cached_property"):
        assert not [path for path, text in texts.items() if words in text]
