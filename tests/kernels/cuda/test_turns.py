"""Sums on a device that several streams and threads add to, emulated with streams that run as late as they may."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from support import cuda_core

import nrc_fast as nrc
from nrc_fast.kernels.cuda import device as cuda_device
from nrc_fast.kernels.devices import tensor_backend


class LateStream:
    """What is launched is done when somebody waits for it."""

    def __init__(self, name: str) -> None:
        self.name, self.cuda_stream = name, 0
        self.work: list[Callable[[], None]] = []
        self.done = 0

    def run(self, until: int) -> None:
        while self.done < until:
            work, self.done = self.work[self.done], self.done + 1
            work()

    def synchronize(self) -> None:
        self.run(len(self.work))


class Streams:
    """Late streams, the current one, and which memory was used on which."""

    def __init__(self) -> None:
        self.all = {name: LateStream(name) for name in "ABC"}
        self.current = self.all["A"]
        self.used: set[tuple[int, str]] = set()
        self.waits = 0

    @contextmanager
    def on(self, name: str) -> Iterator[None]:
        before, self.current = self.current, self.all[name]
        yield
        self.current = before


def late_device(streams: Streams) -> Any:
    class LateDevice(cuda_core.emulated_devices()):  # type: ignore[misc]
        def zeros(self, *shape: int) -> Any:
            tensor = self.empty(shape, torch.float64)  # NaN until then
            streams.current.work.append(tensor.zero_)
            return tensor

        def launch(self, *arguments: Any, **options: Any) -> None:
            launch = super().launch
            streams.current.work.append(lambda: launch(*arguments, **options))

        def bring(self, tensor: Any) -> Any:
            streams.current.synchronize()
            return super().bring(tensor)

        def mark(self) -> Any:
            stream, place = streams.current, len(streams.current.work)
            return SimpleNamespace(synchronize=lambda: stream.run(place))

        def use_after(self, event: Any, *tensors: Any) -> None:
            streams.waits += 1
            streams.used |= {(tensor.data_ptr(), streams.current.name) for tensor in tensors}
            streams.current.work.append(event.synchronize)

        def wait_for_all_streams(self) -> None:
            for stream in streams.all.values():
                stream.synchronize()

    core = cuda_core.Emulation().core
    return LateDevice(core, 0, torch.device("cpu"), lambda: streams.current)


@pytest.fixture
def streams(monkeypatch: pytest.MonkeyPatch) -> Streams:
    found = Streams()
    device = late_device(found)
    monkeypatch.setattr(cuda_device, "cuda_device", lambda index: device)  # noqa: ARG005
    return found


def placed(array: np.ndarray) -> Any:
    return torch.from_numpy(array.copy()).as_subclass(cuda_core.emulated_tensors())


def batches(seed: int, count: int = 6) -> list[tuple[Any, Any]]:
    rng = np.random.default_rng(seed)
    return [
        (placed(rng.standard_normal((20, 5)) + 3.0), placed(rng.standard_normal((20, 2)).astype(np.float64)))
        for _ in range(count)
    ]


def added(streams: Streams, turns: str, given: list[tuple[Any, Any]]) -> nrc.FeatureStatistics:
    statistics = nrc.FeatureStatistics(5, n_targets=2)
    for name, (H, Y) in zip(turns, given, strict=True):
        with streams.on(name):
            statistics.update(H, Y)
    return statistics


@pytest.mark.parametrize("turns", ["ABABAB", "AABBAA", "BBBBBB", "BAAAAB"])
def test_streams_wait_for_one_another(streams: Streams, turns: str) -> None:
    """To the last bit what one stream gives, whoever looks."""
    given = batches(0)
    expected = added(streams, "AAAAAA", given).arrays()
    statistics = added(streams, turns, given)
    with streams.on("C"):
        found = statistics.arrays()
    assert statistics.count == 120
    assert {name: value.tobytes() for name, value in found.items()} == {
        name: value.tobytes() for name, value in expected.items()
    }
    rows = np.concatenate([H.cpu().numpy() for H, _ in given])
    np.testing.assert_allclose(statistics.covariance, np.cov(rows.T, bias=True), rtol=0.0, atol=1e-13)


def test_a_look_is_waited_for_and_the_next_dtype_too(streams: Streams) -> None:
    kinds = (torch.float64, torch.float32, torch.float64)
    # Held here: they are read late.
    given = [(H.to(kind), Y) for (H, Y), kind in zip(batches(1, count=3), kinds, strict=True)]
    statistics = nrc.FeatureStatistics(5, n_targets=2)
    for name, (H, Y) in zip("ABC", given, strict=True):
        with streams.on(name):
            statistics.update(H, Y)
            assert statistics.count % 20 == 0
    rows = np.concatenate([H.cpu().numpy() for H, _ in given])
    with streams.on("B"):
        np.testing.assert_allclose(statistics.covariance, np.cov(rows.T, bias=True), rtol=0.0, atol=1e-5)
        assert statistics.count == 60


def test_memory_is_kept_for_every_stream_that_uses_it(streams: Streams) -> None:
    statistics = added(streams, "AB", batches(2, count=2))
    with streams.on("C"):
        statistics.arrays()
    (part,) = statistics._moments._held.running[tensor_backend(batches(2)[0][0])]._parts.values()  # type: ignore[attr-defined]
    memory, shift, target_shift = (
        tensor.data_ptr() for tensor in (part._results.memory, part.shift, part.target_shift)
    )
    assert {(memory, "B"), (shift, "B"), (target_shift, "B"), (memory, "C")} <= streams.used


def test_a_captured_update_waits_for_nothing_and_a_look_for_everything(
    streams: Streams, monkeypatch: pytest.MonkeyPatch
) -> None:
    (first, captured) = batches(3, count=2)
    statistics = nrc.FeatureStatistics(5, n_targets=2).update(*first)
    waits = streams.waits
    with monkeypatch.context() as capture, streams.on("B"):
        capture.setattr(type(cuda_device.cuda_device(0)), "is_capturing", lambda self: True)  # noqa: ARG005
        statistics.update(*captured)
    assert streams.waits == waits
    with streams.on("C"):
        assert statistics.count == 40  # B was never told of


@pytest.fixture
def _emulated(monkeypatch: pytest.MonkeyPatch) -> None:
    device = cuda_core.Emulation().device()
    monkeypatch.setattr(cuda_device, "cuda_device", lambda index: device)  # noqa: ARG005


@pytest.mark.usefixtures("_emulated")
def test_no_look_sees_half_of_an_update(monkeypatch: pytest.MonkeyPatch) -> None:
    """A thread that looks while another launches waits, and sees the whole."""
    H = placed(np.random.default_rng(4).standard_normal((30, 4)))
    statistics = nrc.FeatureStatistics(4).update(H)
    (part,) = statistics._moments._held.running[tensor_backend(H)]._parts.values()  # type: ignore[attr-defined]
    memory = part._results.memory
    expected = nrc.FeatureStatistics(4).update(H).update(H).arrays()
    kind, looked, found = type(cuda_device.cuda_device(0)), threading.Event(), []
    launch = kind.launch

    def slowly(self: Any, *arguments: Any, **options: Any) -> None:
        whole = memory.clone()
        memory.fill_(torch.nan)  # what is half done
        looking.start()
        looked.wait(0.5)
        memory.copy_(whole)
        launch(self, *arguments, **options)

    def look() -> None:
        found.append(statistics.arrays())
        looked.set()

    looking = threading.Thread(target=look)
    monkeypatch.setattr(kind, "launch", slowly)
    statistics.update(H)
    looking.join()
    assert {name: value.tobytes() for name, value in found[0].items()} == {
        name: value.tobytes() for name, value in expected.items()
    }


@pytest.mark.usefixtures("_emulated")
def test_a_handler_of_signals_may_look_in_the_midst_of_an_update(monkeypatch: pytest.MonkeyPatch) -> None:
    H = placed(np.random.default_rng(5).standard_normal((30, 4)))
    statistics = nrc.FeatureStatistics(4).update(H)
    kind, seen = type(cuda_device.cuda_device(0)), []
    launch = kind.launch

    def interrupted(self: Any, *arguments: Any, **options: Any) -> None:
        seen.append(statistics.moments.count)
        launch(self, *arguments, **options)

    monkeypatch.setattr(kind, "launch", interrupted)
    thread = threading.Thread(target=lambda: statistics.update(H), daemon=True)
    thread.start()
    thread.join(20.0)
    assert not thread.is_alive()
    assert seen == [30]
    assert statistics.count == 60


def test_streams_of_a_card_wait_for_one_another() -> None:
    """Two streams, one of which is late, and a look on a third: to the last bit what one stream gives."""
    cuda_core.Card()
    batches_there = [torch.randn(20_000, 96, generator=torch.Generator().manual_seed(k)).cuda() for k in range(8)]
    expected = nrc.FeatureStatistics(96)
    for H in batches_there:
        expected.update(H)
    torch.cuda.synchronize()
    late, quick, third = (torch.cuda.Stream() for _ in range(3))
    statistics = nrc.FeatureStatistics(96)
    for k, H in enumerate(batches_there):
        with torch.cuda.stream(late if k % 2 else quick):
            if k % 2:
                torch.cuda._sleep(20_000_000)
            statistics.update(H)
    with torch.cuda.stream(third):
        found = statistics.arrays()
    assert {name: value.tobytes() for name, value in found.items()} == {
        name: value.tobytes() for name, value in expected.arrays().items()
    }
