"""Watched layers, monitors and layer reports of a model on a CUDA device, emulated and real."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from support import cuda_core, on_device
from torch import nn

import nrc_fast as nrc
from nrc_fast.kernels import devices


@pytest.fixture(params=["emulated", "card"])
def on(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Places a tensor, or a model, on the device under test."""
    package = on_device.device_package(request.param, cuda_core, monkeypatch)

    def place(what: Any) -> Any:
        if not isinstance(what, nn.Module):
            return package.placed(what)
        for module in what.modules():
            for name, parameter in list(module.named_parameters(recurse=False)):
                module.register_parameter(name, nn.Parameter(package.placed(parameter.detach())))
        return what

    return place


def model(seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(5, 8), nn.Tanh(), nn.Linear(8, 2))


def draw(seed: int, *shape: int) -> Any:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_a_watched_head_reports_and_nothing_waits(on: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    X, Y = draw(1, 60, 5), draw(2, 60, 2)
    plain = model()
    with torch.no_grad(), nrc.watch(plain[2]) as expected:
        for part in (slice(0, 30), slice(30, 60)):
            expected.set_targets(Y[part])
            plain(X[part])
    placed, batches = on(model()), [on(X[:30]), on(X[30:])]
    kind = type(devices.tensor_backend(batches[0]).device)
    with monkeypatch.context() as patched, torch.no_grad(), nrc.watch(placed[2]) as features:
        for name in ("fetch", "bring", "wait"):
            patched.setattr(kind, name, lambda *_: pytest.fail("waits for the device"))
        for batch, part in zip(batches, (slice(0, 30), slice(30, 60)), strict=True):
            features.set_targets(on(Y[part]))
            placed(batch)
    ours, theirs = features.report(), expected.report()
    assert ours.samples == 60
    for name in ("nrc1", "nrc2", "nrc3", "mse"):
        assert abs(getattr(ours, name) - getattr(theirs, name)) <= ours.bounds[name] + theirs.bounds[name] + 1e-5


def test_masked_positions_and_targets_of_the_host(on: Any) -> None:
    X, Y = draw(3, 4, 6, 5), draw(4, 4, 6, 2)
    mask = torch.arange(6) < torch.tensor([[6], [3], [1], [4]])
    results = []
    for place in (on, lambda what: what):
        layer = place(nn.Linear(5, 2))
        with torch.no_grad(), nrc.watch(layer, mask=lambda: mask) as features:
            features.set_targets(Y)
            layer(place(X))
        results.append(features.statistics)
    assert results[0].count == results[1].count == 14
    np.testing.assert_allclose(results[0].mean, results[1].mean, atol=1e-6)
    np.testing.assert_allclose(results[0].target_covariance, results[1].target_covariance, rtol=1e-12)


@pytest.mark.usefixtures("no_kept_rows")
@pytest.mark.parametrize("features", ["again", "held", "streamed"])
def test_a_monitor_measures_what_it_does_on_the_cpu(on: Any, features: str) -> None:
    X, Y = draw(5, 40, 5), draw(6, 40, 2)
    records = []
    for place in (on, lambda what: what):
        loader = [(place(X[:25]), place(Y[:25])), (place(X[25:]), place(Y[25:]))]
        monitor = nrc.Monitor(place(model(1)), loader, features=features)
        monitor.evaluate(0)
        records.append(monitor.records()[0].scalars())
    assert records[0].keys() == records[1].keys()
    for name, value in records[1].items():
        assert records[0][name] == pytest.approx(value, rel=1e-3, abs=1e-6, nan_ok=True), name


def test_layers_are_measured(on: Any) -> None:
    X, Y = draw(7, 40, 5), draw(8, 40, 2)
    ours = nrc.measure_layers(on(model(2)), [(on(X), on(Y))])
    theirs = nrc.measure_layers(model(2), [(X, Y)])
    assert ours.mse == pytest.approx(theirs.mse, rel=1e-5)
    for layer, expected in zip(ours.layers, theirs.layers, strict=True):
        assert layer.name == expected.name
        assert layer.noise_fraction == pytest.approx(expected.noise_fraction, rel=1e-3, abs=1e-6)
