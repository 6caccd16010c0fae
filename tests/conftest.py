from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import pytest


def load_neighbour(stem: str) -> Any:
    """Import a helper from this folder, which `--import-mode=importlib` does not put on the path."""
    path = Path(__file__).with_name(f"{stem}.py")
    spec = importlib.util.spec_from_file_location(stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(params=["gaussian", "half_collapsed"])
def peer(request: pytest.FixtureRequest) -> Any:
    """Inputs A and B of tests/peers.py with the numbers of other packages."""
    return getattr(load_neighbour("peers"), request.param)()


@pytest.fixture
def peer_a() -> Any:
    return load_neighbour("peers").gaussian()


@pytest.fixture
def peer_b() -> Any:
    return load_neighbour("peers").half_collapsed()
