"""Where a measurement has got to, on disk: a run that was stopped goes on from there, to the same bits."""

from __future__ import annotations

import glob
import json
import os
import shutil
import tempfile
import zipfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from time import monotonic
from typing import Any, BinaryIO
from weakref import finalize

import numpy as np

from nrc_fast.base.linalg import FloatArray

__all__ = ["DAMAGED", "Checkpoint", "load_arrays", "require_writable", "save_arrays"]

FORMAT = 1
# A prefix that no name has.
NO_ARRAYS = "/"
COPY_BYTES = 1 << 20
# What numpy, json and zipfile raise over damaged files.
DAMAGED = (KeyError, ValueError, TypeError, EOFError, AttributeError, NotImplementedError)


def save_arrays(path: Path, header: Mapping[str, Any], arrays: Mapping[str, FloatArray]) -> None:
    """Write arrays and a header to a .npz file, all or nothing: readers never see half a file.

    Nothing is copied in memory: arrays may be as large as it.

    Parameters
    ----------
    path : Path
    header : mapping to JSON values
    arrays : mapping to float64 arrays

    Raises
    ------
    OSError
        The file cannot be written.
    """
    _written(path, header, arrays).close()


def _written(
    path: Path,
    header: Mapping[str, Any],
    arrays: Mapping[str, FloatArray],
    before: BinaryIO | None = None,
    kept: Sequence[str] = (),
) -> BinaryIO:
    """As `save_arrays`, with the arrays of an earlier file whose names have one of the prefixes `kept`; still open."""
    path = require_writable(path)
    text = np.frombuffer(json.dumps(header).encode(), dtype=np.uint8)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".part")
    file = os.fdopen(handle, "w+b")
    try:
        with zipfile.ZipFile(file, "w") as archive:
            _write(archive, "header", text)
            if before is not None and kept:
                _take_over(archive, before, tuple(kept), path)
            for name, array in arrays.items():
                _write(archive, name, np.ascontiguousarray(array, dtype="<f8"))
        file.flush()
        os.fsync(file.fileno())
        # Temporary files are for their owner alone.
        mask = os.umask(0)
        os.umask(mask)
        Path(temporary).chmod(0o666 & ~mask)
        Path(temporary).replace(path)
    except BaseException:
        file.close()
        Path(temporary).unlink(missing_ok=True)
        raise
    return file


def _write(archive: zipfile.ZipFile, name: str, array: np.ndarray[Any, Any]) -> None:
    """An array as `numpy.savez` stores it, straight from its memory."""
    with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
        np.lib.format.write_array_header_1_0(member, np.lib.format.header_data_from_array_1_0(array))
        if array.size:
            member.write(array.reshape(-1).view(np.uint8).data)


def _take_over(archive: zipfile.ZipFile, before: BinaryIO, prefixes: tuple[str, ...], path: Path) -> None:
    try:
        with zipfile.ZipFile(before) as earlier:
            for name in earlier.namelist():
                if name.startswith(prefixes):
                    with earlier.open(name) as source, archive.open(name, "w", force_zip64=True) as member:
                        shutil.copyfileobj(source, member, COPY_BYTES)
    except (zipfile.BadZipFile, EOFError) as error:
        msg = f"something else has written to {path} while it was in use ({error}); remove it and start anew"
        raise OSError(msg) from error


def require_writable(path: Path) -> Path:
    """Check that a file can be written or replaced, and follow links.

    Raises
    ------
    OSError
        Its folder is missing or cannot be written to, or it is something else than a regular file.
    """
    target = path.resolve()
    if target.exists() and not target.is_file():
        msg = f"{path} is no regular file; give another path"
        raise OSError(msg)
    if not target.parent.is_dir() or not os.access(target.parent, os.W_OK | os.X_OK):
        msg = f"{path} cannot be written: {target.parent} is no folder that can be written to"
        raise OSError(msg)
    return target


def load_arrays(path: Path, kind: str, newest: int) -> tuple[dict[str, Any], dict[str, FloatArray]]:
    """Header and arrays of a file that `save_arrays` wrote.

    Raises
    ------
    OSError
        The file is missing or damaged.
    ValueError
        It holds something else, or was written by a newer version.
    """
    # numpy leaves a damaged file open that it was given by name.
    with path.open("rb") as opened:
        return _loaded(opened, path, kind, newest)


def _loaded(
    opened: BinaryIO, path: Path, kind: str, newest: int, prefix: str = ""
) -> tuple[dict[str, Any], dict[str, FloatArray]]:
    """Of an open file, the arrays whose names begin with a prefix."""
    opened.seek(0)
    if not zipfile.is_zipfile(opened):
        msg = f"{path} is damaged or was not written by nrc_fast: it is no .npz file"
        raise OSError(msg)
    opened.seek(0)
    try:
        with np.load(opened, allow_pickle=False) as file:
            header = json.loads(bytes(file["header"]).decode())
            names = [name for name in file.files if name != "header" and name.startswith(prefix)]
            arrays = {name: np.asarray(file[name], dtype=np.float64) for name in names}
    except (*DAMAGED, zipfile.BadZipFile) as error:
        msg = f"{path} is damaged or was not written by nrc_fast ({error})"
        raise OSError(msg) from error
    if not isinstance(header, dict) or header.get("kind") != kind:
        msg = f"{path} holds no {kind} of nrc_fast"
        raise ValueError(msg)
    if header.get("format", newest + 1) > newest:
        msg = f"{path} has format {header.get('format')}; this version of nrc_fast reads up to {newest}. Update it"
        raise ValueError(msg)
    return header, arrays


@dataclass
class _Pass:
    title: str
    chunks: int
    is_finished: bool


class Checkpoint:
    """The passes of a measurement so far, kept in a file.

    The file is held open: where it is removed or replaced while the measurement runs, the next `record` writes the
    whole of it anew.

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
        The file is damaged.
    ValueError
        It is of another measurement, or `seconds` is negative.
    """

    def __init__(self, path: Path, identity: Mapping[str, Any], seconds: float) -> None:
        self.path = path
        self._identity = json.loads(json.dumps(identity))
        if not seconds >= 0.0:
            msg = f"a checkpoint is to be written every {seconds} seconds; a time from 0 on is expected"
            raise ValueError(msg)
        self._seconds = seconds
        self._passes: list[_Pass] = []
        self._last_write = monotonic()
        self._file: BinaryIO | None = None
        if path.exists():
            self._hold(path.open("rb"))
            self._load()

    def _hold(self, file: BinaryIO) -> None:
        """Keep a file open, in place of the one before, as long as this object lives."""
        self._close()
        self._file, self._closing = file, finalize(self, file.close)

    def _close(self) -> None:
        if self._file is not None:
            self._closing()
            self._file = None

    def _load(self) -> None:
        assert self._file is not None
        header, _ = _loaded(self._file, self.path, "checkpoint", FORMAT, NO_ARRAYS)
        differing = [
            name for name, value in self._identity.items() if header.get("identity", {}).get(name, None) != value
        ]
        if differing:
            msg = (
                f"{self.path} is the checkpoint of another measurement: {', '.join(differing)} differ. "
                "Remove it to start anew, or give another file"
            )
            raise ValueError(msg)
        self._passes = [_Pass(**entry) for entry in header["passes"]]

    def resume(self, number: int, title: str) -> tuple[int, bool, dict[str, FloatArray]] | None:
        """Chunks done, whether that was all, and sums of pass `number`; None if it was not begun."""
        if number >= len(self._passes) or self._file is None:
            return None
        saved = self._passes[number]
        if saved.title != title:
            msg = f"{self.path} has the pass {saved.title!r} where {title!r} is expected; remove it to start anew"
            raise ValueError(msg)
        prefix = f"{number}/"
        _, arrays = _loaded(self._file, self.path, "checkpoint", FORMAT, prefix)
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
        """Note how far pass `number` has got, and write the file if it is time or `now` is set; then ask for arrays."""
        if not (now or is_finished or monotonic() - self._last_write >= self._seconds):
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
        self._hold(_written(self.path, header, named, self._file, [f"{earlier}/" for earlier in range(number)]))
        self._last_write = monotonic()

    def remove(self) -> None:
        """Delete the file: the measurement is done. What a process that was killed had half written goes too."""
        self._close()
        for path in (self.path, *self.path.parent.glob(f".{glob.escape(self.path.name)}.*.part")):
            path.unlink(missing_ok=True)
