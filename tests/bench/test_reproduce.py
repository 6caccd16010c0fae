"""The reproduction: its runs, what they measure, how they resume, and that the page says what the results say."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.benches import BENCH, ROOT, bench

torch = pytest.importorskip("torch")

FOLDER = BENCH / "reproduce"
COMMITTED = sorted((FOLDER / "results").glob("*.json"))


def small(**changes: Any) -> Any:
    """A run of a few steps."""
    settings = bench("reproduce.settings")
    run = settings.Run("decay", "reacher_standardised", 2.5e-2, 12, hidden=2, width=24, batch=64)
    return replace(run, **changes)


def without_time(found: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in found.items() if name != "seconds"}


def test_settings_are_consistent() -> None:
    settings, data_sets = bench("reproduce.settings"), bench("reproduce.data_sets")
    runs = settings.RUNS
    assert len({run.name for run in runs}) == len({*runs}) == len(runs)
    assert {run.data for run in runs} <= set(data_sets.DATA_SETS)
    for run in runs:
        assert {replace(run, seed=seed) for seed in settings.SEEDS} <= {*runs}
        assert run.setting in runs
        assert run.c == (None if run.feature_penalty is None else run.weight_decay * run.feature_penalty)
    assert [run.seed for run in runs] == sorted(run.seed for run in runs)
    assert {run.data for run in settings.named("hopper", "shapes")} == {"hopper", "shapes"}
    with pytest.raises(ValueError, match="'walker' in its name; groups are depth, decay"):
        settings.named("hopper", "walker")


def test_data_sets() -> None:
    """Sizes, and what each is made to be: held-out episodes, unit scales, linear, of rank two."""
    data_sets = bench("reproduce.data_sets")
    for name in data_sets.DATA_SETS:
        data = data_sets.load(name)
        assert len(data.inputs) == len(data.targets) == (2_000 if name == "rank_two" else 1_000)
        assert len(data.test_inputs) == len(data.test_targets) == (400 if name == "rank_two" else 200)
        assert data.inputs.dtype == data.targets.dtype == np.float32
        assert np.isfinite(data.inputs).all()
    scaled, raw = data_sets.load("reacher_standardised"), data_sets.load("reacher")
    np.testing.assert_allclose(np.var(scaled.targets, axis=0, dtype=float), 1.0, rtol=1e-5)
    slope = np.polyfit(raw.test_targets[:, 0], scaled.test_targets[:, 0], 1)[0]
    assert slope == pytest.approx(1.0 / raw.targets[:, 0].std(dtype=float), rel=1e-4)
    linear = data_sets.load("linear_directions")
    white = linear.inputs.astype(float)
    np.testing.assert_allclose(white.T @ white / 1_000, np.eye(6), atol=1e-5)
    assert np.linalg.lstsq(white, linear.targets, rcond=None)[1].max() < 1e-8
    singular = np.linalg.svd(data_sets.load("rank_two").targets, compute_uv=False)
    assert singular[2] < 1e-5 * singular[1]
    images = data_sets.load("shapes")
    brightness = images.inputs.sum(axis=(1, 2, 3))
    assert np.corrcoef(brightness, images.targets[:, 2] ** 2 + 4 * images.targets[:, 2])[0, 1] > 0.7
    columns = np.arange(20) + 0.5 - 10
    centre = (np.maximum(images.inputs[:, 0] - 0.3, 0.0).sum(axis=1) * columns).sum(axis=1)
    centre /= np.maximum(images.inputs[:, 0] - 0.3, 0.0).sum(axis=(1, 2))
    np.testing.assert_allclose(centre / 2.0, images.targets[:, 0], atol=0.1)


def test_measured_numbers_are_those_of_the_formulas() -> None:
    """NRC1 to NRC3, errors and the balance of the last step from the features themselves."""
    training, measuring = bench("reproduce.training"), bench("reproduce.measuring")
    run = small(weight_decay=1e-2)
    trained = training.train(run)
    end, curves = measuring.final(run, trained), measuring.curves(trained)
    trunk, head = trained.model
    with torch.no_grad():
        H = trunk(torch.from_numpy(trained.data.inputs)).double().numpy()
    W, b = head.weight.detach().double().numpy(), head.bias.detach().double().numpy()
    Y = trained.data.targets.astype(float)
    unit = H / np.linalg.norm(H, axis=1, keepdims=True)
    components = np.linalg.svd(H - H.mean(axis=0), full_matrices=False)[2][:2]
    rows = np.linalg.qr(W.T)[0]
    assert end["nrc1"] == pytest.approx(np.square(unit - unit @ components.T @ components).sum(axis=1).mean(), rel=1e-5)
    assert end["nrc2"] == pytest.approx(np.square(unit - unit @ rows @ rows.T).sum(axis=1).mean(), rel=1e-5)
    values, vectors = np.linalg.eigh(np.cov(Y.T, bias=True))
    gammas = np.linspace(0.0, values[0], 4_001)
    shape = W @ W.T / np.linalg.norm(W @ W.T)
    heads = [(vectors * (np.sqrt(values) - np.sqrt(gamma))) @ vectors.T for gamma in gammas]
    nrc3 = [np.square(shape - A / np.linalg.norm(A)).sum() for A in heads]
    assert end["nrc3"] == pytest.approx(min(nrc3), rel=1e-4)
    assert end["nrc3_at_zero"] == pytest.approx(nrc3[0], rel=1e-9)
    predictions = H @ W.T + b
    assert end["mse"] == pytest.approx(np.square(Y - predictions).sum(axis=1).mean(), rel=1e-9)
    pull = (Y - predictions).T @ (predictions - b) / len(Y)
    assert end["balance_decay"] == pytest.approx(np.trace(pull) / np.trace(W @ W.T), rel=1e-6)
    assert curves["nrc1"][-1] == pytest.approx(end["nrc1"], rel=1e-4)
    assert curves["nrc3_each"][-1] == pytest.approx(end["nrc3"], rel=1e-4)
    assert curves["nrc3"][-1] == pytest.approx(curves["nrc3_each"][-1], rel=1e-4)
    spread = np.linalg.svd(H - H.mean(axis=0), compute_uv=False) ** 2
    np.testing.assert_allclose(end["explained_variance_ratio"], spread[:5] / spread.sum(), rtol=1e-4)


def test_steps_are_those_of_gradient_descent() -> None:
    """Two full batches with the penalties of the UFM, against gradients by hand."""
    training = bench("reproduce.training")
    run = small(
        steps=2, hidden=1, width=5, batch=1_000, feature_penalty=0.3, activation="linear", cooling=0.5, momentum=0.5
    )
    trained = training.train(run)
    start = bench("reproduce.networks").network(run, (10,), 2)
    V, a, W, b = (parameter.detach().double().numpy().copy() for parameter in start.parameters())
    X, Y = trained.data.inputs.astype(float), trained.data.targets.astype(float)
    before = [0.0, 0.0, 0.0, 0.0]
    for _ in range(2):  # the learning rate falls after the last of them
        H = X @ V.T + a
        error = (H @ W.T + b - Y) / len(X)
        back = error @ W + 0.3 * H / len(X)
        gradients = [back.T @ X, back.sum(axis=0), error.T @ H + run.weight_decay * W, error.sum(axis=0)]
        before = [gradient + 0.5 * old for gradient, old in zip(gradients, before, strict=True)]
        V, a, W, b = (part - 0.1 * change for part, change in zip((V, a, W, b), before, strict=True))
    for found, expected in zip(trained.model.parameters(), (V, a, W, b), strict=True):
        np.testing.assert_allclose(found.detach().numpy(), expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"group": "norms", "feature_penalty": 0.1, "last_relu": False},
        {"group": "layers", "data": "rank_two", "biases": False, "hidden": 3},
        {"group": "vision", "data": "shapes", "network": "convolutions", "steps": 3, "learning_rate": 0.01},
    ],
    ids=lambda changes: changes.get("group", "decay"),
)
def test_a_run_is_written_skipped_and_the_same_again(changes: dict[str, Any], tmp_path: Path) -> None:
    results, measuring = bench("reproduce.results"), bench("reproduce.measuring")
    run = small(**changes)
    assert not results.is_done(run, tmp_path)
    written = results.write(run, measuring.measured(run), tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [f"{run.name}.json"]
    assert results.read(run, tmp_path) == json.loads(json.dumps(written))
    assert not results.is_done(replace(run, steps=13), tmp_path)
    assert without_time(results.write(run, measuring.measured(run), tmp_path)) == without_time(written)
    other = replace(run, seed=1)
    assert without_time(measuring.measured(other))["final"]["mse"] != written["final"]["mse"]


def test_a_training_that_diverges_is_an_error() -> None:
    training = bench("reproduce.training")
    with (
        pytest.warns(UserWarning, match="Has the training diverged"),
        pytest.raises(RuntimeError, match="diverges: at step"),
    ):
        training.train(small(learning_rate=1e6, steps=30))


def test_the_command_skips_what_is_done() -> None:
    run = json.loads(COMMITTED[0].read_text(encoding="utf-8"))["settings"]
    name = COMMITTED[0].stem
    command = [sys.executable, str(FOLDER / "run.py"), "--only", name]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert (done.returncode, done.stdout) == (0, "1 of 1 runs are done\n"), done.stderr
    assert name in [one.name for one in bench("reproduce.settings").RUNS if asdict(one) == run]


@pytest.mark.parametrize("path", COMMITTED, ids=lambda path: path.stem)
def test_committed_results_are_of_the_runs(path: Path) -> None:
    settings, results = bench("reproduce.settings"), bench("reproduce.results")
    found = json.loads(path.read_text(encoding="utf-8"))
    run = next(run for run in settings.RUNS if run.name == path.stem)
    assert results.is_done(run)
    assert path.stat().st_size < 30_000
    assert {len(curve) for curve in found["curves"].values()} == {len(found["curves"]["step"])}
    assert len(found["curves"]["step"]) <= 60
    assert found["curves"]["step"][-1] == run.steps
    targets = bench("reproduce.data_sets").load(run.data).targets.astype(float)
    np.testing.assert_allclose(found["final"]["covariance"], np.cov(targets.T, bias=True), rtol=1e-5, atol=1e-6)
    error = np.trace(found["final"]["residual_covariance"])
    assert found["final"]["mse"] == pytest.approx(error, rel=1e-6)


def test_committed_results_are_small() -> None:
    assert sum(path.stat().st_size for path in COMMITTED) < 1_000_000


def test_the_page_says_what_the_results_say() -> None:
    page = bench("reproduce.page")
    text = page.PAGE.read_text(encoding="utf-8")
    assert page.with_tables(text) == text, "run: python bench/reproduce/figures.py"
    # A number of the page, taken from the files again.
    ends = [
        json.loads(path.read_text(encoding="utf-8"))["final"]["nrc3"]
        for path in COMMITTED
        if path.stem.startswith("decay-swimmer-0.05-")
    ]
    row = next(line for line in text.splitlines() if line.startswith("| Swimmer-v5 | 0.05 |"))
    assert float(row.split("|")[9].split("(")[0]) == pytest.approx(np.median(ends), rel=0.05)


def test_a_page_without_its_markers_and_runs_that_are_missing(tmp_path: Path) -> None:
    page = bench("reproduce.page")
    with pytest.raises(ValueError, match="no markers <!-- claims: generated -->"):
        page.with_tables("# The papers reproduced")
    text = page.with_tables(page.PAGE.read_text(encoding="utf-8"), tmp_path)
    claims = text.split("<!-- claims: generated -->")[1].split("<!-- end of claims -->")[0]
    assert claims.count("not yet run") == len(page.CLAIMS)
    assert "0 of " in text


def test_every_figure_is_drawn_by_the_script() -> None:
    pytest.importorskip("matplotlib")
    drawings = bench("reproduce.drawings")
    figures = {path.stem for path in (ROOT / "docs" / "figures").glob("papers_*.png")}
    assert figures == {f"papers_{name}" for name in drawings.DRAWINGS}
    assert drawings.draw_gamma().axes[0].lines


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.0, "0"), (0.1234, "0.12"), (1.0, "1"), (12.3, "12"), (1234.0, "1200"), (1.5e-9, "1.5e-9"), (2e-4, "2e-4")],
)
def test_numbers_as_the_page_writes_them(value: float, text: str) -> None:
    seeds = bench("reproduce.seeds")
    assert seeds.number(value) == text
    assert seeds.number(float("nan")) == "-"
    assert seeds.spread([value, value]) == text
    assert seeds.spread([1.0, 2.0, 4.0, float("nan")]) == "2 (1 to 4)"
