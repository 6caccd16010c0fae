"""The processes that torchrun has started, as one group."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from threading import Timer
from typing import TYPE_CHECKING

from nrc_fast.base.processes import Team

if TYPE_CHECKING:
    from torch.distributed.distributed_c10d import Store

__all__ = ["add_group_options", "started_team"]

# What torchrun tells the processes that it starts, and hands on to all that these start.
VARIABLES = ("TORCHELASTIC_RUN_ID", "RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
# Seconds after which it is said what is waited for.
PATIENCE = 2.0


def add_group_options(command: argparse.ArgumentParser) -> None:
    """Add the options of a command that the processes of torchrun share."""
    command.add_argument("--alone", action="store_true", help="under torchrun: measure all rows in this process")
    command.add_argument(
        "--wait",
        type=float,
        default=30.0,
        metavar="SECONDS",
        help="under torchrun: how long to wait for the other processes to start, default: 30",
    )


@contextmanager
def started_team(options: argparse.Namespace) -> Iterator[Team | None]:
    """The processes that torchrun has started; None without torchrun, and for a process that is to work alone.

    Raises
    ------
    RuntimeError
        The others did not come in time.
    ValueError
        The time is not positive.
    """
    if options.alone or not all(name in os.environ for name in VARIABLES):
        yield None
        return
    if not options.wait > 0.0:
        msg = f"--wait is {options.wait}; a number of seconds above 0 is expected"
        raise ValueError(msg)
    from torch import distributed

    store = _meet(options.wait)
    rank, size = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    distributed.init_process_group("gloo", store=store, rank=rank, world_size=size)
    try:
        yield Team()
    finally:
        distributed.destroy_process_group()


def _meet(seconds: float) -> Store:
    """What the processes exchange addresses in, once all of them have come."""
    from torch.distributed.distributed_c10d import PrefixStore
    from torch.distributed.rendezvous import rendezvous

    rank, size = os.environ["RANK"], int(os.environ["WORLD_SIZE"])
    place = f"{os.environ['MASTER_ADDR']}:{os.environ['MASTER_PORT']}"
    others = f"the other processes of the torchrun job of {size} at {place}"
    hint = "--alone measures without them"
    said = Timer(PATIENCE, _say, [f"process {rank} waits for {others}, up to {seconds:g} s; {hint}"])
    said.daemon = True
    said.start()
    limit = timedelta(seconds=seconds)
    try:
        shared, *_ = next(rendezvous("env://", timeout=limit))
        # Of this command of each process: the job, and earlier commands of it, use the same store.
        number = shared.add(f"nrc_fast/{rank}", 1)
        store: Store = PrefixStore(f"nrc_fast/{number}", shared)
        try:
            store.set(f"here/{rank}", "")
            store.wait([f"here/{other}" for other in range(size)], limit)
        except BaseException:
            shared.add(f"nrc_fast/{rank}", -1)
            raise
    except (RuntimeError, ValueError, OSError) as error:
        msg = (
            f"{others} did not come within {seconds:g} s ({str(error).splitlines()[0]}). {hint}; a command of all is "
            "to be started by each of them, and --wait gives them more time"
        )
        raise RuntimeError(msg) from error
    finally:
        said.cancel()
    return store


def _say(text: str) -> None:
    print(f"nrc-fast: {text}", file=sys.stderr, flush=True)
