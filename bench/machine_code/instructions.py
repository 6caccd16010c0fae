"""Kinds of instructions, and what each does of the work that a kernel is for."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from functools import cache

from machine_code.listing import Instruction

__all__ = ["KINDS", "count", "kind_of", "work_of"]

KINDS = (
    *("tensor", "float32", "float64", "float16", "conversion", "special"),
    *("integer", "multiply", "uniform", "move", "predicate"),
    *("copy", "global load", "global store", "atomic", "shared load", "shared store", "constant load", "local"),
    *("barrier", "shuffle", "control", "off"),
)
_KIND = {
    "tensor": "HMMA DMMA IMMA BMMA QMMA HGMMA IGMMA QGMMA BGMMA",
    "float32": "FFMA FADD FMUL FMNMX FSETP FSEL FSET FCHK FSWZADD FFMA32I FADD32I FMUL32I FFMA2 FADD2 FMUL2",
    "float64": "DFMA DADD DMUL DSETP DMNMX",
    "float16": "HFMA2 HADD2 HMUL2 HSETP2 HMNMX2 HSET2 HFMA2_MMA",
    "conversion": "F2F F2I I2F F2FP FRND I2FP F2IP I2I I2IP",
    "special": "MUFU",
    "integer": "IADD3 IADD IADD32I LOP3 LOP SHF SHL SHR LEA ISETP SEL PRMT IMNMX VIMNMX VIMNMX3 VIADD VIADDMNMX IABS "
    "ISCADD XMAD BFE BFI FLO POPC SGXT BMSK ICMP VABSDIFF VABSDIFF4 LOP32I IDP BREV",
    "multiply": "IMAD IMAD32I IMUL IMUL32I",
    "move": "MOV MOV32I CS2R S2R R2UR R2P P2R S2UR",
    "predicate": "PLOP3 PSETP VOTE VOTEU UPLOP3 UPSETP",
    "copy": "LDGSTS UTMALDG UBLKCP",
    "global load": "LDG LD",
    "global store": "STG ST UTMASTG",
    "atomic": "ATOM ATOMG RED REDG ATOMS",
    "shared load": "LDS LDSM",
    "shared store": "STS STSM",
    "constant load": "LDC ULDC LDCU",
    "local": "LDL STL",
    "barrier": "BAR WARPSYNC DEPBAR LDGDEPBAR MEMBAR FENCE SYNCS ERRBAR CCTL ARRIVES WARPGROUP NANOSLEEP",
    "shuffle": "SHFL REDUX CREDUX MATCH",
    "control": "BRA BRX EXIT CALL RET BSSY BSYNC BREAK NOP BPT KILL JMP JMX YIELD BMOV LEPC PMTRIG ELECT ACQBULK",
}
_KIND_OF = {operation: kind for kind, operations in _KIND.items() for operation in operations.split()}
# Multiply-adds of one instruction of a warp; additions and products alone do not make a kernel's work.
_WORK = {"FFMA": 32, "FFMA2": 64, "DFMA": 32, "HFMA2": 64, "DMMA": 256, "HMMA": 2048}


def kind_of(instruction: Instruction) -> str:
    """One of KINDS.

    Parameters
    ----------
    instruction : Instruction
        Of any architecture from 75 on; what is not known counts as integer arithmetic.

    Returns
    -------
    str
        "off" where the predicate is never true: it only takes a turn.
    """
    return "off" if instruction.is_off else _kind(instruction.name)


@cache
def _kind(name: str) -> str:
    operation = name.split(".", 1)[0]
    if operation == "IMAD" and name.startswith("IMAD.MOV"):
        return "move"
    if operation in _KIND_OF:
        return _KIND_OF[operation]
    return "uniform" if operation.startswith("U") else "integer"


def count(path: Iterable[Instruction]) -> Counter[str]:
    """How many of each kind there are."""
    return Counter(kind_of(each) for each in path)


def work_of(instruction: Instruction) -> int:
    """Multiply-adds of a warp."""
    return _work(instruction.name)


@cache
def _work(name: str) -> int:
    operation, *rest = name.split(".")
    if operation == "HGMMA":
        # Of a warpgroup: 64 rows, a quarter of them a warp's.
        sizes = [int(size) for size in rest[0].split("x")]
        return sizes[0] // 4 * sizes[1] * sizes[2]
    if operation == "HMMA":
        return {"1688": 1024, "884": 256}.get(rest[0], 2048)
    return _WORK.get(operation, 0)
