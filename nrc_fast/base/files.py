"""Files that are written all or nothing: readers see what was there before, or the whole of what comes."""

from __future__ import annotations

import fcntl
import glob
import io
import os
import secrets
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from nrc_fast.base.outputs import require_text_place

__all__ = ["append_text", "remove_unfinished", "replaced_file", "require_writable", "write_text"]

# What a new file allows before the mask of the process takes its part away, and what is kept of one that is replaced.
NEW_MODE = 0o666
KEPT_MODE = 0o777
# Of names, so that what is written under them has a name that file systems take.
NAME_BYTES = 200


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


def write_text(path: str | Path, text: str) -> None:
    """Write a text file, all or nothing.

    Raises
    ------
    OSError
        It cannot be written; the message names it.
    ValueError
        There is a file that is no text, such as one of features.
    """
    require_text_place(path)
    with replaced_file(Path(path)) as file:
        file.write(text.encode("utf-8", "backslashreplace"))


def append_text(path: Path, text: str) -> None:
    """Add whole lines to a text file: where that fails, none of them.

    Raises
    ------
    OSError
        It cannot be written; the message names it.
    """
    with _named_errors(path), path.open("ab", buffering=0) as file:
        size = os.fstat(file.fileno()).st_size
        rest = memoryview(text.encode())
        try:
            while rest:
                rest = rest[file.write(rest) :]
        except BaseException:
            with suppress(OSError):
                file.truncate(size)
            raise


@contextmanager
def replaced_file(path: Path, *, stays_open: bool = False) -> Iterator[BinaryIO]:
    """A file to write to, which takes its place under a path when the block ends, and is gone where the block raises.

    It is on the disk before it takes the place of what was there, whose permissions it keeps. What is no regular file,
    such as a pipe, or is open in a process, such as /dev/stdout, is written to as it is.

    Parameters
    ----------
    path : Path
    stays_open : bool
        Whether it is for the caller to close the file.

    Raises
    ------
    OSError
        The file cannot be written; the message names it.
    """
    if _is_written_as_it_is(path):
        with path.open("wb") as special:
            yield special
        return
    target = require_writable(path)
    remove_unfinished(target)
    file, name = None, target
    try:
        with _named_errors(path):
            while file is None:
                name = target.with_name(f"{_hidden(target)}.{secrets.token_hex(4)}.part")
                file = _new_file(name, target)
            yield file
            file.flush()
            os.fsync(file.fileno())
            name.replace(target)
            _sync_folder(target.parent)
        if not stays_open:
            file.close()
    except BaseException:
        if file is not None:
            _give_up(file)
        if name != target:
            name.unlink(missing_ok=True)
        raise


def _is_written_as_it_is(path: Path) -> bool:
    """Whether a path is no regular file, or names what a process has open, as /dev/stdout does."""
    if Path(os.path.abspath(path)).parts[1:2] in (("dev",), ("proc",)) and path.exists():  # noqa: PTH100 - no link is followed
        return not path.is_dir()
    return path.exists() and not path.is_file() and not path.is_dir()


def _hidden(target: Path) -> str:
    """How the names of what is written for a path begin."""
    return "." + os.fsdecode(os.fsencode(target.name)[:NAME_BYTES])


@contextmanager
def _named_errors(path: Path) -> Iterator[None]:
    """Say in errors of the system which file could not be written.

    Raises
    ------
    OSError
        With the number of the one that came.
    """
    try:
        yield
    except OSError as error:
        if error.errno is None:  # one that says what is wrong
            raise
        msg = f"{path} cannot be written ({error.strerror}): make room there, or give another path"
        raise OSError(error.errno, msg) from error


def _new_file(name: Path, target: Path) -> BinaryIO | None:
    """An empty file, for whom the file is that it is to replace, locked as long as it is open.

    None where another process has deleted it before it was locked.
    """
    before = None
    with suppress(FileNotFoundError):
        before = target.stat()
    mode = NEW_MODE if before is None else stat.S_IMODE(before.st_mode) & KEPT_MODE

    def opened(path: str, flags: int) -> int:
        # The kernel takes away what the mask of this process forbids: to ask for the mask would be to change it.
        return os.open(path, flags, mode)

    raw = io.FileIO(name, "x+", opener=opened)
    try:
        with suppress(OSError):  # of a file system without locks
            fcntl.flock(raw, fcntl.LOCK_EX)
        if os.fstat(raw.fileno()).st_nlink == 0:
            raw.close()
            return None
        if before is not None:
            # Refused by some file systems, and in containers whose users are not those of the system.
            with suppress(OSError):
                os.fchown(raw.fileno(), before.st_uid, before.st_gid)
            with suppress(OSError):
                os.fchmod(raw.fileno(), mode)
        return io.BufferedRandom(raw)
    except BaseException:
        raw.close()
        raise


def _give_up(file: BinaryIO) -> None:
    """Close a file whatever becomes of what was not written yet: on a full disk that would fail once more."""
    (file.raw if isinstance(file, io.BufferedRandom) else file).close()


def _sync_folder(folder: Path) -> None:
    """Have the new name of a file on the disk too, where the system can do that for folders."""
    with suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def remove_unfinished(target: Path) -> None:
    """Delete what processes that were killed had begun to write for a path: what is still being written is locked."""
    for part in target.parent.glob(f"{glob.escape(_hidden(target))}.*.part"):
        with suppress(OSError):
            descriptor = os.open(part, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                part.unlink()
            finally:
                os.close(descriptor)
