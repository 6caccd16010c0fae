"""Counts of every kernel of a module, as bench/results/machine_code.json keeps them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from fractions import Fraction
from typing import Any

from machine_code.flight import behind_barriers, flight_of
from machine_code.instructions import KINDS, count, kind_of, work_of
from machine_code.kernels import Family, arguments_of, family_of
from machine_code.listing import Function, Instruction, read_listing
from machine_code.main_loop import Launch, main_loop
from machine_code.occupancy import LIMITS, blocks_at_once
from machine_code.tools import Cubin, Resources, demangled

__all__ = ["facts_of", "record_of"]

_SHARED = ("shared load", "shared store", "copy")


def record_of(cubins: Iterable[Cubin]) -> dict[str, Any]:
    """All that is kept of machine code.

    Parameters
    ----------
    cubins : iterable of Cubin
        Of a module.

    Returns
    -------
    dict
        "compiler", its version, and "kernels": by architecture and name their facts.
    """
    kernels: dict[str, dict[str, Any]] = {}
    compilers = set()
    for cubin in cubins:
        functions = {function.name: function for function in read_listing(cubin.listing)}
        of_architecture = kernels.setdefault(cubin.architecture, {})
        for mangled, name in zip(cubin.resources, demangled(list(cubin.resources)), strict=True):
            of_architecture[name] = facts_of(
                name, cubin.architecture, cubin.resources[mangled], functions.get(mangled, Function(mangled))
            )
            compilers.add(cubin.compiler)
    return {
        "compiler": ", ".join(sorted(compilers)),
        "kernels": {each: dict(sorted(kernels[each].items())) for each in sorted(kernels)},
    }


def facts_of(name: str, architecture: str, resources: Resources, function: Function) -> dict[str, Any]:
    """What is kept of one kernel.

    Parameters
    ----------
    name, architecture : str
        Demangled; as "90a".
    resources : Resources
        What the compiler says that it takes.
    function : Function
        Its instructions.

    Returns
    -------
    dict
        "registers", "threads", "shared", "blocks" at once on a multiprocessor, and "loop" and "half loop" where it has
        a main loop.
    """
    limits = LIMITS[architecture.rstrip("af")]
    family = family_of(name)
    loop = main_loop(function, _launch_of(family, arguments_of(name)))
    fixed = resources.shared - (limits.reserved if int(architecture.rstrip("af")) >= 90 else 0)
    if family is not None and family.shared is not None:
        at_launch = family.shared(arguments_of(name))
    else:
        at_launch = _ring_bytes(loop.path, resources.threads) if loop else 0
    shared = max(0, fixed) + at_launch
    facts: dict[str, Any] = {
        "registers": resources.registers,
        "threads": resources.threads,
        "shared": shared,
        "blocks": blocks_at_once(limits, resources.threads, resources.registers, shared),
    }
    if resources.local:
        facts["local"] = resources.local
    if loop is not None:
        for key, path in (("loop", loop.path), ("half loop", loop.half)):
            if path is not None:
                facts[key] = _loop_facts(path, family, arguments_of(name)) | {"folded": len(loop.folded)}
        if None in loop.turns_of_inner:
            facts["loop"]["has unknown turns"] = True
    return facts


def _launch_of(family: Family | None, arguments: Sequence[str]) -> Launch:
    if family is None:
        return Launch()
    inside = family.inside(arguments) if family.inside else None
    return Launch(inside, family.copies(arguments) if family.copies else None, family.takes_turns(arguments))


def _loop_facts(path: Sequence[Instruction], family: Family | None, arguments: Sequence[str]) -> dict[str, Any]:
    counts = count(path)
    flight = flight_of(path, family.row_bytes(arguments) if family else 0)
    of_rows = Fraction(1)
    if family is not None and family.row_copies is not None and counts["copy"]:
        of_rows = min(of_rows, Fraction(family.row_copies(arguments), counts["copy"]))
    tensor = [each for each in path if kind_of(each) == "tensor"]
    added = [each for each in path if work_of(each) and kind_of(each) != "tensor"]
    widest = tensor or added
    return {
        "counts": {kind: counts[kind] for kind in KINDS if counts[kind]},
        "tensor work": sum(map(work_of, tensor)),
        "multiply-adds": len(added),
        "is float64": bool(widest) and sum(each.operation in {"DMMA", "DFMA"} for each in widest) * 2 > len(widest),
        "shared bytes": sum(each.bytes for each in path if kind_of(each) in _SHARED),
        "loaded bytes": flight.bytes,
        "row bytes": _plain(flight.bytes * of_rows),
        "loads": flight.loads,
        "round trips": str(flight.round_trips),
        "in flight": _plain(flight.in_flight * of_rows),
        "behind barriers": behind_barriers(path),
        "turns between folds": family.folds if family else 0,
    }


def _ring_bytes(path: Sequence[Instruction], threads: int) -> int:
    """Shared memory of a ring of copies: what one turn copies, for each group that is on its way, and two more."""
    copied = sum(each.bytes for each in path if each.operation == "LDGSTS") * threads
    waits = [int(each.operands.split(",")[1], 0) for each in path if each.name == "DEPBAR.LE" and "," in each.operands]
    return copied * (max(waits) + 2) if copied and waits else 0


def _plain(number: Fraction) -> float:
    return int(number) if number.denominator == 1 else round(float(number), 2)
