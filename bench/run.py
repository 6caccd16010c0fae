"""Benchmarks: ours and rivals, interleaved in one run, each with its error and its share of the machine's limit.

python bench/run.py --routine all --out bench/results/cpu.json
python bench/run.py --routine all --suite full --out bench/results/cpu_full.json
python bench/run.py --routine gram --shape 400000x256 --dtype float32 --rivals torch numpy --refcheck
"""

from __future__ import annotations

import argparse
import importlib
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

from card import Card
from card_attempts import add_skip
from card_ceilings import card_limits
from cases import DTYPES, KINDS, LAYOUTS, Case, parse_shape, select
from harness import Settings, measure
from machine import INSTRUCTIONS, hold_equal
from record import Record
from report import line

ROUTINES = (
    *("gram", "fused", "residual", "gram_product", "nrc1", "measure", "all_k", "nrc3", "nrc3_gamma", "cka", "descend"),
    *("update", "scaling", "busy", "memory", "stream", "watch"),
)
# Routines of a card, which "all" stands for with --device cuda or emulated.
ON_A_CARD = ("cuda_kernels",)


def main() -> int:
    parser = _parser()
    options = parser.parse_args()
    routines = _routines(parser, options)
    try:
        threads = hold_equal(options.threads, options.isa)
    except ValueError as failure:
        parser.error(str(failure))
    from nrc_fast import kernels

    _set_torch_threads(threads)
    isa = kernels.current_isa()
    card = _card(options)
    record = Record(
        " ".join(["python", "bench/run.py", *sys.argv[1:]]),
        threads,
        isa,
        options.out,
        measured=None if card is None else lambda: card_limits(card),
    )
    if options.skip:
        record.take_up()
    for name in routines:
        record.probe()  # at moments spread over the run: the limit is the best of them
        if card is None:
            rows = _measured(name, options, record.limits, f"--threads {threads} --isa {isa}")
        else:
            rows = _measured_on_card(name, options, card, record.limits)
        for row in rows:
            record.add(row)
    record.probe()
    failed = [row for row in record.rows if _fails(row)]
    for row in failed:
        allowed = f"; {row['allowed error']:.1e} is allowed" if "allowed error" in row else ""
        print(f"FAILED: {line(row)}{allowed}", file=sys.stderr)
    return 1 if failed or options.skip else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--routine", nargs="+", choices=[*ROUTINES, *ON_A_CARD, "all"], required=True)
    parser.add_argument("--suite", choices=["short", "full"], default="short", help="full: minutes, every shape")
    parser.add_argument("--device", choices=["cpu", "cuda", "emulated"], default="cpu")
    parser.add_argument("--shape", nargs="+", type=parse_shape, help="rows x features, such as 400000x256")
    parser.add_argument("--dtype", nargs="+", choices=DTYPES)
    parser.add_argument("--layout", nargs="+", choices=LAYOUTS)
    parser.add_argument("--kind", nargs="+", choices=KINDS, help="of features")
    parser.add_argument("--components", nargs="+", type=int, help="components, vectors or targets")
    parser.add_argument("--rivals", nargs="+", default=["all"], help="all, none, or parts of their names")
    parser.add_argument("--refcheck", action="store_true", help="fail where our error is more than it may be")
    parser.add_argument("--runs", type=int, default=5, help="of each contender, at most")
    parser.add_argument("--seconds", type=float, default=10.0, help="for the runs of one contender, of three or more")
    parser.add_argument("--limit", type=float, default=60.0, help="seconds of one run; what takes longer is left out")
    parser.add_argument("--threads", type=int, help="of every contender; default: the processors allowed")
    parser.add_argument("--isa", choices=sorted(INSTRUCTIONS), help="instructions of ours, the rivals and the limits")
    parser.add_argument("--out", type=Path, help="also write limits, rows and the machine, as .json or .csv")
    add_skip(parser)
    return parser


def _routines(parser: argparse.ArgumentParser, options: argparse.Namespace) -> tuple[str, ...]:
    there = ROUTINES if options.device == "cpu" else ON_A_CARD
    names = there if "all" in options.routine else tuple(options.routine)
    if options.skip and options.device == "cpu":
        parser.error(f"--skip {options.skip} is of rows of a card: give --device cuda or emulated")
    strange = [name for name in names if name not in there]
    if strange:
        parser.error(f"{', '.join(strange)} does not run on --device {options.device}; {', '.join(there)} do")
    return names


def _card(options: argparse.Namespace) -> Card | None:
    return None if options.device == "cpu" else Card(is_emulated=options.device == "emulated")


def load(name: str) -> ModuleType:
    """The module of a routine, which lies in the room of what it times."""
    (path,) = Path(__file__).with_name("routines").glob(f"*/{name}.py")
    return importlib.import_module(f"routines.{path.parent.name}.{name}")


def _set_torch_threads(threads: int) -> None:
    try:
        torch = importlib.import_module("torch")
    except ImportError:
        return
    torch.set_num_threads(threads)


def _measured(name: str, options: argparse.Namespace, limits: dict[str, float], held: str) -> Iterator[dict[str, Any]]:
    """The rows of a routine."""
    settings, routine = _settings(options), load(name)
    if hasattr(routine, "rows"):
        yield from _special_rows(routine, name, options, held)
        return
    for case in _cases(routine, options):
        command = f"python bench/run.py --routine {name} {case.options()} {held}"
        # What does more than to time the contenders of a problem measures by itself.
        own = getattr(routine, "measured", None)
        rows = measure(routine.problem(case), settings, limits) if own is None else own(case, settings, limits)
        for row in rows:
            yield row | {"command": command}


def _measured_on_card(
    name: str, options: argparse.Namespace, card: Card, limits: dict[str, float]
) -> Iterator[dict[str, Any]]:
    """The rows of a routine of a card, each with the command of its shape and dtype."""
    rows = load(name).card_rows(card, options.shape, options.dtype, _settings(options), limits, skip=options.skip)
    for row in rows:
        shape = f"--shape {row['rows']}x{row['d']} --dtype {row['dtype']}"
        yield row | {"command": f"python bench/run.py --routine {name} --device {options.device} {shape}"}


def _settings(options: argparse.Namespace) -> Settings:
    rivals = {"all": None, "none": []}.get(options.rivals[0], options.rivals)
    return Settings(options.runs, options.seconds, options.limit, rivals, options.refcheck)


def _cases(routine: ModuleType, options: argparse.Namespace) -> list[Case]:
    return select(
        routine.SUITES[options.suite],
        shapes=options.shape,
        dtypes=options.dtype,
        layouts=options.layout,
        components=options.components,
        kinds=options.kind,
    )


def _special_rows(routine: ModuleType, name: str, options: argparse.Namespace, held: str) -> Iterator[dict[str, Any]]:
    """Of a routine that does not time contenders of one problem."""
    shapes, dtypes = options.shape or routine.SHAPES, options.dtype or routine.DTYPES
    text = " ".join(f"{rows}x{d}" for rows, d in shapes)
    command = f"python bench/run.py --routine {name} --shape {text} --dtype {' '.join(dtypes)} {held}"
    for row in routine.rows(shapes, dtypes, options.runs):
        yield row | {"command": command}


def _fails(row: dict[str, Any]) -> bool:
    return row.get("check", "ok") != "ok" and str(row["contender"]).startswith("nrc_fast")


if __name__ == "__main__":
    sys.exit(main())
