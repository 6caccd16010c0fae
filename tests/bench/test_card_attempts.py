"""Rows that are measured on a card go on after one that fails, in a fresh process where the card is lost with it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from support import cuda_core
from support.benches import BENCH, bench

# A card whose kernel "deadly" ends the process's use of it, as an illegal address does; every call fails from there on.
DRIVER = """
import sys

sys.path.insert(0, {bench!r})
import card
import card_kernels

lost = []


class Mortal(card.Card):
    def wait(self):
        if lost:
            raise RuntimeError("CUDA error: an illegal memory access was encountered")

    def random(self, *arguments):
        self.wait()
        return super().random(*arguments)


def deadly(card, H):
    lost.append(True)
    raise RuntimeError("CUDA error: an illegal memory access was encountered")


def broken(card, H):
    raise RuntimeError("no kernel image is available")


def kernel(name, prepare):
    return card_kernels.Kernel(name, prepare, lambda dtype: 1e-12)


gram = card_kernels.GRAM.prepare
KERNELS = [kernel("first", gram), kernel("broken", broken), kernel("deadly", deadly), kernel("second", gram)]
"""
SMOKE = """
import card_smoke

card_smoke.Card, card_smoke.KERNELS = Mortal, KERNELS
sys.exit(card_smoke.main())
"""
TIMES = """
import run

run.Card, run.load("cuda_kernels").TIMED = Mortal, KERNELS
run.hold_equal = lambda *_: 1
sys.exit(run.main())
"""
PROBES = """
import card_probes


def probe(name):
    def call():
        Mortal(is_emulated=True).wait()
        if name in FATAL:
            lost.append(True)
            raise RuntimeError("CUDA error: an illegal memory access was encountered")
        return card_probes.Probe(name, 0, "")

    return name, call


card_probes.Card, card_probes.WIDTHS = Mortal, (3,)
card_probes.probe_calls = lambda device: [probe(name) for name in ("product", "box", "ring")]
if "kernel" in FATAL:
    card_probes.GRAM = kernel("deadly", deadly)
sys.exit(card_probes.main())
"""
LOST = "the card is lost to this process: a fresh one goes on with row "
ILLEGAL = "RuntimeError: CUDA error: an illegal memory access was encountered"
BROKEN = "RuntimeError: no kernel image is available"


def drive(folder: Path, script: str, *options: str) -> subprocess.CompletedProcess[str]:
    cuda_core.emulation()
    driver = folder / "driver.py"
    driver.write_text(DRIVER.format(bench=str(BENCH)) + script, encoding="utf-8")
    command = [sys.executable, str(driver), "--device", "emulated", *options]
    return subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)


def test_smoke_rows_after_an_illegal_address(tmp_path: Path) -> None:
    """Twice: no row is lost, and none is there twice."""
    out = tmp_path / "smoke.jsonl"
    done = drive(tmp_path, SMOKE, "--out", str(out), "--dtypes", "float64", "--rows", "20", "--widths", "3", "5")
    rows = [json.loads(line) for line in out.read_text(encoding="utf-8").splitlines()]
    kinds = [("first", "ok"), ("broken", BROKEN), ("deadly", ILLEGAL), ("second", "ok")]
    assert [(row["d"], row["kernel"], row["check"]) for row in rows] == [(d, *kind) for d in (3, 5) for kind in kinds]
    assert done.returncode == 1
    assert [line[-1] for line in done.stdout.splitlines() if line.startswith(LOST)] == ["3", "7"]
    assert done.stdout.splitlines()[-1] == "0 rows are wrong, and those of the processes before this one"


def test_times_after_an_illegal_address(tmp_path: Path) -> None:
    """The file has the rows of all processes; torch's product is held against a reference that the last one forms."""
    out = tmp_path / "times.json"
    options = ["--routine", "cuda_kernels", "--shape", "20x3", "--dtype", "float64", "--runs", "1", "--out", str(out)]
    done = drive(tmp_path, TIMES, *options)
    kept = json.loads(out.read_text(encoding="utf-8"))
    ours = [("first", "ok"), ("broken", BROKEN), ("deadly", ILLEGAL), ("second", "ok")]
    assert [(row["contender"], row.get("check")) for row in kept["rows"]] == [
        ("copy", None),
        *((f"nrc_fast {name}", check) for name, check in ours),
        ("torch.mm(H.T, H)", None),
    ]
    assert kept["rows"][-1]["error"] <= 1e-14
    assert done.returncode == 1
    assert done.stdout.count(LOST) == 1
    assert done.stderr.count("FAILED: cuda_kernels: nrc_fast") == 2


def test_probes_after_an_illegal_address(tmp_path: Path) -> None:
    """The others are tried, in a fresh process; the kernel that rests on all of them is not."""
    for fatal in ("product", "ring"):
        done = drive(tmp_path, f"FATAL = [{fatal!r}]\n{PROBES}", "--rows", "20")
        checks = [f"{name}: {ILLEGAL if name == fatal else 'ok'}" for name in ("product", "box", "ring")]
        said = [line for line in done.stdout.splitlines() if not line.startswith(LOST)]
        assert said == [*checks, "a probe has failed: the kernel is not tried"]
        assert done.stdout.count(LOST) == 1
        assert done.returncode == 1


def test_the_kernel_of_warpgroups_after_an_illegal_address(tmp_path: Path) -> None:
    """The probes are not tried again."""
    done = drive(tmp_path, f"FATAL = ['kernel']\n{PROBES}", "--rows", "20")
    kernel = [f"gram of warpgroups, 20 x 3 {dtype}, error {ILLEGAL}, {ILLEGAL}" for dtype in ("bfloat16", "float16")]
    said = [line for line in done.stdout.splitlines() if not line.startswith(LOST)]
    assert said == ["product: ok", "box: ok", "ring: ok", *kernel, "the kernel is wrong"]
    assert done.returncode == 1


def test_a_failure_that_leaves_the_card_needs_no_fresh_process(tmp_path: Path) -> None:
    script = SMOKE.replace("Mortal, KERNELS", "Mortal, KERNELS[:2]")
    done = drive(tmp_path, script, "--dtypes", "float64", "--rows", "20", "--widths", "3")
    assert done.returncode == 1
    assert LOST not in done.stdout
    assert done.stdout.splitlines()[-1] == "1 rows are wrong"


def test_a_card_that_does_not_answer_at_all_ends_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """A fresh process would be no better off: each would be followed by another."""

    def execute(*_: Any) -> None:
        pytest.fail("a fresh process")

    monkeypatch.setattr("os.execv", execute)

    class Gone(bench("card").Card):  # type: ignore[misc]
        def wait(self) -> None:
            msg = "no CUDA-capable device is detected"
            raise RuntimeError(msg)

    def call() -> dict[str, Any]:
        raise AssertionError

    card = Gone(is_emulated=True)
    with pytest.raises(RuntimeError, match="no CUDA-capable device"):
        list(bench("card_attempts").attempts(card, [({}, call)], skip=0))
