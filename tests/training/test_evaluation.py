"""An evaluation in the middle of a training: unseen by the training's loader and by its watches."""

from __future__ import annotations

from typing import Any

import pytest

import nrc_fast as nrc
from nrc_fast.training.evaluation import beside_model

torch = pytest.importorskip("torch")
nn = torch.nn


def samples() -> tuple[Any, Any]:
    X = torch.randn(48, 5, generator=torch.Generator().manual_seed(1))
    return X, X[:, :2].clone()


def network() -> Any:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(5, 8), nn.Dropout(0.2), nn.Tanh())
        model.add_module("head", nn.Linear(8, 2))
    return model


def trained(*, monitored: bool, persistent: bool) -> tuple[int, list[Any]]:
    """Number of steps and the parameters after two epochs over a loader with a worker."""
    model = network()
    data = torch.utils.data.TensorDataset(*samples())
    options = {"batch_size": 8, "shuffle": True, "num_workers": 1, "persistent_workers": persistent}
    loader = torch.utils.data.DataLoader(data, **options)
    monitor = nrc.Monitor(model, loader, every=4) if monitored else None
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    torch.manual_seed(2)
    steps = 0
    for _ in range(2):
        for inputs, targets in loader:
            steps += 1
            if steps > 24:  # a loader that was started again never ends
                break
            if monitor is not None:
                monitor.step()
            optimizer.zero_grad()
            nn.functional.mse_loss(model(inputs), targets).backward()
            optimizer.step()
    assert monitor is None or [record.step for record in monitor.records()] == [0, 4, 8]
    return steps, list(model.parameters())


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
@pytest.mark.parametrize("persistent", [False, True])
def test_a_loader_in_use_goes_on_where_it_was(persistent: bool) -> None:
    steps, plain = trained(monitored=False, persistent=persistent)
    steps_monitored, monitored = trained(monitored=True, persistent=persistent)
    assert steps == steps_monitored == 12
    assert all(torch.equal(first, second) for first, second in zip(plain, monitored, strict=True))


@pytest.mark.parametrize("mask", [None, "input"])
def test_watches_of_the_training_do_not_see_evaluations(mask: str | None) -> None:
    model, (X, Y) = network(), samples()
    monitor = nrc.Monitor(model, [(X, Y)], every=2)
    with nrc.watch(model, layers=["head"], mask=mask) as watched:
        for _ in range(4):
            monitor.step()
            watched.set_targets(Y)
            model(X)
        nrc.measure_layers(model, [(X, Y)])
    assert watched["head"].passes == 4
    assert watched["head"].count == 4 * len(X)
    assert len(monitor.records()) == 2


def test_inputs_of_the_host_go_to_the_device_of_the_model() -> None:
    model, x = nn.Linear(5, 2, device="meta"), samples()[0]
    moved = beside_model(model, {"x": x, "more": (x, [x.double(), None]), "n": 3})
    places = [moved["x"], moved["more"][0], moved["more"][1][0]]
    assert [part.device.type for part in places] == ["meta"] * 3
    assert (places[2].dtype, moved["n"], moved["more"][1][1]) == (torch.float64, 3, None)
    assert beside_model(nn.Linear(5, 2), x) is x
    assert beside_model(nn.Sequential(model, nn.Linear(2, 2)), x) is x  # on several devices


def test_the_context_is_that_of_every_pass() -> None:
    X, Y = samples()
    model = network().eval()

    def half() -> Any:
        return torch.autocast("cpu", dtype=torch.bfloat16)

    with torch.no_grad(), half():
        H, errors = model[:-1](X), model(X).double() - Y
    monitor = nrc.Monitor(model, [(X, Y)], context=half)
    record = monitor.evaluate()
    assert monitor.report.dtype == "bfloat16" == str(H.dtype).removeprefix("torch.")
    assert record.mse == pytest.approx(float((errors**2).sum(dim=1).mean()), rel=1e-2)
