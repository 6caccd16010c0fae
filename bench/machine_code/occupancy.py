"""How many blocks of a kernel run at once on a multiprocessor: the rules of CUDA's occupancy calculator."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["LIMITS", "Limits", "blocks_at_once"]

WARP = 32


@dataclass(frozen=True)
class Limits:
    """What a multiprocessor has to share out."""

    warps: int
    blocks: int
    shared: int  # bytes
    reserved: int = 1024  # bytes of each block that are the system's, from 8.0 on
    registers: int = 65536
    register_unit: int = 256  # of a warp; these are given away by
    warp_unit: int = 4  # warps of a block are counted in fours: one for each scheduler
    shared_unit: int = 128


# By compute capability; CUDA C++ Programming Guide, "Technical Specifications per Compute Capability".
LIMITS = {
    "75": Limits(warps=32, blocks=16, shared=64 * 1024, reserved=0, shared_unit=256),
    "80": Limits(warps=64, blocks=32, shared=164 * 1024),
    "86": Limits(warps=48, blocks=16, shared=100 * 1024),
    "89": Limits(warps=48, blocks=24, shared=100 * 1024),
    "90": Limits(warps=64, blocks=32, shared=228 * 1024),
    "100": Limits(warps=64, blocks=32, shared=228 * 1024),
    "120": Limits(warps=48, blocks=24, shared=100 * 1024),
}


def blocks_at_once(limits: Limits, threads: int, registers: int, shared: int) -> int:
    """Blocks of one kernel that fit on a multiprocessor.

    Parameters
    ----------
    limits : Limits
        Of the architecture.
    threads, registers, shared : int
        Of a block, of a thread and, in bytes without what is reserved, of a block again.

    Returns
    -------
    int
        0 where not even one fits.
    """
    warps = _up(threads, WARP) // WARP
    by_warps = limits.warps // warps
    of_warp = _up(registers * WARP, limits.register_unit)
    # Each scheduler has a part of the registers, and takes whole warps.
    at_once = limits.registers // of_warp // limits.warp_unit * limits.warp_unit if of_warp else limits.warps
    by_registers = at_once // warps
    taken = _up(shared + limits.reserved, limits.shared_unit)
    by_shared = limits.shared // taken if taken else limits.blocks
    return min(limits.blocks, by_warps, by_registers, by_shared)


def _up(number: int, unit: int) -> int:
    return -(-number // unit) * unit
