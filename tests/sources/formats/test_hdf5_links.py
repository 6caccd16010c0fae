"""Links of HDF5 files to pipes are errors, and those to files are followed as HDF5 does."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from nrc_fast.sources.formats.hdf5_links import require_openable
from nrc_fast.sources.opening import open_table

h5py = pytest.importorskip("h5py")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    os.mkfifo(tmp_path / "pipe.h5")
    with h5py.File(tmp_path / "far.h5", "w") as file:
        file["g/h"] = np.eye(4)
        file["on"] = h5py.ExternalLink("pipe.h5", "/h")
        file["round"] = h5py.SoftLink("/round")
    with h5py.File(tmp_path / "f.h5", "w") as file:
        file["plain"] = np.ones((5, 4))
        file["good"] = h5py.ExternalLink("far.h5", "/g/h")
        file["folder"] = h5py.ExternalLink("far.h5", "/g")
        file["bad"] = h5py.ExternalLink("pipe.h5", "/h")
        file["soft"] = h5py.SoftLink("/bad")
        file["chain"] = h5py.ExternalLink("far.h5", "/on")
        file["inside"] = h5py.ExternalLink("pipe.h5", "/")
        file["absolute"] = h5py.ExternalLink(str(tmp_path / "pipe.h5"), "/h")
        file["moved"] = h5py.ExternalLink("/nowhere/pipe.h5", "/h")
        file["round"] = h5py.ExternalLink("f.h5", "/round")
        file["absent"] = h5py.ExternalLink("absent.h5", "/h")
    return tmp_path


@pytest.mark.parametrize("key", ["bad", "soft", "chain", "inside/h", "absolute", "moved"])
def test_pipes_are_not_waited_for(folder: Path, key: str) -> None:
    with h5py.File(folder / "f.h5") as file, pytest.raises(OSError, match=r"pipe\.h5 is no regular file"):
        require_openable(file, key)


@pytest.mark.parametrize("key", ["plain", "good", "folder/h", "/folder/./h", "round", "absent", "nothing/at/all"])
def test_other_links_pass(folder: Path, key: str) -> None:
    with h5py.File(folder / "f.h5") as file:
        require_openable(file, key)


def test_a_file_with_links_to_pipes_is_read_beside_them(folder: Path) -> None:
    for key, array in (("plain", np.ones((5, 4))), ("good", np.eye(4)), ("folder/h", np.eye(4))):
        np.testing.assert_array_equal(open_table(folder / "f.h5", key=key).read(0, len(array)).to_float64(), array)
    for key in ("bad", "soft"):
        with pytest.raises(OSError, match="no regular file"):
            open_table(folder / "f.h5", key=key)


def test_virtual_datasets_do_not_wait_either(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "part.h5")
    layout = h5py.VirtualLayout((4, 3), "f8")
    layout[:] = h5py.VirtualSource("part.h5", "h", shape=(4, 3))
    with h5py.File(tmp_path / "v.h5", "w") as file:
        file.create_virtual_dataset("h", layout)
    with pytest.raises(OSError, match=r"part\.h5 is no regular file"):
        open_table(tmp_path / "v.h5")
