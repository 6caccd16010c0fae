"""Whether the Gram kernel of Hopper's own instructions runs: where it is asked for and the card has passed its probes.

No card has run it yet. It is off, unless the environment variable NRC_FAST_HOPPER is 1; then three probes, each of one
instruction that it rests on, run on a card before anything else does, and what they give is held against what is known
exactly. A card that fails them, or has no such instructions, is an error.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from types import ModuleType
from typing import TYPE_CHECKING, Protocol

import numpy as np

from nrc_fast.base.arrays import StoredArray
from nrc_fast.kernels.arrays import DTYPES

if TYPE_CHECKING:
    from torch import Tensor
    from torch.cuda import Stream

__all__ = ["VARIABLE", "Probe", "enable_if_asked", "is_asked_for", "probe_calls", "probes_of"]

VARIABLE = "NRC_FAST_HOPPER"
CAPABILITY = (9, 0)
ARCHITECTURE = "90a"

BOX = 64  # rows and columns of a box
CHUNK = 8  # columns that stay together in shared memory, and rows after which their order repeats


@dataclass(frozen=True)
class Probe:
    """What a probe has found: how many numbers are not what they must be, and the first of them in words."""

    name: str
    wrong: int
    first: str

    def __str__(self) -> str:
        return f"{self.name}: " + (f"{self.wrong} numbers are wrong, {self.first}" if self.wrong else "ok")


class TriedDevice(Protocol):
    """What probes need of a `CudaDevice`."""

    @property
    def core(self) -> ModuleType: ...
    @property
    def index(self) -> int: ...
    @property
    def name(self) -> str: ...
    @property
    def stream(self) -> Callable[[], Stream]: ...
    def place(self, array: StoredArray) -> Tensor: ...
    def fetch(self, tensor: Tensor) -> StoredArray: ...
    def is_capturing(self) -> bool: ...
    def __hash__(self) -> int: ...


def is_asked_for() -> bool:
    """Whether the environment asks for the kernel.

    Raises
    ------
    ValueError
        The variable is neither 0 nor 1.

    Examples
    --------
    >>> is_asked_for()
    False
    """
    text = os.environ.get(VARIABLE, "0")
    if text not in ("0", "1", ""):
        msg = f"environment variable {VARIABLE} is {text!r}; 1 asks for the Gram kernel of Hopper cards, 0 does not"
        raise ValueError(msg)
    return text == "1"


def enable_if_asked(device: TriedDevice) -> None:
    """Try a device's instructions and let the kernel run there, once in a process, if the environment asks for it.

    Raises
    ------
    RuntimeError
        The card, or this build, has no such instructions, or a probe has failed.
    """
    if is_asked_for():
        _enable(device)


@functools.cache  # of what has passed: an error is found out again
def _enable(device: TriedDevice) -> None:
    reason = _unfit(device) or _failures(device)
    if reason:
        msg = f"{VARIABLE}=1 asks for the Gram kernel of Hopper cards, which {device.name} cannot run: {reason}. "
        msg += f"Unset {VARIABLE} to compute with the other kernels"
        raise RuntimeError(msg)
    device.core.allow_warpgroups(device.index, runs=True)


def _unfit(device: TriedDevice) -> str:
    """Why a device has no such instructions; empty where it has."""
    capability = device.core.device_capability(device.index)
    if capability != CAPABILITY:
        return f"its compute capability is {'.'.join(map(str, capability))}, not 9.0"
    built = device.core.build_config()["architectures"]
    if ARCHITECTURE not in built and any(built):
        return f"nrc_fast was built for {', '.join(built)} and not for {ARCHITECTURE}"
    if device.is_capturing():
        return "the stream records a CUDA graph, in which nothing can be tried; measure once before"
    return ""


def _failures(device: TriedDevice) -> str:
    """What is wrong with the probes; empty where all pass."""
    try:
        return "; ".join(str(probe) for probe in probes_of(device) if probe.wrong)
    except RuntimeError as error:  # of the launch, or of what it did there
        return f"a probe ends with an error ({error})"


# ---- the probes ----


def probes_of(device: TriedDevice) -> Iterator[Probe]:
    """Run the probes one after the other; waits for each."""
    return (probe() for _, probe in probe_calls(device))


def probe_calls(device: TriedDevice) -> Iterator[tuple[str, Callable[[], Probe]]]:
    """The probes by their names, none of which has run."""
    for dtype in ("bfloat16", "float16"):
        for columns in (BOX, 2 * BOX):
            yield _named(f"product of 64 x {columns}, {dtype}", functools.partial(_product, device, dtype, columns))
    for column, row in ((0, 0), (BOX, 0), (0, BOX), (BOX, BOX), (2 * BOX, 0), (0, 2 * BOX)):
        yield _named(f"box at column {column}, row {row}", functools.partial(_box, device, column, row))
    yield _named("ring of boxes", functools.partial(_ring, device))


# What a probe gives, and what it must give.
_Read = Callable[[], tuple[StoredArray, StoredArray]]


def _named(name: str, read: _Read) -> tuple[str, Callable[[], Probe]]:
    return name, lambda: _compared(name, *read())


def _product(device: TriedDevice, dtype: str, columns: int) -> tuple[StoredArray, StoredArray]:
    """One product of a warpgroup, of rows that threads have written to shared memory."""
    values = np.random.default_rng(columns).integers(-8, 9, (16, 2 * BOX)).astype(np.float32)
    bits = values.astype(np.float16).view(np.int16) if dtype == "float16" else _bfloat16_bits(values)
    rows = device.place(bits)
    sums = device.place(np.full((BOX, columns), np.nan, np.float32))
    device.core.probe_product(
        rows.data_ptr(),
        sums.data_ptr(),
        dtype=DTYPES[dtype],
        columns=columns,
        device=device.index,
        stream=device.stream().cuda_stream,
    )
    return device.fetch(sums), values[:, :BOX].T @ values[:, :columns]


def _bfloat16_bits(values: StoredArray) -> StoredArray:
    """Of numbers that bfloat16 has."""
    return (values.view(np.uint32) >> 16).astype(np.uint16).view(np.int16)


def _matrix(device: TriedDevice, values: Tensor, *, rows: int, columns: int) -> object:
    """The first columns of contiguous rows, of any 16 bits."""
    return device.core.Matrix(
        values.data_ptr(),
        rows=rows,
        columns=columns,
        row_stride=values.shape[1],
        column_stride=1,
        dtype=DTYPES["bfloat16"],
    )


def _box(device: TriedDevice, column: int, row: int) -> tuple[StoredArray, StoredArray]:
    """One copy of a box, which may lie partly or wholly outside of the matrix."""
    height, width, stride = 101, 90, 96
    stored = np.arange(1, height * stride + 1).reshape(height, stride).astype(np.int16)
    matrix, box = device.place(stored), device.place(np.full((BOX, BOX), -1, np.int16))
    device.core.probe_box(
        _matrix(device, matrix, rows=height, columns=width),
        column=column,
        row=row,
        box=box.data_ptr(),
        device=device.index,
        stream=device.stream().cuda_stream,
    )
    inside = stored[row : row + BOX, column : min(column + BOX, width)]
    plain = np.zeros((BOX, BOX // CHUNK, CHUNK), np.int16)
    plain.reshape(BOX, BOX)[: inside.shape[0], : inside.shape[1]] = inside
    expected = np.empty_like(plain)
    for r in range(BOX):
        expected[r, np.arange(BOX // CHUNK) ^ r % CHUNK] = plain[r]
    return device.fetch(box), expected.reshape(BOX, BOX)


def _ring(device: TriedDevice) -> tuple[StoredArray, StoredArray]:
    """Boxes that come through a ring of stages, around which the phases of its barriers go many times."""
    turns = 50
    values = np.random.default_rng(7).integers(0, 30_000, (turns * BOX - 13, BOX)).astype(np.int16)
    matrix, sums = device.place(values), device.place(np.full(device.core.ring_sums, -1, np.int64))
    device.core.probe_ring(
        _matrix(device, matrix, rows=len(values), columns=BOX),
        sums=sums.data_ptr(),
        device=device.index,
        stream=device.stream().cuda_stream,
    )
    threads_of_column = device.core.ring_sums // BOX
    expected = np.concatenate(
        [values[first::threads_of_column].sum(axis=0, dtype=np.int64) for first in range(threads_of_column)]
    )
    return device.fetch(sums), expected


def _compared(name: str, found: StoredArray, expected: StoredArray) -> Probe:
    wrong = np.argwhere(found != expected)  # NaN is wrong too
    if len(wrong) == 0:
        return Probe(name, 0, "")
    place = tuple(map(int, wrong[0]))
    return Probe(name, len(wrong), f"that at {place} is {found[place]} and not {expected[place]}")
