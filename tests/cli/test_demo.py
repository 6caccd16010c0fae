"""The demonstration: its numbers against the references, its training against the loss that it names."""

from __future__ import annotations

import io
import json
import math
import re
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from support.commands import measured

import nrc_fast as nrc
from nrc_fast.cli import main
from nrc_fast.cli.demo import training
from nrc_fast.cli.demo.laws import LAWS, finding_on_heads
from nrc_fast.cli.demo.settings import RunResult, Setting
from nrc_fast.cli.demo.text import finding
from nrc_fast.cli.stored import load_stored
from nrc_fast.reports.steps import Record
from nrc_fast.testing import reference_nrc1, reference_nrc2, reference_nrc3

torch = pytest.importorskip("torch")
pytest.importorskip("tqdm")
pytest.importorskip("matplotlib")


@pytest.fixture(scope="module")
def recording(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """200 rows, fewer than a batch, of 5 observations and 3 correlated actions of very different sizes."""
    rng = np.random.default_rng(0)
    observations = rng.standard_normal((200, 5)) * [1.0, 100.0, 0.01, 1.0, 0.0] + [0.0, 50.0, 3.0, 0.0, 7.0]
    actions = np.tanh(observations[:, :1] + rng.standard_normal((200, 3))) * [1.0, 0.1, 30.0] + 2.0
    path = tmp_path_factory.mktemp("demo") / "recording.npz"
    np.savez(path, observations=observations, actions=actions, about=np.array("drawn by a test"))
    return path


@pytest.fixture
def few_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(training, "QUICK_STEPS", 24)
    monkeypatch.setattr(training, "QUICK_CHECKPOINTS", 3)


class Run:
    """A run of the whole demonstration with few steps."""

    def __init__(self, recording: Path, plot: Path) -> None:
        self.plot = plot
        self.states = torch.get_rng_state(), np.random.get_state()[1].copy(), torch.get_num_threads()  # noqa: NPY002
        out = io.StringIO()
        self.results = training.run(quick=True, data=recording, plot=plot, progress=False, out=out)
        self.text = out.getvalue()
        self.states_after = torch.get_rng_state(), np.random.get_state()[1], torch.get_num_threads()  # noqa: NPY002


@pytest.fixture(scope="module")
def finished(recording: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(training, "QUICK_STEPS", 24)
        patch.setattr(training, "QUICK_CHECKPOINTS", 3)
        return Run(recording, tmp_path_factory.mktemp("plot") / "curves.png")


# ---- the numbers ----


def test_last_checkpoint_is_what_the_references_say(finished: Run) -> None:
    assert [result.name for result in finished.results] == [setting.name for setting in training.SETTINGS]
    for result in finished.results:
        last, bounds = result.history[-1], result.report.bounds
        assert result.H.shape == (200, 256)
        assert abs(last.nrc1 - reference_nrc1(result.H, 3)) <= bounds["nrc1"]
        assert abs(last.nrc2 - reference_nrc2(result.H, result.W)) <= bounds["nrc2"]
        assert last.nrc1_id25 == pytest.approx(reference_nrc1(result.H, 3, "id25"), rel=1e-6)
        assert last.nrc1_variance == pytest.approx(reference_nrc1(result.H, 3, "variance"), rel=1e-6)
        assert last.explained_variance == pytest.approx(1.0 - last.nrc1_variance, rel=1e-6)
        assert last.nrc3 == pytest.approx(reference_nrc3(result.W, result.Y), rel=1e-9)
        H, Y, W, b = (np.asarray(part, dtype=np.float64) for part in (result.H, result.Y, result.W, result.b))
        error = np.mean(np.sum((H @ W.T + b - Y) ** 2, axis=1))
        assert last.mse == pytest.approx(error, rel=1e-6)
        assert last.r2 == pytest.approx(1.0 - error / np.mean(np.sum((Y - Y.mean(axis=0)) ** 2, axis=1)), abs=1e-6)


def test_targets_are_standardised(finished: Run) -> None:
    for result in finished.results:
        np.testing.assert_allclose(result.Y.mean(axis=0), 0.0, atol=1e-6)
        np.testing.assert_allclose(result.Y.std(axis=0), 1.0, rtol=1e-6)


def test_history_of_nrc3_keeps_the_gamma_of_the_end(finished: Run) -> None:
    for result in finished.results:
        assert [record.step for record in result.history] == [0, 8, 16, 24]
        assert result.steps == 24
        np.testing.assert_array_equal(result.head_history[-1], result.W)
        for record, head in zip(result.history, result.head_history, strict=True):
            assert record.nrc3 == pytest.approx(reference_nrc3(head, result.Y, gamma=result.report.gamma), rel=1e-9)
            assert record.gamma == pytest.approx(nrc.nrc3_gamma(head, result.Y), rel=1e-9)


def test_two_runs_agree_and_leave_the_global_state_alone(finished: Run, recording: Path, few_steps: None) -> None:
    del few_steps
    before, after = finished.states, finished.states_after
    assert torch.equal(before[0], after[0])
    np.testing.assert_array_equal(before[1], after[1])
    assert before[2] == after[2]
    torch.rand(3)
    again = training.run(quick=True, data=recording, plot=None, progress=False, out=io.StringIO())
    for first, second in zip(finished.results, again, strict=True):
        for name in "HYWb":
            np.testing.assert_array_equal(getattr(first, name), getattr(second, name))
        assert first.history == second.history


def test_recorded_torques_collapse_with_weight_decay_and_not_without(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(training, "QUICK_STEPS", 400)
    monkeypatch.setattr(training, "QUICK_CHECKPOINTS", 1)
    monkeypatch.setattr(training, "SETTINGS", (training.SETTINGS[0], training.SETTINGS[2]))
    out = io.StringIO()
    decayed, free = training.run(quick=True, plot=None, progress=False, out=out)
    np.testing.assert_array_equal(decayed.head_history[0], free.head_history[0])
    assert decayed.history[-1].nrc1 < free.history[-1].nrc1 - 0.1
    assert decayed.history[-1].nrc1_variance < 0.1 * free.history[-1].nrc1_variance
    assert min(decayed.history[-1].r2, free.history[-1].r2) > 0.7
    assert "3,000 rows of 10 observations and 2 actions" in re.sub(r"\s+", " ", out.getvalue())


# ---- the training ----


def explicit_loss(setting: Setting, trunk: Any, head: Any, X: Any, Y: Any) -> Any:
    """The loss with every penalty written out."""
    features = trunk(X)
    loss = ((head(features) - Y) ** 2).sum() / (2 * len(X)) + setting.feature_penalty / 2 * (features**2).sum() / len(X)
    if setting.feature_penalty:
        penalised = [head.weight]
    else:
        both = [*trunk.named_parameters(), *head.named_parameters()]
        penalised = [parameter for name, parameter in both if setting.biases_decay or "weight" in name]
    return loss + setting.weight_decay / 2 * sum((parameter**2).sum() for parameter in penalised)


@pytest.mark.parametrize("setting", training.SETTINGS, ids=lambda setting: setting.name)
def test_steps_descend_the_loss_that_is_named(setting: Setting) -> None:
    generator = torch.Generator().manual_seed(1)
    X, Y = torch.randn(60, 4, generator=generator), torch.randn(60, 2, generator=generator)
    networks = [training._network(torch, setting, 4, 2) for _ in range(2)]
    parameters = [[*trunk.parameters(), *head.parameters()] for trunk, head in networks]
    speeds = [torch.zeros_like(parameter) for parameter in parameters[1]]
    bar = SimpleNamespace(update=lambda: None)
    optimizer = training._optimizer(torch, setting, *networks[0])
    taken = 0
    with training._one_thread(torch):
        for step in training._descend(torch, *networks[0], optimizer, setting, X, Y, range(5), bar):
            for _ in range(taken, step):  # rows fit one batch, so their order does not matter
                gradients = torch.autograd.grad(explicit_loss(setting, *networks[1], X, Y), parameters[1])
                rate = setting.learning_rate * min(1.0, (4 - taken) / (setting.cooling * 4))
                for k, gradient in enumerate(gradients):
                    speeds[k] = 0.9 * speeds[k] + gradient
                    parameters[1][k].data -= rate * speeds[k]
                taken += 1
            for ours, expected in zip(*parameters, strict=True):
                torch.testing.assert_close(ours, expected, rtol=1e-4, atol=1e-6)
    assert taken == 4


def test_initial_values_are_those_of_torch() -> None:
    trunk, head = training._network(torch, Setting("plain", 0.0), 10, 2)
    for layer in [*trunk, head]:
        if isinstance(layer, torch.nn.Linear):
            assert layer.weight.dtype == torch.float32
            weights = layer.weight.detach()
            assert float(weights.abs().max()) <= layer.in_features**-0.5
            assert float(weights.std()) == pytest.approx((3 * layer.in_features) ** -0.5, rel=0.1)
    assert isinstance(trunk[-1], torch.nn.Linear)
    shifted, _ = training._network(torch, Setting("shifted", 0.0, relu=True, feature_bias=0.5), 10, 2)
    assert isinstance(shifted[-1], torch.nn.ReLU)
    torch.testing.assert_close(shifted[4].bias, trunk[4].bias + 0.5)
    assert torch.equal(shifted[4].weight, trunk[4].weight)


def test_penalties_reach_the_prediction(finished: Run) -> None:
    for result, setting in zip(finished.results, training.SETTINGS, strict=True):
        if not setting.feature_penalty:
            assert math.isnan(result.c)
            continue
        assert result.c == setting.weight_decay * setting.feature_penalty
        eigenvalues = np.linalg.eigvalsh(np.cov(result.Y.astype(float), rowvar=False, bias=True))
        assert result.report.ufm is not None
        assert result.report.ufm.mse == pytest.approx(np.minimum(eigenvalues, result.c).sum(), rel=1e-9)


# ---- what is printed ----


def test_tables_hold_the_numbers(finished: Run) -> None:
    lines = finished.text.splitlines()
    summary = next(k for k, line in enumerate(lines) if line.startswith("at the end of"))
    for k, result in enumerate(finished.results):
        title = next(i for i, line in enumerate(lines) if line.startswith(f"{result.name} ("))
        for record, line in zip(result.history, lines[title + 2 :], strict=False):
            values = [float(text) for text in line.replace("%", "").replace(">", "").split()]
            shown = [record.step, record.mse, record.r2, record.nrc1, record.nrc1_id25, record.nrc2, record.nrc3]
            assert values[:-1] == pytest.approx(shown, rel=0.06, abs=1e-4)
            assert values[-1] == pytest.approx(100 * record.explained_variance, abs=0.01)
        last = result.history[-1]
        cells = [float(text) for text in lines[summary + 1 + k].removeprefix(result.name).split()]
        shown = [last.mse, last.r2, last.nrc1, last.nrc1_id25, last.nrc2, last.nrc3]
        assert cells[:6] == pytest.approx(shown, rel=0.06, abs=1e-4)
        assert len(cells) == (6 if math.isnan(result.c) else 7)


def test_header_says_what_is_trained_on_what(finished: Run, recording: Path) -> None:
    header = re.sub(r"\s+", " ", finished.text[: finished.text.index("\nweight decay 5e-3 (")])
    for part in ("200 rows of 5 observations and 3 actions", "standardised", "drawn by a test", "5-256-256-256-3"):
        assert part in header
    with np.load(recording) as file:
        assert ", ".join(f"{variance:.2g}" for variance in file["actions"].var(axis=0)) in header
    for setting in training.SETTINGS:
        assert f"- {setting.name}: " in header
        assert f" {setting.weight_decay:g} on " in header
    assert recording.name in header
    assert max(map(len, finished.text.splitlines())) <= 80


def test_plot_is_written(finished: Run) -> None:
    assert finished.plot.read_bytes().startswith(b"\x89PNG")
    assert finished.text.endswith(f"The curves are in {finished.plot}.\n")


def test_progress_goes_to_stderr_on_request_only(
    recording: Path, few_steps: None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    del few_steps
    monkeypatch.setattr(training, "SETTINGS", training.SETTINGS[:1])
    for progress, expected in [(None, False), (False, False), (True, True)]:
        training.run(quick=True, data=recording, plot=None, progress=progress)
        captured = capsys.readouterr()
        assert ("24/24" in captured.err) is expected
        assert "at the end of" in captured.out


# ---- the findings ----


def with_last(result: RunResult, **values: float) -> RunResult:
    return replace(result, history=(result.history[0], replace(result.history[-1], **values)))


@pytest.mark.parametrize(
    ("values", "start"),
    [
        ({"nrc1": 1e-9, "nrc2": 1e-9, "nrc1_variance": 1e-12}, "collapse. "),
        ({"nrc1": 1e-9, "nrc2": 0.5, "nrc1_variance": 1e-12}, "on the way"),
        ({"nrc1": 0.02, "nrc2": 0.02, "nrc1_variance": 1e-3}, "on the way"),
        ({"nrc1": 0.5, "nrc2": 0.5, "nrc1_variance": 0.4}, "no collapse. "),
        ({"nrc1": math.nan}, "the features are all equal"),
        ({"nrc1_variance": math.nan}, "the features are all equal"),
    ],
)
def test_finding_follows_the_numbers(finished: Run, values: dict[str, float], start: str) -> None:
    plane = np.random.default_rng(5).standard_normal((200, 3))
    H = (plane - plane.mean(axis=0)) @ np.eye(3, 256)
    report = nrc.measure(H, finished.results[0].Y)
    run = with_last(replace(finished.results[0], H=H, report=report), **values)
    first = replace(run.history[0], nrc1=0.7)
    assert finding(replace(run, history=(first, run.history[-1]))).startswith(start)


@pytest.mark.parametrize(("offset", "start"), [(30.0, "collapse towards an affine plane"), (0.0, "collapse. ")])
def test_affine_plane_is_told_from_a_plane_through_the_origin(finished: Run, offset: float, start: str) -> None:
    rng = np.random.default_rng(3)
    W = rng.standard_normal((3, 256))
    H = rng.standard_normal((200, 3)) @ W
    H -= H.mean(axis=0)
    H += offset * np.eye(256)[0]
    report = nrc.measure(H, finished.results[0].Y, W)
    last = Record.of(24, report)
    run = replace(finished.results[0], H=H, W=W, report=report, history=(finished.results[0].history[0], last))
    sentence = finding(run)
    assert sentence.startswith(start)
    if offset:
        assert f"NRC1 under nrc24 is {reference_nrc1(H, 3):.2g}" in sentence
        assert ">99.99% of the variance" in sentence


def test_the_table_of_laws_holds_the_numbers(finished: Run) -> None:
    lines = finished.text.splitlines()
    first = next(k for k, line in enumerate(lines) if line.startswith("what the laws say"))
    for result, line in zip(finished.results, lines[first + 1 :], strict=False):
        cells = [float(text.rstrip("%")) for text in line.removeprefix(result.name).split()]
        sigma = np.cov(result.Y.astype(float), rowvar=False, bias=True)
        values, vectors = np.linalg.eigh(sigma)
        W, H = result.W.astype(float), result.H.astype(float)
        residual = result.Y - H @ W.T - result.b
        gram, balance = W @ W.T, residual.T @ (H @ W.T) / len(H)
        distance = np.sum((balance / np.linalg.norm(balance) - gram / np.linalg.norm(gram)) ** 2)
        slope = np.polyfit(np.log(values), np.log(np.diag(vectors.T @ gram @ vectors)), 1)[0]
        shown = [reference_nrc3(result.W, result.Y), reference_nrc3(result.W, result.Y, gamma=0.0)]
        assert cells[:2] == pytest.approx(shown, rel=0.06)
        assert cells[2] == pytest.approx(nrc.nrc3_gamma(result.W, result.Y) / values[0], abs=0.006)
        assert cells[3] == pytest.approx(100.0 * nrc.nrc3_context(result.W, result.Y).quantile, abs=0.06)
        assert cells[4:6] == pytest.approx([distance, np.trace(balance) / np.trace(gram)], rel=0.06)
        assert cells[6] == pytest.approx(slope, abs=0.006)
        clock = result.recorded.clock
        known = clock is not None and clock.predicted < 0.0 and result.history[-1].nrc1_variance > 1e-9
        assert len(cells) == 7 + known
        assert not known or cells[7] == pytest.approx(clock.measured / clock.predicted, abs=0.006)
    laws = re.sub(r"\s+", " ", finished.text)
    assert all(law in laws for law in LAWS)


def with_report(result: RunResult, **values: Any) -> RunResult:
    return replace(result, report=replace(result.report, **values))


def test_what_nrc3_is_decided_by_is_worded_by_the_numbers(finished: Run) -> None:
    strong, weak = finished.results[:2]
    strong = with_report(strong, nrc3=1e-5, nrc3_quantile=0.001, gamma_share=0.7, balance_distance=0.3)
    weak = with_report(weak, nrc3=0.25, nrc3_quantile=0.6, gamma_share=0.0, balance_distance=1e-6, balance_decay=1.8e-3)
    both = finding_on_heads([strong, weak])
    assert both.startswith(
        "NRC3 comes near 0 with weight decay 5e-3 (1e-05, gamma/lambda_min 0.70). It does not with "
        "weight decay 1.5e-3 (0.25, gamma/lambda_min 0.00). There gamma is at 0: "
    )
    assert "1 of these 2 heads have the shape of their balance to within 0.01" in both
    assert both.endswith("It implies a decay of 0.0018 for 0.0015.")
    lucky = with_report(strong, nrc3_quantile=0.4)  # as small as that of random heads
    assert finding_on_heads([lucky]).startswith("It does not with")
    alone = finding_on_heads([strong])
    assert "It does not" not in alone
    assert "balance" not in alone
    assert finding_on_heads([]) == finding_on_heads([finished.results[2]]) == ""


def test_agreement_with_the_theory_is_measured(finished: Run) -> None:
    from nrc_fast.testing import ufm_optimum

    trained = finished.results[-1]
    H, W, b, Y = ufm_optimum(trained.Y, 256, 0.2, 0.2)
    report = nrc.measure(H, Y, W, b, penalties=trained)
    assert trained.c == pytest.approx(0.04)
    best = replace(trained, H=H, W=W, report=report, history=(trained.history[0], Record.of(24, report)))
    assert finding(best).startswith("as the theory says")
    assert finding(with_last(best, mse=1.2 * report.mse)).startswith("not yet")
    assert finding(replace(best, W=np.eye(3, 256))).startswith("not yet")


# ---- what goes wrong ----


def test_missing_recording_names_the_paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(FileNotFoundError, match=r"looked at .*absent\.npz"):
        training.run(data=tmp_path / "absent.npz")
    monkeypatch.setattr(training, "__file__", str(tmp_path / "nrc_fast" / "cli" / "demo" / "training.py"))
    with pytest.raises(FileNotFoundError) as error:
        training.run(plot=None)
    for path in ("nrc_fast/data/reacher.npz", "bench/data/reacher.npz"):
        assert str(tmp_path.resolve() / path) in str(error.value)


def test_missing_folder_of_the_plot_is_found_before_training(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="does not exist"):
        training.run(plot=tmp_path / "absent" / "collapse.png")


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"observations": np.ones((5, 2))}, r"has no array actions; it has observations"),
        ({"observations": np.ones((5, 2)), "actions": np.ones((4, 1))}, r"\(5, 2\) and actions \(4, 1\)"),
        ({"observations": np.ones((5, 2)), "actions": np.ones(5)}, r"\(5, 2\) and actions \(5,\)"),
        ({"observations": np.ones((0, 2)), "actions": np.ones((0, 1))}, r"\(0, 2\)"),
        ({"observations": np.full((5, 2), np.nan), "actions": np.ones((5, 1))}, "NaN or infinite"),
    ],
)
def test_unusable_recordings_are_refused(tmp_path: Path, arrays: dict[str, Any], message: str) -> None:
    np.savez(tmp_path / "odd.npz", **arrays)
    with pytest.raises(ValueError, match=message):
        training.run(data=tmp_path / "odd.npz", plot=None)


@pytest.mark.parametrize("content", [b"no zip file", b"", "npy"], ids=["text", "empty", "npy"])
def test_other_files_than_recordings_are_refused(tmp_path: Path, content: Any) -> None:
    path = tmp_path / "odd.npz"
    if content == "npy":
        with path.open("wb") as file:
            np.save(file, np.ones((5, 2)))
    else:
        path.write_bytes(content)
    with pytest.raises(ValueError, match=r"odd\.npz is no \.npz file; one with observations and actions is expected"):
        training.run(data=path, plot=None)


def test_column_that_is_constant_but_for_rounding_stays_zero() -> None:
    rows = np.column_stack([np.full(7, 0.1), np.arange(7.0)])
    rows[0, 0] += 1e-17
    standardised = training._standardised(rows)
    np.testing.assert_array_equal(standardised[:, 0], 0.0)
    np.testing.assert_allclose(standardised[:, 1], np.arange(-3, 4) / 2.0)


@pytest.mark.parametrize("name", ["torch", "tqdm", "matplotlib"])
def test_missing_libraries_are_named_before_training(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(ImportError, match=rf"needs {name}: pip install 'nrc-fast\[demo\]'"):
        training.run()


def test_one_action_has_no_nrc3(tmp_path: Path, few_steps: None, monkeypatch: pytest.MonkeyPatch) -> None:
    del few_steps
    monkeypatch.setattr(training, "SETTINGS", (training.SETTINGS[0], training.SETTINGS[-1]))
    observations = np.random.default_rng(4).standard_normal((50, 3))
    np.savez(tmp_path / "one.npz", observations=observations, actions=observations[:, :1])
    results = training.run(quick=True, data=tmp_path / "one.npz", plot=tmp_path / "one.png", out=io.StringIO())
    assert all(math.isnan(record.nrc3) for result in results for record in result.history)
    assert all(isinstance(record, Record) for result in results for record in result.history)


def test_demo_prints_json(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    pytest.importorskip("tqdm")
    Figure = pytest.importorskip("matplotlib.figure").Figure
    from nrc_fast.cli.demo import training as demo_training

    monkeypatch.setattr(demo_training, "QUICK_STEPS", 4)
    monkeypatch.setattr(demo_training, "QUICK_CHECKPOINTS", 1)
    monkeypatch.setattr(demo_training, "SETTINGS", demo_training.SETTINGS[:2])
    assert main(["demo", "--quick", "--json", "--plot", str(tmp_path / "demo.png")]) == 0
    captured = capsys.readouterr()
    histories = json.loads(captured.out)
    assert list(histories) == [setting.name for setting in demo_training.SETTINGS]
    for values in histories.values():
        assert [record["step"] for record in values["records"]] == [0, 4]
    assert "at the end of" in captured.err
    # plot and report read all of them.
    (tmp_path / "demo.json").write_text(captured.out)
    loaded = load_stored(str(tmp_path / "demo.json"))
    assert {name: json.loads(history.to_json()) for name, history in loaded.items()} == histories
    drawn: list[Any] = []

    def compare(*given: Any) -> Any:
        drawn.append(given)
        return SimpleNamespace(plot=Figure)

    monkeypatch.setattr("nrc_fast.cli.stored.compare", compare)
    options = ["-o", str(tmp_path / "all.png"), "--gamma", "each"]
    assert main(["plot", str(tmp_path / "demo.json"), *options]) == 0
    ((runs, gamma),) = drawn
    assert gamma == "each"
    assert {name: json.loads(history.to_json()) for name, history in runs.items()} == histories
    assert (tmp_path / "all.png").read_bytes().startswith(b"\x89PNG")
    assert main(["report", str(tmp_path / "demo.json"), "-o", str(tmp_path / "demo.html")]) == 0
    headings = re.findall("<h2>(.*?)</h2>", (tmp_path / "demo.html").read_text())
    assert [heading for heading in headings if heading in histories] == list(histories)
    mixed = {"history": histories[demo_training.SETTINGS[0].name], "report": json.loads(measured().to_json())}
    (tmp_path / "mixed.json").write_text(json.dumps(mixed | {"other": 1}))
    assert main(["report", str(tmp_path / "mixed.json")]) == 1
    assert "holds no report" in capsys.readouterr().err
