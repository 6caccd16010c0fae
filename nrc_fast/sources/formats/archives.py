"""Members of zip archives: where they lie in the file, and the checksums that the archive has of them."""

from __future__ import annotations

import struct
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from nrc_fast.sources.checksums import Checksum

__all__ = ["Member", "members_of"]

# A member's own header: its signature, lengths of its name and of its extra field.
LOCAL_HEADER = struct.Struct("<4s22xHH")
SIGNATURE = b"PK\x03\x04"


@dataclass(frozen=True)
class Member:
    """A member of an archive.

    Attributes
    ----------
    info : zipfile.ZipInfo
    offset : int
        Where its bytes begin in the file.
    bytes : int
    is_plain : bool
        Whether these are its contents as they are.
    checksum : Checksum
        Of the contents, where they are plain.
    """

    info: zipfile.ZipInfo
    offset: int
    bytes: int
    is_plain: bool
    checksum: Checksum


def members_of(archive: zipfile.ZipFile, file: IO[bytes], path: Path) -> dict[str, Member]:
    """The members of an archive by name.

    Parameters
    ----------
    archive : zipfile.ZipFile
    file : binary file
        That of the archive.
    path : Path

    Raises
    ------
    ValueError
        Two have one name, one has no header of its own, or what it announces is not in the file.
    """
    size = file.seek(0, 2)
    found: dict[str, Member] = {}
    for info in archive.infolist():
        if info.filename in found:
            msg = f"it has two members {info.filename!r}"
            raise ValueError(msg)
        found[info.filename] = _member(info, file, path, size)
    return found


def _member(info: zipfile.ZipInfo, file: IO[bytes], path: Path, size: int) -> Member:
    file.seek(info.header_offset)
    signature, name_bytes, extra_bytes = LOCAL_HEADER.unpack(file.read(LOCAL_HEADER.size))
    offset = info.header_offset + LOCAL_HEADER.size + name_bytes + extra_bytes
    if signature != SIGNATURE or offset + info.compress_size > size:
        msg = f"its member {info.filename!r} is not where it announces it"
        raise ValueError(msg)
    is_plain = info.compress_type == zipfile.ZIP_STORED and not info.flag_bits & 1
    if is_plain and info.compress_size != info.file_size:
        msg = f"its member {info.filename!r} has {info.compress_size} bytes, and announces {info.file_size}"
        raise ValueError(msg)
    checksum = Checksum(path, info.filename, offset, info.file_size, info.CRC)
    return Member(info, offset, info.compress_size, is_plain, checksum)
