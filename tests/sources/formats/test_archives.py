"""What an archive says of its members is compared with the file."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest
from support.formats import write
from support.tables import COLUMNS, normal

from nrc_fast.sources.opening import open_table


@pytest.mark.parametrize("name", ["npz", "torch"])
@pytest.mark.parametrize("field", [10, 20, 24, 42], ids=["method", "stored", "whole", "place"])
def test_a_directory_that_lies_is_refused(name: str, field: int, tmp_path: Path) -> None:
    """Of every member: how it is compressed, how many bytes are stored, how many it has, where it begins."""
    path = write(tmp_path, name, normal((97, COLUMNS), "float32"))
    good = path.read_bytes()
    place, seen = good.find(b"PK\x01\x02"), 0
    while place >= 0:
        data = bytearray(good)
        old = struct.unpack_from("<H" if field == 10 else "<I", data, place + field)[0]
        struct.pack_into("<H" if field == 10 else "<I", data, place + field, old + 8 if field == 10 else old + 64)
        path.write_bytes(data)
        try:
            table = open_table(path)
            table.read(0, table.count).to_float64()
        except (OSError, ValueError, TypeError) as error:
            assert path.name in str(error)  # noqa: PT017
            seen += 1
        place = good.find(b"PK\x01\x02", place + 1)
    assert seen


def test_two_members_of_one_name_are_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "f.npz", a=np.eye(3), b=np.ones((3, 3)))
    data = (tmp_path / "f.npz").read_bytes().replace(b"b.npy", b"a.npy")
    (tmp_path / "f.npz").write_bytes(data)
    with pytest.raises(OSError, match=r"f\.npz cannot be read.*two members 'a\.npy'"):
        open_table(tmp_path / "f.npz", key="a")
