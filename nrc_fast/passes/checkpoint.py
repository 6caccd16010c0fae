"""Where a measurement has got to, on disk: a run that was stopped goes on from there, to the same bits."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from time import monotonic
from typing import BinaryIO
from weakref import finalize

from nrc_fast.base.arrays import FloatArray
from nrc_fast.base.claims import Claim
from nrc_fast.base.files import remove_unfinished
from nrc_fast.base.json_values import JSONValue
from nrc_fast.base.npz import written_file
from nrc_fast.base.npz_reading import arrays_from

__all__ = ["Checkpoint"]

FORMAT = 1
# A prefix that no name has.
NO_ARRAYS = "/"


@dataclass
class _Pass:
    title: str
    chunks: int
    is_finished: bool


def _is_pass(entry: object) -> bool:
    """Whether what a file holds is a pass."""
    kinds = {"title": str, "chunks": int, "is_finished": bool}
    if not isinstance(entry, dict) or set(entry) != set(kinds):
        return False
    return all(type(entry[name]) is kind for name, kind in kinds.items()) and entry["chunks"] >= 0


class Checkpoint:
    """The passes of a measurement so far, kept in a file.

    The file is held open: where it is removed or replaced while the measurement runs, the next `record` writes the
    whole of it anew. One measurement at a time has it: another that is given the same file says so in a warning, and
    neither reads nor writes it.

    Parameters
    ----------
    path : Path
        If it exists, the measurement that it was written by goes on.
    identity : mapping to JSON values
        What is measured and how; another measurement must not go on from this file.
    seconds : float
        How often it is written.

    Raises
    ------
    OSError
        The file is damaged or cannot be read.
    ValueError
        It is of another measurement, or `seconds` is negative.
    """

    def __init__(self, path: Path, identity: Mapping[str, JSONValue], seconds: float) -> None:
        self.path = path
        self._identity: dict[str, JSONValue] = json.loads(json.dumps(identity))
        if not seconds >= 0.0:
            msg = f"a checkpoint is to be written every {seconds} seconds; a time from 0 on is expected"
            raise ValueError(msg)
        self._seconds = seconds
        self._passes: list[_Pass] = []
        self._last_write = monotonic()
        self._file: BinaryIO | None = None
        self._claim = Claim(path.resolve())
        owner = self._claim.take()
        self._is_mine = owner is None
        if not self._is_mine:
            msg = (
                f"{path} is in use: {owner} writes it. This measurement goes on without a checkpoint; was it started "
                "twice? Give another file for another one"
            )
            warnings.warn(msg, RuntimeWarning, stacklevel=2)
        elif path.exists():
            try:
                self._hold(path.open("rb"))
                self._load()
            except BaseException:
                self.close()
                raise

    def _hold(self, file: BinaryIO) -> None:
        """Keep a file open, in place of the one before, as long as this object lives."""
        self._close()
        self._file, self._closing = file, finalize(self, file.close)

    def close(self) -> None:
        """Let others have the file; it stays where it is."""
        self._close()
        self._claim.give_back()

    def _close(self) -> None:
        if self._file is not None:
            self._closing()
            self._file = None

    def _load(self) -> None:
        assert self._file is not None
        header, _ = arrays_from(self._file, self.path, "checkpoint", FORMAT, NO_ARRAYS)
        found = header.get("identity")
        if not isinstance(found, dict):
            msg = "it does not say what was measured"
            raise self.damaged(msg)
        differing = [name for name, value in self._identity.items() if found.get(name) != value]
        if differing:
            msg = (
                f"{self.path} is the checkpoint of another measurement: {', '.join(differing)} differ. "
                "Remove it to start anew, or give another file"
            )
            raise ValueError(msg)
        passes = header.get("passes")
        if not isinstance(passes, list) or not all(map(_is_pass, passes)):
            msg = "it does not say which passes were made"
            raise self.damaged(msg)
        self._passes = [_Pass(**entry) for entry in passes]

    def damaged(self, reason: object) -> OSError:
        """An error for what the file holds and a measurement cannot have written."""
        return OSError(f"{self.path} is damaged: {reason}; remove it to start anew")

    def resume(self, number: int, title: str) -> tuple[int, bool, dict[str, FloatArray]] | None:
        """Chunks done, whether that was all, and sums of pass `number`; None if it was not begun.

        Raises
        ------
        ValueError
            The file has another pass in this place.
        OSError
            The file is damaged or cannot be read.
        """
        if number >= len(self._passes) or self._file is None:
            return None
        saved = self._passes[number]
        if saved.title != title:
            msg = f"{self.path} has the pass {saved.title!r} where {title!r} is expected; remove it to start anew"
            raise ValueError(msg)
        prefix = f"{number}/"
        _, arrays = arrays_from(self._file, self.path, "checkpoint", FORMAT, prefix)
        arrays = {name.removeprefix(prefix): array for name, array in arrays.items()}
        return saved.chunks, saved.is_finished, arrays

    def record(
        self,
        number: int,
        title: str,
        chunks: int,
        arrays: Callable[[], Mapping[str, FloatArray]],
        *,
        is_finished: bool,
        now: bool,
    ) -> None:
        """Note how far a pass has got, and write the file if it is time.

        Parameters
        ----------
        number : int
            Which pass of the measurement.
        title : str
        chunks : int
            How many are done.
        arrays : callable
            Gives the sums; asked only when the file is written.
        is_finished : bool
            Whether the pass is done; then it is time.
        now : bool
            Whether it is time in any case.

        Raises
        ------
        OSError
            The file cannot be written.
        """
        is_due = now or is_finished or monotonic() - self._last_write >= self._seconds
        if not (is_due and self._is_mine):
            return
        self._passes[number:] = [_Pass(title, chunks, is_finished)]
        header = {
            "kind": "checkpoint",
            "format": FORMAT,
            "identity": self._identity,
            "passes": [asdict(entry) for entry in self._passes],
        }
        named = {f"{number}/{name}": array for name, array in arrays().items()}
        # Passes before this one are finished, and in the file: their sums are not held in memory for its sake.
        self._hold(written_file(self.path, header, named, self._file, [f"{earlier}/" for earlier in range(number)]))
        self._last_write = monotonic()

    def remove(self) -> None:
        """Delete the file: the measurement is done. What a process that was killed had half written goes too."""
        if self._is_mine:
            with suppress(OSError):  # of a folder that nothing can be deleted in: the result is there all the same
                self.path.unlink(missing_ok=True)
                remove_unfinished(self.path.resolve())
        self.close()
