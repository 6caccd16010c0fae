"""No CUDA kernel keeps anything in local memory, and its launch bounds leave it the registers that it takes: the
assembler's own report, for every architecture that is built.

Those of data-centre cards are read in the built module too (bench/test_machine_code.py), and the oldest and the newest
one are compiled here; the others, whose code is that of a neighbour, take minutes and find little.
"""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
from support import cuda_core
from support.launch_bounds import check_room, launch_bounds, registers
from support.tools import ROOT, require_tool

CSRC = ROOT / "csrc"
KERNELS = sorted(str(path.relative_to(CSRC).with_suffix("")) for path in CSRC.glob("cuda/*/*.cu"))


def default_architectures() -> list[str]:
    """What a plain `pip install .` builds for, from the only place where it is written."""
    text = (ROOT / "cmake" / "cuda_architectures.cmake").read_text(encoding="utf-8")
    found = re.search(r'set\(NRC_FAST_CUDA_DEFAULT_ARCHS "([^"]+)"', text)
    assert found is not None
    return found[1].split(";")


def check_resources(kernel: str, architecture: str, target: Path) -> None:
    target_code = f"-gencode=arch=compute_{architecture},code=sm_{architecture}"
    options = ["-std=c++17", "-O3", "-Xptxas=-v,-warn-spills,-warn-lmem-usage", "-Werror=all-warnings", f"-I{CSRC}"]
    options += ["-keep", "-keep-dir", str(target.parent)]  # for the PTX
    # Not the host's part, which is the same for all and which the build compiles.
    command = [require_tool("nvcc"), *options, target_code, "-cubin", str(CSRC / f"{kernel}.cu"), "-o", str(target)]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    report = result.stderr
    found = re.findall(r"Compiling entry function '(\S+)' for 'sm_(\w+)'", report)
    (ptx,) = target.parent.glob("*.ptx")
    code = ptx.read_text(encoding="utf-8")
    kernels = re.findall(r"\.entry (\w+)", code)  # of headers too
    assert sorted(found) == sorted((name, architecture) for name in kernels)
    frames = re.findall(r"(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads", report)
    assert len(frames) >= len(found)
    assert {number for frame in frames for number in frame} <= {"0"}
    # Local memory, constants that were indexed at run time, would be named lmem.
    assert "lmem" not in report
    assert len(re.findall(r"Used \d+ registers", report)) == len(found)
    cards = {card["capability"]: card for card in cuda_core.emulation().cards()}
    used = registers(report)
    for name, bounds in launch_bounds(code).items():
        check_room(bounds, used[name], cards[int(architecture.rstrip("af"))])


def marked(architectures: list[str]) -> list[Any]:
    """The oldest and the newest one are for CI."""
    ends = (architectures[0], architectures[-1])
    return [
        pytest.param(one, marks=pytest.mark.long if one in ends else pytest.mark.endurance) for one in architectures
    ]


@pytest.mark.parametrize("architecture", marked(default_architectures()))
@pytest.mark.parametrize("kernel", KERNELS)
def test_no_spills_no_stack_no_local_memory(kernel: str, architecture: str, tmp_path: Path) -> None:
    check_resources(kernel, architecture, tmp_path / "kernel.cubin")
