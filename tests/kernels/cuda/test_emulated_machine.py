"""The emulated device itself: its tensor cores, the limits of cards, its memory and its arithmetic."""

from __future__ import annotations

import mmap
import platform
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.guarded import guarded_bytes, guarded_copy
from support.tensor_cores import CORES, sum_of_products

MODULES = ["_cuda_emulation", "_cuda_emulation_races"]


@pytest.fixture
def core(cuda_core: Any) -> Any:
    return cuda_core.Emulation().core


def widened(bits: Any, kind: str) -> list[float]:
    if kind == "float16":
        return [float(value) for value in bits.view(np.float16)]
    return [float(value) for value in (bits.astype(np.uint32) << 16).view(np.float32)]


def operands(kind: str, spread: int, rng: np.random.Generator) -> Any:
    """16 numbers of 16 bits whose exponents lie within some powers of two, and zeros among them."""
    numbers = np.ldexp(rng.uniform(-2.0, 2.0, 16), rng.integers(-spread, spread + 1, 16)) * (rng.random(16) < 0.9)
    if kind == "float16":
        return numbers.astype(np.float16).view(np.uint16)
    return (numbers.astype(np.float32).view(np.uint32) >> 16).astype(np.uint16)


@pytest.mark.parametrize("kind", ["bfloat16", "float16"])
@pytest.mark.parametrize("capability", CORES)
def test_sums_of_products_are_those_of_the_card_bit_by_bit(core: Any, capability: int, kind: str) -> None:
    rng = np.random.default_rng(capability)
    unlike = 0
    for number in range(400):
        left, right = (operands(kind, [0, 3, 12][number % 3], rng) for _ in range(2))
        factors = widened(left, kind), widened(right, kind)
        exact = float(np.dot(*map(np.array, factors)))
        # Near the products, of the opposite sign, none, and far away.
        start = float(np.float32([exact, -exact, 0.0, 1e4 * exact][number % 4]))
        found = core.dot_add(capability, kind, start, list(left), list(right))
        assert found == sum_of_products(CORES[capability], start, *factors)
        unlike += found != np.float32(exact + start)
    assert unlike > 50  # a model that rounds to nearest would not do


def test_cards_differ(core: Any) -> None:
    """1, and 15 products of 2^-24: a grid without extra bits loses all of them, one with a bit or two none."""
    ones = np.array([0x3F80] + [0x3980] * 15, np.uint16)  # 1 and 2^-12
    found = {capability: core.dot_add(capability, "bfloat16", 0.0, list(ones), list(ones)) for capability in CORES}
    assert found[75] == 1.0
    # Seven products are with the 1 at once, and eight are added to a sum that has room for them.
    assert found[80] == found[86] == found[89] == 1.0 + (7 // 2 + 8 // 2) * 2.0**-23
    assert found[90] == found[100] == found[120] == 1.0 + 15 // 2 * 2.0**-23


@pytest.mark.parametrize("capability", [75, 80, 86, 89, 90, 100, 120])
def test_launches_that_a_card_refuses(core: Any, capability: int) -> None:
    core.configure(capability=capability)
    (card,) = (card for card in core.cards() if card["capability"] == capability)
    most = card["shared_per_block"]
    core.require_launch((2**31 - 1, 65535, 65535), 1024, most)
    for grid in ((0, 1, 1), (1, 0, 1), (1, 1, 0), (2**31, 1, 1), (1, 65536, 1), (1, 1, 65536)):
        with pytest.raises(RuntimeError, match="a kernel: CUDA says cudaErrorInvalidConfiguration: a grid of"):
            core.require_launch(grid, 32, 0)
    for threads in (0, 1025):
        with pytest.raises(RuntimeError, match=f"cudaErrorInvalidConfiguration: {threads} threads a block; from 1"):
            core.require_launch((1, 1, 1), threads, 0)
    with pytest.raises(RuntimeError, match=f"cudaErrorInvalidValue: {most + 1} bytes of shared memory; {most} are"):
        core.require_launch((1, 1, 1), 32, most + 1)
    # A block's share of the memory of a multiprocessor: from sm_80 on the runtime keeps a kilobyte of it.
    assert card["shared_per_multiprocessor"] == most + (0 if capability == 75 else 1024)


def test_cards_that_are_not_known(core: Any) -> None:
    with pytest.raises(ValueError, match="no card of compute capability 70"):
        core.configure(capability=70)
    with pytest.raises(ValueError, match="at least one block"):
        core.configure(blocks_at_once=0)


@pytest.mark.parametrize("module", MODULES)
def test_memory_lies_between_guard_pages(cuda_core: Any, module: str) -> None:
    core = cuda_core.emulation(module)
    for size, alignment in ((1, 1), (24, 16), (4096, 16), (4097, 1), (5000, 256)):
        memory = guarded_bytes(core, size, alignment)
        assert (memory == 255).all()
        memory[:] = 7
        address = memory.ctypes.data
        assert address % alignment == 0
        assert -(address + size) % mmap.PAGESIZE == -size % alignment  # flush against the page after it
        rights = {start: kind for start, _, kind in mappings() if start in (address + size + -size % alignment,)}
        assert rights == {address + size + -size % alignment: "---p"}
    numbers = np.arange(6.0).reshape(2, 3)
    assert (guarded_copy(core, numbers) == numbers).all()


def mappings() -> list[tuple[int, int, str]]:
    lines = (line.split() for line in Path("/proc/self/maps").read_text(encoding="utf-8").splitlines())
    return [(*(int(end, 16) for end in line[0].split("-")), line[1]) for line in lines]  # type: ignore[misc]


@pytest.mark.skipif(platform.machine() not in ("x86_64", "aarch64"), reason="knows where products are contracted")
def test_both_ways_to_round_products(cuda_core: Any) -> None:
    """One module adds to products that are not rounded, as the code of nvcc does, the other to rounded ones."""
    has_fma = platform.machine() == "aarch64" or " fma " in Path("/proc/cpuinfo").read_text(encoding="utf-8")
    assert [cuda_core.emulation(name).contracts_products() for name in MODULES] == [has_fma, False]


def test_a_late_wait_does_not_hide_what_is_wrong(core: Any) -> None:
    """Blocks that take turns keep their own shared memory."""
    numbers = []
    for blocks_at_once in (1, 2):
        core.configure(order="shuffled", seed=2, blocks_at_once=blocks_at_once)
        memory = guarded_copy(core, np.zeros(core.probe_numbers, np.int64))
        core.run_probe("write, barrier, read", memory.ctypes.data)
        numbers.append(memory.copy())
    assert (numbers[0][4:] == 1).all()
    assert (numbers[0] == numbers[1]).all()


@pytest.mark.parametrize("module", MODULES)
def test_a_workspace_that_is_shorter_than_is_said(cuda_core: Any, module: str, monkeypatch: pytest.MonkeyPatch) -> None:
    backend = cuda_core.Emulation(module)
    short = guarded_bytes(backend.core, 256, 256)
    monkeypatch.setattr(backend, "workspace", lambda _: (short, short.ctypes.data))
    with pytest.raises(RuntimeError, match=r"bytes past the end of an allocation of 256 bytes"):
        cuda_core.gram(backend, cuda_core.stored(np.ones((20, 5)), "float64"), unit="raw")
