"""Which process writes a file that several may have been started to write."""

from __future__ import annotations

import fcntl
import os
import socket
from contextlib import suppress
from pathlib import Path
from time import strftime
from weakref import WeakSet

__all__ = ["Claim"]

# More than any owner's text has.
TEXT_BYTES = 1000


class Claim:
    """That a process alone writes a file: a locked file beside it, which names the owner.

    The system takes the lock from a process that ends, however it does: what a killed one leaves stops nobody.

    Parameters
    ----------
    path : Path
        The file that is to be written; it need not exist.

    Raises
    ------
    OSError
        The folder cannot be written to.

    Examples
    --------
    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp()) / "state.npz"
    >>> first, second = Claim(path), Claim(path)
    >>> first.take() is None, second.take() == f"process {os.getpid()} on {socket.gethostname()}"
    (True, True)
    >>> first.give_back()
    >>> second.take() is None
    True
    """

    def __init__(self, path: Path) -> None:
        self.lock_path = path.with_name(f".{path.name}.lock")
        self._descriptor: int | None = None
        _CLAIMS.add(self)

    def take(self) -> str | None:
        """Take it, if nobody has it; returns who has, or None where this object has it now."""
        while self._descriptor is None:
            descriptor = self._open()
            try:
                owner = self._lock(descriptor)
            except BaseException:
                os.close(descriptor)
                raise
            if self._descriptor is None:
                os.close(descriptor)
            if owner is not None:
                return owner
        return None

    def _open(self) -> int:
        try:
            return os.open(self.lock_path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        except PermissionError:  # left by another user; to lock it is enough to read it
            return os.open(self.lock_path, os.O_RDONLY | os.O_CLOEXEC)

    def _lock(self, descriptor: int) -> str | None:
        """Lock the file and write into it who has; returns who else has locked it."""
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            text = os.pread(descriptor, TEXT_BYTES, 0).decode(errors="replace")
            return text.partition(",")[0].strip() or "another process"
        except OSError:  # a file system without locks, where nobody is told
            self._descriptor = descriptor
            return None
        if _is_at(self.lock_path, descriptor):  # the one before deletes it when it is done
            self._descriptor = descriptor
            text = f"process {os.getpid()} on {socket.gethostname()}, since {strftime('%Y-%m-%d %H:%M:%S')}\n"
            with suppress(OSError):  # of a full disk: then the owner has no name
                os.ftruncate(descriptor, 0)
                os.pwrite(descriptor, text.encode(), 0)
        return None

    def give_back(self) -> None:
        """Let others have it. Nothing happens where this object does not have it."""
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is not None:
            # Of another user, or in a folder that nothing can be deleted in: the lock ends with the descriptor.
            with suppress(OSError):
                if _is_at(self.lock_path, descriptor):
                    self.lock_path.unlink(missing_ok=True)
            os.close(descriptor)

    __del__ = give_back

    def forget(self) -> None:
        """In a forked child: the parent has it, also when it ends before the child does."""
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is not None:
            os.close(descriptor)


_CLAIMS: WeakSet[Claim] = WeakSet()


def _forget_all() -> None:
    for claim in _CLAIMS:
        claim.forget()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_all)


def _is_at(path: Path, descriptor: int) -> bool:
    """Whether an open file still has its name."""
    try:
        found = path.stat()
    except FileNotFoundError:
        return False
    return os.path.samestat(found, os.fstat(descriptor))
