"""Bits that flipped on a disk are no features: archives hold checksums, which are compared before rows are read."""

from __future__ import annotations

import zlib
from pathlib import Path

import numpy as np
import pytest
from support.formats import write
from support.tables import COLUMNS, assert_table, normal

import nrc_fast as nrc
from nrc_fast.cli import main
from nrc_fast.sources.checksums import Checksum
from nrc_fast.sources.opening import open_table

CHECKED = ["npz", "npz_fortran", "npz_compressed", "torch", "torch_bare", "torch_strided"]


def flipped(path: Path, part: float) -> None:
    data = bytearray(path.read_bytes())
    data[int(part * len(data))] ^= 0x0E
    path.write_bytes(data)


@pytest.mark.parametrize("name", CHECKED)
def test_a_flipped_bit_is_seen(name: str, tmp_path: Path) -> None:
    array = normal((40000, COLUMNS), "float32")
    path = write(tmp_path, name, array)
    good = nrc.nrc1(nrc.open(path, key="h" if name != "torch_bare" else None), 2)
    for part in (0.3, 0.7):
        broken = path.with_name(f"{part}_{path.name}")
        broken.write_bytes(path.read_bytes())
        flipped(broken, part)
        key = "h" if name != "torch_bare" else None
        with pytest.raises(OSError, match=broken.name.replace(".", r"\.")):
            nrc.nrc1(nrc.open(broken, key=key), 2)
        with pytest.raises(OSError, match=broken.name.replace(".", r"\.")):
            nrc.measure(normal((40000, 9), "float32"), nrc.open(broken, key=key))
        if name != "npz_compressed":
            assert nrc.nrc1(nrc.open(broken, key=key, verify=False), 2) == pytest.approx(good, abs=0.5)


def test_it_is_seen_on_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write(tmp_path, "npz", normal((40000, COLUMNS), "float32"))
    weights = write(tmp_path, "npz", normal((2, 50 * COLUMNS), "float32"), "weights")
    flipped(path, 0.5)
    flipped(weights, 0.5)
    assert main(["measure", str(path), "-n", "2"]) == 1
    assert "is damaged: the checksum of h.npy is" in capsys.readouterr().err
    assert main(["measure", str(path), "-n", "2", "--no-verify"]) == 0
    assert main(["measure", str(path), "--weights", str(weights), "--no-verify"]) == 1
    assert "weights.npz" in capsys.readouterr().err


@pytest.mark.parametrize("bytes_more", [1, (1 << 20) - 5, 1 << 20, (1 << 20) + 3])
def test_the_whole_of_the_stretch_counts(bytes_more: int, tmp_path: Path) -> None:
    content = np.random.default_rng(0).bytes(bytes_more + 20)
    path = tmp_path / "file"
    path.write_bytes(content)
    inner = content[10 : len(content) - 10]
    Checksum(path, "x", 10, len(inner), zlib.crc32(inner)).check()
    for offset, size in ((9, len(inner)), (10, len(inner) + 1), (11, len(inner))):
        with pytest.raises(OSError, match="is damaged: the checksum of x"):
            Checksum(path, "x", offset, size, zlib.crc32(inner)).check()
    with pytest.raises(OSError, match="ends within x"):
        Checksum(path, "x", 10, len(inner) + 11, zlib.crc32(inner)).check()


def test_what_is_right_is_compared_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    array = normal((97, COLUMNS), "float32")
    table = open_table(write(tmp_path, "npz", array))
    checked = []
    check = Checksum.check
    monkeypatch.setattr(Checksum, "check", lambda self: (checked.append(self.member), check(self)))
    assert_table(table, array, [10])
    assert checked == ["h.npy"]
