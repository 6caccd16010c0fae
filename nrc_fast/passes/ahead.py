"""The next chunk is read while the last one is computed with."""

from __future__ import annotations

import threading
from collections.abc import Generator, Iterator
from queue import Empty, Full, Queue
from typing import TypeAlias

from nrc_fast.sources import Chunk

__all__ = ["read_ahead"]

# What the thread gives: a chunk, the error that ends its work, or None at the end.
Item: TypeAlias = "Chunk | BaseException | None"

# Chunks that are read and wait, besides the one that is computed with and the one that is being read.
AHEAD = 1


def read_ahead(chunks: Iterator[Chunk]) -> Generator[Chunk, None, None]:
    """Chunks in their order, read on a thread of their own; what reading them raises comes in their place."""
    queue: Queue[Item] = Queue(AHEAD)
    stopped = threading.Event()

    def put(item: Item) -> bool:
        while not stopped.is_set():
            try:
                queue.put(item, timeout=0.1)
            except Full:
                continue
            return True
        return False

    def read() -> None:
        try:
            for chunk in chunks:
                if not put(chunk):
                    return
        except BaseException as error:  # raised again where the chunks are used
            put(error)
            return
        put(None)

    thread = threading.Thread(target=read, name="nrc_fast reader", daemon=True)
    thread.start()
    try:
        while (item := _next(queue, thread)) is not None:
            if isinstance(item, BaseException):
                raise item
            yield item
            del item
    finally:
        stopped.set()
        thread.join()


def _next(queue: Queue[Item], thread: threading.Thread) -> Item:
    """What the thread gives next.

    Raises
    ------
    RuntimeError
        The thread has ended without a word.
    """
    while True:
        try:
            return queue.get(timeout=1.0)
        except Empty:
            # A fork leaves the thread behind; without it nothing will ever come.
            if not thread.is_alive() and queue.empty():
                msg = "the thread that reads ahead has ended without a result"
                raise RuntimeError(msg) from None
