"""Where memory does not suffice, one line says what was asked and what to do."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

import nrc_fast as nrc
from nrc_fast.base.memory import memory_for, require_memory
from nrc_fast.cli import main
from nrc_fast.kernels import _cpu

# Of d x d numbers, more than any machine has; of d, little.
WIDE = 3_000_000


def test_what_was_asked_and_what_to_do_is_said() -> None:
    words = r"^a sum needs 2\.0 GiB, which this machine does not give; take less$"
    with pytest.raises(MemoryError, match=words), memory_for("a sum", 2 << 30, "take less"):
        raise MemoryError
    with memory_for("a sum", 8, "take less"):
        pass


def test_statistics_of_too_many_features() -> None:
    words = r"^statistics of 3,000,000 features {} needs [\d.]+ TiB, .* give fewer features"
    with pytest.raises(MemoryError, match=words.format("and 0 targets")):
        nrc.FeatureStatistics(WIDE)
    with pytest.raises(MemoryError, match=words.format("in 2 classes")):
        nrc.ClassStatistics(WIDE, 2)
    with pytest.raises(
        MemoryError, match=r"^the kernels need 34359738368 MiB at once .* give fewer columns or threads$"
    ):
        _cpu.kept_empty(1 << 26, 1 << 26)


def test_the_command_ends_with_a_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    np.save(tmp_path / "h.npy", np.ones((1, WIDE), dtype=np.float32))
    assert main(["measure", str(tmp_path / "h.npy"), "-n", "1"]) == 1
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1
    assert lines[0].startswith("nrc-fast: not enough memory: statistics of 3,000,000 features")


def test_what_no_machine_has_is_refused_before_it_is_begun(monkeypatch: pytest.MonkeyPatch) -> None:
    if not hasattr(os, "sysconf"):
        pytest.skip("this system does not say how much memory it has")
    monkeypatch.setattr(os, "sysconf", {"SC_PHYS_PAGES": 1 << 20, "SC_PAGE_SIZE": 4096}.__getitem__)
    require_memory("a list", 4 << 30, "give fewer numbers")
    with pytest.raises(
        MemoryError, match=r"^a list needs 6\.0 GiB, and this machine has 4\.0 GiB; give fewer numbers$"
    ):
        require_memory("a list", 6 << 30, "give fewer numbers")
    monkeypatch.delattr(os, "sysconf")
    require_memory("a list", 6 << 30, "give fewer numbers")
