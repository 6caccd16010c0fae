"""Tensors that torch saved."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.tables import COLUMNS, assert_table, normal

from nrc_fast.sources.opening import open_table


def test_nested_keys_of_torch(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    array = normal((9, COLUMNS), "float32")
    torch.save(
        {"epoch": 3, "model": {"head": {"input": torch.from_numpy(array)}, "x": torch.zeros(3, 3)}}, tmp_path / "f.pt"
    )
    assert_table(open_table(tmp_path / "f.pt", key="model.head.input"), array, [4])


def test_old_torch_files_are_refused(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    torch.save(torch.zeros(3, 2), tmp_path / "old.pt", _use_new_zipfile_serialization=False)
    with pytest.raises(ValueError, match=r"old\.pt is of the kind that torch wrote before 1\.6.*save it again"):
        open_table(tmp_path / "old.pt")
