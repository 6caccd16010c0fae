"""The compiled core with compilers, processors and numbers of registers other than those of this build."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from support.tools import ROOT, configure_project, require_module, require_tool

# What another processor than x86 compiles, and how the instruction sets of Arm are compiled.
PORTABLE = [
    str(path.relative_to(ROOT / "csrc"))
    for path in sorted((ROOT / "csrc" / "cpu").rglob("*.cpp"))
    if not path.stem.startswith(("avx", "amx"))
]
OWN_FLAGS = {"neon": ["-DNRC_FAST_NEON"], "neonbf16": ["-DNRC_FAST_NEON", "-march=armv8.2-a+bf16"]}
WARNINGS = ["-Wall", "-Wextra", "-Wpedantic", "-Wno-vla", "-Wno-psabi", "-Werror"]


def checked(command: list[str], **options: object) -> str:
    result = subprocess.run(command, capture_output=True, text=True, check=False, **options)  # type: ignore[call-overload]
    assert result.returncode == 0, f"{result.stdout[-4000:]}\n{result.stderr[-4000:]}"
    return str(result.stdout)


@pytest.mark.parametrize("registers", [pytest.param(16, marks=pytest.mark.long), 32])
def test_tiles_stay_in_their_panels_whatever_the_registers(registers: int, tmp_path: Path) -> None:
    """With 32 registers, 8 rows of a tile do not divide a panel of 12 columns: the address sanitizer sees the heap."""
    sources = [Path(__file__).with_name("gram_tiles.cpp")]
    sources += [
        ROOT / "csrc" / "cpu" / f"{stem}.cpp"
        for stem in ("gram/gram", "gram/baseline", "target_sums/target_sums", "machine/thread_pool", "machine/buffer")
    ]
    options = ["-std=gnu++17", "-O0", "-Wno-psabi", "-fsanitize=address", f"-DNRC_FAST_BASELINE_REGISTERS={registers}"]
    program = tmp_path / "gram_tiles"
    checked([require_tool("c++"), *options, f"-I{ROOT / 'csrc'}", *map(str, sources), "-o", str(program), "-lpthread"])
    assert checked([str(program)]) == "40 widths, 0 wrong sums\n"


# CI's own build is g++'s, with every warning an error, and its tests are all tests.
@pytest.mark.parametrize(
    "compiler",
    [pytest.param("g++", marks=pytest.mark.endurance), pytest.param("clang++", marks=pytest.mark.long)],
)
def test_builds_without_a_warning_and_computes_the_same(compiler: str, tmp_path: Path) -> None:
    """The CPU core and the emulated device, every warning an error; the references hold on every instruction set."""
    build = tmp_path / "build"
    given = {
        "CMAKE_CXX_COMPILER": require_tool(compiler),
        "NRC_FAST_WERROR": "ON",
        "NRC_FAST_CUDA": "OFF",
        "NRC_FAST_CUDA_EMULATION": "ON",
        "NRC_FAST_BFLOAT16_EMULATION": "ON",
    }
    result = configure_project(build, *(f"-D{name}={value}" for name, value in given.items()))
    assert result.returncode == 0, result.stderr
    cmake = require_tool("cmake")
    checked([cmake, "--build", str(build)])
    package = tmp_path / "path" / "nrc_fast"
    shutil.copytree(ROOT / "nrc_fast", package, ignore=shutil.ignore_patterns("*.so"))
    checked([cmake, "--install", str(build), "--prefix", str(package.parent)])
    environment = os.environ | {"PYTHONPATH": str(package.parent)}
    code = "import nrc_fast.kernels as k; print(k.__file__, k.build_config()['compiler'])"
    said = checked([sys.executable, "-c", code], env=environment, cwd=tmp_path)
    assert said.startswith(str(package))
    assert ("Clang" if compiler == "clang++" else "GNU") in said
    checked([sys.executable, "-m", "nrc_fast", "selftest"], env=environment, cwd=tmp_path)


@pytest.mark.long
@pytest.mark.parametrize("compiler", ["aarch64-linux-gnu-g++", "clang++ --target=aarch64-linux-gnu"])
@pytest.mark.parametrize("source", PORTABLE)
def test_other_processors_compile_without_a_warning(compiler: str, source: str) -> None:
    pybind11 = require_module("pybind11")
    tool, *options = compiler.split()
    # The headers of C++ for that processor come with its compiler.
    require_tool("aarch64-linux-gnu-g++")
    names = ("VERSION", "COMPILER", "FLAGS")
    options += ["-std=gnu++17", "-fPIC", *WARNINGS, *(f'-DNRC_FAST_{name}="x"' for name in names)]
    options += ["-DNRC_FAST_ARM64", "-DNRC_FAST_NEONBF16", *OWN_FLAGS.get(Path(source).stem, ())]
    includes = [
        str(ROOT / "csrc"),
        pybind11.get_include(),
        f"{sys.base_prefix}/include/python3.{sys.version_info.minor}",
    ]
    path = str(ROOT / "csrc" / source)
    checked([require_tool(tool), *options, *(f"-I{include}" for include in includes), "-fsyntax-only", path])
