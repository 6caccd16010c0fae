"""Every kernel of a card once against float64, a row written at a time: needs neither pytest nor anything but torch.

python bench/card_smoke.py --out smoke.jsonl
python bench/card_smoke.py --kernels "gram high" --widths 1024 --dtypes bfloat16 --rows 262144    # for a profiler
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

from card import Card
from card_attempts import Attempt, add_skip, attempts
from card_kernels import KERNELS, Kernel
from cases import DTYPES
from record import append

WIDTHS = (40, 100, 130, 136, 1024)
# More than the float32 sums of tensor cores grow over before they are folded, and no multiple of a block.
ROWS = 1_333


def main() -> int:
    options = parsed()
    card, failed = Card(is_emulated=options.device == "emulated"), 0
    for row in attempts(card, smoke_calls(card, options), options.skip):
        failed += row["check"] != "ok"
        print(", ".join(f"{name} {value}" for name, value in row.items()), flush=True)
        if options.out is not None:
            append(row, options.out)
    if options.skip:
        print(f"{failed} rows are wrong, and those of the processes before this one", flush=True)
    else:
        print("every kernel gives what it must" if failed == 0 else f"{failed} rows are wrong", flush=True)
    return 1 if failed or options.skip else 0


def parsed(arguments: list[str] | None = None) -> argparse.Namespace:
    """The options of the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--out", type=Path, help="also append the rows to this file, as JSON in lines")
    parser.add_argument("--device", choices=["cuda", "emulated"], default="cuda")
    parser.add_argument("--kernels", nargs="+", choices=[kernel.name for kernel in KERNELS])
    parser.add_argument("--widths", nargs="+", type=int, default=WIDTHS)
    parser.add_argument("--dtypes", nargs="+", choices=DTYPES, default=DTYPES)
    parser.add_argument("--rows", type=int, default=ROWS)
    add_skip(parser)
    return parser.parse_args(arguments)


def smoke_calls(card: Card, options: argparse.Namespace) -> Iterator[Attempt]:
    """Every kernel that is asked for, on rows of every width and dtype."""
    for d in options.widths:
        for dtype in options.dtypes:
            for kernel in KERNELS:
                if dtype not in kernel.dtypes or kernel.name not in (options.kernels or [kernel.name]):
                    continue
                facts = {"kernel": kernel.name, "rows": options.rows, "d": d, "dtype": dtype}
                yield facts, partial(checked, card, kernel, facts)


def checked(card: Card, kernel: Kernel, facts: dict[str, Any]) -> dict[str, Any]:
    """The error of two calls of a kernel, which add twice what one adds, and whether it may be as large."""
    H = card.random(facts["rows"], facts["d"], facts["dtype"])
    H[facts["rows"] // 2] = 0
    work, allowed = kernel.prepare(card, H), kernel.allowed(facts["dtype"])
    for _ in range(2):
        work.call()
    card.wait()
    error = work.error(calls=2)
    # Written so that NaN fails.
    return {"error": error, "allowed": allowed, "check": "ok" if error <= allowed else "errs more than allowed"}


if __name__ == "__main__":
    sys.exit(main())
