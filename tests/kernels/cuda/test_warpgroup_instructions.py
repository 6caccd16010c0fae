"""What Hopper's instructions do on the emulated device, against the tables of the PTX ISA, and the three probes there.

A probe that passes with a fault of the machine, or without one of its waits and fences, would pass on a card that is
not as it must be.
"""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest
from support.barriers import barriers_in_sources, reached
from support.guarded import guarded_copy
from support.warpgroups import box_in_shared_memory, descriptor, element_address

from nrc_fast.kernels.cuda.hopper import probes_of

MACHINES = [
    {},
    {"copies": "early"},
    {"order": "backward", "copies": "early", "seed": 1},
    {"order": "shuffled", "seed": 3},
    {"order": "ahead", "seed": 5},
]
# Of a probe in whose place another one would have to look: each wait is needed where the probes are.
PROBES = sorted({barrier for barrier in barriers_in_sources() if barrier.file.startswith("probes/")}, key=str)


@pytest.fixture(params=["_cuda_emulation", "_cuda_emulation_races"])
def backend(request: pytest.FixtureRequest, cuda_core: Any) -> Any:
    return cuda_core.Emulation(request.param)


@pytest.fixture
def races(cuda_core: Any) -> Any:
    return cuda_core.Emulation("_cuda_emulation_races")


# ---- descriptors ----


def test_descriptors_are_those_of_the_table_bit_by_bit(backend: Any) -> None:
    for address in (0, 16, 1024, 2048, 8192 + 1024, 196_608, 0x3FC00):
        for box_bytes in (2048, 4096, 8192, 16384):
            expected = descriptor(address, box_bytes, 1024, 1)
            assert backend.core.matrix_descriptor(address, box_bytes) == expected, (address, box_bytes)
    # As the documentation counts in one of its examples.
    assert descriptor(0, 256 * 2, 512 * 2, 2) == 32 << 16 | 64 << 32 | 2 << 62


@pytest.mark.parametrize("mode", [0, 1, 2, 3])
def test_elements_lie_where_the_canonical_layout_has_them(backend: Any, mode: int) -> None:
    for start, leading, stride in ((0, 8192, 1024), (2048, 4096, 2048), (99_328, 512, 256)):
        bits = descriptor(start, leading, stride, mode)
        for i in range(128):
            for k in range(16):
                expected = element_address(start, leading, stride, mode, (i, k))
                assert backend.core.element_address(bits, i, k) == expected, (i, k)


def test_descriptors_that_are_not_documented_are_refused(backend: Any) -> None:
    good = descriptor(1024, 8192, 1024, 1)
    backend.core.element_address(good, 0, 0)
    for bit in (49, 50, 51):
        with pytest.raises(ValueError, match="base offset"):
            backend.core.element_address(good | 1 << bit, 0, 0)
    for bit in (14, 15, 30, 31, 46, 48, 52, 61):
        with pytest.raises(ValueError, match="no field has"):
            backend.core.element_address(good | 1 << bit, 0, 0)


def test_a_wrong_bit_of_a_descriptor_is_another_place() -> None:
    """Each bit of the fields that a tile uses moves an element of it."""
    places = [(i, k) for i in range(128) for k in range(16)]
    start, leading, stride = 2048, 8192, 1024
    known = [element_address(start, leading, stride, 1, place) for place in places]
    for other in (
        *((start ^ 1 << bit, leading, stride, 1) for bit in range(4, 18)),
        *((start, leading ^ 1 << bit, stride, 1) for bit in range(4, 18)),
        *((start, leading, stride ^ 1 << bit, 1) for bit in range(4, 18)),
        *((start, leading, stride, mode) for mode in (0, 2, 3)),
    ):
        assert [element_address(*other, place) for place in places] != known, other


def test_accumulators_are_shared_out_as_documented(backend: Any) -> None:
    """Of 64 x n: a warp has 16 rows, four lanes a row; registers go by two, eight rows down and eight columns on."""
    for count in (32, 64):
        found = {backend.core.product_element(thread, reg) for thread in range(128) for reg in range(count)}
        assert found == {(row, column) for row in range(64) for column in range(2 * count)}
    for thread, reg, place in ((0, 0, (0, 0)), (1, 1, (0, 3)), (4, 0, (1, 0)), (0, 2, (8, 0)), (37, 7, (25, 11))):
        assert backend.core.product_element(thread, reg) == place


def test_chunks_of_a_box_are_where_the_swizzle_puts_them(backend: Any) -> None:
    lying = box_in_shared_memory(np.arange(16 * 64).reshape(16, 64), 3 * 1024)
    for row in range(16):
        for chunk in range(8):
            place = 3 * 1024 + backend.core.box_chunk_offset(row, chunk)
            assert [lying[place + 2 * e] for e in range(8)] == list(
                range(row * 64 + chunk * 8, row * 64 + chunk * 8 + 8)
            )


# ---- tensor maps ----


def test_tensor_maps_that_the_driver_refuses(backend: Any) -> None:
    good: dict[str, Any] = {"dimensions": (90, 100), "row_bytes": 192, "box": (64, 64), "swizzle": 3}
    backend.core.require_tensor_map(4096, **good)
    for address, change, message in (
        (4104, {}, "address is no multiple of 16"),
        (4096, {"dimensions": (0, 100)}, "dimension is not from 1"),
        (4096, {"dimensions": (90, 2**32 + 1)}, "dimension is not from 1"),
        (4096, {"row_bytes": 184}, "no multiple of 16 below"),
        (4096, {"row_bytes": 2**40}, "no multiple of 16 below"),
        (4096, {"row_bytes": 176}, "rows lie in one another"),
        (4096, {"row_bytes": 0}, "rows lie in one another"),
        (4096, {"box": (64, 0)}, "not from 1 to 256"),
        (4096, {"box": (64, 257)}, "not from 1 to 256"),
        (4096, {"box": (60, 64)}, "no multiple of 16 bytes"),
        (4096, {"box": (72, 64)}, "longer than what the swizzling mode permutes"),
        (4096, {"swizzle": 7}, "not known here"),
    ):
        with pytest.raises(RuntimeError, match=f"cuTensorMapEncodeTiled: the CUDA driver says error 1 .*{message}"):
            backend.core.require_tensor_map(address, **(good | change))


# ---- the probes ----


@pytest.mark.parametrize("machine", MACHINES, ids=str)
def test_probes_pass(backend: Any, machine: dict[str, Any]) -> None:
    backend.core.configure(**machine)
    assert [str(probe) for probe in probes_of(backend.device()) if probe.wrong] == []


@pytest.mark.parametrize(
    ("fault", "failing"),
    [
        ("not_swizzled", ["product"] * 4),
        ("wrong_phase", ["box"] * 6),
        ("bytes_missing", ["box"] * 6),
    ],
)
def test_probes_fail_where_the_machine_is_wrong(backend: Any, fault: str, failing: list[str]) -> None:
    backend.core.configure(fault=fault)
    found = failures(backend)
    assert [name for name in found if name == failing[0]] == failing


def failures(backend: Any) -> list[str]:
    """The kinds of the probes that fail, up to one that ends with an error."""
    found = []
    probes = probes_of(backend.device())
    kinds = iter(["product"] * 4 + ["box"] * 6 + ["ring"])
    for kind in kinds:
        try:
            wrong = next(probes).wrong
        except RuntimeError:
            # The iterator has ended with its error: what follows of the kind would end alike.
            return found + [kind] * (1 + list(kinds).count(kind))
        if wrong:
            found.append(kind)
    return found


@pytest.mark.parametrize("barrier", PROBES, ids=str)
def test_probes_need_each_of_their_waits_and_fences(races: Any, barrier: Any) -> None:
    races.core.configure(keeps_records=True, left_out_file=barrier.file, left_out_line=barrier.line)
    assert failures(races)
    assert barrier.place in reached(races.core)


def test_what_is_said_of_a_ring_that_stands_still(backend: Any) -> None:
    backend.core.configure(fault="bytes_missing")
    matrix = guarded_copy(backend.core, np.ones((64, 64), np.int16))
    sums = guarded_copy(backend.core, np.zeros(256, np.int64))
    rows = backend.core.Matrix(matrix.ctypes.data, 64, 64, 64, 1, 3)
    pattern = (
        r"probe_ring: threads of a block wait .* 256 wait for the end of a phase of parity 0 of the barrier at byte \d+"
    )
    with pytest.raises(RuntimeError, match=pattern + r" of shared memory, which 0 arrivals and -1024 bytes lack"):
        backend.core.probe_ring(rows, sums=sums.ctypes.data, device=0, stream=0)


def test_probes_are_for_hopper_cards(backend: Any) -> None:
    for capability in (80, 89, 100, 120):
        backend.core.configure(capability=capability)
        for call in (lambda: next(probes_of(backend.device())), lambda: backend.core.allow_warpgroups(0, runs=True)):
            with pytest.raises(ValueError, match=re.escape(f"compute capability {capability / 10:.1f}; warpgroups")):
                call()
    backend.core.configure()
    with pytest.raises(ValueError, match="dtype code 1 is not that of float16 or bfloat16"):
        backend.core.probe_product(0, 0, dtype=1, columns=64, device=0, stream=0)
    with pytest.raises(ValueError, match="64 or 128 columns"):
        backend.core.probe_product(0, 0, dtype=2, columns=96, device=0, stream=0)
