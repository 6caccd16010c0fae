"""The processor time that a container may use (cgroups), which the processors that it may run on do not tell."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

__all__ = ["processor_quota"]

MOUNTED = Path("/sys/fs/cgroup")
OF_THIS_PROCESS = Path("/proc/self/cgroup")


def processor_quota(mounted: Path = MOUNTED, memberships: Path = OF_THIS_PROCESS) -> float | None:
    """How many processors' time this process may use, of both versions of cgroups; None where nothing limits it.

    Parameters
    ----------
    mounted : Path
        Where the groups are mounted.
    memberships : Path
        The file that names the groups of this process, a line for each hierarchy.
    """
    quotas = [quota for group in _groups(mounted, memberships) for quota in _quotas(group)]
    return min(quotas, default=None)


def _groups(mounted: Path, memberships: Path) -> Iterator[Path]:
    """Folders of the groups that may limit the processors: those of this process and all that these lie in."""
    for line in _text(memberships).splitlines():
        _, _, named = line.partition(":")
        controllers, _, path = named.partition(":")
        if controllers == "":
            hierarchies = [mounted, mounted / "unified"]
        elif "cpu" in controllers.split(","):
            hierarchies = [mounted / controllers, mounted / "cpu"]
        else:
            continue
        # In a container the path may be one of the host, of which only the mounted folder is there.
        inner = Path(path.lstrip("/"))
        for hierarchy in hierarchies:
            yield from (hierarchy / part for part in (inner, *inner.parents))


def _quotas(group: Path) -> Iterator[float]:
    limit = _text(group / "cpu.max").split()
    if len(limit) < 2:
        limit = [_text(group / f"cpu.cfs_{name}_us").strip() for name in ("quota", "period")]
    if all(number.isdecimal() and int(number) > 0 for number in limit):  # not "max" or -1, which are no limits
        yield int(limit[0]) / int(limit[1])


def _text(path: Path) -> str:
    """Of a file; empty where it cannot be read."""
    try:
        return path.read_text(encoding="ascii", errors="replace")
    except OSError:
        return ""
