"""Every barrier of the CUDA kernels is needed: without any one of them the emulated device sees a race."""

from __future__ import annotations

from typing import Any

import pytest
from support.barriers import Barrier, barriers_in_sources, reached, without
from support.small_passes import SMALL_PASSES

# Barriers that may be left out, by file and what stands on their lines, and why they are there all the same.
REDUNDANT: dict[tuple[str, str], str] = {}


@pytest.fixture(scope="module")
def backend(cuda_core: Any) -> Any:
    return cuda_core.Emulation("_cuda_emulation_races")


@pytest.fixture(scope="module")
def whole(backend: Any) -> dict[str, tuple[bytes, set[tuple[str, int]]]]:
    """Numbers of every small pass as it is, and the barriers that it comes to."""
    results = {}
    for work in SMALL_PASSES:
        bits = work.bits(backend, keeps_records=True)
        results[work.name] = bits, reached(backend.core)
    return results


def test_small_passes_come_to_every_barrier(whole: Any) -> None:
    come_to = set().union(*(places for _, places in whole.values()))
    assert come_to == {barrier.place for barrier in barriers_in_sources()}


@pytest.mark.parametrize("barrier", barriers_in_sources(), ids=lambda barrier: f"{barrier.file}:{barrier.line}")
def test_a_barrier_that_is_left_out_is_seen(backend: Any, whole: Any, barrier: Barrier) -> None:
    seen = {}
    for work in SMALL_PASSES:
        bits, places = whole[work.name]
        if barrier.place in places:
            seen[work.name] = without(backend, barrier, work, bits)
            if seen[work.name]:
                break
    is_redundant = (barrier.file, barrier.text) in REDUNDANT
    assert any(seen.values()) != is_redundant, seen
