"""What the Gram kernel of Hopper cards rests on, each instruction by itself; then that kernel, if all is well.

python bench/card_probes.py

Each probe takes less than a second. The kernel is held against float64, and its time against that of the kernel which
runs by default. Other cards have no such instructions: a line says so.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from functools import partial
from types import SimpleNamespace
from typing import Any

from card import Card
from card_attempts import Attempt, add_skip, attempts
from card_ceilings import median
from card_kernels import GRAM
from card_smoke import checked

from nrc_fast.kernels.cuda.device import CudaDevice
from nrc_fast.kernels.cuda.hopper import CAPABILITY, probes_of

WIDTHS = (40, 64, 130, 256)
ROWS, TIMED_ROWS = 1_333, 1_000_000
DTYPES = ("bfloat16", "float16")


def emulated_stream() -> Any:
    """On which everything is done at once."""
    return SimpleNamespace(cuda_stream=0)


def device_of(card: Card) -> CudaDevice:
    """The card as the package knows devices, whatever the environment asks for."""
    stream = emulated_stream if card.is_emulated else card.torch.cuda.current_stream
    return CudaDevice(card.core, card.index, card.place, stream)


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--device", choices=["cuda", "emulated"], default="cuda")
    parser.add_argument("--widths", nargs="+", type=int, default=WIDTHS)
    parser.add_argument("--rows", type=int, default=ROWS)
    add_skip(parser)
    options = parser.parse_args()
    card = Card(is_emulated=options.device == "emulated")
    capability = card.core.device_capability(card.index)
    if capability != CAPABILITY:
        print(f"no Hopper card: compute capability {'.'.join(map(str, capability))}")
        return 0
    failed = 0 if options.skip else failed_probes(card)  # of the kernel rows are skipped: the probes have passed
    if failed:
        print(f"{failed} probes have failed: the kernel is not tried")
        return 1
    for row in attempts(card, kernel_calls(card, options), options.skip):
        failed += row["check"] != "ok"
        print(said(row), flush=True)
    if failed == 0 and options.skip == 0:
        print("the probes and the kernel give what they must")
        return 0
    print(f"{failed} rows of the kernel are wrong" + (", and those of the processes before" if options.skip else ""))
    return 1


def failed_probes(card: Card) -> int:
    """How many there are; prints each."""
    failed = 0
    for probe in probes_of(device_of(card)):
        failed += probe.wrong != 0
        print(probe, flush=True)
    return failed


def kernel_calls(card: Card, options: argparse.Namespace) -> Iterator[Attempt]:
    """The kernel on rows of every width and dtype."""
    for d in options.widths:
        for dtype in DTYPES:
            facts = {"rows": options.rows, "d": d, "dtype": dtype}
            yield facts, partial(try_kernel, card, facts)


def try_kernel(card: Card, facts: dict[str, Any]) -> dict[str, Any]:
    """The kernel on a few rows against float64, and on many by time."""
    card.core.allow_warpgroups(card.index, runs=True)
    try:
        found = checked(card, GRAM, facts)
        if found["check"] == "ok" and not card.is_emulated:
            H = card.random(TIMED_ROWS, facts["d"], facts["dtype"])
            own = timed(card, H)
            card.core.allow_warpgroups(card.index, runs=False)
            found |= {"seconds": own, "seconds of the kernel of all cards": timed(card, H)}
            found["bytes per second"] = H.numel() * H.element_size() / own
    finally:
        card.core.allow_warpgroups(card.index, runs=False)
    return found


def said(row: dict[str, Any]) -> str:
    """A row in words."""
    facts = [f"gram of warpgroups, {row['rows']} x {row['d']} {row['dtype']}", f"error {row['error']}", row["check"]]
    if "seconds" in row:
        other = row["seconds of the kernel of all cards"]
        facts.append(
            f"{TIMED_ROWS:,} rows in {row['seconds'] * 1e3:.3f} ms, by the kernel of all cards in {other * 1e3:.3f}"
        )
        facts.append(f"{row['bytes per second'] / 1e12:.2f} TB/s")
    return ", ".join(facts)


def timed(card: Card, H: Any) -> float:
    """Seconds of a call."""
    return median(card, GRAM.prepare(card, H).call)


if __name__ == "__main__":
    sys.exit(main())
