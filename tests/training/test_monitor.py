"""The monitor: numbers of the references at every step, the paper's replay of gamma, and no trace in the training."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from support import processes
from support.monitored import Run, network, samples

import nrc_fast as nrc
from nrc_fast.reports.history import History
from nrc_fast.reports.steps import Record
from nrc_fast.testing import reference_nrc1, reference_nrc2, reference_nrc3, reference_nrc3_gamma

torch = pytest.importorskip("torch")
nn = torch.nn


@pytest.fixture(scope="module")
def run() -> Run:
    return Run()


def test_random_states_of_cards_are_put_back(monkeypatch: pytest.MonkeyPatch) -> None:
    cards = [torch.Generator().manual_seed(k) for k in range(2)]

    class Drawing(nn.Linear):
        def forward(self, x: Any) -> Any:
            torch.rand(3, generator=cards[1])
            return super().forward(x)

    def restore(states: list[Any]) -> None:
        for card, state in zip(cards, states, strict=True):
            card.set_state(state)

    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_rng_state_all", lambda: [card.get_state() for card in cards])
    monkeypatch.setattr(torch.cuda, "set_rng_state_all", restore)
    X, Y = samples(3)
    nrc.Monitor(nn.Sequential(Drawing(X.shape[1], 3)), [(X, Y)]).evaluate()
    assert torch.equal(torch.rand(3, generator=cards[1]), torch.rand(3, generator=torch.Generator().manual_seed(1)))


# ---- the numbers ----


@pytest.mark.parametrize("features", ["held", "streamed", "again"])
def test_records_are_what_the_references_say(features: str) -> None:
    run = Run(features=features)
    assert [record.step for record in run.monitor.records()] == [0, 10, 20]
    for record, (H, W, b) in zip(run.monitor.history.records("each"), run.seen, strict=True):
        # What is read once has bounds of about 1e-7 for float32 features.
        tolerance = 1e-4 if features == "streamed" else 1e-6
        assert record.nrc1 == pytest.approx(reference_nrc1(H, 3), rel=tolerance)
        assert record.nrc2 == pytest.approx(reference_nrc2(H, W), rel=tolerance)
        assert record.nrc3 == pytest.approx(reference_nrc3(W, run.Y), rel=1e-6, abs=1e-12)
        assert record.gamma == pytest.approx(reference_nrc3_gamma(W, run.Y), rel=1e-5)
        assert record.nrc1_variance == pytest.approx(reference_nrc1(H, 3, "variance"), rel=tolerance)
        assert record.explained_variance == pytest.approx(1.0 - record.nrc1_variance, rel=1e-6)
        assert sum(record.explained_variance_ratio[:3]) == pytest.approx(record.explained_variance, rel=1e-12)
        errors = H @ W.double().numpy().T + b - run.Y
        assert record.mse == pytest.approx(np.mean(np.sum(errors**2, axis=1)), rel=1e-5)
        assert record.nrc1_id25 == pytest.approx(reference_nrc1(H, 3, "id25"), rel=1e-6)


def test_gamma_of_the_end_is_replayed_over_the_history(run: Run) -> None:
    last = run.monitor.history.records("each")[-1].gamma
    replayed, fixed = run.monitor.records(), run.monitor.history.records(0.125 * last)
    for k, (_, W, _) in enumerate(run.seen):
        assert replayed[k].nrc3 == pytest.approx(reference_nrc3(W, run.Y, gamma=last), rel=1e-9)
        assert fixed[k].nrc3 == pytest.approx(reference_nrc3(W, run.Y, gamma=0.125 * last), rel=1e-9)
    gammas, values = run.monitor.history.nrc3_curve(points=11)
    eigenvalues = np.linalg.eigvalsh(np.cov(run.Y.astype(float), rowvar=False, bias=True))
    assert gammas[-1] == pytest.approx(eigenvalues[0], rel=1e-9)
    for gamma, value in zip(gammas, values, strict=True):
        assert value == pytest.approx(reference_nrc3(run.seen[-1][1], run.Y, gamma=gamma), rel=1e-6)


def test_monitor_of_another_convention(run: Run) -> None:
    monitor = nrc.Monitor(run.model, [samples()], convention="id25", penalties=SimpleNamespace(c=0.01))
    record = monitor.evaluate(3)
    H = run._state(samples()[0])[0]
    assert record.nrc1 == record.nrc1_id25 == pytest.approx(reference_nrc1(H, 3, "id25"), rel=1e-6)
    assert monitor.report.ufm.c == 0.01


@pytest.mark.parametrize("features", ["held", "streamed", "again"])
def test_the_whole_spectrum_of_wide_features(features: str) -> None:
    model = torch.nn.Sequential(torch.nn.Linear(3, 1030), torch.nn.Tanh(), torch.nn.Linear(1030, 2)).double()
    X, Y = torch.randn(60, 3).double(), torch.randn(60, 2).double()
    H = model[:2](X).detach().numpy()
    shares = np.linalg.eigvalsh(np.cov(H.T, bias=True))
    shares = shares[shares > 0.0] / shares[shares > 0.0].sum()
    asked, plain = (
        nrc.Monitor(model, [(X, Y)], features=features, **options)
        for options in ({"spectrum": "full", "by_k": "all"}, {})
    )
    asked.evaluate()
    plain.evaluate()
    report = asked.report
    assert report.effective_rank == pytest.approx(np.exp(-np.sum(shares * np.log(shares))), rel=1e-6)
    assert len(report.nrc1_by_k) == 1030
    np.testing.assert_allclose(report.nrc1_by_k[:20], reference_nrc1(H, range(1, 21)), rtol=0, atol=1e-12)
    assert np.isnan(plain.report.effective_rank)
    with pytest.raises(ValueError, match="by_k is 'each'"):
        nrc.Monitor(model, [(X, Y)], by_k="each")


def test_one_target_has_no_nrc3() -> None:
    run = Run(n=1)
    assert all(np.isnan(record.nrc3) for record in run.monitor.records())
    assert np.isnan(run.monitor.history.nrc3_curve()[1]).all()
    run.monitor.plot()


# ---- no trace ----


@pytest.mark.parametrize("features", ["held", "streamed", "again"])
def test_training_is_the_same_to_the_bit(features: str) -> None:
    plain, monitored = Run(monitored=False), Run(features=features)
    assert all(torch.equal(first, second) for first, second in zip(plain.end, monitored.end, strict=True))
    assert monitored.model.training
    assert not monitored.model[-1]._forward_pre_hooks


def test_generator_of_the_loader_is_put_back() -> None:
    generator = torch.Generator().manual_seed(3)
    data = torch.utils.data.TensorDataset(*samples())
    loader = torch.utils.data.DataLoader(data, batch_size=30, shuffle=True, generator=generator)
    before = generator.get_state()
    nrc.Monitor(network(), loader).evaluate()
    assert torch.equal(generator.get_state(), before)


def test_modes_of_frozen_parts_stay() -> None:
    model = network()
    model[1].eval()
    nrc.Monitor(model, [samples()]).evaluate()
    assert model.training
    assert not model[1].training


@pytest.mark.filterwarnings("ignore:.*:DeprecationWarning")  # torch's own compiler, in several places
def test_compiled_model_is_measured_after_its_first_call() -> None:
    torch._dynamo.reset()
    model = network().eval()
    compiled = torch.compile(model, backend="eager")
    X, Y = samples()
    with torch.no_grad():  # as the monitor will call it: nothing makes torch compile it again
        compiled(X)
    record = nrc.Monitor(compiled, [(X, Y)]).evaluate()
    with torch.no_grad():
        H = model[:-1](X)
    assert record.nrc1 == pytest.approx(reference_nrc1(H, 3), rel=1e-6)


def test_processes_share_the_samples(tmp_path: Path) -> None:
    H, Y, W = processes.draw()
    results = processes.run(tmp_path / "run", "monitored", H, Y, W, [150])
    H = H / np.sqrt(1.0 + 1e-5)  # what a fresh BatchNorm does in evaluation mode
    errors = np.mean(np.sum((H @ W.T - Y) ** 2, axis=1))
    for result in results:
        for features in ("held", "streamed", "again"):
            found = result[features]
            assert found["nrc1"] == pytest.approx(reference_nrc1(H, 2), rel=1e-9)
            assert found["nrc2"] == pytest.approx(reference_nrc2(H, W), rel=1e-9)
            assert found["nrc3"] == pytest.approx(reference_nrc3(W, Y), rel=1e-6)
            assert found["mse"] == pytest.approx(errors, rel=1e-9)
        expected = [result[features] for features in ("held", "streamed", "again")]
        np.testing.assert_equal(result["logged"], expected if result is results[0] else [])  # once, not by each
        assert result["layer"]["mse"] == pytest.approx(errors, rel=1e-9)
        assert result["layer"]["samples"] == 900
        noise = result["layer"]["layers"][0]["noise_fraction"]
        assert noise == pytest.approx(reference_nrc1(H, 2, "variance"), rel=1e-9)


# ---- trainings that diverge ----


@pytest.mark.parametrize("features", ["held", "streamed", "again"])
def test_features_that_are_not_finite_are_a_record_of_nan(features: str) -> None:
    model, (X, Y) = network().eval(), samples()
    monitor = nrc.Monitor(model, [(X[:40], Y[:40]), (X[40:], Y[40:])], features=features)
    monitor.step()
    with torch.no_grad():
        model[0].weight.fill_(np.nan)
    with pytest.warns(UserWarning, match=r"step 1: 96 of 96 samples .*told once"):
        monitor.step()
    monitor.step()  # not again
    first, last, again = monitor.records()
    np.testing.assert_equal(again.scalars(), last.scalars())
    assert all(np.isnan(number) for name, number in last.scalars().items() if name not in ("gamma", "nrc3"))
    assert (monitor.report.samples, monitor.report.skipped_rows) == (0, len(X))
    assert "96 of 96 samples have features or targets that are NaN" in monitor.report.notes[0]
    assert first.nrc3 == pytest.approx(monitor.history.records("each")[0].nrc3, rel=1e-12)


@pytest.mark.parametrize("features", ["held", "streamed", "again"])
@pytest.mark.parametrize("name", ["weight", "bias"])
def test_weights_that_are_not_finite_leave_what_is_known_of_features(name: str, features: str) -> None:
    model, (X, Y) = network().eval(), samples()
    monitor = nrc.Monitor(model, [(X, Y)], features=features)
    before = monitor.step()
    with torch.no_grad():
        getattr(model[-1], name)[0] = np.nan
    with pytest.warns(UserWarning, match=rf"step 1: {'W' if name == 'weight' else 'b'} holds values that are NaN"):
        after = monitor.step()
    H = model[:-1](X).detach()
    assert after.nrc1 == before.nrc1 == pytest.approx(reference_nrc1(H, 3), rel=1e-4)
    assert np.isnan(after.mse)
    if name == "weight":
        assert np.isnan([after.nrc2, after.nrc3, after.gamma]).all()
    else:
        assert (after.nrc2, after.nrc3) == (before.nrc2, before.nrc3)
    assert "that are NaN or infinite" in monitor.report.notes[-1]
    # The replay uses the last gamma that there is.
    assert monitor.records()[0].nrc3 == pytest.approx(before.nrc3, rel=1e-12)
    assert np.isfinite(monitor.history.nrc3_curve()[1]).all()
    stored = History.from_dict(json.loads(monitor.history.to_json()))
    np.testing.assert_equal([r.scalars() for r in stored.records()], [r.scalars() for r in monitor.records()])
    monitor.plot()


@pytest.mark.parametrize("features", ["held", "streamed", "again"])
@pytest.mark.parametrize("large", [np.nan, np.inf, 1e200])
def test_samples_that_are_not_finite_are_left_out_and_counted(large: float, features: str) -> None:
    class Diverging(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.head = nn.Linear(5, 3, dtype=torch.float64)

        def forward(self, x: Any) -> Any:
            return self.head(torch.where(x[:, :1] > 1.0, torch.tensor(large, dtype=x.dtype), x))

    model, (X, Y) = Diverging(), samples()
    X, Y = X.double(), Y.double()
    kept = X[:, 0] <= 1.0
    monitor = nrc.Monitor(model, [(X[:50], Y[:50]), (X[50:], Y[50:])], features=features)
    with pytest.warns(UserWarning, match="that are NaN or infinite"):
        record = monitor.evaluate()
    expected = nrc.Monitor(model, [(X[kept], Y[kept])], features=features).evaluate()
    assert record.nrc1 == pytest.approx(expected.nrc1, rel=1e-9)
    assert record.mse == pytest.approx(expected.mse, rel=1e-9)
    assert monitor.report.skipped_rows == int((~kept).sum()) > 0
    assert f"{int((~kept).sum())} of 96 samples" in monitor.report.notes[-1]
    raising = nrc.Monitor(model, [(X, Y)], features=features, nonfinite="raise")
    with pytest.raises(ValueError, match=r"NaN or infinite|range of float64"):
        raising.evaluate()


def test_a_training_that_diverges_goes_on_to_the_same_bits() -> None:
    def train(*, monitored: bool) -> list[Any]:
        model, (X, Y) = network(), samples()
        monitor = nrc.Monitor(model, [(X, Y)], every=5) if monitored else None
        optimizer = torch.optim.SGD(model.parameters(), lr=1e6)
        with warnings.catch_warnings(record=True) as told:
            warnings.simplefilter("always")
            for _ in range(31):
                if monitor is not None:
                    monitor.step()
                optimizer.zero_grad()
                nn.functional.mse_loss(model(X), Y).backward()
                optimizer.step()
        assert len(told) == monitored
        if monitor is not None:
            assert [record.step for record in monitor.records()] == list(range(0, 31, 5))
            assert np.isnan(monitor.records()[-1].mse)
        return [parameter.view(torch.int32) for parameter in model.parameters()]

    torch.manual_seed(1)
    plain = train(monitored=False)
    torch.manual_seed(1)
    assert all(torch.equal(one, other) for one, other in zip(plain, train(monitored=True), strict=True))


# ---- the plot ----


def test_panels_hold_the_history(run: Run, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    figure = run.monitor.plot()
    records = run.monitor.records()
    lines = {line.get_label(): line for axes in figure.axes for line in axes.get_lines()}
    fields = {
        "NRC1": "nrc1",
        "NRC2": "nrc2",
        "NRC3": None,
        "R2 (right)": "r2",
        "first 3 together": "explained_variance",
    }
    fields |= {"MSE, summed over outputs": "mse", "NRC1, id25": "nrc1_id25", "NRC1, variance": "nrc1_variance"}
    for label, field in fields.items():
        if field is not None:
            np.testing.assert_allclose(lines[label].get_ydata(), [getattr(record, field) for record in records])
    np.testing.assert_allclose(lines["NRC3"].get_ydata(), run.monitor.history.nrc3_curve()[1])  # against gamma
    np.testing.assert_allclose(figure.axes[1].get_lines()[0].get_ydata(), [record.nrc3 for record in records])
    figure.savefig(tmp_path / "history.png")
    with pytest.raises(ValueError, match="history is empty"):
        History().plot()


# ---- what goes wrong ----


def test_what_does_not_fit_is_said() -> None:
    model, pair = network(), samples()
    for options, message in [
        ({"every": 0}, "every is 0"),
        ({"nonfinite": "keep"}, "nonfinite is 'keep'"),
        ({"features": "kept"}, "features is 'kept'"),
        ({"layer": "99"}, "no layer '99'"),
    ]:
        with pytest.raises(ValueError, match=message):
            nrc.Monitor(model, [pair], **options)
    with pytest.raises(TypeError, match=r"a Tanh; a torch\.nn\.Linear is expected"):
        nrc.Monitor(model, [pair], layer="5")
    with pytest.raises(TypeError, match="read only once"):
        nrc.Monitor(model, iter([pair]))
    with pytest.raises(ValueError, match=r"has no torch\.nn\.Linear"):
        nrc.Monitor(nn.ReLU(), [pair])
    with pytest.raises(ValueError, match="no batches"):
        nrc.Monitor(model, []).evaluate()
    with pytest.raises(TypeError, match="a batch is 3 parts"):
        nrc.Monitor(model, [(*pair, pair[0])]).evaluate()
    monitor = nrc.Monitor(model, [pair])
    monitor.evaluate()
    for gamma in ("first", -1.0, float("nan")):
        with pytest.raises(ValueError, match="gamma is"):
            monitor.history.records(gamma)
    with pytest.raises(ValueError, match="n = 2 and this history has n = 3"):
        monitor.history.add(1, nrc.measure(np.eye(5), n=2), np.eye(2), np.eye(2))
    for step in (0.5, "last"):
        with pytest.raises(TypeError, match=f"step is {step!r}; a whole number is expected"):
            monitor.history.add(step, nrc.measure(np.eye(5), n=3), np.eye(3), np.eye(3))
    with pytest.raises(TypeError, match=r"model is a list; a torch\.nn\.Module is expected"):
        nrc.Monitor([pair], model)
    with pytest.raises(TypeError, match=r"model is a list; a torch\.nn\.Module is expected"):
        nrc.measure_layers([pair], model)
    assert not any(module._forward_pre_hooks for module in model.modules())


def test_monitors_and_histories_say_what_they_hold() -> None:
    monitor = nrc.Monitor(network(), [samples()], name="run")
    assert repr(monitor) == f"<Monitor of layer {monitor.layer} of a Sequential: <History without records>>"
    for step in (np.int64(1200), 0):  # in the order of the training, whenever they come
        monitor.evaluate(step)
    assert repr(monitor.history) == "<History run, 2 records, steps 0 to 1,200, n = 3>"
    assert [record["step"] for record in json.loads(monitor.history.to_json())["records"]] == [0, 1200]


def test_batches_that_are_mappings_and_tuples_of_inputs() -> None:
    class Sum(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.head = nn.Linear(5, 3)

        def forward(self, a: Any, b: Any) -> Any:
            return self.head(a + b)

    (X, Y), model = samples(), Sum()
    expected = nrc.Monitor(nn.Sequential(model.head), [(2.0 * X, Y)]).evaluate()
    assert nrc.Monitor(model, [{"a": X, "b": X, "labels": Y}]).evaluate() == expected
    assert nrc.Monitor(model, [((X, X), Y)]).evaluate() == expected
    assert nrc.Monitor(model, [(X, X, Y)], split=lambda batch: (batch[:2], batch[2])).evaluate() == expected
    assert isinstance(expected, Record)
    run = nrc.Monitor(model, [(X, Y)], run=lambda model, inputs: model(inputs, inputs))
    assert run.evaluate() == expected
