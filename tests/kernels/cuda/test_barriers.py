"""Every barrier of the CUDA kernels is needed: without any one of them the emulated device sees a race."""

from __future__ import annotations

from typing import Any

from support.barriers import Barrier, barriers_in_sources, barriers_of, reached, without
from support.small_passes import SMALL_PASSES

BARRIERS = barriers_in_sources()
# Barriers that may be left out, and why: the list is exact.
NO_COPY_IS_LEFT = "no copy is left there: the last groups are empty"
REDUNDANT = {
    "descent/descent.cu descent_kernel 1": "a problem loads where the one before it saved, each number by the same "
    "thread, and the last step ended at a barrier",
    "gram/double_moments.cu gram_moments_kernel 3": NO_COPY_IS_LEFT,
    "gram/double_panels.cu add 3": NO_COPY_IS_LEFT,
    "gram/double_tensor.cu gram_double_tensor_kernel 3": NO_COPY_IS_LEFT,
    "gram/double_wide.cu gram_wide_moments_kernel 3": NO_COPY_IS_LEFT,
    "gram/tensor.cu gram_tensor_kernel 3": NO_COPY_IS_LEFT,
    "gram/tensor_row_tiles.cu gram_row_tiles_kernel 2": NO_COPY_IS_LEFT,
    "gram/tensor_rows.cu gram_rows_kernel 2": NO_COPY_IS_LEFT,
    "residual/tile.h begin_sums 1": "sums are added to behind the barriers of the first projection, which has a step "
    "at least, as there are columns",
    "residual/tile.h find_residuals 1": "what rows and vectors have was written before the barrier of `add_squares`; "
    "what follows here writes where a thread has read itself, or behind the next barrier",
}


def test_barriers_are_found_in_their_functions() -> None:
    text = """
NRC_FAST_DEVICE void one(int a,
                         int b) {
  synchronize_block();  // synchronize_warp() is not enough
  wait_for_copies<Gram::stages - 2>();
}
NRC_FAST_GLOBAL((Gram<parts>::threads), 1)
two_kernel(Arguments arguments) {
  if (a) synchronize_warp();
  keep_order();
}
"""
    assert barriers_of("x.cu", text) == [
        Barrier("x.cu", 4, "one", 1),
        Barrier("x.cu", 5, "one", 2),
        Barrier("x.cu", 9, "two_kernel", 1),
    ]


def test_every_barrier_is_needed(cuda_core: Any) -> None:
    """Left out, it is a race that the emulated device finds, but for those of the list."""
    backend = cuda_core.Emulation("_cuda_emulation_races")
    unseen = set(BARRIERS)
    come_to = set()
    for work in SMALL_PASSES:
        whole = work.bits(backend, keeps_records=True)
        places = reached(backend.core)
        come_to |= places
        unseen -= {one for one in unseen if one.place in places and without(backend, one, work, whole)}
    assert come_to == {barrier.place for barrier in BARRIERS}
    assert set(map(str, unseen)) == set(REDUNDANT)
