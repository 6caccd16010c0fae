"""Which device values lie on, by name or by tensor, and what is brought from it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from support import cuda_core

from nrc_fast.kernels import devices
from nrc_fast.kernels.cpu.backend import CPU
from nrc_fast.kernels.cuda import cards
from nrc_fast.kernels.cuda import device as cuda_device
from nrc_fast.kernels.inputs import as_matrix


@pytest.fixture
def emulated(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The emulated device in place of every card."""
    device = cuda_core.Emulation().device()
    monkeypatch.setattr(cuda_device, "cuda_device", lambda index: device)  # noqa: ARG005
    return device


def test_names_of_devices() -> None:
    for device in (None, "cpu", torch.device("cpu")):
        assert devices.backend_of(device) is CPU
    for device in ("cuda:1234", "cuda:x", "mps", torch.device("meta")):
        with pytest.raises(RuntimeError, match=f"device '{device}' cannot be used"):
            devices.backend_of(device)


def test_torch_without_cuda(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cuda_device, "require_cuda_device", lambda index: None)  # noqa: ARG005
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(RuntimeError, match="sees no CUDA device"):
        devices.backend_of("cuda")
    monkeypatch.setattr(cards, "cuda_core", lambda: None)
    monkeypatch.setattr(cuda_device, "require_cuda_device", cards.require_cuda_device)
    with pytest.raises(RuntimeError, match="no CUDA kernels"):
        devices.backend_of(torch.device("cuda", 0))


def test_values_are_brought_and_placed_where_they_are_asked_for(emulated: Any) -> None:
    values = np.arange(6.0).reshape(2, 3) / 7.0
    there = emulated.place(values)
    assert devices.is_on_device(there)
    assert devices.backend_of(None, values, there).device is emulated
    back = devices.on_host(there)
    assert not devices.is_on_device(back)
    np.testing.assert_array_equal(back.numpy(), values)
    assert devices.on_host(values) is values
    host = torch.from_numpy(values)
    assert devices.placed_beside(host, values) is host
    placed = devices.placed_beside(host, there)
    assert devices.is_on_device(placed)
    np.testing.assert_array_equal(devices.on_host(placed).numpy(), values)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16])
def test_what_is_small_is_worked_on_by_the_host_wherever_it_lies(emulated: Any, dtype: torch.dtype) -> None:
    stored = torch.arange(6.0).reshape(2, 3).div(7.0).to(dtype)
    matrix, epsilon = as_matrix(emulated.move(stored), "W")
    np.testing.assert_array_equal(matrix, stored.double().numpy())
    assert epsilon == torch.finfo(dtype).eps
