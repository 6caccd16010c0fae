"""No race in any kernel, in no order of threads and blocks; and what the emulated device takes for a race."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest
from support.code_lines import named_lines
from support.guarded import guarded_copy
from support.small_passes import SMALL_PASSES, SmallPass

# Kernels of two blocks of two warps, and what is said of those that are wrong.
RIGHT = [
    "write, barrier, read",
    "write, barrier of the warp, read of the same",
    "read, barrier, write",
    "a lane reads, it writes",
    "halves of a number",
    "copy, wait, barrier, read",
    "blocks write apart",
    "blocks count",
    "blocks count, and look",
    "blocks look",
]
RACES = {
    "write, read": "writes 4 bytes .*, byte 384 of shared memory, which thread .* reads 4 bytes",
    "write, barrier of the warp, read of another": "writes 4 bytes .* which thread .* reads 4 bytes",
    "write, shuffle, read": "reads 4 bytes .* which thread .* writes 4 bytes",
    "read, write": "reads 4 bytes .* which thread .* writes 4 bytes",
    "all read, one of them writes": "thread 0 of block 0 reads 4 bytes .* which thread 63 of block 0 writes 4 bytes",
    "whole and half of a number": "writes 2 bytes .* which thread .* writes 4 bytes",
    "copy, barrier, read": "reads 4 bytes .* which thread .* copies asynchronously 16 bytes",
    "copy, wait, read": "copies asynchronously 16 bytes .* which thread .* reads 4 bytes",
    "copy, read of one's own": "reads 4 bytes .* which thread 0 of block . copies asynchronously 16 bytes",
    "read, copy": "copies asynchronously 16 bytes .* which thread .* reads 4 bytes",
    "blocks write the same": "thread . of block 1 writes 8 bytes .* byte 32 of an allocation, which .* block 0 writes",
    "a block reads what another writes": "block 1 reads 8 bytes .* an allocation, which .* block 0 writes 8 bytes",
    "a block writes what another reads": "block 1 writes 8 bytes .* an allocation, which .* block 0 reads 8 bytes",
    "blocks count, and read": "reads 8 bytes .* which .* changes atomically 8 bytes",
}
OTHER_FAULTS = {
    "lanes at two shuffles": r"is at shuffle_xor \(\S+probes.cpp:(\d+)\), and thread \d+ of the same warp at "
    r"shuffle_xor \(\S+probes.cpp:(?!\1)\d+\)",
    "warps at two barriers": r"is at synchronize_block \(\S+:(\d+)\), and thread \d+ of the same block at "
    r"synchronize_block \(\S+:(?!\1)\d+\)",
    "a thread leaves": r"63 of 64 are at synchronize_block \(\S+probes.cpp:\d+\), thread 0 the first; 1 have ended",
    "copy at the end": "ends without having waited for its copies",
    "write past the end": "memory 0 bytes past the end of an allocation of 1056 bytes",
    "read far before the beginning": "memory 4800 bytes before an allocation of 1056 bytes",
    "copy past the end": "memory 0 bytes past the end of an allocation of 1056 bytes",
    "shared past the end": "memory 0 bytes past the end of an allocation of 512 bytes",
}
ORDERS = ["forward", "backward", "shuffled", "ahead"]


@pytest.fixture(scope="module")
def backend(cuda_core: Any) -> Any:
    return cuda_core.Emulation("_cuda_emulation_races")


@pytest.fixture(params=["_cuda_emulation", "_cuda_emulation_races"])
def core(request: pytest.FixtureRequest, cuda_core: Any) -> Any:
    return cuda_core.Emulation(request.param).core


def run_probe(core: Any, name: str) -> None:
    memory = guarded_copy(core, np.zeros(core.probe_numbers, np.int64))
    core.run_probe(name, memory.ctypes.data)


@pytest.mark.parametrize("order", ORDERS)
def test_what_is_a_race(backend: Any, order: str) -> None:
    for name in RIGHT:
        backend.core.configure(order=order, seed=5, blocks_at_once=2)
        run_probe(backend.core, name)
    for name, message in RACES.items():
        # Between blocks, either of them may be the first.
        backend.core.configure(order=order, seed=5)
        pattern = message if order == "forward" else "probe: a race: thread"
        with pytest.raises(RuntimeError, match=pattern):
            run_probe(backend.core, name)


@pytest.mark.parametrize("order", ORDERS)
def test_other_faults(core: Any, order: str) -> None:
    for name, message in OTHER_FAULTS.items():
        core.configure(order=order, copies="early", seed=1)
        pattern = message if order == "forward" else message.replace("thread 0 the first", r"thread \d+ the first")
        with pytest.raises(RuntimeError, match=pattern):
            run_probe(core, name)


def test_bytes_just_before_an_allocation(backend: Any) -> None:
    """Too near to it for a page, and known to who sees every access."""
    backend.core.configure()
    with pytest.raises(RuntimeError, match=r"reads 8 bytes .* of memory 8 bytes before an allocation of 1056 bytes"):
        run_probe(backend.core, "read before the beginning")


def test_places_of_a_race_are_lines(backend: Any) -> None:
    backend.core.configure()
    with pytest.raises(RuntimeError) as raised:
        run_probe(backend.core, "write, read")
    text = named_lines(backend.core, str(raised.value))
    lines = [int(line) for line in re.findall(r"at emulation/probes\.cpp:(\d+)", text)]
    assert len(lines) == 2, text
    assert lines[1] == lines[0] + 1


@pytest.mark.parametrize("work", SMALL_PASSES, ids=lambda work: work.name)
def test_no_kernel_has_a_race(backend: Any, work: SmallPass) -> None:
    """Nor do its numbers depend on the order."""
    machines = [
        {},
        {"order": "backward", "copies": "early", "blocks_at_once": 2},
        {"order": "shuffled", "blocks_at_once": 3, "seed": 3},
        {"order": "ahead", "blocks_at_once": 2, "seed": 5},
    ]
    try:
        found = {work.bits(backend, **machine) for machine in machines}
    except RuntimeError as error:
        pytest.fail(named_lines(backend.core, str(error)))
    assert len(found) == 1
