"""The compiled core under the sanitizers of memory, arithmetic and threads: nothing is found."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from support.tools import ROOT, configure_project, require_tool

TESTS = Path(__file__).parent
# What the programs below are linked with, besides themselves.
SOURCES = {
    "pool_races": ("machine/thread_pool", "machine/buffer"),
    "gram_tiles": ("gram/gram", "gram/baseline", "target_sums/target_sums", "machine/thread_pool", "machine/buffer"),
}
# Python and numpy keep memory until the process ends, and fork and allocate as they like.
SETTINGS = {
    "address": {"ASAN_OPTIONS": "detect_leaks=0:allocator_may_return_null=1:abort_on_error=1"},
    "undefined": {"UBSAN_OPTIONS": "print_stacktrace=1"},
    "thread": {"TSAN_OPTIONS": "halt_on_error=1:report_signal_unsafe=0:history_size=4"},
}
# Variables of a thread that the system frees after the thread has ended.
SUPPRESSIONS = "race:dl_deallocate_tls\n"
RUNTIMES = {"address": "libasan.so", "undefined": "libubsan.so", "thread": "libtsan.so"}
# Tests of the kernels that start no other programs and do not count the threads of the process.
CHOSEN = [
    "test_gram.py",
    "test_gram_product.py",
    "test_pairs.py",
    "test_residual.py",
    "test_row_images.py",
    "test_target_sums.py",
    "test_threads.py",
]
LEFT_OUT = "fork or environment or allowed or ends_beside or assembly or compile"


def checked(command: list[str], **options: object) -> str:
    result = subprocess.run(command, capture_output=True, text=True, check=False, **options)  # type: ignore[call-overload]
    assert result.returncode == 0, f"{result.stdout[-6000:]}\n{result.stderr[-6000:]}"
    return str(result.stdout)


@pytest.mark.parametrize(
    ("program", "sanitizer", "answer"),
    [
        ("pool_races", "thread", "4 callers, 0 wrong sums\n"),
        pytest.param("pool_races", "undefined", "4 callers, 0 wrong sums\n", marks=pytest.mark.long),
        pytest.param("pool_races", "address", "4 callers, 0 wrong sums\n", marks=pytest.mark.long),
        pytest.param("gram_tiles", "undefined", "40 widths, 0 wrong sums\n", marks=pytest.mark.long),
    ],
)
def test_parts_of_the_core(program: str, sanitizer: str, answer: str, tmp_path: Path) -> None:
    sources = [TESTS / f"{program}.cpp", *(ROOT / "csrc" / "cpu" / f"{stem}.cpp" for stem in SOURCES[program])]
    options = ["-std=gnu++17", "-O0", "-g1", "-w", f"-fsanitize={sanitizer}", "-fno-sanitize-recover=all"]
    binary = tmp_path / program
    checked([require_tool("c++"), *options, f"-I{ROOT / 'csrc'}", *map(str, sources), "-o", str(binary), "-lpthread"])
    assert checked([str(binary)]) == answer


@pytest.mark.endurance
@pytest.mark.parametrize("sanitizer", SETTINGS)
def test_the_kernels_under_their_own_tests(sanitizer: str, tmp_path: Path) -> None:
    given = {
        "CMAKE_CXX_COMPILER": require_tool("g++"),
        "NRC_FAST_CUDA": "OFF",
        "NRC_FAST_BFLOAT16_EMULATION": "ON",
        "NRC_FAST_SANITIZE": sanitizer,
    }
    build = tmp_path / "build"
    result = configure_project(build, *(f"-D{name}={value}" for name, value in given.items()))
    assert result.returncode == 0, result.stderr
    checked([require_tool("cmake"), "--build", str(build), "--target", "_cpu"])
    package = tmp_path / "path" / "nrc_fast"
    shutil.copytree(ROOT / "nrc_fast", package, ignore=shutil.ignore_patterns("*.so"))
    (module,) = build.glob("_cpu*.so")
    shutil.copy(module, package / "kernels")
    # The library of C++ too, or the sanitizer does not find what throws its exceptions.
    names = (RUNTIMES[sanitizer], "libstdc++.so.6")
    runtime = " ".join(checked(["g++", f"-print-file-name={name}"]).strip() for name in names)
    (tmp_path / "suppressions").write_text(SUPPRESSIONS)
    environment = os.environ | SETTINGS[sanitizer] | {"PYTHONPATH": str(package.parent), "LD_PRELOAD": runtime}
    # Threads of OpenBLAS wait in a way that the thread sanitizer never ends.
    environment |= {"NRC_FAST_NUM_THREADS": "3", "OPENBLAS_NUM_THREADS": "1"}
    environment["TSAN_OPTIONS"] = f"{SETTINGS['thread']['TSAN_OPTIONS']}:suppressions={tmp_path / 'suppressions'}"
    pytest_of_kernels = [sys.executable, "-P", "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", "-m", "not long"]
    paths = [str(TESTS / name) for name in CHOSEN]
    checked([*pytest_of_kernels, "-k", f"not ({LEFT_OUT})", *paths], env=environment, cwd=ROOT)
