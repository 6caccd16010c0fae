"""Rows that are measured on a card one after the other, whatever becomes of each.

A failure is a row too. One that leaves nothing of the card to this process, such as an illegal address, after which
every call ends with the same error, is followed by a fresh process, which goes on with the next row.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NoReturn

from card import Card

__all__ = ["Attempt", "add_skip", "attempts"]

# What a row is of, and a call that gives the rest of it.
Attempt = tuple[dict[str, Any], Callable[[], dict[str, Any]]]
SKIP = "--skip"


def add_skip(parser: argparse.ArgumentParser) -> None:
    """The option that a fresh process is given; a script that has it ends with status 1, as a row has failed before."""
    help_ = "rows that a process before this one has been through, until a failure took the card from it"
    parser.add_argument(SKIP, type=int, default=0, metavar="ROWS", help=help_)


def attempts(card: Card, calls: Iterable[Attempt], skip: int) -> Iterator[dict[str, Any]]:
    """A row of every call, as it is measured; whoever takes a row has kept it before asking for the next.

    Parameters
    ----------
    card : Card
    calls : iterable
        The same ones in every process. Memory is had from the card in the call, not before.
    skip : int
        How many of them a process before this one has been through.

    Raises
    ------
    RuntimeError
        The card does not answer before anything was launched.
    """
    card.wait()
    for number, (facts, call) in enumerate(calls):
        if number < skip:
            continue
        try:
            yield facts | call()
        except Exception as failure:
            text = f"{type(failure).__name__}: {failure}"[:300]
        else:
            continue
        yield facts | {"error": text, "check": text}
        if not answers(card):
            _go_on_in_fresh_process(number + 1)


def answers(card: Card) -> bool:
    """Whether the card still does what this process asks for."""
    try:
        card.wait()
    except Exception:
        return False
    return True


def _go_on_in_fresh_process(skip: int) -> NoReturn:
    """Run this command again, from a row on, as the process that whoever started it waits for."""
    arguments = sys.orig_argv[1:]
    if arguments[-2:-1] == [SKIP]:
        arguments = arguments[:-2]
    print(f"the card is lost to this process: a fresh one goes on with row {skip}", flush=True)
    sys.stderr.flush()
    os.execv(sys.executable, [sys.executable, *arguments, SKIP, str(skip)])
