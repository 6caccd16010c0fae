"""Runs the trainings of the reproduction that have no result yet.

    python bench/reproduce/run.py                      # all, in two processes of one thread
    python bench/reproduce/run.py --only swimmer       # those with a text in their name
    python bench/reproduce/run.py --list               # what there is, and what is done

Every run writes one file to bench/reproduce/results as it ends, and is skipped where that is there with the same
settings: what is interrupted goes on with the runs that are left. Figures and the page's table come from the files
alone, by `python bench/reproduce/figures.py`.
"""

from __future__ import annotations

import argparse
import sys
from concurrent.futures import ProcessPoolExecutor, as_completed
from multiprocessing import get_context
from pathlib import Path

sys.path[0] = str(Path(__file__).resolve().parents[1])  # of the package, in place of this folder

from reproduce.measuring import measured  # noqa: E402 - after the path
from reproduce.results import RESULTS, is_done, write  # noqa: E402
from reproduce.settings import Run, named  # noqa: E402


def _seconds(run: Run, folder: Path) -> tuple[str, float]:
    return run.name, float(write(run, measured(run), folder)["seconds"])


def main() -> int:
    """Run what is left; 1 where a run has failed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--only", nargs="+", default=[""], metavar="NAME", help="runs with one of these texts in their name"
    )
    parser.add_argument("--processes", type=int, default=2, help="runs at a time, each of one thread (default: 2)")
    parser.add_argument("--results", type=Path, default=RESULTS, metavar="FOLDER")
    parser.add_argument("--list", action="store_true", help="say what is done and what is left, and run nothing")
    options = parser.parse_args()
    if options.processes < 1:
        parser.error("--processes must be at least 1")
    try:
        runs = named(*options.only)
    except ValueError as error:
        parser.error(str(error))
    if options.list:
        for run in runs:
            print(f"{'done' if is_done(run, options.results) else 'left'}  {run.name}")
        return 0
    left = [run for run in runs if not is_done(run, options.results)]
    print(f"{len(runs) - len(left)} of {len(runs)} runs are done", flush=True)
    failed = 0
    # New processes, not copies of this one: torch's threads do not survive a fork.
    with ProcessPoolExecutor(options.processes, mp_context=get_context("spawn")) as pool:
        for job in as_completed([pool.submit(_seconds, run, options.results) for run in left]):
            try:
                name, seconds = job.result()
            except RuntimeError as error:
                failed += 1
                print(f"failed: {error}", file=sys.stderr, flush=True)
            else:
                print(f"{seconds:7.1f} s  {name}", flush=True)
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main())
