"""Checksums that archives hold of their members."""

from __future__ import annotations

import os
import zlib
from dataclasses import dataclass
from pathlib import Path

from nrc_fast.kernels.cpu.memory import open_file

__all__ = ["Checksum"]

PIECE_BYTES = 1 << 20


@dataclass(frozen=True)
class Checksum:
    """The CRC-32 of a stretch of a file.

    Attributes
    ----------
    path : Path
    member : str
        What is checked, in words.
    offset, bytes : int
    value : int
    """

    path: Path
    member: str
    offset: int
    bytes: int
    value: int

    def check(self) -> None:
        """Read the stretch, a piece at a time, and compare.

        Raises
        ------
        OSError
            The file ends early, or holds other values than were written to it.
        """
        file = open_file(self.path)
        piece = bytearray(min(PIECE_BYTES, self.bytes))
        view, found, done = memoryview(piece), 0, 0
        while done < self.bytes:
            part = os.preadv(file.descriptor, [view[: min(len(piece), self.bytes - done)]], self.offset + done)
            if part == 0:
                msg = f"{self.path} ends within {self.member}; was it truncated?"
                raise OSError(msg)
            found = zlib.crc32(view[:part], found)
            done += part
        if found != self.value:
            msg = (
                f"{self.path} is damaged: the checksum of {self.member} is {found:08x}, and {self.value:08x} was "
                "written. Make the file anew, or copy it again (verify=False, or --no-verify, reads it as it is)"
            )
            raise OSError(msg)
