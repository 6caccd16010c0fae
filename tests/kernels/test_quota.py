"""What a container's quota is worth in processors, from the files of both versions of cgroups."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from nrc_fast.kernels.cpu.quota import processor_quota


def written(folder: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return folder


@pytest.mark.parametrize(
    ("memberships", "files", "expected"),
    [
        ("0::/\n", {"cpu.max": "150000 100000\n"}, 1.5),
        ("0::/\n", {"cpu.max": "max 100000\n"}, None),
        ("0::/a/b\n", {"a/b/cpu.max": "max 100000\n", "a/cpu.max": "50000 100000\n"}, 0.5),
        ("0::/a/b\n", {"a/b/cpu.max": "400000 100000\n", "a/cpu.max": "600000 100000\n"}, 4.0),
        ("0::/of/the/host\n", {"cpu.max": "200000 100000\n"}, 2.0),
        ("0::/\n", {}, None),
        ("0::/\n", {"cpu.max": "\n"}, None),
        ("0::/\n", {"cpu.max": "100000\n"}, None),
        ("0::/\n", {"cpu.max": "100000 0\n"}, None),
        ("", {"cpu.max": "100000 100000\n"}, None),
        (
            "9:memory:/\n4:cpu,cpuacct:/docker/x\n",
            {"cpu,cpuacct/docker/x/cpu.cfs_quota_us": "250000\n", "cpu,cpuacct/docker/x/cpu.cfs_period_us": "100000\n"},
            2.5,
        ),
        (
            "4:cpuacct,cpu:/docker/x\n",
            {"cpu/cpu.cfs_quota_us": "20000\n", "cpu/cpu.cfs_period_us": "10000\n"},
            2.0,
        ),
        ("4:cpu:/\n", {"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n"}, None),
        ("5:cpuset:/\n", {"cpuset/cpu.cfs_quota_us": "10000\n", "cpuset/cpu.cfs_period_us": "10000\n"}, None),
        ("1:cpu:/\n0::/\n", {"unified/cpu.max": "300000 100000\n"}, 3.0),
    ],
)
def test_quotas(tmp_path: Path, memberships: str, files: dict[str, str], expected: float | None) -> None:
    mounted = written(tmp_path / "mounted", files)
    (tmp_path / "memberships").write_text(memberships)
    assert processor_quota(mounted, tmp_path / "memberships") == expected


def test_a_machine_without_groups(tmp_path: Path) -> None:
    assert processor_quota(tmp_path / "nowhere", tmp_path / "nothing") is None


@pytest.mark.parametrize(("limit", "expected"), [("100000 100000", 1), ("10000 100000", 1), ("100000000 100000", None)])
def test_threads_follow_the_quota(tmp_path: Path, limit: str, expected: int | None) -> None:
    """And neither raise their number nor change one that was asked for."""
    written(tmp_path, {"cpu.max": limit, "memberships": "0::/\n"})
    code = (
        "import os\n"
        "from pathlib import Path\n"
        "from nrc_fast.kernels.cpu import quota\n"
        "allowed = len(os.sched_getaffinity(0)) if hasattr(os, 'sched_getaffinity') else os.cpu_count()\n"
        f"quota.processor_quota.__defaults__ = (Path({str(tmp_path)!r}), Path({str(tmp_path / 'memberships')!r}))\n"
        "from nrc_fast.kernels.cpu import machine\n"
        "machine.set_thread_count(allowed)\n"
        "machine._read_environment()\n"
        "chosen = machine.thread_count()\n"
        "os.environ['NRC_FAST_NUM_THREADS'] = '7'\n"
        "machine._read_environment()\n"
        "print(allowed, chosen, machine.thread_count())\n"
    )
    out = subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, text=True, check=True, cwd=tmp_path)
    allowed, chosen, asked = map(int, out.stdout.split())
    assert chosen == (allowed if expected is None else expected)
    assert asked == 7
