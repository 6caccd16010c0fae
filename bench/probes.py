"""The two limits of the machine: peak rate of fused multiply-adds, and the bandwidth of reading memory.

`probe.c` is compiled for the instructions that are measured, with vectors as wide as they are, and runs on the
processors that this process may use, as the kernels do. Without AVX2 a multiply-add is two instructions, and the limit
is that of both.
"""

from __future__ import annotations

import atexit
import json
import platform
import subprocess
import sys
import tempfile
from functools import lru_cache
from pathlib import Path

__all__ = ["measure_limits"]

# -march of the instruction sets that NRC_FAST_ISA names.
# The limits are those of float32 and float64: of AVX-512 where only products of bfloat16 are faster.
ARCHITECTURES = {"avx512": "x86-64-v4", "avx2": "x86-64-v3", "baseline": "x86-64"}
ARCHITECTURES |= dict.fromkeys(("amx", "avx512bf16"), ARCHITECTURES["avx512"])
SOURCE = Path(__file__).with_name("probe.c")


@lru_cache
def _folder() -> Path:
    """Of programs; it is removed when Python ends."""
    folder = tempfile.TemporaryDirectory()
    atexit.register(folder.cleanup)
    return Path(folder.name)


@lru_cache
def _program(isa: str, compiler: str) -> Path:
    program = _folder() / f"probe_{isa}_{Path(compiler).name}"
    # -ffp-contract and not -ffast-math: a product and a sum become one instruction, nothing is left out.
    architecture = ARCHITECTURES.get(isa, "native") if platform.machine() == "x86_64" else "native"
    flags = ["-O3", f"-march={architecture}", "-ffp-contract=fast", "-pthread"]
    build = subprocess.run(
        [compiler, *flags, str(SOURCE), "-o", str(program)], capture_output=True, text=True, check=False
    )
    if build.returncode:
        msg = f"the probe of the machine's limits does not compile with {compiler}: {build.stderr[-500:]}"
        raise RuntimeError(msg)
    return program


def measure_limits(threads: int, isa: str = "native", compiler: str = "cc") -> dict[str, float]:
    """Peak flops per second in float32 and float64, and bytes read per second, of `threads` threads together.

    Parameters
    ----------
    threads : int
    isa : str
        A name of `ARCHITECTURES`; anything else is what this processor has.
    compiler : str

    Raises
    ------
    RuntimeError
        The probe does not compile or run.
    """
    done = subprocess.run([str(_program(isa, compiler)), str(threads)], capture_output=True, text=True, check=False)
    if done.returncode:
        msg = f"the probe of the machine's limits fails with {threads} threads: status {done.returncode}"
        raise RuntimeError(msg)
    limits: dict[str, float] = json.loads(done.stdout)
    return limits


if __name__ == "__main__":
    print(json.dumps(measure_limits(int(sys.argv[1]) if len(sys.argv) > 1 else 1, *sys.argv[2:3]), indent=2))
