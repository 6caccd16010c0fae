"""Rows of arrays that `numpy.savez_compressed` wrote."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import IO

import numpy as np

from nrc_fast.base.arrays import StoredArray, StoredDtype
from nrc_fast.base.forks import Guard
from nrc_fast.base.json_values import JSONValue
from nrc_fast.kernels.cpu.rows import HostRows
from nrc_fast.kernels.interface import Rows
from nrc_fast.sources.stored import reading
from nrc_fast.sources.table import FileStamp, Table, storage_dtype

__all__ = ["CompressedTable"]

PIECE_BYTES = 1 << 20


class CompressedTable(Table):
    """Rows of a compressed member of a zip archive, decompressed from front to back.

    The file is open between the first row that is read and the last.

    Parameters
    ----------
    path : Path
    name : str
        How messages call it.
    member : str
        The name of the array's file in the archive.
    header_bytes : int
        What comes before the first row.
    shape : (int, int)
    stored : numpy dtype
        The dtype as it is stored, with its byte order.
    """

    def __init__(
        self, path: Path, name: str, member: str, header_bytes: int, shape: tuple[int, int], stored: StoredDtype
    ) -> None:
        self.stamp = FileStamp(path)
        self.name = name
        self.count, self.columns = shape
        self.dtype = stored.newbyteorder("=").name
        self._member = member
        self._header_bytes = header_bytes
        self._stored = stored
        self._stream: IO[bytes] | None = None
        self._guard = Guard()

    def read(self, first: int, last: int) -> Rows:
        """Rows `first` to `last` in memory.

        Raises
        ------
        OSError
            The file has changed or is damaged.
        """
        self.stamp.check()
        out = np.empty((last - first, self.columns), storage_dtype(self.dtype))
        with self._guard.lock, reading(f"rows {first} to {last - 1} of {self.name}"):
            if self._guard.was_forked():
                self._stream = None  # parent and child would move the same place in the file
            try:
                self._decompress(first * self.row_bytes, out)
            except BaseException:
                self._close()
                raise
            if last == self.count:
                self._close()
        if not self._stored.isnative:
            out.byteswap(inplace=True)
        return HostRows(self.name, out, self.dtype)

    def fingerprint(self) -> list[JSONValue]:
        """Path, size, time and member."""
        return [*self.stamp.fingerprint(), self._member, self.count, self.columns, self.dtype]

    def _decompress(self, start: int, out: StoredArray) -> None:
        if out.size == 0:
            return
        offset = self._header_bytes + start
        if self._stream is not None and offset < self._stream.tell():
            self._close()
        if self._stream is None:
            with zipfile.ZipFile(self.stamp.path) as archive:
                # The stream keeps the file open for as long as it needs it.
                self._stream = archive.open(self._member)
        # What lies between is decompressed and dropped, in pieces: `seek` would do it with 16 MiB at a time.
        while (ahead := offset - self._stream.tell()) > 0:
            if not self._stream.read(min(PIECE_BYTES, ahead)):
                msg = f"the data end before row {start // self.row_bytes}"
                raise EOFError(msg)
        buffer = out.data.cast("B")
        for at in range(0, len(buffer), PIECE_BYTES):
            piece = self._stream.read(min(PIECE_BYTES, len(buffer) - at))
            buffer[at : at + len(piece)] = piece
            if len(piece) < min(PIECE_BYTES, len(buffer) - at):
                msg = f"the data end within row {(start + at + len(piece)) // self.row_bytes}"
                raise EOFError(msg)

    def _close(self) -> None:
        if self._stream is not None:
            self._stream.close()
            self._stream = None
