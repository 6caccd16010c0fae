"""Which cards the CUDA kernels run on, and that they load where there is none."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from nrc_fast.cli.environment import environment
from nrc_fast.kernels.cuda import cards

built = pytest.mark.skipif(
    cards.cuda_core() is None and os.environ.get("NRC_FAST_CUDA") != "ON",
    reason="this build has no CUDA kernels: no CUDA compiler was found",
)


@pytest.mark.parametrize(
    ("capability", "architectures", "ptx", "expected"),
    [
        ((8, 0), ["80", "90a"], "", True),
        ((8, 6), ["80", "90a"], "", True),  # machine code of the same major, smaller minor
        ((8, 0), ["86"], "", False),
        ((9, 0), ["80", "90a"], "", True),
        ((9, 0), ["80"], "", False),
        ((9, 1), ["90a"], "", False),  # "a" is for that card only
        ((10, 0), ["75", "80", "90a"], "", False),
        ((10, 0), ["75", "100"], "", True),
        ((10, 3), ["75", "100"], "", True),
        ((12, 1), ["75"], "120", True),
        ((13, 0), ["75", "120"], "120", True),  # PTX is compiled by a later card's driver
        ((11, 0), ["75", "120"], "120", False),
        ((7, 0), ["75", "120"], "120", False),
    ],
)
def test_cards_that_can_run_a_build(
    capability: tuple[int, int], architectures: list[str], ptx: str, expected: bool
) -> None:
    assert cards.runs_on(capability, architectures, ptx) is expected


def test_error_names_the_card_and_what_was_built() -> None:
    cards.require_capability((9, 0), ["80", "90a"])
    with pytest.raises(RuntimeError) as caught:
        cards.require_capability((7, 5), ["80", "90a"], "120", "'cuda:1' (Tesla T4)")
    message = str(caught.value)
    for part in ("'cuda:1' (Tesla T4)", "7.5", "80, 90a and PTX for 120", "NRC_FAST_CUDA_ARCHS=75"):
        assert part in message


def test_architecture_that_is_none() -> None:
    with pytest.raises(ValueError, match="'sm_80'"):
        cards.runs_on((8, 0), ["sm_80"])


def test_device_of_a_build_without_cuda(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cards, "cuda_core", lambda: None)
    with pytest.raises(RuntimeError, match="no CUDA kernels"):
        cards.require_cuda_device(0)
    assert cards.cuda_summary() == "not built"
    assert cards.cuda_build() is None


class MadeUpCore:
    """What `_cuda` says on a machine with one old card."""

    @staticmethod
    def build_config() -> dict[str, object]:
        return {"compiler": "NVIDIA 13.0", "architectures": ["80", "90a"], "ptx": "", "left_out": ["100"]}

    @staticmethod
    def device_count() -> int:
        return 1

    @staticmethod
    def device_problem() -> str:
        return ""

    @staticmethod
    def device_name(device: int) -> str:
        return f"Card {device}"

    @staticmethod
    def device_capability(device: int) -> tuple[int, int]:
        return 7, device


def test_device_that_the_build_is_not_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cards, "cuda_core", MadeUpCore)
    with pytest.raises(RuntimeError, match=r"'cuda:0' \(Card 0\) has compute capability 7.0; .* 80, 90a\. "):
        cards.require_cuda_device(0)
    with pytest.raises(RuntimeError, match="'cuda:3' cannot be used: devices 0 to 0 are there"):
        cards.require_cuda_device(3)
    summary = "NVIDIA 13.0 for 80, 90a (without 100, unknown to this compiler); Card 0 (7.0)"
    assert cards.cuda_summary() == summary


class UsedCore(MadeUpCore):
    """A card that can be used, and what was asked of it."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    def __getattribute__(self, name: str) -> Any:
        if name != "asked" and not name.startswith("__"):
            self.asked.append(name)
        return super().__getattribute__(name)

    @staticmethod
    def device_capability(device: int) -> tuple[int, int]:
        return 8, device


QUESTIONS = {"build_config", "device_count", "device_problem", "device_name", "device_capability"}


def test_a_card_is_asked_once_whether_it_can_be_used(monkeypatch: pytest.MonkeyPatch) -> None:
    core = UsedCore()
    monkeypatch.setattr(cards, "cuda_core", lambda: core)
    cards.require_cuda_device(0)
    assert set(core.asked) <= QUESTIONS
    asked = len(core.asked)
    cards.require_cuda_device(0)
    assert len(core.asked) == asked
    with pytest.raises(RuntimeError, match="devices 0 to 0 are there"):
        cards.require_cuda_device(1)
    assert len(core.asked) > asked


def test_the_environment_asks_nothing_that_creates_a_context(monkeypatch: pytest.MonkeyPatch) -> None:
    """Which questions do not, test_launch_state.py sees."""
    core = UsedCore()
    monkeypatch.setattr(cards, "cuda_core", lambda: core)
    torch = pytest.importorskip("torch")
    monkeypatch.setattr(torch.cuda, "init", lambda: pytest.fail("torch begins to use CUDA"))
    assert environment()["cuda"].endswith("Card 0 (8.0)")
    assert core.asked
    assert set(core.asked) <= QUESTIONS


@built
def test_core_says_how_it_was_built() -> None:
    build = cards.cuda_build()
    assert build is not None
    architectures = build["architectures"]
    assert isinstance(architectures, list)
    assert architectures
    for name in architectures:
        digits = name.rstrip("af")
        assert cards.runs_on((int(digits[:-1]), int(digits[-1])), architectures)
    assert build["runtime"] >= 12000  # type: ignore[operator]


@built
def test_core_loads_with_neither_card_nor_driver(run_alone: Callable[..., subprocess.CompletedProcess[str]]) -> None:
    code = (
        "from nrc_fast.kernels import _cuda\n"
        "from nrc_fast.kernels.cuda import cards\n"
        "assert _cuda.device_count() == 0, _cuda.device_count()\n"
        "assert _cuda.device_problem()\n"
        "try:\n"
        "    cards.require_cuda_device(0)\n"
        "except RuntimeError as error:\n"
        "    assert _cuda.device_problem() in str(error)\n"
        "    print('refused')\n"
        "try:\n"
        "    _cuda.device_name(0)\n"
        "except RuntimeError as error:\n"
        "    assert 'CUDA says' in str(error)\n"
    )
    # No card is visible, whatever the machine has.
    result = run_alone(code, CUDA_VISIBLE_DEVICES="", PYTHONPATH=os.environ.get("PYTHONPATH", ""))
    assert (result.returncode, result.stdout.strip()) == (0, "refused"), result.stderr


@built
@pytest.mark.skipif(not shutil.which("ldd"), reason="needs ldd")
def test_core_links_nothing_of_cuda_or_torch() -> None:
    specification = importlib.util.find_spec("nrc_fast.kernels._cuda")
    assert specification is not None
    assert specification.origin is not None
    path = Path(specification.origin)
    linked = subprocess.run(["ldd", str(path)], check=True, capture_output=True, text=True).stdout.lower()
    assert not [name for name in ("libcuda", "cudart", "cublas", "torch", "libgomp") if name in linked]
    # With the architectures of CI; all of them must fit into a wheel of 20 MB.
    assert path.stat().st_size < 20e6
