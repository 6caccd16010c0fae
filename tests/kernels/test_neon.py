"""The kernels of Arm processors, on an emulated one (qemu) where this machine is another, and their machine code."""

from __future__ import annotations

import platform
import re
import subprocess
from itertools import pairwise
from pathlib import Path

import pytest
from support.tools import ROOT, require_tool

# macOS writes its assembly in another way and links nothing statically: there the tests need a compiler for Linux.
IS_ARM = platform.machine() == "aarch64" and platform.system() == "Linux"
FLAGS = ["-std=gnu++17", "-fno-math-errno", "-fno-trapping-math", "-ffp-contract=fast", "-Wno-psabi", "-DNRC_FAST_NEON"]
PAIRS = ["-march=armv8.2-a+bf16"]


def compiled(target: Path, sources: list[str], *flags: str) -> Path:
    tool = require_tool("c++" if IS_ARM else "aarch64-linux-gnu-g++")
    paths = [str(ROOT / source) for source in sources]
    subprocess.run([tool, *FLAGS, *flags, f"-I{ROOT / 'csrc'}", *paths, "-o", str(target)], check=True)
    return target


def run_on_arm(program: Path, processor: str) -> str:
    command = [str(program)] if IS_ARM else [require_tool("qemu-aarch64-static"), "-cpu", processor, str(program)]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


@pytest.mark.long
def test_tiles_of_every_width(tmp_path: Path) -> None:
    """Six rows of a tile and three vectors: every width from 1 to 40 against plain sums."""
    stems = ("gram/gram", "gram/neon", "target_sums/target_sums", "machine/thread_pool", "machine/buffer")
    sources = ["tests/kernels/gram_tiles.cpp", *(f"csrc/cpu/{stem}.cpp" for stem in stems)]
    program = compiled(tmp_path / "tiles", sources, "-O2", "-static", "-pthread")
    assert run_on_arm(program, "cortex-a72") == "40 widths, 0 wrong sums\n"


@pytest.mark.long
@pytest.mark.parametrize("kernel", ["neon", "baseline"])
def test_sums_of_targets_are_pairs(kernel: str, tmp_path: Path) -> None:
    """Every processor of Arm contracts products with sums, where the compiler is not told to leave them."""
    stems = (f"target_sums/{kernel}", "target_sums/target_sums", "machine/thread_pool", "machine/buffer")
    sources = ["tests/kernels/target_sums.cpp", *(f"csrc/cpu/{stem}.cpp" for stem in stems)]
    flags = ["-ffp-contract=off", *([] if kernel == "neon" else ["-UNRC_FAST_NEON"])]
    program = compiled(tmp_path / "targets", sources, "-O2", "-static", "-pthread", *flags)
    assert run_on_arm(program, "cortex-a72") == "40 shapes, 0 wrong sums\n"


@pytest.mark.long
def test_pairs_are_multiplied_as_defined_and_wrong_kernels_are_not_offered(tmp_path: Path) -> None:
    """BFDOT against its two additions, each rounded to odd."""
    stems = ("gram/check_pairs", "machine/buffer")
    sources = ["tests/kernels/bfloat16_pairs.cpp", *(f"csrc/cpu/{stem}.cpp" for stem in stems)]
    program = compiled(tmp_path / "pairs", sources, "-O1", "-static", *PAIRS)
    assert run_on_arm(program, "max") == "0 wrong products; right: 1; wrong: 0 0 0 0\n"


@pytest.mark.parametrize(
    ("name", "product", "flags"),
    [
        ("neon", r"fmla\tv\d+\.4s, v\d+\.4s, v\d+\.(s\[0\]|4s)", []),
        ("neonbf16", r"bfdot\tv\d+\.4s, v\d+\.8h, v\d+\.2h\[0\]", PAIRS),
    ],
)
def test_products_take_factors_by_their_place_and_stay_in_registers(
    name: str, product: str, flags: list[str], tmp_path: Path
) -> None:
    target = compiled(tmp_path / "gram.s", [f"csrc/cpu/gram/{name}.cpp"], "-O3", "-fno-schedule-insns", "-S", *flags)
    lines = target.read_text().splitlines()
    places = [i for i, line in enumerate(lines) if re.fullmatch(rf"\t{product}", line)]
    # Strips of 6 rows and 1, 2 or 3 vectors, written out for an even and an odd number of rows.
    assert len(places) >= 6 * (1 + 2 + 3)
    # Between two products, as in the loops: nothing goes to the stack and back.
    between = [line for first, last in pairwise(places) if last - first < 8 for line in lines[first:last]]
    assert len(between) > len(places)
    assert [line for line in between if re.search(r"\t(st|ld)[rp]\tq.*\[sp", line)] == []
    if name == "neon":
        by_place = [i for i in places if lines[i].endswith(".s[0]")]
        assert len(by_place) > len(places) / 2
