"""Pickles of torch describe tensors; what they ask for beyond that is neither run nor given memory."""

from __future__ import annotations

import io
import os
import pickle
import pickletools
import struct
import tracemalloc
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import nrc_fast as nrc
from nrc_fast.sources.formats.torch_pickles import FUNCTIONS, tensors_of
from nrc_fast.sources.opening import open_table

torch = pytest.importorskip("torch")


class Runs:
    """Runs a command where it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return os.system, (f"touch {self.path}",)


def test_no_code_is_run(tmp_path: Path) -> None:
    for content in (Runs(tmp_path / "run"), {"h": torch.ones(3, 2), "x": [Runs(tmp_path / "run")]}):
        torch.save(content, tmp_path / "f.pt")
        with pytest.raises(OSError, match=r"f\.pt cannot be read: it holds more than tensors .* a (posix|nt)\.system"):
            open_table(tmp_path / "f.pt")
    assert not (tmp_path / "run").exists()


def pickled(*instructions: bytes) -> bytes:
    return b"\x80\x02" + b"".join(instructions) + b"."


@pytest.mark.parametrize(
    "content",
    [
        pickled(b"]r", struct.pack("<I", 2**25)),  # a place beyond all objects
        pickled(b"]p33554432\n"),
        pickled(b"\x8e", struct.pack("<Q", 2**40)),  # bytes that are not there
        pickled(b"\x8d", struct.pack("<Q", 2**40)),
        pickled(b"\x8b", struct.pack("<i", 2**30)),
        pickled(
            b"c__builtin__\nbytearray\n", b"\x8a\x06", struct.pack("<q", 2**40)[:6], b"\x85R", b"c__builtin__\neval\n"
        ),
        pickled(b"]q\x00", *(b"]q" + bytes([k]) + (b"h" + bytes([k - 1]) + b"a") * 10 for k in range(1, 30))),
        pickled(b"]q\x00h\x00a"),  # a list that holds itself
        b"",
        b"\x80\x02",
        b"garbage",
    ],
)
def test_hostile_pickles_end_soon_and_take_no_memory(content: bytes) -> None:
    tracemalloc.start()
    try:
        with pytest.raises(Exception):  # noqa: B017, PT011 - whoever reads turns all of them into one
            tensors_of(content)
        assert tracemalloc.get_traced_memory()[1] < 1 << 23
    finally:
        tracemalloc.stop()


def test_what_stands_for_names_cannot_be_changed() -> None:
    """BUILD would set attributes of functions and classes."""
    for module, name in FUNCTIONS:
        state = b"}X\x08\x00\x00\x00__code__K\x01s"
        for both in (state, b"N" + state + b"\x86"):
            tensors_of(pickled(f"c{module}\n{name}\n".encode(), both, b"b"))
    assert tensors_of(pickled(b"ccollections\nOrderedDict\n)R}X\x05\x00\x00\x00itemsK\x01sb")) == []
    assert callable(FUNCTIONS["torch._utils", "_rebuild_tensor_v2"].__code__.co_code.hex)


def rewritten(path: Path, **changed: bytes) -> None:
    """The file with other records, as Python writes archives: nothing is aligned."""
    with zipfile.ZipFile(path) as archive:
        records = {info.filename: archive.read(info) for info in archive.infolist()}
    prefix = next(iter(records)).partition("/")[0]
    records |= {f"{prefix}/{name}": content for name, content in changed.items()}
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in records.items():
            archive.writestr(name, content)


@pytest.mark.parametrize("dtype", ["float64", "float32", "float16", "bfloat16"])
def test_either_byte_order_is_read_again_and_again(dtype: str, tmp_path: Path) -> None:
    H = torch.from_numpy(np.random.default_rng(0).integers(1, 100, (5000, 6))).to(getattr(torch, dtype))
    torch.save({"h": H}, tmp_path / "f.pt")
    wanted = nrc.measure(tmp_path / "f.pt", n=2, chunk_rows=700)
    raw = H.contiguous().view(torch.uint8).numpy().reshape(-1, H.element_size())[:, ::-1].tobytes()
    rewritten(tmp_path / "f.pt", **{"byteorder": b"big", "data/0": raw})
    assert torch.equal(torch.load(tmp_path / "f.pt")["h"], H)
    for policy in ("raise", "skip"):
        assert nrc.measure(tmp_path / "f.pt", n=2, chunk_rows=700, nonfinite=policy).nrc1 == wanted.nrc1
    rewritten(tmp_path / "f.pt", byteorder=b"middle")
    with pytest.raises(OSError, match=r"f\.pt cannot be read.*byte order is 'middle'"):
        open_table(tmp_path / "f.pt")


def test_tensors_beyond_their_records_are_refused(tmp_path: Path) -> None:
    torch.save({"h": torch.ones(50, 6, dtype=torch.float64)}, tmp_path / "f.pt")
    rewritten(tmp_path / "f.pt", **{"data/0": bytes(50 * 6 * 8 - 1)})
    with pytest.raises(OSError, match=r"f\.pt\[h\] needs 2400 bytes, and its record has 2399"):
        open_table(tmp_path / "f.pt")
    with zipfile.ZipFile(tmp_path / "f.pt") as archive:
        content = next(archive.read(name) for name in archive.namelist() if name.endswith("data.pkl"))
    pickletools.dis(content, io.StringIO())
    for number, changed in ((b"K2K\x06\x86", b"M\xff\x7fK\x06\x86"), (b"K\x06K\x01\x86", b"M\xff\x7fK\x01\x86")):
        assert number in content
        rewritten(tmp_path / "f.pt", **{"data/0": bytes(2400), "data.pkl": content.replace(number, changed)})
        with pytest.raises(OSError, match=r"needs \d+ bytes, and its record has 2400"):
            open_table(tmp_path / "f.pt")


@pytest.mark.parametrize("cut", [0.01, 0.4, 0.9, 0.999])
def test_a_file_that_shrinks_is_an_error(cut: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.save({"h": torch.randn(20000, 8)}, tmp_path / "f.pt")
    table: Any = open_table(tmp_path / "f.pt", verify=False)
    monkeypatch.setattr(table.stamp, "check", lambda: None)
    os.truncate(tmp_path / "f.pt", int(cut * (tmp_path / "f.pt").stat().st_size))
    if cut < 0.99:
        with pytest.raises(OSError, match=r"cannot be read|ends"):
            table.load(0, table.count)
    with pytest.raises(OSError, match=r"f\.pt cannot be read"):
        open_table(tmp_path / "f.pt")


def test_every_allowed_name_is_pickled_by_torch_or_harmless() -> None:
    for module, name in FUNCTIONS:
        assert module.startswith(("torch", "collections", "_codecs", "builtins", "__builtin__"))
        assert name not in {"eval", "exec", "getattr", "__import__"}
    with pytest.raises(pickle.UnpicklingError, match=r"GLOBAL builtins\.getattr"):
        tensors_of(pickled(b"cbuiltins\ngetattr\n"))
