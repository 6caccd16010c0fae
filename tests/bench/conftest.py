from __future__ import annotations

import sys
from collections.abc import Iterator

import pytest
from support.benches import BENCH


@pytest.fixture(autouse=True)
def bench_on_path(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Imports as `python bench/run.py` does them, and no trace of them afterwards."""
    before = set(sys.modules)
    monkeypatch.syspath_prepend(str(BENCH))
    yield
    names = {path.stem for path in BENCH.glob("*.py")}
    for name in set(sys.modules) - before:
        if name.split(".")[0] in names | {"routines", "machine_code"}:
            del sys.modules[name]
