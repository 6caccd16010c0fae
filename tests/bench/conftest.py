from __future__ import annotations

import os
import sys
from collections.abc import Iterator

import pytest
from support.benches import BENCH


@pytest.fixture(autouse=True)
def bench_on_path(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Imports as `python bench/run.py` does them, and no trace of them afterwards."""
    if not hasattr(os, "sched_setaffinity"):
        pytest.skip("benches give everybody the same processors, which this system does not let a process choose")
    before = set(sys.modules)
    monkeypatch.syspath_prepend(str(BENCH))
    yield
    names = {path.stem for path in BENCH.glob("*.py")}
    for name in set(sys.modules) - before:
        if name.split(".")[0] in names | {"routines", "machine_code", "reproduce"}:
            del sys.modules[name]
