"""Ctrl-C and SIGTERM are put off, and afterwards whoever handled them does again: Python, the system or C code."""

from __future__ import annotations

import ctypes
import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from nrc_fast.base.signals import postponed

SIGNALS = (signal.SIGINT, signal.SIGTERM)


@pytest.fixture(autouse=True)
def handlers() -> Iterator[None]:
    """Those of the tests come back."""
    before = {number: signal.getsignal(number) for number in SIGNALS}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.parametrize("number", SIGNALS)
def test_the_first_waits_and_the_second_does_not(number: signal.Signals) -> None:
    before = signal.getsignal(number)
    with postponed() as interrupt:
        assert not interrupt.is_set()
        signal.raise_signal(number)
        assert interrupt.is_set()
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(number)
    assert signal.getsignal(number) == before


@pytest.mark.parametrize("number", SIGNALS)
def test_what_is_ignored_stays_so(number: signal.Signals) -> None:
    signal.signal(number, signal.SIG_IGN)
    with postponed() as interrupt:
        signal.raise_signal(number)
        assert not interrupt.is_set()
    assert signal.getsignal(number) == signal.SIG_IGN


@pytest.mark.parametrize("known", [signal.SIG_DFL, signal.SIG_IGN, signal.default_int_handler], ids=str)
@pytest.mark.parametrize("number", SIGNALS)
def test_a_handler_of_c_code_stays(number: signal.Signals, known: Any) -> None:
    """One that was set after Python had set its own: Python knows nothing of it."""
    signal.signal(number, known)
    seen: list[int] = []
    handler = ctypes.CFUNCTYPE(None, ctypes.c_int)(seen.append)
    library = ctypes.CDLL(None)
    library.signal.restype = ctypes.c_void_p
    library.signal(int(number), handler)
    with postponed() as interrupt:
        getattr(library, "raise")(int(number))
        assert seen == [number]
    getattr(library, "raise")(int(number))
    assert seen == [number, number]
    assert signal.getsignal(number) == known
    assert not interrupt.is_set()


def test_in_other_threads_nothing_is_put_off() -> None:
    found: list[Any] = []

    def work() -> None:
        with postponed():
            found.append(signal.getsignal(signal.SIGINT))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert found == [signal.getsignal(signal.SIGINT)]


HANDLER = r"""
#include <signal.h>
#include <unistd.h>
static void handler(int number) { (void)number; if (write(1, "C\n", 2) != 2) _exit(1); }
__attribute__((constructor)) static void install(void) {
  struct sigaction action = {0};
  action.sa_handler = handler;
  sigaction(SIGTERM, &action, 0);
  sigaction(SIGINT, &action, 0);
}
"""

EMBEDDED = """
import signal
import numpy as np, nrc_fast as nrc
assert signal.getsignal(signal.SIGTERM) is None
print(nrc.measure(np.random.default_rng(0).standard_normal((1000, 8)), n=2, checkpoint="state.npz").samples, flush=True)
assert signal.getsignal(signal.SIGTERM) is None
for number in (signal.SIGTERM, signal.SIGINT):
    signal.raise_signal(number)
print("done", flush=True)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="libraries are not loaded before others here")
def test_a_handler_from_before_the_interpreter_stays(tmp_path: Path) -> None:
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("no compiler")
    (tmp_path / "handler.c").write_text(HANDLER)
    subprocess.run([compiler, "-shared", "-fPIC", "-o", "handler.so", "handler.c"], cwd=tmp_path, check=True)
    environment = os.environ | {"LD_PRELOAD": str(tmp_path / "handler.so")}
    command = [sys.executable, "-c", EMBEDDED]
    done = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.stdout.split() == ["1000", "C", "C", "done"], done.stderr
