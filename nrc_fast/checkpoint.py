"""Where a measurement has got to, on disk: a run that was stopped goes on from there, to the same bits."""

from __future__ import annotations

import glob
import json
import os
import tempfile
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from time import monotonic
from typing import Any

import numpy as np

from nrc_fast.linalg import FloatArray

__all__ = ["DAMAGED", "Checkpoint", "load_arrays", "require_writable", "save_arrays"]

FORMAT = 1
# What numpy, json and zipfile raise over damaged files.
DAMAGED = (KeyError, ValueError, TypeError, EOFError, AttributeError, NotImplementedError)


def save_arrays(path: Path, header: Mapping[str, Any], arrays: Mapping[str, FloatArray]) -> None:
    """Write arrays and a header to a .npz file, all or nothing: readers never see half a file.

    Raises
    ------
    OSError
        The file cannot be written.
    """
    path = require_writable(path)
    text = np.frombuffer(json.dumps(header).encode(), dtype=np.uint8)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".part")
    try:
        with os.fdopen(handle, "wb") as file:
            little: dict[str, Any] = {name: np.asarray(array, dtype="<f8") for name, array in arrays.items()}
            np.savez(file, header=text, **little)
            file.flush()
            os.fsync(file.fileno())
        # Temporary files are for their owner alone.
        mask = os.umask(0)
        os.umask(mask)
        Path(temporary).chmod(0o666 & ~mask)
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


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
    try:
        # numpy leaves a damaged file open that it was given by name.
        with path.open("rb") as opened, np.load(opened, allow_pickle=False) as file:
            header = json.loads(bytes(file["header"]).decode())
            arrays = {name: np.array(file[name], dtype=np.float64) for name in file.files if name != "header"}
    except FileNotFoundError:
        raise
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
        It is of another measurement.
    """

    def __init__(self, path: Path, identity: Mapping[str, Any], seconds: float) -> None:
        self.path = path
        self._identity = json.loads(json.dumps(identity))
        self._seconds = seconds
        self._passes: list[_Pass] = []
        self._arrays: dict[str, FloatArray] = {}
        self._last_write = monotonic()
        if path.exists():
            self._load()

    def _load(self) -> None:
        header, self._arrays = load_arrays(self.path, "checkpoint", FORMAT)
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
        if number >= len(self._passes):
            return None
        saved = self._passes[number]
        if saved.title != title:
            msg = f"{self.path} has the pass {saved.title!r} where {title!r} is expected; remove it to start anew"
            raise ValueError(msg)
        prefix = f"{number}/"
        arrays = {name.removeprefix(prefix): a for name, a in self._arrays.items() if name.startswith(prefix)}
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
        for name, array in arrays().items():
            self._arrays[f"{number}/{name}"] = array.copy()
        header = {
            "kind": "checkpoint",
            "format": FORMAT,
            "identity": self._identity,
            "passes": [asdict(entry) for entry in self._passes],
        }
        save_arrays(self.path, header, self._arrays)
        self._last_write = monotonic()

    def remove(self) -> None:
        """Delete the file: the measurement is done. What a process that was killed had half written goes too."""
        for path in (self.path, *self.path.parent.glob(f".{glob.escape(self.path.name)}.*.part")):
            path.unlink(missing_ok=True)
