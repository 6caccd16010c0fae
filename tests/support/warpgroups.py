"""Where the PTX ISA says that matrices of warpgroup products lie, written from its tables alone, and the Gram kernel of
warpgroups as the tests call it.

Nothing here is of the kernels or of the emulated device, which are held against it.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

from numpy.typing import NDArray

from support import cuda_core

# Swizzling modes of the 2-bit field, and bytes within which they permute.
SPANS = {0: 16, 1: 128, 2: 64, 3: 32}


def encode(x: int) -> int:
    """`matrix-descriptor-encode`."""
    return (x & 0x3FFFF) >> 4


def descriptor(start: int, leading: int, stride: int, mode: int) -> int:
    """The fields of a matrix descriptor, put together from a string of its 64 bits."""
    bits = ["0"] * 64
    for first, width, value in (
        (0, 14, encode(start)),
        (16, 14, encode(leading)),
        (32, 14, encode(stride)),
        (62, 2, mode),
    ):
        bits[first : first + width] = reversed(f"{value:0{width}b}")
    return int("".join(reversed(bits)), 2)


def swizzle(address: int, mode: int) -> int:
    """Swizzle<B, 4, 3> of a byte address: B bits from 4 on change by those three places higher."""
    for bit in range(SPANS[mode].bit_length() - 5):
        address ^= (address >> (7 + bit) & 1) << (4 + bit)
    return address


def element_address(start: int, leading: int, stride: int, mode: int, place: tuple[int, int]) -> int:
    """Of an MN-major matrix of 16-bit numbers: the canonical layout in elements, and the swizzle of its bytes.

    ((T,w,m),(8,k)):((1,T,LBO),(wT,SBO)) where the mode swizzles, ((T,1,m),(8,k)):((1,T,SBO),(1T,LBO)) where not.
    """
    i, k = place
    t, w = 8, SPANS[mode] // 16
    outer, inner_k = (leading, stride) if mode else (stride, leading)
    elements = i % t + i // t % w * t + k % 8 * w * t
    return swizzle(start + 2 * elements + i // (t * w) * outer + k // 8 * inner_k, mode)


def box_in_shared_memory(values: NDArray[Any], address: int) -> dict[int, int]:
    """The 16-bit numbers of a box of 64 columns that is copied to an address with the 128-byte swizzle, by address."""
    rows, columns = values.shape
    return {
        swizzle(address + 2 * (row * columns + column), 1): int(values[row, column])
        for row in range(rows)
        for column in range(columns)
    }


@contextlib.contextmanager
def warpgroups(core: Any) -> Iterator[None]:
    """The kernel runs on the device of a module within this."""
    core.allow_warpgroups(0, runs=True)
    try:
        yield
    finally:
        core.allow_warpgroups(0, runs=False)


def warpgroup_gram(backend: Any, rows: cuda_core.Stored, **options: Any) -> tuple[cuda_core.Gram, list[str]]:
    """A Gram pass with the kernel allowed, and the names of what it launched."""
    machine = {
        key: options.pop(key) for key in ("order", "copies", "seed", "fault", "multiprocessors") if key in options
    }
    with warpgroups(backend.core):
        backend.core.configure(keeps_records=True, **machine)
        found = cuda_core.gram(backend, rows, **options)
    return found, [launch[0] for launch in backend.core.launched()]
