#!/usr/bin/env python3
"""The C++ compiler of zig for macOS on arm64, under the flags of Apple's, for cmake/arm64-macos.cmake.

NRC_FAST_ZIG is the Python in which the package `ziglang` is installed. Its linker ends in a fault where symbols may
stay undefined, as those of Python do in a module; it is given a library that says to have them, and so finds every
other one that is missing. Nor has it bundles, which modules are there: it makes a library of the same contents.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

TARGET = "aarch64-macos.11.0"
ITS_NAMES = {"-march=armv8.2-a+bf16": "-mcpu=generic+bf16"}
STUB = """--- !tapi-tbd
tbd-version: 4
targets: [ arm64-macos ]
install-name: '@rpath/Python'
exports:
  - targets: [ arm64-macos ]
    symbols: [ {} ]
...
"""


def python_symbols(objects: list[str]) -> list[str]:
    """What object files call of Python, as that system's linker names it."""
    return sorted(
        {name.decode() for path in objects for name in re.findall(rb"\0(__?Py\w+)(?=\0)", Path(path).read_bytes())}
    )


def compile_or_link(given: list[str]) -> int:
    """Run zig with the flags that it knows; gives its exit status."""
    command = [os.environ["NRC_FAST_ZIG"], "-m", "ziglang", "c++", "-target", TARGET]
    if "-bundle" not in given:
        return subprocess.run([*command, *(ITS_NAMES.get(flag, flag) for flag in given)], check=False).returncode
    undefined = ["-Xlinker", "-undefined", "-Xlinker", "dynamic_lookup"]
    start = next(i for i in range(len(given)) if given[i : i + 4] == undefined)
    with tempfile.TemporaryDirectory() as folder:
        stub = Path(folder) / "python.tbd"
        stub.write_text(STUB.format(", ".join(python_symbols([name for name in given if name.endswith(".o")]))))
        linked = [*given[:start], *given[start + 4 :], str(stub)]
        command += ["-dynamiclib" if flag == "-bundle" else flag for flag in linked]
        return subprocess.run(command, check=False).returncode


if __name__ == "__main__":
    sys.exit(compile_or_link(sys.argv[1:]))
