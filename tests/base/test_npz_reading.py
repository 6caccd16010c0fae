"""Files of state are believed in nothing: memory is bounded by their size, and damage is one error that names them."""

from __future__ import annotations

import io
import json
import re
import struct
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nrc_fast.base.npz import save_arrays
from nrc_fast.base.npz_reading import load_arrays, require_own_place

MEMBERS = {"a": np.arange(6.0).reshape(2, 3), "b": np.zeros(0), "c": np.array([3.0])}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    save_arrays(tmp_path / "state.npz", {"kind": "sums", "format": 1, "d": 3}, MEMBERS)
    return tmp_path / "state.npz"


def rewritten(path: Path, compression: int = zipfile.ZIP_STORED, **changed: bytes) -> None:
    """The file with some members replaced or added."""
    with zipfile.ZipFile(path) as archive:
        members = {info.filename: archive.read(info) for info in archive.infolist()}
    members |= {f"{name}.npy": content for name, content in changed.items()}
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, content in members.items():
            archive.writestr(name, content)


def npy(array: Any) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array)
    return buffer.getvalue()


def announced(header: str) -> bytes:
    text = header.encode()
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text


def stated(**changed: Any) -> bytes:
    header = {"kind": "sums", "format": 1} | changed
    return npy(np.frombuffer(json.dumps(header).encode(), np.uint8))


def test_what_was_written_is_read(path: Path) -> None:
    header, arrays = load_arrays(path, "sums", 1)
    assert header == {"kind": "sums", "format": 1, "d": 3}
    assert arrays.keys() == MEMBERS.keys()
    for name, array in MEMBERS.items():
        np.testing.assert_array_equal(arrays[name], array)
        assert arrays[name].shape == array.shape


@pytest.mark.parametrize(
    "member",
    [
        announced("{'descr': '<f8', 'fortran_order': False, 'shape': (" + "9" * 30 + ",), }\n"),
        announced("{'descr': '<f8', 'fortran_order': False, 'shape': (1000000000000,), }\n"),
        announced("{'descr': '<f8', 'fortran_order': False, 'shape': (-1,), }\n"),
        announced("{'descr': '<f8', 'fortran_order': False, '''hape': (1,), }\n"),
        announced("{'descr': '|O', 'fortran_order': False, 'shape': (1,), }\n") + bytes(8),
        announced("(" * 5000),
        npy(np.arange(3)),
        npy(np.zeros((2, 2), order="F")[:, :1]) + b"more",
        npy(np.zeros(3))[:-1],
        b"",
        b"\x93NUMPY",
    ],
)
@pytest.mark.parametrize("name", ["a", "header"])
def test_damaged_members_are_one_error_that_names_the_file(path: Path, name: str, member: bytes) -> None:
    rewritten(path, **{name: member})
    with pytest.raises(OSError, match=r"state\.npz is damaged or was not written by nrc_fast"):
        load_arrays(path, "sums", 1)


@pytest.mark.parametrize(
    ("header", "words"),
    [
        (stated(format="1"), "has format '1'"),
        (stated(format=True), "has format True"),
        (stated(format=2), "has format 2.*Update"),
        (stated(kind=["sums"]), "holds no sums"),
        (npy(np.frombuffer(b"[1]", np.uint8)), "its header is no mapping"),
        (npy(np.frombuffer(b"[" * 10**5, np.uint8)), "is damaged"),
        (npy(np.frombuffer(b"\xff", np.uint8)), "is damaged"),
    ],
)
def test_damaged_headers_are_one_error(path: Path, header: bytes, words: str) -> None:
    rewritten(path, header=header)
    with pytest.raises((OSError, ValueError), match=words):
        load_arrays(path, "sums", 1)


def test_nothing_is_decompressed(path: Path) -> None:
    rewritten(path, zipfile.ZIP_DEFLATED, bomb=npy(np.zeros(1 << 20)))
    assert path.stat().st_size < 1 << 17
    with pytest.raises(OSError, match="is compressed"):
        load_arrays(path, "sums", 1)


def test_members_that_lie_over_one_another_are_refused(path: Path) -> None:
    """Each of many entries of the directory names the same large member."""
    large = npy(np.zeros(1 << 16))
    rewritten(path, **{f"m{k}": large if k == 0 else npy(np.zeros(1)) for k in range(9)})
    with zipfile.ZipFile(path) as archive:
        first = archive.getinfo("m0.npy")
        facts = struct.pack("<III", first.CRC, first.file_size, first.file_size)
    data = bytearray(path.read_bytes())
    for found in re.finditer(rb"PK\x01\x02.{42}m[1-8]\.npy", bytes(data), re.DOTALL):
        data[found.start() + 16 : found.start() + 28] = facts
    path.write_bytes(data)
    with pytest.raises(OSError, match=r"state\.npz is damaged .*it announces \d+ bytes of arrays, and has"):
        load_arrays(path, "sums", 1)


def test_every_byte_that_is_lost_or_changed_is_seen_or_harmless(path: Path) -> None:
    data = path.read_bytes()
    for place in range(0, len(data), 3):
        for changed in (data[:place], data[:place] + bytes([data[place] ^ 0x55]) + data[place + 1 :]):
            path.write_bytes(changed)
            try:
                _, arrays = load_arrays(path, "sums", 1)
            except (OSError, ValueError) as error:
                assert "state.npz" in str(error)  # noqa: PT017
            else:
                for name in arrays.keys() & MEMBERS.keys():
                    np.testing.assert_array_equal(arrays[name], MEMBERS[name])


def test_only_files_of_the_same_kind_are_replaced(path: Path) -> None:
    require_own_place(path, "sums")
    require_own_place(path.with_name("absent.npz"), "sums")
    np.savez(path.with_name("features.npz"), h=np.eye(3))
    path.with_name("text.npz").write_text("text")
    path.with_name("empty.npz").touch()
    require_own_place(path.with_name("empty.npz"), "sums")
    for name, kind in (("state.npz", "others"), ("features.npz", "sums"), ("text.npz", "sums")):
        with pytest.raises(ValueError, match=f"{name} holds something else than {kind}"):
            require_own_place(path.with_name(name), kind)
