"""No CUDA kernel keeps anything in local memory: the assembler's own report, for two architectures."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

CSRC = Path(__file__).parents[1] / "csrc"
KERNELS = sorted(path.stem for path in (CSRC / "cuda").glob("*.cu"))
ARCHITECTURES = ("80", "90a")

pytestmark = pytest.mark.skipif(
    not shutil.which("nvcc") and os.environ.get("NRC_FAST_CUDA") != "ON", reason="nvcc is not on PATH"
)


@pytest.mark.parametrize("kernel", KERNELS)
def test_no_spills_no_stack_no_local_memory(kernel: str, tmp_path: Path) -> None:
    targets = [f"-gencode=arch=compute_{name},code=sm_{name}" for name in ARCHITECTURES]
    options = ["-std=c++17", "-O3", "-Xptxas=-v,-warn-spills,-warn-lmem-usage", "-Werror=all-warnings", f"-I{CSRC}"]
    command = ["nvcc", *options, *targets, "-c", str(CSRC / "cuda" / f"{kernel}.cu"), "-o", str(tmp_path / "kernel.o")]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    report = result.stderr
    found = re.findall(r"Compiling entry function '\S+' for 'sm_(\w+)'", report)
    uses_kernels = "NRC_FAST_GLOBAL" in (CSRC / "cuda" / f"{kernel}.cu").read_text(encoding="utf-8")
    assert set(found) == (set(ARCHITECTURES) if uses_kernels else set())
    frames = re.findall(r"(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads", report)
    assert len(frames) >= len(found)
    assert {number for frame in frames for number in frame} <= {"0"}
    # Local memory, constants that were indexed at run time, would be named lmem.
    assert "lmem" not in report
    assert len(re.findall(r"Used \d+ registers", report)) == len(found)
