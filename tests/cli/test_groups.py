"""Under torchrun a command waits for the others of its job, says so, and not for ever; `--alone` waits for nobody."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch")

COMMAND = [sys.executable, "-m", "nrc_fast", "measure", "H.npy", "-n", "2", "--json"]


@pytest.fixture
def inherited(tmp_path: Path) -> dict[str, str]:
    """What the first of two processes of torchrun hands on to what it starts."""
    np.save(tmp_path / "H.npy", np.random.default_rng(0).standard_normal((100, 4)))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    told = {"TORCHELASTIC_RUN_ID": "none", "RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "2"}
    return os.environ | told | {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}


def run(folder: Path, environment: dict[str, str], *more: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*COMMAND, *more], cwd=folder, env=environment, capture_output=True, text=True, timeout=100, check=False
    )


@pytest.mark.parametrize("rank", ["0", "1"])
def test_whoever_waits_for_nobody_says_so_and_ends(tmp_path: Path, inherited: dict[str, str], rank: str) -> None:
    done = run(tmp_path, inherited | {"RANK": rank}, "--wait", "4")
    assert done.returncode == 1
    lines = [line for line in done.stderr.splitlines() if line.startswith("nrc-fast: ")]
    assert len(lines) == 2
    where = f"the other processes of the torchrun job of 2 at 127.0.0.1:{inherited['MASTER_PORT']}"
    assert lines[0] == f"nrc-fast: process {rank} waits for {where}, up to 4 s; --alone measures without them"
    assert lines[1].startswith(f"nrc-fast: {where} did not come within 4 s")
    assert "--alone measures without them" in lines[1]
    assert "Traceback" not in done.stderr


def test_alone_and_without_all_of_what_torchrun_says_nobody_is_waited_for(
    tmp_path: Path, inherited: dict[str, str]
) -> None:
    assert json.loads(run(tmp_path, inherited, "--alone").stdout)["samples"] == 100
    del inherited["MASTER_ADDR"]
    assert json.loads(run(tmp_path, inherited).stdout)["samples"] == 100


def test_a_time_that_is_none_is_refused(tmp_path: Path, inherited: dict[str, str]) -> None:
    done = run(tmp_path, inherited, "--wait", "-1")
    assert done.returncode == 1
    assert done.stderr == "nrc-fast: --wait is -1.0; a number of seconds above 0 is expected\n"


JOB = """
import json, os, subprocess, sys
command = [sys.executable, "-m", "nrc_fast", "measure", "H_*.npy", "-n", "2", "--json"]
rank = int(os.environ["RANK"])
found = []
if rank == 0:  # one alone, which the others do not know of
    found.append(json.loads(subprocess.run([*command, "--alone"], capture_output=True, check=True).stdout)["samples"])
for _ in range(2):  # and all together, twice
    answer = subprocess.run(command, capture_output=True, text=True, check=True)
    if rank == 0:
        found.append(json.loads(answer.stdout)["samples"])
if rank == 0:
    print(found)
"""


@pytest.mark.long
def test_processes_of_a_job_start_commands_one_after_the_other(tmp_path: Path) -> None:
    for number in range(3):
        np.save(tmp_path / f"H_{number}.npy", np.random.default_rng(number).standard_normal((50, 4)))
    (tmp_path / "job.py").write_text(JOB)
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "job.py"]
    done = subprocess.run(torchrun, cwd=tmp_path, capture_output=True, text=True, timeout=200, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "[150, 150, 150]", done.stderr
