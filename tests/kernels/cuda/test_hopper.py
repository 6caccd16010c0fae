"""When the Gram kernel of Hopper cards runs: not before it is asked for and the card has passed its probes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from nrc_fast.kernels import devices
from nrc_fast.kernels.cuda import cards, hopper


@pytest.fixture
def device(cuda_core: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """The emulated device, on which nothing is asked for yet."""
    monkeypatch.delenv(hopper.VARIABLE, raising=False)
    hopper._enable.cache_clear()
    found = cuda_core.Emulation().device()
    yield found
    found.core.allow_warpgroups(0, runs=False)
    hopper._enable.cache_clear()


def test_it_is_not_asked_for_by_default(device: Any) -> None:
    hopper.enable_if_asked(device)
    assert not device.core.runs_warpgroups(0)
    assert device.core.launches() == 0
    assert devices.hopper_summary() == "off; NRC_FAST_HOPPER=1 asks for it, and cards are tried before it runs"


@pytest.mark.parametrize("text", ["0", ""])
def test_words_for_no(device: Any, monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setenv(hopper.VARIABLE, text)
    hopper.enable_if_asked(device)
    assert not device.core.runs_warpgroups(0)


@pytest.mark.parametrize("text", ["yes", "2", "on"])
def test_other_words(device: Any, monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setenv(hopper.VARIABLE, text)
    with pytest.raises(ValueError, match=f"environment variable NRC_FAST_HOPPER is '{text}'; 1 asks for"):
        hopper.enable_if_asked(device)


def test_probes_come_first_and_once(device: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(hopper.VARIABLE, "1")
    hopper.enable_if_asked(device)
    assert device.core.runs_warpgroups(0)
    assert device.core.launches() == 11
    hopper.enable_if_asked(device)
    assert device.core.launches() == 11


@pytest.mark.parametrize("fault", ["not_swizzled", "wrong_phase", "bytes_missing"])
def test_a_card_that_fails_is_an_error(device: Any, monkeypatch: pytest.MonkeyPatch, fault: str) -> None:
    """Nothing falls back in silence, and what failed is tried again."""
    monkeypatch.setenv(hopper.VARIABLE, "1")
    device.core.configure(fault=fault)
    for _ in range(2):
        with pytest.raises(RuntimeError, match=r"which cuda:0 cannot run: a probe ends with an error .*probe_"):
            hopper.enable_if_asked(device)
        assert not device.core.runs_warpgroups(0)
    device.core.configure()
    hopper.enable_if_asked(device)
    assert device.core.runs_warpgroups(0)


def test_wrong_numbers_are_an_error(device: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(hopper.VARIABLE, "1")
    monkeypatch.setattr(hopper, "_bfloat16_bits", lambda values: np.zeros(values.shape, np.int16))
    pattern = r"product of 64 x 64, bfloat16: \d+ numbers are wrong, that at \(0, \d+\) is 0\.0 and not -?\d+\.0; "
    with pytest.raises(RuntimeError, match=pattern + "product of 64 x 128, bfloat16: "):
        hopper.enable_if_asked(device)
    assert not device.core.runs_warpgroups(0)


def test_other_cards_and_builds(device: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(hopper.VARIABLE, "1")
    device.core.configure(capability=80)
    pattern = r"NRC_FAST_HOPPER=1 asks for .*, which cuda:0 cannot run: its compute capability is 8\.0, not 9\.0"
    with pytest.raises(RuntimeError, match=pattern + r"\. Unset NRC_FAST_HOPPER"):
        hopper.enable_if_asked(device)
    device.core.configure()
    monkeypatch.setattr(device.core, "build_config", lambda: {"architectures": ["80", "90"]})
    with pytest.raises(RuntimeError, match="nrc_fast was built for 80, 90 and not for 90a"):
        hopper.enable_if_asked(device)
    monkeypatch.undo()
    monkeypatch.setenv(hopper.VARIABLE, "1")
    monkeypatch.setattr(type(device), "is_capturing", lambda _: True)
    with pytest.raises(RuntimeError, match="records a CUDA graph"):
        hopper.enable_if_asked(device)


def test_what_env_says(device: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(hopper.VARIABLE, "1")
    monkeypatch.setattr(cards, "cuda_core", lambda: None)
    assert devices.hopper_summary() == "asked for, but the CUDA kernels are not built"
    monkeypatch.setattr(cards, "cuda_core", lambda: device.core)

    def used(_: int) -> Any:
        hopper.enable_if_asked(device)
        return device

    monkeypatch.setattr(devices.device, "cuda_device", used)
    assert devices.hopper_summary() == "on, cuda:0 has passed its probes"
    hopper._enable.cache_clear()
    device.core.configure(fault="not_swizzled")
    assert devices.hopper_summary().startswith(
        "NRC_FAST_HOPPER=1 asks for the Gram kernel of Hopper cards, which cuda:0"
    )
