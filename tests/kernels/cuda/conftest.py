"""Devices that kernels of CUDA run on in the tests: the emulated one, and a card where there is one."""

from __future__ import annotations

from typing import Any

import pytest


@pytest.fixture(params=["emulation", "card"])
def backend(request: pytest.FixtureRequest, cuda_core: Any) -> Any:
    return cuda_core.BACKENDS[request.param]()


@pytest.fixture
def emulated(cuda_core: Any) -> Any:
    return cuda_core.BACKENDS["emulation"]()
