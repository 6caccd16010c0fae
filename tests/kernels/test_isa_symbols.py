"""A translation unit of one instruction set defines nothing that another one might be linked to."""

from __future__ import annotations

import platform
import shutil
import subprocess
from pathlib import Path

import pytest

CSRC = Path(__file__).parents[2] / "csrc"
FLAGS = ["-O1", "-std=gnu++17", "-mavx2", "-mfma", "-mf16c", "-mavx512f", "-mavx512bw", "-mavx512dq", "-mavx512vl"]
OWN_FLAGS = {"avx512bf16": ["-mavx512bf16"], "amx": ["-mamx-tile", "-mamx-bf16"]}

pytestmark = pytest.mark.skipif(
    platform.machine() != "x86_64" or not shutil.which("c++") or not shutil.which("nm"),
    reason="needs an x86 compiler and nm",
)


@pytest.mark.parametrize(
    ("kernel", "name"),
    [
        *((kernel, "avx512") for kernel in ("descent", "gram", "residual", "target_sums")),
        ("gram", "avx512bf16"),
        ("gram", "amx"),
    ],
)
def test_all_symbols_lie_in_the_namespace_of_the_isa(kernel: str, name: str, tmp_path: Path) -> None:
    target = tmp_path / "kernel.o"
    source = CSRC / "cpu" / kernel / f"{name}.cpp"
    flags = [*FLAGS, *OWN_FLAGS.get(name, ())]
    subprocess.run(["c++", *flags, f"-I{CSRC}", "-c", str(source), "-o", str(target)], check=True)
    listed = subprocess.run(["nm", "-C", "--defined-only", str(target)], check=True, capture_output=True, text=True)
    names = [line.split(maxsplit=2)[2] for line in listed.stdout.splitlines() if line.split()[1] not in "rbdt"]
    assert names
    assert [found for found in names if f"nrc_fast::{name}::" not in found.split("(")[0]] == []
