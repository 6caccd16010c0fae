"""The text that nvdisasm prints of a cubin, as functions of instructions."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property

__all__ = ["Function", "Instruction", "read_listing"]

_INSTRUCTION = re.compile(r"\s+/\*([0-9a-f]{4,})\*/\s+(?:\{\s*)?(?:(@!?U?P\w+)\s+)?([A-Z][A-Z0-9_.x]*)\s*([^;]*);")
_LABEL = re.compile(r"(\.L_\w+|\$\w+):")
_SECTION = re.compile(r"\.text\.(\S+):")
_TARGET = re.compile(r"`\((\.L_\w+)\)")
_REGISTER = re.compile(r"(?<![A-Za-z0-9_])R(\d+)")


@dataclass(eq=False)
class Instruction:
    """One instruction: its place, what it depends on, its full name and its operands."""

    address: int
    predicate: str  # "@P0", "@!P0" or ""
    name: str  # with what follows the dots: LDG.E.128.CONSTANT
    operands: str

    @cached_property
    def operation(self) -> str:
        """The name up to the first dot."""
        return self.name.split(".", 1)[0]

    @property
    def is_off(self) -> bool:
        """Whether it never does anything: it only takes a turn."""
        return self.predicate in {"@!PT", "@!UPT"}

    @property
    def target(self) -> str | None:
        """The label that it names."""
        found = _TARGET.search(self.operands)
        return found[1] if found else None

    @cached_property
    def registers(self) -> set[int]:
        """Numbers of the registers that it reads or writes."""
        found: set[int] = set()
        for place, operand in enumerate(_split(self.operands)):
            for number in map(int, _REGISTER.findall(operand)):
                found.update(range(number, number + self._width(place, operand)))
        return found

    @cached_property
    def written(self) -> int | None:
        """The first register of the result, where the result is in registers."""
        first = _split(self.operands)[0] if self.operands else ""
        found = re.fullmatch(r"R(\d+)", first)
        return int(found[1]) if found else None

    @cached_property
    def bytes(self) -> int:
        """What one lane of a load, store or copy moves."""
        if self.operation in {"LDSM", "STSM"}:  # 8 x 8 matrices of 16 bits: four bytes of each lane, for each of them
            matrices = re.search(r"\.M\w*88\.(\d)", self.name)
            return 4 * int(matrices[1]) if matrices else 4
        for width in ("128", "64"):
            if f".{width}" in self.name:
                return int(width) // 8
        if re.search(r"\.[US]8\b", self.name):
            return 1
        return 2 if re.search(r"\.[US]16\b", self.name) else 4

    def _width(self, place: int, operand: str) -> int:
        if "[" in operand:
            return 2 if ".64" in operand else 1
        if self.operation == "HMMA":
            return 2 if place == 2 else 4
        if self.operation in {"DFMA", "DADD", "DMUL", "DMMA", "DSETP"}:
            return 2
        if self.operation in {"LDG", "LDS", "STG", "STS", "LDSM", "LD", "ST"}:
            return max(1, self.bytes // 4)
        return 2 if ".WIDE" in self.name and place in {0, 3} else 1


@dataclass
class Function:
    """A kernel: its mangled name, instructions in order, and the instruction that each label stands before."""

    name: str
    instructions: list[Instruction] = field(default_factory=list)
    labels: dict[str, int] = field(default_factory=dict)


def read_listing(text: str) -> Iterator[Function]:
    """Kernels of what `nvdisasm -c` has printed.

    Parameters
    ----------
    text : str
        The listing.

    Yields
    ------
    Function
        In the order of the listing.
    """
    function: Function | None = None
    for line in text.splitlines():
        if function is not None:
            found = _INSTRUCTION.match(line)
            if found:
                address, predicate, name, operands = found.groups()
                operands = re.sub(r"\.reuse\b|\s*&\S.*$", "", operands).strip()
                function.instructions.append(Instruction(int(address, 16), predicate or "", name, operands))
                continue
            label = _LABEL.match(line)
            if label:
                function.labels[label[1]] = len(function.instructions)
                continue
        section = _SECTION.match(line)
        if section:
            if function is not None:
                yield function
            function = Function(section[1])
    if function is not None:
        yield function


def _split(operands: str) -> list[str]:
    """Operands at commas; those in brackets belong together."""
    return [part.strip() for part in re.split(r",(?![^\[]*\])", operands)]
