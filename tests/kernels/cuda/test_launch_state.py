"""What launches leave behind them, and what is asked of cards, on a made-up CUDA runtime with two of them."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest
from support.tools import ROOT, require_tool

TESTS = Path(__file__).parent
CSRC = ROOT / "csrc"


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """launch_state.cpp with csrc/cuda/machine, and the stand-in in place of CUDA's header."""
    target = tmp_path_factory.mktemp("launch_state") / "launch_state"
    folders = [f"-I{TESTS / 'stand_in'}", f"-I{CSRC}"]
    command = [require_tool("c++"), "-std=c++17", "-O0", "-w", *folders, str(TESTS / "launch_state.cpp"), "-pthread"]
    subprocess.run([*command, "-o", str(target)], check=True)
    return target


def lines(program: Path, part: str) -> list[str]:
    done = subprocess.run([str(program), part], capture_output=True, text=True, check=True, timeout=60)
    return done.stdout.splitlines()


def test_no_context_is_created_on_a_card_that_nobody_uses(program: Path) -> None:
    """Rows lie on the second card, and the first is the current one of the thread all the time."""
    assert lines(program, "contexts") == [
        "at first: current 0, contexts",
        "after questions: current 0, contexts",
        "at a launch: current 1, contexts 1",
        "inside: current 1, contexts 1",
        "still: current 1, contexts 1",
        "afterwards: current 0, contexts 1",
        "in a thread: current 1, contexts 1",
        "while the other is used: current 1, contexts 0 1",
        "and back: current 0, contexts 0 1",
        "asking for a device by its number: the CUDA driver says error 101",
        "after an error: current 0, contexts 0 1",
    ]


def test_shared_memory_that_was_allowed_stays_allowed(program: Path) -> None:
    assert lines(program, "shared_memory") == ["100000 50000 0", "100000 60000", "0 launches refused"]


def test_limits_and_names_are_asked_once_for_each_card(program: Path) -> None:
    *found, counts = lines(program, "questions")
    error = "asking the device for its name: CUDA says cudaErrorInvalidDevice, invalid device ordinal"
    assert found == ["first card 75 76 16 97 81", "second card 1075 1076 1016 1097 1081", error, error]
    assert counts == "4 properties, 10 attributes"  # an error is not kept


def test_host_memory_that_cannot_be_registered(program: Path) -> None:
    assert lines(program, "host_memory") == [
        "[] 1",
        "0",
        "[cudaErrorNotSupported, operation not supported] 0",
        "last error 0",
        "afterwards: current 0, contexts 1",
    ]


def test_launches_go_no_other_way() -> None:
    """What sets the state of a kernel or of a thread is called where the tests above see it."""
    found: dict[str, set[str]] = {}
    for path in [*CSRC.glob("cuda/**/*.cu"), *CSRC.glob("cuda/**/*.cpp"), *CSRC.glob("cuda/**/*.h")]:
        for name in re.findall(r"\b(cudaFuncSetAttribute|cudaSetDevice|cudaInitDevice)\(", path.read_text("utf-8")):
            found.setdefault(name, set()).add(path.name)
    assert found == {"cudaFuncSetAttribute": {"runtime.cpp"}}
