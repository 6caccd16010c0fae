"""NRC1 beside two busy processes: how much longer it takes, for ours and for who finds only a few components too.

The two multiply matrices with numpy, each on all of the processors, as a second experiment on the same machine does.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any

from cases import Case
from harness import Settings, taking_part, time_all
from routines.measurement import nrc1

SUITES = {
    "short": nrc1.WIDE[20_000, 4096],
    "full": [Case(400_000, 256, k=3), *nrc1.WIDE[20_000, 4096]],
}
PROCESSES = 2
RIVALS = ("scikit-learn PCA, numpy", "torch.pca_lowrank")
# It ends with the process that began it, however that ends.
SPINNING = """
import os, sys
import numpy as np
factor = np.random.default_rng(0).standard_normal((1024, 1024), dtype=np.float32)
product = factor @ factor
print("spinning", flush=True)
while os.getppid() == int(sys.argv[1]):
    np.matmul(factor, factor, out=product)
"""


def measured(case: Case, settings: Settings, limits: Mapping[str, float]) -> Iterator[dict[str, Any]]:
    """One row for each contender: its time beside the others, its quiet time, and the ratio."""
    problem = nrc1.problem(case)
    problem.name, ours = "busy", problem.contenders[0].name
    chosen = [one for one in problem.contenders if one.name in {ours, *RIVALS}]
    problem.contenders = taking_part(chosen, settings, limits)
    quiet = time_all(problem, settings)
    with busy_processes(PROCESSES):
        busy = time_all(problem, settings)
    for alone, beside in zip(quiet, busy, strict=True):
        yield beside | _compared(alone, beside)


def _compared(alone: dict[str, Any], beside: dict[str, Any]) -> dict[str, Any]:
    if "seconds" not in alone or "seconds" not in beside:
        return {}
    return {"quiet seconds": alone["seconds"], "slowdown": beside["seconds"] / alone["seconds"]}


@contextmanager
def busy_processes(count: int) -> Iterator[list[subprocess.Popen[str]]]:
    """Processes that multiply matrices until the block ends; they have begun when it does."""
    with ExitStack() as stack:
        yield [stack.enter_context(_spinning()) for _ in range(count)]


@contextmanager
def _spinning() -> Iterator[subprocess.Popen[str]]:
    # The number of threads is in the environment, and the processors are those of this process.
    command = [sys.executable, "-c", SPINNING, str(os.getpid())]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            process.stdout.readline()
            yield process
        finally:
            process.kill()
