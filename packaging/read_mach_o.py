"""Reads what a library for macOS says of itself: its processor, its oldest system, what it is linked to."""

from __future__ import annotations

import struct
import sys
from pathlib import Path

MAGIC, ARM64, LIBRARY = 0xFEEDFACF, 0x0100000C, 6
KINDS = {0x0C: "library", 0x32: "build version"}
MACOS = 1


def commands(data: bytes) -> list[tuple[str, bytes]]:
    """The load commands that are known here, each with its bytes."""
    magic, processor, _, kind, count = struct.unpack_from("<5I", data)
    if (magic, processor, kind) != (MAGIC, ARM64, LIBRARY):
        sys.exit(f"no library of macOS for arm64: {magic:#x}, processor {processor:#x}, kind {kind}")
    found, place = [], 32
    for _ in range(count):
        number, size = struct.unpack_from("<2I", data, place)
        found += [(KINDS[number], data[place : place + size])] if number in KINDS else []
        place += size
    return found


if __name__ == "__main__":
    for kind, command in commands(Path(sys.argv[1]).read_bytes()):
        if kind == "library":
            (start,) = struct.unpack_from("<I", command, 8)
            print("library", command[start:].rstrip(b"\0").decode())
        else:
            platform, version = struct.unpack_from("<2I", command, 8)
            if (platform, version >> 16) != (MACOS, 11):
                sys.exit(f"built for platform {platform}, version {version >> 16}, and not for macOS 11")
            print("macOS 11, arm64")
