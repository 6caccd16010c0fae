"""Rows that lie in a file with any strides, in either byte order, or with the other sign."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from nrc_fast.base.arrays import StoredArray
from nrc_fast.base.json_values import JSONValue
from nrc_fast.kernels.cpu.memory import ReadableFile, open_file
from nrc_fast.kernels.cpu.rows import HostRows
from nrc_fast.kernels.interface import Rows
from nrc_fast.sources.table import ITEM_SIZES, FileStamp, RawTable, Table, storage_dtype

__all__ = ["Placement", "StridedTable", "stored_rows"]

# Read at a time where values that are wanted lie between others.
PIECE_BYTES = 1 << 20
SIGN_OF_BFLOAT16 = 0x8000


@dataclass(frozen=True)
class Placement:
    """Where the values of a matrix are in a file.

    Attributes
    ----------
    offset : int
        Of the first value, in bytes.
    row_stride, column_stride : int
        From a value to that of the next row, and of the next column, in items; not negative.
    is_native : bool
        Whether they have the byte order of this machine.
    is_negated : bool
        Whether the file has them with the other sign.
    """

    offset: int
    row_stride: int
    column_stride: int = 1
    is_native: bool = True
    is_negated: bool = False


def stored_rows(path: Path, name: str, shape: tuple[int, int], dtype: str, placement: Placement) -> Table:
    """A matrix in a file, read by the kernels from its place where they can.

    Parameters
    ----------
    path : Path
    name : str
        How messages call it.
    shape : (int, int)
    dtype : str
    placement : Placement

    Raises
    ------
    OSError
        The file is shorter than the rows need.
    """
    count, columns = shape
    is_dense = placement.column_stride == 1 or columns <= 1
    is_dense = is_dense and (placement.row_stride == columns or count <= 1)
    if is_dense and placement.is_native and not placement.is_negated:
        return RawTable(path=path, name=name, offset=placement.offset, count=count, columns=columns, dtype=dtype)
    return StridedTable(path, name, shape, dtype, placement)


class StridedTable(Table):
    """Rows in an order that the kernels do not read: copied a read at a time, never mapped.

    A mapped file that shrinks kills the process.

    Raises
    ------
    OSError
        The file is shorter than the rows need.
    """

    def __init__(self, path: Path, name: str, shape: tuple[int, int], dtype: str, placement: Placement) -> None:
        self.stamp = FileStamp(path)
        self.files = (path,)
        self.name = name
        self.count, self.columns = shape
        self.dtype = dtype
        self.placement = placement
        size, item = path.stat().st_size, ITEM_SIZES[dtype]
        steps = (self.count - 1) * placement.row_stride + (self.columns - 1) * placement.column_stride
        if self.count and size < placement.offset + (steps + 1) * item:
            msg = f"{name} is truncated: its {self.count} rows end at byte {placement.offset + (steps + 1) * item}"
            msg += f", and the file has {size}"
            raise OSError(msg)

    @property
    def held_bytes(self) -> int:
        """The piece of the file that values are taken out of."""
        return 2 * PIECE_BYTES

    def read(self, first: int, last: int) -> Rows:
        """Rows `first` to `last` in memory; where columns lie one after the other in the file, they do here.

        Raises
        ------
        OSError
            The file has changed, ends before them, or its checksum is another.
        """
        self.stamp.check()
        self.verify()
        place, shape = self.placement, (last - first, self.columns)
        by_columns = place.column_stride > place.row_stride
        out = np.empty(shape[::-1] if by_columns else shape, storage_dtype(self.dtype))
        if out.size:
            strides = (place.row_stride, place.column_stride)
            lines = _Lines(
                place.offset + first * place.row_stride * out.itemsize, *(strides[::-1] if by_columns else strides)
            )
            missing = lines.read(open_file(self.stamp.path), out)
            if missing is not None:
                row = first + missing[1 if by_columns else 0]
                msg = f"row {row} of {self.name} cannot be read: the file ends before it; was it truncated?"
                raise OSError(msg)
        if not place.is_native:
            out.byteswap(inplace=True)
        if place.is_negated and self.dtype == "bfloat16":
            out ^= np.uint16(SIGN_OF_BFLOAT16)
        elif place.is_negated:
            np.negative(out, out=out)
        return HostRows(self.name, out.T if by_columns else out, self.dtype)

    def fingerprint(self) -> list[JSONValue]:
        """Path, size, time, place and order."""
        place = self.placement
        order: list[JSONValue] = [place.row_stride, place.column_stride, place.is_native, place.is_negated]
        return [*self.stamp.fingerprint(), place.offset, self.count, self.columns, self.dtype, *order]


@dataclass(frozen=True)
class _Lines:
    """Lines of values in a file: from byte `offset` on, `stride` items apart, values `step` items apart."""

    offset: int
    stride: int
    step: int

    def read(self, file: ReadableFile, out: StoredArray) -> tuple[int, int] | None:
        """Read an array, a row for each line; the first value that is not there, if there is one."""
        count, values = out.shape
        if self.step == 1 and self.stride == values:
            done = _read_at(file, out, self.offset) // out.itemsize
            return None if done == out.size else divmod(done, values)
        items = max(1, PIECE_BYTES // out.itemsize)
        part_values = min(values, 1 + (items - 1) // max(self.step, 1))
        span = 1 + (part_values - 1) * self.step
        # Several lines at a time, unless most of what lies between them is not wanted.
        lines = 1 + max(items - span, 0) // max(self.stride, 1) if self.stride < 2 * span else 1
        lines = count if self.stride == 0 else lines
        for line in range(0, count, lines):
            for value in range(0, values, part_values):
                missing = self._read_part(file, out[line : line + lines, value : value + part_values], line, value)
                if missing is not None:
                    return missing
        return None

    def _read_part(self, file: ReadableFile, out: StoredArray, line: int, value: int) -> tuple[int, int] | None:
        count, values = out.shape
        span = 1 + (values - 1) * self.step
        buffer = np.empty((count - 1) * self.stride + span, out.dtype)
        done = _read_at(file, buffer, self.offset + (line * self.stride + value * self.step) * out.itemsize)
        done //= out.itemsize
        if done < len(buffer):
            lost, rest = divmod(done, self.stride) if self.stride else (0, done)
            return line + min(lost, count - 1), value + min(rest // max(self.step, 1), values - 1)
        strides = (self.stride * out.itemsize, self.step * out.itemsize)
        out[...] = np.lib.stride_tricks.as_strided(buffer, out.shape, strides, writeable=False)
        return None


def _read_at(file: ReadableFile, out: StoredArray, offset: int) -> int:
    """Bytes that were read into an array without gaps; fewer than it has where the file ends."""
    buffer = out.reshape(-1).view(np.uint8).data
    done = 0
    while done < len(buffer):
        part = os.preadv(file.descriptor, [buffer[done:]], offset + done)
        if part == 0:
            break
        done += part
    return done
