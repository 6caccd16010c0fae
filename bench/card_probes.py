"""What the Gram kernel of Hopper cards rests on, each instruction by itself; then that kernel, if all is well.

python bench/card_probes.py

Each probe takes less than a second, and one that ends in an error leaves the others to a fresh process. The kernel is
held against float64, and its time against that of the kernel which runs by default. Other cards have no such
instructions: a line says so.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator
from functools import partial
from types import SimpleNamespace
from typing import Any

from card import Card
from card_attempts import Attempt, add_skip, attempts
from card_ceilings import median
from card_kernels import GRAM
from card_smoke import checked

from nrc_fast.kernels.cuda.device import CudaDevice
from nrc_fast.kernels.cuda.hopper import CAPABILITY, Probe, probe_calls

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
    probes = [({"probe": name}, partial(tried, probe)) for name, probe in probe_calls(device_of(card))]
    # A process before this one has lost the card to the last of the rows that are skipped.
    failed = {"probes": int(0 < options.skip <= len(probes)), "kernel": int(options.skip > len(probes))}

    def calls() -> Iterator[Attempt]:
        yield from probes
        if not failed["probes"]:
            yield from kernel_calls(card, options)

    for row in attempts(card, calls(), options.skip):
        failed["probes" if "probe" in row else "kernel"] += row["check"] != "ok"
        print(said(row), flush=True)
    if failed["probes"]:
        print("a probe has failed: the kernel is not tried")
    elif failed["kernel"]:
        print("the kernel is wrong")
    else:
        print("the probes and the kernel give what they must")
    return 1 if any(failed.values()) else 0


def tried(probe: Callable[[], Probe]) -> dict[str, Any]:
    """What one instruction has given."""
    found = probe()
    return {"check": f"{found.wrong} numbers are wrong, {found.first}" if found.wrong else "ok"}


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
    if "probe" in row:
        return f"{row['probe']}: {row['check']}"
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
