"""Benchmarks: ours and rivals, interleaved in one run, with the error of each beside its time.

python bench/run.py --routine nrc1 [--shape 400000x256] [--dtype float32] [--runs 5] [--out results.json]
"""

from __future__ import annotations

import argparse
import importlib
import json
import platform
import sys
from datetime import datetime, timezone
from pathlib import Path

ROUTINES = ("nrc1", "stream", "cuda_kernels")


def machine() -> dict[str, str]:
    """What the figures were measured on."""
    from nrc_fast import diagnostics

    facts = diagnostics.environment() | {"platform": f"{platform.system()} {platform.machine()}"}
    model = [line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")]
    facts["processor"] = model[0].split(":")[1].strip() if model else platform.processor()
    facts["date"] = datetime.now(timezone.utc).date().isoformat()
    return facts


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--routine", choices=ROUTINES, required=True)
    parser.add_argument("--shape", default="400000x256", help="rows x features")
    parser.add_argument("--dtype", default="float32", choices=["float64", "float32", "float16", "bfloat16"])
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--out", type=Path, help="also write the rows and the machine as JSON")
    options = parser.parse_args()
    rows, d = (int(size) for size in options.shape.split("x"))
    routine = importlib.import_module(f"routines.{options.routine}")
    results = routine.run(rows, d, options.dtype, options.runs)
    for row in results:
        print("  ".join(f"{name} {value}" for name, value in row.items()))
    if options.out is not None:
        record = {"command": " ".join(["python", *sys.argv]), "machine": machine(), "rows": results}
        options.out.parent.mkdir(parents=True, exist_ok=True)
        options.out.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
