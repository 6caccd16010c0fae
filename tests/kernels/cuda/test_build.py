"""What the CUDA kernels are built for with compilers other than the one that is here: scripts in nvcc's place."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest
from support.tools import ROOT, configure_project, require_tool

CHOICE = ROOT / "cmake" / "cuda_architectures.cmake"
NVCC = shutil.which("nvcc")
# Stands for the default list, whatever that becomes.
WANTED = ("75", "80", "86", "89", "90a", "100", "120")
# What nvcc names, which is nothing with a letter, and what it compiles for.
CUDA_11_8 = "35 37 50 52 53 60 61 62 70 72 75 80 86 87 89 90"
CUDA_12_4 = "50 52 53 60 61 62 70 72 75 80 86 87 89 90"
CUDA_13_0 = "75 80 86 87 88 89 90 100 110 103 120 121"
LATER = "80 86 89 90 100 110 120 130"


@pytest.fixture(autouse=True)
def _cmake() -> None:
    require_tool("cmake")


@pytest.fixture
def _nvcc() -> None:
    require_tool("nvcc")


@dataclass
class Choice:
    """What the build would do."""

    architectures: list[str]
    ptx: str
    left_out: list[str]
    problem: str


@pytest.fixture
def stand_in(tmp_path: Path) -> Callable[..., Path]:
    """Write a script that says what an nvcc of another version says, and else does what the one here does."""

    def write(listed: str, variants: str = "", refused: str = "") -> Path:
        known = "|".join(f"*code=sm_{name}" for name in ["none", *listed.split(), *variants.split()])
        answer = rf'printf "sm_%s\n" {listed}; exit 0' if listed else "exit 1"
        script = tmp_path / "nvcc"
        script.write_text(
            "#!/bin/sh\n"
            'for argument in "$@"; do\n'
            '  case "$argument" in\n'
            f"    --list-gpu-code) {answer} ;;\n"
            f"    {known}) ;;\n"
            f'    {refused or "-none"}|*code=sm_*) echo "nvcc fatal : Unsupported $argument" >&2; exit 1 ;;\n'
            "  esac\n"
            "done\n"
            'test "$1" = --dryrun && exit 0\n'
            f'exec {NVCC or "false"} "$@"\n',
            encoding="utf-8",
        )
        script.chmod(0o755)
        return script

    return write


def run_choice(nvcc: Path, *settings: str) -> subprocess.CompletedProcess[str]:
    command = ["cmake", f"-DNVCC={nvcc}", *settings, "-P", str(CHOICE)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def by_default(architectures: Sequence[str]) -> str:
    return f"-DNRC_FAST_CUDA_DEFAULT_ARCHS={';'.join(architectures)}"


def asked(*architectures: str) -> str:
    return f"-DNRC_FAST_CUDA_ARCHS={';'.join(architectures)}"


def choose(nvcc: Path, *settings: str) -> Choice:
    result = run_choice(nvcc, *settings)
    assert result.returncode == 0, result.stderr
    found = re.fullmatch(r"architectures (.*)\nptx (.*)\nleft out (.*)\nproblem (.*)\n", result.stderr)
    assert found is not None, result.stderr
    return Choice(re.findall(r"\w+", found[1]), found[2], re.findall(r"\w+", found[3]), found[4])


@pytest.mark.parametrize(
    ("listed", "variants", "left_out", "ptx"),
    [
        (CUDA_13_0, "90a 100a 100f 120a", (), "120"),
        (CUDA_12_4, "90a", ("100", "120"), "90"),  # 90a is built, and cards after it run the PTX of 90
        (CUDA_11_8, "", ("90a", "100", "120"), "89"),  # names 90, and does not know 90a
        (LATER, "90a", ("75",), "120"),  # an nvcc that no longer knows the oldest
        ("75", "", ("80", "86", "89", "90a", "100", "120"), ""),  # PTX of 75 would run on no later card
    ],
)
def test_default_list_is_what_nvcc_knows_of_it(
    stand_in: Callable[..., Path], listed: str, variants: str, left_out: tuple[str, ...], ptx: str
) -> None:
    kept = [name for name in WANTED if name not in left_out]
    assert choose(stand_in(listed, variants), by_default(WANTED)) == Choice(kept, ptx, list(left_out), "")


def test_default_list_of_the_project(stand_in: Callable[..., Path]) -> None:
    everything = choose(stand_in(CUDA_13_0, "90a"))
    assert (everything.ptx, everything.left_out) == (everything.architectures[-1], [])
    numbers = [int(name.rstrip("af")) for name in everything.architectures]
    assert numbers == sorted(numbers)
    # What `make test` builds; a setting that is there and empty is none.
    assert choose(stand_in(CUDA_13_0, "90a"), by_default(["80", "90a"]), asked()) == Choice(["80", "90a"], "90", [], "")


def test_nothing_to_build_with(stand_in: Callable[..., Path]) -> None:
    old = choose(stand_in("30 35 37 50 52 53 60 61 62 70 72"), by_default(WANTED))
    assert (old.architectures, old.ptx, old.left_out) == ([], "", list(WANTED))
    assert re.search(r"knows none of 75, 80, 86, 89, 90a, 100, 120; it knows sm_30, .*sm_72", old.problem)
    for settings in ([], [asked("80")]):
        silent = choose(stand_in(""), *settings)
        assert (silent.architectures, silent.left_out) == ([], [])
        assert "--list-gpu-code names no architecture" in silent.problem


def test_what_was_asked_for_is_built_or_an_error(stand_in: Callable[..., Path]) -> None:
    nvcc = stand_in(CUDA_12_4, "90a")
    assert choose(nvcc, asked("80")) == Choice(["80"], "80", [], "")
    assert choose(nvcc, asked("80", "90a")) == Choice(["80", "90a"], "", [], "")  # no PTX was asked for
    assert choose(nvcc, asked("90a", "80")) == Choice(["90a", "80"], "80", [], "")
    assert choose(nvcc, asked("75")) == Choice(["75"], "", [], "")
    # The whole default list, asked for by name, is no exception.
    for architectures, unknown in ((("80", "100", "120a"), "100, 120a"), (WANTED, "100, 120")):
        result = run_choice(nvcc, asked(*architectures), by_default(WANTED))
        message = " ".join(result.stderr.split())
        assert result.returncode != 0
        assert f"NRC_FAST_CUDA_ARCHS holds {unknown}, which {nvcc} does not know; it knows sm_50, sm_52" in message
        assert "sm_89, sm_90 " in message
        for way_out in ("leave it empty", "CUDACXX"):
            assert way_out in message


@pytest.mark.parametrize("architecture", ["sm_80", "native", "all-major"])
def test_what_is_no_architecture(stand_in: Callable[..., Path], architecture: str) -> None:
    result = run_choice(stand_in(CUDA_13_0), asked("80", architecture))
    assert result.returncode != 0
    assert "numbers such as 80 or 90a are expected" in result.stderr


def configure(folder: Path, nvcc: Path, *settings: str) -> subprocess.CompletedProcess[str]:
    """Configure the project, its CUDA compiler given so that CMake need not look for one."""
    return configure_project(folder, f"-DCMAKE_CUDA_COMPILER={nvcc}", *settings)


@pytest.mark.usefixtures("_nvcc")
def test_project_with_an_older_nvcc(stand_in: Callable[..., Path], tmp_path: Path) -> None:
    result = configure(tmp_path / "build", stand_in(CUDA_12_4, "90a"), by_default(WANTED))
    assert result.returncode == 0, result.stderr
    assert "CUDA kernels for 75,80,86,89,90a; as PTX too: 90" in result.stdout
    assert re.search(r"the CUDA kernels are\s+not\s+built\s+for\s+100,120", result.stderr)
    flags = (tmp_path / "build" / "CMakeFiles" / "_cuda.dir" / "flags.make").read_text(encoding="utf-8")
    codes = set(re.findall(r"-gencode=arch=compute_(\w+),code=(\w+)", flags))
    assert codes == {*((name, f"sm_{name}") for name in WANTED[:5]), ("90", "compute_90")}
    assert re.search(r'NRC_FAST_CUDA_ARCHITECTURES=\S*75,80,86,89,90a\\?"', flags)
    assert re.search(r'NRC_FAST_CUDA_PTX=\\?"90\\?"', flags)
    assert re.search(r'NRC_FAST_CUDA_LEFT_OUT=\\?"100,120\\?"', flags)


@pytest.mark.usefixtures("_nvcc")
@pytest.mark.parametrize(
    ("listed", "refused", "reason"),
    [
        ("", "", "names no architecture"),
        ("50 60 70", "", "knows none of"),
        (CUDA_13_0, "-std=c++17", "compiles no C++17 here"),
    ],
)
def test_project_with_an_nvcc_that_cannot_build_it(
    stand_in: Callable[..., Path], tmp_path: Path, listed: str, refused: str, reason: str
) -> None:
    nvcc = stand_in(listed, refused=refused)
    result = configure(tmp_path / "build", nvcc)
    assert result.returncode == 0, result.stderr
    message = " ".join(result.stderr.split())
    assert "nrc_fast: the CUDA kernels are left out" in message
    assert reason in message
    assert (tmp_path / "build" / "CMakeFiles" / "_cpu.dir").is_dir()
    assert not (tmp_path / "build" / "CMakeFiles" / "_cuda.dir").exists()
    # The same folder, so that CMake need not find the C++ compiler again.
    result = configure(tmp_path / "build", nvcc, "-DNRC_FAST_CUDA=ON")
    assert result.returncode != 0
    assert re.search(rf"NRC_FAST_CUDA=ON, but .*{re.escape(reason)}", " ".join(result.stderr.split()))
