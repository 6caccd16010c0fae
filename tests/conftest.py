from __future__ import annotations

import os
import subprocess
import sys
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

# The references are small: numpy's own threads would only wait for one another.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
# torch's threads sleep while they wait: the processes of the tests share the cores.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")


def pytest_configure() -> None:
    """The same examples in every CI run, new ones everywhere else; no example fails because the machine is busy."""
    from hypothesis import settings

    settings.register_profile("nrc_fast", derandomize=bool(os.environ.get("CI")), deadline=None)
    settings.load_profile("nrc_fast")


@pytest.fixture(params=["gaussian", "half_collapsed"])
def peer(request: pytest.FixtureRequest) -> Any:
    """Inputs A and B of tests/support/peers.py with the numbers of other packages."""
    from support import peers

    return getattr(peers, request.param)()


@pytest.fixture
def peer_a() -> Any:
    from support import peers

    return peers.gaussian()


@pytest.fixture
def peer_b() -> Any:
    from support import peers

    return peers.half_collapsed()


@pytest.fixture
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Chunks of 256 rows, so that a few thousand rows are many."""
    from nrc_fast.passes import chunk_sizes

    monkeypatch.setattr(chunk_sizes, "CHUNK_BYTES", 1)


@pytest.fixture
def no_kept_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep no rows of batches, however few they are, as it is of many."""
    from nrc_fast.measurement import all_metrics, kept_rows, single_metrics

    for module in (all_metrics, kept_rows, single_metrics):
        monkeypatch.setattr(module, "MOST_HELD", 0)


@pytest.fixture
def many_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    """Take every data set for one of many rows, which "high" multiplies in float32 blocks."""
    from nrc_fast.passes import precisions

    monkeypatch.setattr(precisions, "SMALL", 0.0)


# ---- the compiled kernels ----


@pytest.fixture(scope="session")
def arrays() -> Any:
    """Rows and references of tests/support/arrays.py."""
    from support import arrays

    return arrays


@pytest.fixture(scope="session")
def reference() -> Any:
    """The plain UFM of tests/support/ufm_reference.py."""
    from support import ufm_reference

    return ufm_reference


@pytest.fixture(scope="session")
def cuda_core() -> Any:
    """Calls of the CUDA kernels, of tests/support/cuda_core.py."""
    from support import cuda_core

    return cuda_core


@pytest.fixture
def on_every_device(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Any:
    """`nrc` of the test's module on the CPU, on the emulated device and on a card, in turn.

    Modules ask for it by `pytestmark = pytest.mark.usefixtures("on_every_device")`; tests of what only the CPU does are
    marked `host`.
    """
    from support import cuda_core, on_device

    package = on_device.device_package(request.param, cuda_core, monkeypatch)
    monkeypatch.setattr(request.module, "nrc", package)
    return package


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "on_every_device" in metafunc.fixturenames:
        is_host = metafunc.definition.get_closest_marker("host") is not None
        from support.on_device import PLACES

        places = ["cpu"] if is_host else PLACES
        metafunc.parametrize("on_every_device", places, indirect=True)
    if "isa" in metafunc.fixturenames:
        from nrc_fast import kernels

        metafunc.parametrize("isa", kernels.available_isas(), indirect=True)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--diagonal",
        type=int,
        metavar="M",
        help="of each grid of parameters run every M-th diagonal alone: for processors that are emulated",
    )


def off_the_diagonals(items: list[Any], most: int) -> Iterator[Any]:
    """What is not on every m-th diagonal of each grid of parameters, m at most `most`.

    What is on them has all values of each parameter, and where three of them have m values or more, all pairs.
    """
    grids: dict[tuple[Path, str], list[Any]] = defaultdict(list)
    for item in items:
        if hasattr(item, "callspec"):
            grids[item.path, item.originalname].append(item)
    for grid in grids.values():
        columns = [[repr(item.callspec.params[name]) for item in grid] for name in grid[0].callspec.params]
        numbered = [{value: number for number, value in enumerate(dict.fromkeys(column))} for column in columns]
        places = [
            [numbers[value] for numbers, value in zip(numbered, row, strict=True)] for row in zip(*columns, strict=True)
        ]
        sizes = sorted(map(len, numbered))
        m = min(most, sizes[-2]) if len(sizes) > 1 else 1
        yield from (item for item, place in zip(grid, places, strict=True) if sum(place) % m)


@pytest.hookimpl(tryfirst=True)  # before -m chooses
def pytest_collection_modifyitems(config: pytest.Config, items: list[Any]) -> None:
    """Leave most of each large grid on the emulated device to `make test-all`.

    The CPU keeps the whole grid, of emulated instructions that of bfloat16 rows: the rest is what AVX-512 computes.
    """
    for item in items:
        parameters = item.callspec.params if hasattr(item, "callspec") else {}
        is_emulated = str(parameters.get("isa", "")).endswith("-emulated")
        if is_emulated and "bfloat16" not in str(parameters.get("dtype", "bfloat16")):
            item.add_marker(pytest.mark.long)
    on_device = [
        item
        for item in items
        if hasattr(item, "callspec") and item.callspec.params.get("on_every_device") == "emulated"
    ]
    for item in off_the_diagonals(on_device, most=4):
        item.add_marker(pytest.mark.long)
    wanted = config.getoption("--diagonal")
    if wanted is not None:
        left_out = list(off_the_diagonals(items, most=wanted))
        config.hook.pytest_deselected(items=left_out)
        dropped = set(map(id, left_out))
        items[:] = [item for item in items if id(item) not in dropped]


@pytest.fixture
def isa(request: pytest.FixtureRequest) -> Iterator[str]:
    """The name of each instruction set that this machine can run, in use for one test."""
    from nrc_fast import kernels

    before = kernels.current_isa()
    kernels.set_isa(request.param)
    yield request.param
    kernels.set_isa(before)


@pytest.fixture
def set_threads() -> Iterator[Callable[[int], None]]:
    """`kernels.set_thread_count`, undone after the test; few rows are shared out too."""
    from nrc_fast import kernels
    from nrc_fast.kernels import _cpu

    before, least = kernels.thread_count(), _cpu.least_work()
    _cpu.set_least_work(4e5)
    yield kernels.set_thread_count
    kernels.set_thread_count(before)
    _cpu.set_least_work(least)


@pytest.fixture
def run_alone(tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Runs Python code in a process of its own, with no setting of the kernels but those given as keywords."""

    def run(code: str, **environment: str) -> subprocess.CompletedProcess[str]:
        others = {key: value for key, value in os.environ.items() if not key.startswith(("NRC_FAST", "OMP_"))}
        command = [sys.executable, "-W", "ignore", "-c", code]
        return subprocess.run(
            command, env=others | environment, cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False
        )

    return run
