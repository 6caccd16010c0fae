"""Rows that several processes share, and what each of them found: starts `distributed_worker.py` for each."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np

WORKER = Path(__file__).with_name("distributed_worker.py")


def draw(mean: float = 3.0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    W = rng.standard_normal((2, 12))
    H = rng.standard_normal((900, 12)) * 0.8 ** np.arange(12) + mean
    return H, H @ W.T + 0.1 * rng.standard_normal((900, 2)), W


def run(
    folder: Path,
    task: str,
    H: np.ndarray,
    Y: np.ndarray,
    W: np.ndarray,
    cuts: list[int],
    *more: str,
    fails: bool = False,
) -> list[dict[str, Any]]:
    """What each process found; process r holds the rows from cut r to cut r + 1."""
    folder.mkdir(exist_ok=True)
    (folder / "meeting").unlink(missing_ok=True)
    parts = {f"H{rank}": part for rank, part in enumerate(np.split(H, cuts))}
    parts |= {f"Y{rank}": part for rank, part in enumerate(np.split(Y, cuts))}
    np.savez(folder / "parts.npz", W=W, **parts)
    size = len(cuts) + 1
    processes = [
        subprocess.Popen(
            [sys.executable, str(WORKER), str(rank), str(size), str(folder), task, *more],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            cwd=folder,
        )
        for rank in range(size)
    ]
    outputs = [process.communicate(timeout=120)[0] for process in processes]
    if fails:
        assert all(process.returncode != 0 for process in processes)
        return []
    assert [process.returncode for process in processes] == [0] * size, "\n".join(outputs)
    return [json.loads((folder / f"result{rank}.json").read_text()) for rank in range(size)]
