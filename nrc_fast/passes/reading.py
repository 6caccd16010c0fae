"""How a source is read: passes, chunk by chunk, ahead of the computation, over processes, with checkpoints."""

from __future__ import annotations

import threading
from collections.abc import Generator
from contextlib import AbstractContextManager, closing, nullcontext, suppress

import numpy as np

from nrc_fast import kernels
from nrc_fast.base.arrays import FloatArray
from nrc_fast.base.options import require_nonfinite
from nrc_fast.base.processes import Team
from nrc_fast.base.progress import Progress
from nrc_fast.base.signals import postponed
from nrc_fast.kernels.errors import NonFiniteRowsError, UnreadableRowsError
from nrc_fast.passes.ahead import read_ahead
from nrc_fast.passes.checkpoint import Checkpoint
from nrc_fast.passes.sums import OtherStateError, Sums
from nrc_fast.sources import Chunk, Source

__all__ = ["Reading"]


class Reading:
    """A source and the way in which its passes are made.

    Parameters
    ----------
    source : Source
    chunk_rows : int
    nonfinite : {"raise", "skip"}
    team : Team, optional
        Other processes that hold the other rows. Every pass ends with the sums over all of them.
    checkpoint : Checkpoint, optional
    progress : bool, optional
        Whether a bar is shown; if None, where the standard error is a terminal.
    memory : int, optional
        Bytes that may be used, which `chunk_rows` is made for.

    Attributes
    ----------
    rereadable, is_double : bool
        Whether rows can be read again, and whether they are float64: on all processes, or they would decide
        differently on which passes to make.
    """

    def __init__(
        self,
        source: Source,
        chunk_rows: int,
        *,
        nonfinite: str = "raise",
        team: Team | None = None,
        checkpoint: Checkpoint | None = None,
        progress: bool | None = None,
        memory: int | None = None,
    ) -> None:
        require_nonfinite(nonfinite)
        self.memory = memory
        self.source = source
        self.rereadable = source.rereadable
        self.is_double = source.dtype == "float64"
        self.chunk_rows = chunk_rows
        self.team = team
        self.skips = nonfinite == "skip"
        self._checkpoint = checkpoint
        self._progress = progress
        self._passes = 0
        self._is_begun = False
        self._rows: int | None = None

    @property
    def can_read_again(self) -> bool:
        """Whether another pass can be made."""
        return self.rereadable or self._passes == 0

    @property
    def is_alone(self) -> bool:
        """Whether this process adds up all rows, one chunk after the other."""
        return self.team is None

    def of(self, source: Source) -> Reading | None:
        """A reading of what a source makes of the rows of this one, by smaller chunks; None if there is none.

        Its passes have no checkpoint of their own.
        """
        rows = max(self.chunk_rows * self.source.row_bytes // source.row_bytes, 1)
        nonfinite = "skip" if self.skips else "raise"
        other = Reading(source, rows, nonfinite=nonfinite, team=self.team, progress=self._progress, memory=self.memory)
        other.rereadable = self.rereadable
        return other

    def hold_few(self, most: int) -> None:
        """Hold rows whose number only reading tells, where they are few: they can then be read again.

        Parameters
        ----------
        most : int
            Numbers of features, and of targets, up to which they are few.

        Raises
        ------
        TypeError, ValueError
            A batch is none, or is unlike the first.
        """
        few = self.source.few_rows(self.chunk_rows, most) if self.is_alone else None
        if few is not None:
            self.source, self.rereadable = few, True

    def run(self, title: str, sums: Sums) -> None:
        """Make a pass: add every chunk to the sums, and those of all processes together.

        Raises
        ------
        ValueError, OSError
            A row is not finite or cannot be read; the message says which. With a checkpoint what was done is kept.
        RuntimeError
            The source did not give the same number of rows as before, or another process has failed.
        KeyboardInterrupt
            At the end of a chunk, after the checkpoint was written.
        """
        if self.team is None:
            self._pass(title, sums)
            return
        failure = None
        try:
            self._pass(title, sums)
        except Exception as error:  # the others wait in the collectives of this pass
            failure = error
            if not self._is_begun:
                sums.begin(None, self.team)
        self.team.require_success(failure)
        sums.reduce(self.team)

    def _pass(self, title: str, sums: Sums) -> None:
        number = self._passes
        self._passes += 1
        self._is_begun = False
        done, is_finished = 0, False
        if self._checkpoint is not None:
            with suppress(OtherStateError):
                done, is_finished = self._resume(self._checkpoint, number, title, sums)
        if not is_finished:
            self._read(number, title, sums, done)

    def _resume(self, checkpoint: Checkpoint, number: int, title: str, sums: Sums) -> tuple[int, bool]:
        """Give sums the state of a pass that was begun; the chunks that it holds, and whether these are all."""
        saved = checkpoint.resume(number, title)
        if saved is None or not (saved[0] or saved[1]):
            return 0, False
        done, is_finished, arrays = saved
        most = None if self.source.count is None else -(-self.source.count // self.chunk_rows)
        if most is not None and (done > most or (is_finished and done < most)):
            msg = f"it holds {done} chunks of the pass {title!r}, which has {most}"
            raise checkpoint.damaged(msg)
        try:
            sums.restore(arrays)
        except OtherStateError:
            raise
        except (ValueError, LookupError) as error:
            raise checkpoint.damaged(error) from error
        self._begin(sums, None)
        return done, is_finished

    def _begin(self, sums: Sums, chunk: Chunk | None) -> None:
        """Once in every pass, for it may be a collective."""
        if not self._is_begun:
            sums.begin(chunk, self.team)
            self._is_begun = True

    def _read(self, number: int, title: str, sums: Sums, done: int) -> None:
        count = self.source.count
        rows = done * self.chunk_rows if count is None else min(done * self.chunk_rows, count)
        with (
            self._interruptible() as interrupt,
            Progress(title, self.source.count, self._progress) as progress,
            closing(self._chunks(done)) as chunks,
        ):
            progress.advance(rows)
            try:
                for chunk in chunks:
                    self._add(sums, chunk)
                    done += 1
                    rows += chunk.features.count
                    self.source.release(chunk)
                    progress.advance(chunk.features.count)
                    self._record(number, title, sums, done, now=interrupt.is_set())
                    if interrupt.is_set():
                        raise KeyboardInterrupt
                    del chunk  # before the next one comes, or one more would be alive than was planned
            except Exception as error:
                # Not for a second Ctrl-C, which may come between adding a chunk and counting it.
                self._record_after(error, number, title, sums, done)
                raise
        self._begin(sums, None)
        self._require_rows(rows)
        self._record(number, title, sums, done, is_finished=True)
        if interrupt.is_set():  # while the chunks came to their end
            raise KeyboardInterrupt
        kernels.release_memory()  # what follows was planned without it

    def _add(self, sums: Sums, chunk: Chunk) -> None:
        try:
            if not self._is_begun:
                self._begin(sums, chunk.finite() if self.skips else chunk)
            add_finite(sums, chunk, skips=self.skips)
        except (NonFiniteRowsError, UnreadableRowsError) as error:
            raise _located(error, chunk) from error

    def _record_after(self, error: Exception, number: int, title: str, sums: Sums, done: int) -> None:
        try:
            self._record(number, title, sums, done, now=True)
        except OSError as failure:
            raise error from failure  # what went wrong first is what the user must know

    def _record(
        self, number: int, title: str, sums: Sums, done: int, *, is_finished: bool = False, now: bool = False
    ) -> None:
        if self._checkpoint is not None:
            self._checkpoint.record(number, title, done, sums.arrays, is_finished=is_finished, now=now)

    def _require_rows(self, rows: int) -> None:
        if self._rows is not None and rows != self._rows:
            msg = f"{self.source.name} gave {rows} rows at this reading and {self._rows} before; they must not change"
            raise RuntimeError(msg)
        self._rows = rows

    # ---- reading ahead ----

    def _chunks(self, first: int) -> Generator[Chunk, None, None]:
        chunks = self.source.chunks(self.chunk_rows, first)
        return read_ahead(chunks) if self.source.reads_ahead else chunks

    def _interruptible(self) -> AbstractContextManager[threading.Event]:
        """With a checkpoint, a first Ctrl-C (or SIGTERM) waits for the end of the chunk; a second does not."""
        return nullcontext(threading.Event()) if self._checkpoint is None else postponed()

    def finish(self) -> None:
        """Remove the checkpoint: the result is with the user."""
        if self._checkpoint is not None:
            self._checkpoint.remove()

    def close(self) -> None:
        """Let others have the checkpoint, if there is one."""
        if self._checkpoint is not None:
            self._checkpoint.close()

    # ---- what all processes agree on ----

    def sample(self, count: int) -> FloatArray:
        """About `count` finite rows of all processes, in float64.

        Raises
        ------
        OSError, RuntimeError
            Rows cannot be read, or those of another process.
        """
        if self.team is None:
            return self.source.sample(count)
        share = -(-count // self.team.size)
        none = np.empty((0, self.source.d))
        rows = self.team.together(lambda: none if self.source.count == 0 else self.source.sample(share))
        return self.team.concatenated(rows)

    def of_first(self, array: FloatArray) -> FloatArray:
        """An array that every process has computed, as the first has it."""
        return array if self.team is None else self.team.of_first(array)

    def same(self, *arrays: FloatArray) -> None:
        """Replace arrays that every process has computed by those of the first: roundings may differ."""
        if self.team is not None:
            self.team.broadcast(arrays)


def _located(error: NonFiniteRowsError | UnreadableRowsError, chunk: Chunk) -> Exception:
    """What to raise for a row of a chunk: an error that says where the row is in the source."""
    if isinstance(error, UnreadableRowsError):
        where = f"row {error.row}" if chunk.locate is None else chunk.locate(error.row)
        return OSError(f"{where} cannot be read: {error.reason}")
    is_of_targets = chunk.targets is not None and error.name == chunk.targets.name != chunk.features.name
    locate = chunk.locate_targets if is_of_targets else chunk.locate
    return error if locate is None else error.located(locate(error.first))


def add_finite(sums: Sums, chunk: Chunk, *, skips: bool) -> None:
    """Add a chunk, without the rows that are not finite if they are to be skipped.

    Raises
    ------
    NonFiniteRowsError
        A row is not finite, and rows are not to be skipped.
    UnreadableRowsError
        The file of the rows ends early or cannot be read.
    """
    if not skips:
        sums.add_chunk(chunk)
        sums.check()
        return
    if not (sums.sees_targets or chunk.has_finite_targets):
        chunk = chunk.finite()
    try:
        sums.add_chunk(chunk)
        sums.check()
    except NonFiniteRowsError:
        sums.add_chunk(chunk.finite())
