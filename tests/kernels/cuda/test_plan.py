"""The work plan, the tiles and the fragment maps of the CUDA kernels, on the host."""

from __future__ import annotations

from collections import Counter, defaultdict
from typing import Any

import pytest


@pytest.fixture
def core(request: pytest.FixtureRequest) -> Any:
    return request.getfixturevalue("cuda_core").emulation()


WORKERS = [1, 2, 3, 7, 16, 78, 108, 132, 264]
TILES = [1, 2, 3, 6, 10, 36, 131, 132, 133, 136, 528, 2080]


@pytest.mark.parametrize("workers", WORKERS)
@pytest.mark.parametrize("tiles", TILES)
@pytest.mark.parametrize("blocks", [0, 1, 5, 132, 31250, 2**45 + 12345])
def test_plan_covers_every_tile_once_in_equal_parts(core: Any, tiles: int, workers: int, blocks: int) -> None:
    plan = core.WorkPlan(tiles, workers, blocks)
    ranges = defaultdict(list)
    seen = set()
    for worker in range(workers):
        segments = plan.segments(worker)
        for tile, first, last, slab in segments:
            assert 0 <= first <= last <= blocks
            assert slab not in seen
            seen.add(slab)
            ranges[tile].append((first, last, slab))
        share = sum(last - first for _, first, last, _ in segments)
        # Both ends of a segment are rounded down.
        assert abs(share - tiles * blocks / workers) <= len(segments) + blocks * 1e-12
    assert set(ranges) == set(range(tiles))
    assert max(seen) < plan.slab_count()
    for tile, parts in ranges.items():
        # In the order in which the slabs are added, the rows follow one another without a gap.
        order = plan.slabs(tile)
        by_slab = {slab: (first, last) for first, last, slab in parts}
        assert sorted(order) == sorted(by_slab)
        position = 0
        for slab in order:
            assert by_slab[slab][0] == position
            position = by_slab[slab][1]
        assert position == blocks


@pytest.mark.parametrize(("tiles", "workers", "most_segments", "most_slabs"), [(36, 132, 2, 264), (136, 132, 2, 264)])
def test_plan_needs_few_segments(core: Any, tiles: int, workers: int, most_segments: int, most_slabs: int) -> None:
    plan = core.WorkPlan(tiles, workers, 31250)
    assert max(len(plan.segments(worker)) for worker in range(workers)) <= most_segments
    assert plan.slab_count() <= most_slabs


@pytest.mark.parametrize("workers", WORKERS)
@pytest.mark.parametrize("tiles", TILES)
@pytest.mark.parametrize("blocks", [0, 1, 5, 132, 31250])
def test_slabs_without_rows_are_known(core: Any, tiles: int, workers: int, blocks: int) -> None:
    plan = core.WorkPlan(tiles, workers, blocks)
    filled = {slab for worker in range(workers) for _, first, last, slab in plan.segments(worker) if first < last}
    for tile in range(tiles):
        assert plan.filled_slabs(tile) == [slab for slab in plan.slabs(tile) if slab in filled]


@pytest.mark.parametrize("columns", [1, 16, 17, 33, 64, 65, 80, 112, 128, 129, 192, 200, 256, 300])
def test_float64_tiles_cover_the_lower_triangle_once(core: Any, columns: int) -> None:
    elements = [
        element for tile in range(core.double_item_count(columns)) for element in core.double_elements(tile, columns)
    ]
    inside = Counter((row, column) for row, column in elements if 0 <= column <= row < columns)
    assert inside == Counter((row, column) for row in range(columns) for column in range(row + 1))


def test_sums_of_one_read_are_all_moments_once(core: Any) -> None:
    """64 columns, seven targets and ones."""
    inside = Counter((row, column) for row, column in core.moment_elements() if 0 <= column <= row)
    assert inside == Counter((row, column) for row in range(72) for column in range(row + 1))


def test_plan_is_the_same_whatever_the_rows(core: Any) -> None:
    """Slabs go on from one chunk of rows to the next."""
    few, many = (core.WorkPlan(10, 132, blocks) for blocks in (3, 5_000_000))
    for worker in range(132):
        assert [(s[0], s[3]) for s in few.segments(worker)] == [(s[0], s[3]) for s in many.segments(worker)]


def test_lower_tiles_are_numbered_row_by_row(core: Any) -> None:
    expected = [(row, column) for row in range(70) for column in range(row + 1)]
    assert [core.tile_position(index) for index in range(len(expected))] == expected
    assert core.lower_tiles(70) == len(expected)
    row = 2_000_000
    assert core.tile_position(core.lower_tiles(row) + row) == (row, row)


@pytest.mark.parametrize("columns", [64, 128])
@pytest.mark.parametrize("rows", [16, 32])
def test_chunks_of_a_tile_fill_it(core: Any, columns: int, rows: int) -> None:
    offsets = [core.chunk_offset(columns, row, chunk) for row in range(rows) for chunk in range(columns // 8)]
    assert sorted(offsets) == list(range(0, rows * columns * 2, 16))


@pytest.mark.parametrize("columns", [64, 128])
@pytest.mark.parametrize("lane_map", ["left_lane", "right_lane"])
def test_no_two_addresses_of_a_matrix_share_banks(core: Any, columns: int, lane_map: str) -> None:
    for first_row in (0, 16):
        for first_chunk in range(0, columns // 8, 2):
            for matrix in range(4):
                lanes = [getattr(core, lane_map)(8 * matrix + row) for row in range(8)]
                offsets = [core.chunk_offset(columns, first_row + row, first_chunk + chunk) for row, chunk in lanes]
                assert len({offset // 16 % 8 for offset in offsets}) == 8


@pytest.mark.parametrize("columns", [64, 128])
def test_no_two_copies_of_eight_threads_share_banks(core: Any, columns: int) -> None:
    chunks = [(index // (columns // 8), index % (columns // 8)) for index in range(256)]
    for first in range(0, 256, 8):
        offsets = [core.chunk_offset(columns, row, chunk) for row, chunk in chunks[first : first + 8]]
        assert len({offset // 16 % 8 for offset in offsets}) == 8


def test_lanes_address_the_matrices_of_the_operands(core: Any) -> None:
    """PTX ISA, mma.m16n8k16: registers of A go down before they go along k; those of B are k 0-7 and 8-15."""
    left = [core.left_lane(8 * matrix) for matrix in range(4)]
    right = [core.right_lane(8 * matrix) for matrix in range(4)]
    assert left == [(0, 0), (0, 1), (8, 0), (8, 1)]
    assert right == [(0, 0), (8, 0), (0, 1), (8, 1)]


@pytest.mark.parametrize(("size", "threads"), [(64, 128), (128, 128), (128, 256)])
def test_threads_hold_every_element_of_a_tile_once(core: Any, size: int, threads: int) -> None:
    count = size * size // threads
    elements = {
        core.element_of_tile(size, threads, thread, index) for thread in range(threads) for index in range(count)
    }
    assert elements == {(row, column) for row in range(size) for column in range(size)}


@pytest.mark.parametrize(
    ("dtype", "copyable", "scaled", "shifted", "precision", "capability", "method", "planes"),
    [
        ("bfloat16", True, False, False, "high", 80, 0, False),
        ("bfloat16", False, False, False, "high", 90, 0, True),
        ("float16", True, False, False, "fast", 75, 1, False),
        ("bfloat16", True, False, False, "high", 75, 3, False),  # sm_75 multiplies no bfloat16
        ("bfloat16", True, False, True, "high", 90, 2, True),  # h - s has more than 8 bits
        ("float16", True, True, False, "high", 100, 2, True),
        ("float32", True, False, False, "high", 80, 2, True),
        ("float32", True, False, False, "high", 89, 3, False),  # half-rate tensor cores
        ("float32", True, False, False, "high", 120, 3, False),
        ("float32", True, False, False, "fast", 89, 0, True),
        ("float32", True, False, False, "highest", 80, 5, False),
        ("float32", True, False, False, "highest", 75, 4, False),
        ("float64", True, True, True, "fast", 90, 5, False),
        ("float64", True, False, False, "high", 75, 4, False),
    ],
)
def test_choice_of_the_gram_kernel(
    core: Any,
    cuda_core: Any,
    dtype: str,
    copyable: bool,
    scaled: bool,
    shifted: bool,
    precision: str,
    capability: int,
    method: int,
    planes: bool,
) -> None:
    choice = core.gram_choice(
        cuda_core.CODES[dtype], copyable, scaled, shifted, cuda_core.PRECISIONS[precision], capability
    )
    assert choice == (method, planes)
