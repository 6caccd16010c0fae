"""Benchmarks: ours and rivals, interleaved in one run, each with its error and its share of the machine's limit.

python bench/run.py --routine all --out bench/results/cpu.json
python bench/run.py --routine gram --shape 400000x256 --dtype float32 --runs 7
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROUTINES = ("gram", "residual", "nrc1", "all_k", "nrc3", "descend", "update", "memory", "stream", "watch")
# Needs a card: not part of "all".
ON_A_CARD = ("cuda_kernels",)


def main() -> None:
    options = _parser().parse_args()
    from harness import machine, set_threads

    threads = options.threads or len(os.sched_getaffinity(0))
    set_threads(threads)
    import torch
    from probes import measure_limits

    torch.set_num_threads(threads)
    limits = measure_limits(threads)
    print(f"limits of {threads} threads: {json.dumps(limits)}", flush=True)
    routines = ROUTINES if "all" in options.routine else tuple(options.routine)
    rows: list[dict[str, Any]] = []
    for row in _measured(routines, options, limits):
        rows.append(row)
        print("  ".join(f"{name} {_shown(value)}" for name, value in row.items()), flush=True)
    if options.out is not None:
        command = " ".join(["python", "bench/run.py", *sys.argv[1:]])
        record = {"command": command, "machine": machine(threads), "limits": limits, "rows": rows}
        options.out.parent.mkdir(parents=True, exist_ok=True)
        options.out.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--routine", nargs="+", choices=[*ROUTINES, *ON_A_CARD, "all"], required=True)
    parser.add_argument("--shape", nargs="+", help="rows x features (targets for nrc3), such as 400000x256")
    parser.add_argument("--dtype", nargs="+", choices=["float64", "float32", "float16", "bfloat16"])
    parser.add_argument("--components", nargs="+", type=int, help="numbers of vectors of the residual")
    parser.add_argument("--rivals", choices=["all", "none"], default="all")
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--threads", type=int, help="of every contender; default: the processors allowed")
    parser.add_argument("--out", type=Path, help="also write limits, rows and the machine as JSON")
    return parser


def _measured(
    routines: tuple[str, ...], options: argparse.Namespace, limits: dict[str, float]
) -> Iterator[dict[str, Any]]:
    from harness import time_all, with_limits

    for name in routines:
        routine = importlib.import_module(f"routines.{name}")
        shapes = [tuple(map(int, text.split("x"))) for text in options.shape] if options.shape else routine.SHAPES
        dtypes = options.dtype or routine.DTYPES
        if hasattr(routine, "rows"):
            yield from routine.rows(shapes, dtypes, options.runs)
            continue
        more = [options.components or routine.COMPONENTS] if name == "residual" else []
        for problem in routine.problems(shapes, dtypes, *more):
            if options.rivals == "none":
                problem.contenders = [c for c in problem.contenders if c.name.startswith("nrc_fast")]
            yield from with_limits(time_all(problem, options.runs), problem, limits)


def _shown(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


if __name__ == "__main__":
    main()
