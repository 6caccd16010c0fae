"""Grams of bfloat16 rows by pairs of them, on emulated instructions, and the machine code for the real ones."""

from __future__ import annotations

import platform
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from support.tools import ROOT, must_be_complete, require_tool

import nrc_fast as nrc
from nrc_fast import kernels
from nrc_fast.kernels.calls import gram
from nrc_fast.kernels.cpu.sums import first_mean
from nrc_fast.kernels.errors import NonFiniteRowsError
from nrc_fast.kernels.inputs import as_rows
from nrc_fast.kernels.results import GramSums
from nrc_fast.testing import reference_rows

EMULATED = ["avx512bf16-emulated", "amx-emulated"]
# What computes everything but the Gram.
HOSTS = {"avx512bf16-emulated": "avx512", "amx-emulated": "avx512", "neonbf16": "neon"}
IS_ARM = platform.machine() in ("aarch64", "arm64")
DTYPE = "torch.bfloat16" if find_spec("torch") else "ml_dtypes.bfloat16"
BLOCK = 256
FLAGS = ["-O3", "-std=gnu++17", "-fno-math-errno", "-fno-trapping-math", "-ffp-contract=fast", "-fPIC", "-Wno-psabi"]
AVX512 = ["-mavx2", "-mfma", "-mf16c", *(f"-mavx512{name}" for name in ("f", "bw", "dq", "vl"))]
AVX512 += ["-mprefer-vector-width=512"]

FloatArray = NDArray[np.float64]
SetThreads = Callable[[int], None]


@pytest.fixture(params=["neonbf16"] if IS_ARM else EMULATED)
def paired(request: pytest.FixtureRequest) -> Iterator[str]:
    """An emulated instruction, or that of an Arm processor, in use for one test."""
    if request.param not in kernels.available_isas():
        message = "needs BFDOT" if IS_ARM else "needs AVX-512 and a build with NRC_FAST_BFLOAT16_EMULATION=ON"
        built = request.param in kernels.build_config()["isas"]  # type: ignore[operator]
        pytest.fail(message) if must_be_complete() and not built else pytest.skip(message)
    before = kernels.current_isa()
    kernels.set_isa(request.param)
    yield request.param
    kernels.set_isa(before)


def on_floats(features: Any, **arguments: Any) -> GramSums:
    """The sums by the float32 kernel of the same processor."""
    before = kernels.current_isa()
    kernels.set_isa(HOSTS[before])
    try:
        return gram(as_rows(features, "H"), **arguments)
    finally:
        kernels.set_isa(before)


def mean_of(features: Any) -> FloatArray:
    """The shift that statistics take."""
    return first_mean(as_rows(features, "H"), single=True)


def drawn(kind: str, count: int = 700, width: int = 133) -> Any:
    rng = np.random.default_rng(7)
    values = rng.standard_normal((count, width))
    columns = np.arange(width)
    return {
        "normal": lambda: values,
        "rectified": lambda: np.maximum(values, 0.0),
        "sparse": lambda: np.maximum(values - 1.0, 0.0),
        "small means": lambda: values + rng.uniform(-0.7, 0.7, width),
        "means of a few deviations": lambda: values + 2.0,
        "large means": lambda: values + 20.0,
        "means larger than bfloat16 resolves": lambda: 1e-3 * values + 1000.0,
        "some large means": lambda: values + np.where(columns % 3 == 0, -500.0, 0.1),
        "near collapse": lambda: values[:, :3] @ rng.standard_normal((3, width)) + 1e-4 * values,
        "near collapse, rectified": lambda: np.maximum(values[:, :3] @ rng.standard_normal((3, width)), 0.0),
        "constant and dead": lambda: np.where(columns % 4 == 0, 3.3, np.where(columns % 4 == 1, 0.0, values)),
        "cauchy": lambda: rng.standard_cauchy(values.shape),
        "lognormal": lambda: rng.lognormal(sigma=5.0, size=values.shape),
        "columns of many sizes": lambda: values * np.geomspace(1e-8, 1e8, width),
        "tiny": lambda: 1e-15 * values,
        "subnormal": lambda: 1e-39 * values,
        "huge": lambda: 1e25 * values,
        "one huge column": lambda: values * np.where(columns == 131, 1e17, 1.0),
    }[kind]()


USED = ["normal", "rectified", "sparse", "small means", "large means", "some large means", "near collapse"]
USED += ["near collapse, rectified", "constant and dead", "cauchy", "lognormal", "columns of many sizes"]
LEFT = ["means of a few deviations", "tiny", "one huge column"]


# ---- the instruction ----


def compiler() -> str:
    if platform.machine() != "x86_64":
        pytest.skip("needs an x86 compiler")
    return require_tool("c++")


def compiled(source: str, target: Path, *flags: str, tool: str) -> Path:
    command = [tool, *FLAGS, *AVX512, *flags, f"-I{ROOT / 'csrc'}", "-c", str(ROOT / source), "-o", str(target)]
    subprocess.run(command, check=True)
    return target


def test_emulated_instructions_are_as_defined_and_wrong_kernels_are_not_offered(paired: str, tmp_path: Path) -> None:
    tool = compiler()
    flags = ["-O1", *(["-DNRC_FAST_TEST_TILES"] if paired == "amx-emulated" else [])]
    sources = ["tests/kernels/bfloat16_pairs.cpp", "csrc/cpu/gram/check_pairs.cpp", "csrc/cpu/machine/buffer.cpp"]
    objects = [str(compiled(source, tmp_path / f"{i}.o", *flags, tool=tool)) for i, source in enumerate(sources)]
    program = tmp_path / "pairs"
    subprocess.run([tool, *objects, "-o", str(program)], check=True)
    said = subprocess.run([str(program)], check=True, capture_output=True, text=True).stdout
    assert said == "0 wrong products; right: 1; wrong: 0 0 0 0\n"


def disassembled(target: Path) -> str:
    if not shutil.which("objdump"):
        pytest.skip("needs objdump")
    command = ["objdump", "-d", "-C", "--no-show-raw-insn", str(target)]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


TOOLS = pytest.mark.parametrize("tool", ["c++", pytest.param("clang++", marks=pytest.mark.long)])


@TOOLS
def test_products_of_pairs_stay_in_registers(tool: str, tmp_path: Path) -> None:
    compiler()
    target = compiled("csrc/cpu/gram/avx512bf16.cpp", tmp_path / "pairs.o", "-mavx512bf16", tool=require_tool(tool))
    functions = re.split(r"\n\n(?=[0-9a-f]+ <)", disassembled(target))
    (tile,) = (text for text in functions if "gram_tile" in text.partition("\n")[0])
    products = re.findall(r"vdpbf16ps .*", tile)
    # Strips of 8 rows and 1, 2 or 3 vectors, written out for an even and an odd number of rows.
    assert len(products) >= 8 * (1 + 2 + 3)
    assert all(re.fullmatch(r"vdpbf16ps %zmm\d+,%zmm\d+,%zmm\d+\s*", product) for product in products)
    lines = tile.splitlines()
    near = [any("vdpbf16ps" in line for line in lines[max(i - 8, 0) : i]) for i in range(len(lines) + 8)]
    on_stack = re.compile(r"zmm.*(\(%rsp|-0x[0-9a-f]+\(%rbp\))|(\(%rsp|-0x[0-9a-f]+\(%rbp\)).*zmm")
    # Between two products, as in the loops: what comes after the last one is folded into float64.
    between = [line for i, line in enumerate(lines) if near[i] and near[i + 8]]
    assert len(between) > len(products)
    assert [line for line in between if on_stack.search(line)] == []


@TOOLS
def test_products_of_tiles_stay_in_registers(tool: str, tmp_path: Path) -> None:
    compiler()
    flags = ["-mamx-tile", "-mamx-bf16"]
    listed = disassembled(compiled("csrc/cpu/gram/amx.cpp", tmp_path / "tiles.o", *flags, tool=require_tool(tool)))
    (loop,) = re.findall(r"tilezero %tmm2\n(.*?)tilestored", listed, re.DOTALL)
    steps = re.findall(r"(?:tile|tdp)\w+ .*tmm\d", loop)
    # The left factor, then each right one and its products: nothing is stored before the last rows.
    assert re.findall(r"tdpbf16ps (\S+)", loop) == ["%tmm4,%tmm3,%tmm0", "%tmm5,%tmm3,%tmm1", "%tmm6,%tmm3,%tmm2"]
    assert [step.split()[0] for step in steps] == ["tileloadd", *["tileloadd", "tdpbf16ps"] * 3]
    assert len(re.findall(r"ldtilecfg", listed)) == 1
    assert len(re.findall(r"tilerelease", listed)) >= 1


@pytest.mark.parametrize("source", ["avx512bf16_emulated", "amx_emulated"])
def test_emulated_kernels_have_no_instruction_of_the_real_ones(source: str, tmp_path: Path) -> None:
    listed = disassembled(compiled(f"csrc/cpu/gram/{source}.cpp", tmp_path / "emulated.o", tool=compiler()))
    assert not re.search(r"bf16ps|\btile(?:load|zero|release)", listed)


# ---- sums ----


@pytest.mark.usefixtures("paired")
@pytest.mark.parametrize("kind", [*USED, *LEFT, "means larger than bfloat16 resolves"])
@pytest.mark.parametrize("about", ["zero", "mean"])
def test_sums_are_as_good_as_those_of_float32(arrays: Any, set_threads: SetThreads, kind: str, about: str) -> None:
    features = arrays.store(drawn(kind), DTYPE)
    shift = mean_of(features) if about == "mean" else None
    reference = arrays.gram_reference(features, shift=shift, unit="raw")
    for threads in (1, 3):
        set_threads(threads)
        sums = gram(as_rows(features, "H"), shift=shift, unit="raw")
        reference.check(sums, f"{threads} threads")
        # Everything but the Gram is that of the host.
        plain = on_floats(features, shift=shift, unit="raw")
        assert sums.column_sums.tobytes() == plain.column_sums.tobytes()
        assert sums.unit_gram.tobytes() == plain.unit_gram.tobytes()
        assert sums.zero_rows == plain.zero_rows


@pytest.mark.usefixtures("paired")
@pytest.mark.parametrize("kind", USED)
def test_pairs_serve_where_the_mean_is_small_or_bfloat16_holds_the_deviations(arrays: Any, kind: str) -> None:
    features = arrays.store(drawn(kind), DTYPE)
    shift = mean_of(features)
    assert gram(as_rows(features, "H"), shift=shift).gram.tobytes() != on_floats(features, shift=shift).gram.tobytes()


@pytest.mark.usefixtures("paired")
@pytest.mark.parametrize("kind", [*LEFT, "subnormal", "huge"])
def test_other_rows_are_left_to_float32(arrays: Any, kind: str) -> None:
    features = arrays.store(drawn(kind), DTYPE)
    shift = mean_of(features)
    sums, plain = gram(as_rows(features, "H"), shift=shift), on_floats(features, shift=shift)
    assert sums.gram.tobytes() == plain.gram.tobytes()
    # Squares that leave the range of float32 are left to float64.
    assert sums.double_precision == plain.double_precision == (kind != "means of a few deviations")


@pytest.mark.usefixtures("paired")
def test_each_block_is_judged_alone(arrays: Any, set_threads: SetThreads) -> None:
    set_threads(1)
    values = drawn("normal", 4 * BLOCK - 31)
    values[BLOCK : 2 * BLOCK, 70] = 1e-20
    features = arrays.store(values, DTYPE)
    shift = np.where(np.arange(values.shape[1]) == 70, 0.0, 0.125)
    total = np.zeros_like(shift, shape=(len(shift), len(shift)))
    are_paired = []
    for first in range(0, len(values), BLOCK):
        block = features[first : first + BLOCK]
        found = gram(as_rows(block, "H"), shift=shift).gram
        are_paired.append(found.tobytes() != on_floats(block, shift=shift).gram.tobytes())
        total += found
    assert are_paired == [True, False, True, True]
    assert gram(as_rows(features, "H"), shift=shift).gram.tobytes() == total.tobytes()


@pytest.mark.usefixtures("paired")
def test_few_and_many_rows_and_columns(arrays: Any) -> None:
    shapes = [(count, 1 + 37 * count % 97) for count in range(98)]
    shapes += [(1 + 41 * width % 97, width) for width in range(1, 98)]
    shapes += [(1000, 300), (513, 601), (300, 3000)]
    for count, width in shapes:
        features = arrays.store(drawn("rectified", count, width), DTYPE)
        rng = np.random.default_rng(count)
        targets = rng.standard_normal((count, 2))
        for shift in (None, rng.uniform(0.1, 0.4, width)):
            sums = gram(as_rows(features, "H"), shift=shift, targets=as_rows(targets, "Y"))
            reference = arrays.gram_reference(features, shift=shift, targets=targets)
            reference.check(sums, f"{count} rows of {width}")


@pytest.mark.usefixtures("paired")
@pytest.mark.parametrize("columns_apart", [False, True], ids=["contiguous", "gathered"])
def test_several_blocks_are_packed_at_a_time(arrays: Any, set_threads: SetThreads, columns_apart: bool) -> None:
    count, width = 530, 1501
    values = np.random.default_rng(4).integers(-8, 9, (count, width)).astype(np.float64)
    features = arrays.store(np.ascontiguousarray(values.T), DTYPE).T if columns_apart else arrays.store(values, DTYPE)
    shift = np.tile([0.0, 1.0, -0.5], width)[:width]
    x = values - shift
    gram_of_rows = np.tril(x.T @ x)
    for threads in (1, 64):
        set_threads(threads)
        sums = gram(as_rows(features, "H"), shift=shift)
        np.testing.assert_array_equal(sums.gram, gram_of_rows)
        np.testing.assert_array_equal(sums.column_sums, x.sum(axis=0))


@pytest.mark.usefixtures("paired")
def test_strided_rows_at_any_offset_give_the_same_bits(arrays: Any, set_threads: SetThreads) -> None:
    set_threads(1)  # of fewer rows for each thread, some machines make no pairs
    base = arrays.store(drawn("rectified", 1500, 300), DTYPE)
    for features in (base[1::3, 5:138], base[100:, 1:], base[:, ::2], base.T[3:], base[7:][:, 11:144]):
        shift = mean_of(features)
        copy = arrays.store(np.ascontiguousarray(reference_rows(features)), DTYPE)
        found = gram(as_rows(features, "H"), shift=shift).gram
        assert found.tobytes() == gram(as_rows(copy, "H"), shift=shift).gram.tobytes()
        assert found.tobytes() != on_floats(copy, shift=shift).gram.tobytes()


@pytest.mark.usefixtures("paired")
def test_subnormal_numbers_among_others_are_lost_below_the_least_normal_one(arrays: Any) -> None:
    """The instruction takes them for zeros: less than 2^-126 of each factor, and of each sum."""
    values = drawn("normal", BLOCK)
    rng = np.random.default_rng(3)
    values = np.where(rng.uniform(size=values.shape) < 0.3, 1e-39 * values, values)
    values[rng.uniform(size=values.shape) < 0.2] *= 2.0**-70
    features = arrays.store(values, DTYPE)
    rows = reference_rows(features)
    sums = gram(as_rows(features, "H"))
    assert sums.gram.tobytes() != on_floats(features).gram.tobytes()
    magnitude = np.abs(rows).T @ np.abs(rows)
    allowed = 2.0**-23 * (3.0 + BLOCK**0.5) * magnitude + 2.0**-126 * BLOCK * (1.0 + 2.0 * np.abs(rows).max())
    assert (np.abs(sums.gram - np.tril(rows.T @ rows)) <= np.tril(allowed)).all()


@pytest.mark.usefixtures("paired")
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_rows_that_are_not_finite_are_found(arrays: Any, set_threads: SetThreads, value: float) -> None:
    features = arrays.store(drawn("normal"), DTYPE)
    features[[31, 258, 699], [0, 47, 132]] = value
    for threads in (1, 3):
        set_threads(threads)
        with pytest.raises(NonFiniteRowsError) as caught:
            gram(as_rows(features, "H"), shift=np.full(133, 0.1))
        assert (caught.value.count, caught.value.first) == (3, 31)


@pytest.mark.usefixtures("paired")
@pytest.mark.parametrize("kind", ["rectified", "some large means", "near collapse", "lognormal"])
def test_the_bound_of_the_covariance_holds(arrays: Any, kind: str) -> None:
    features = arrays.store(drawn(kind, 3000), DTYPE)
    statistics = nrc.FeatureStatistics(features.shape[1])
    for first in range(0, 3000, 700):
        statistics.update(features[first : first + 700])
    error = np.linalg.norm(statistics.covariance - np.cov(reference_rows(features).T, bias=True), 2)
    assert 0.0 < error <= statistics.covariance_error
