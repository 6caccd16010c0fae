"""Counts in the machine code of the CUDA kernels, compared with those on record, and a page of what they say.

python bench/read_machine_code.py                    # the built module, or the sources where there is none
python bench/read_machine_code.py --write            # the record and its page anew; refuses what is worse
python bench/read_machine_code.py --compile 80 90a --only gram/tensor    # some of the sources, compiled for it
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from machine_code.facts import record_of
from machine_code.gate import changes
from machine_code.page import page
from machine_code.tools import CSRC, built_module, compiled, extracted

RECORD = Path(__file__).with_name("results") / "machine_code.json"
PAGE = RECORD.with_suffix(".md")
ARCHITECTURES = ("80", "90a")
AGAIN = "python bench/read_machine_code.py --write"


def read_record(path: Path = RECORD) -> dict[str, Any]:
    """The counts on record."""
    record: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return record


def record_text(record: dict[str, Any]) -> str:
    """A record as text, a kernel in each line."""
    parts = []
    for architecture, kernels in record["kernels"].items():
        lines = [f"   {json.dumps(name)}: {json.dumps(facts)}" for name, facts in kernels.items()]
        parts.append(f"  {json.dumps(architecture)}: {{\n" + ",\n".join(lines) + "\n  }")
    compiler = json.dumps(record["compiler"])
    return f'{{\n "compiler": {compiler},\n "kernels": {{\n' + ",\n".join(parts) + "\n }\n}\n"


def present_record(arguments: argparse.Namespace) -> dict[str, Any]:
    """Counts of what is here now."""
    module = arguments.module or built_module()
    if arguments.compile is not None or arguments.only or module is None:
        architectures = arguments.compile or ARCHITECTURES
        return record_of(compiled(architectures, arguments.sources, arguments.only))
    return record_of(extracted(module, ARCHITECTURES))


def parser() -> argparse.ArgumentParser:
    """Options of the command."""
    made = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    made.add_argument("--module", type=Path, help="a built module; that of the installed package if not given")
    made.add_argument("--compile", nargs="*", metavar="ARCH", help="compile the sources, for 80 and 90a or these")
    made.add_argument("--sources", type=Path, default=CSRC, help="the folder of the sources; csrc of this tree")
    made.add_argument("--only", nargs="*", default=[], metavar="NAME", help="of the sources these, as gram/tensor")
    made.add_argument("--show", action="store_true", help="print the page of what is here now")
    made.add_argument("--write", action="store_true", help="write bench/results/machine_code.json and .md")
    made.add_argument("--accept-worse", action="store_true", help="write numbers too that are worse than on record")
    return made


def main(words: list[str] | None = None) -> int:
    """Compare, show and write; 1 where a number is not the one on record."""
    arguments = parser().parse_args(words)
    record = present_record(arguments)
    if arguments.show:
        print(page(record))
    found = []
    if RECORD.exists():
        known = read_record()
        if arguments.only:
            for architecture, kernels in known["kernels"].items():
                present = record["kernels"].get(architecture, {})
                known["kernels"][architecture] = {name: facts for name, facts in kernels.items() if name in present}
        found = changes(known, record)
    for change in found:
        print(change)
    worse = any(change.is_worse for change in found)
    if not arguments.write:
        print("as on record" if not found else f"differs from the record; to renew it: {AGAIN}")
        return int(bool(found))
    if arguments.only or set(record["kernels"]) != set(ARCHITECTURES):
        print(f"the record is of all kernels for {' and '.join(ARCHITECTURES)}; it was not written")
        return 1
    if worse and not arguments.accept_worse:
        print("numbers became worse and were not written; --accept-worse does, and the commit should say why")
        return 1
    RECORD.write_text(record_text(record), encoding="utf-8")
    PAGE.write_text(page(record), encoding="utf-8")
    print(f"wrote {RECORD} and {PAGE}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
