"""What is drawn is what was measured, on logarithmic axes too, and pyplot hears nothing of it."""

from __future__ import annotations

import math
import pickle
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest

import nrc_fast as nrc
from nrc_fast import ufm
from nrc_fast.reports import DeepReport, History, LayerCollapse
from nrc_fast.reports.charts import charts_of_runs
from nrc_fast.reports.plots.comparisons import plot_charts
from nrc_fast.reports.plots.features import plot_report

pytest.importorskip("matplotlib")

FIELDS = ["nrc1", "nrc1_id25", "nrc2", "nrc3", "mse", "explained_variance"]


@pytest.fixture(scope="module")
def report() -> nrc.Report:
    rng = np.random.default_rng(0)
    features = rng.standard_normal((200, 8)) * np.arange(8, 0, -1)
    return nrc.measure(features, rng.standard_normal((200, 2)))


def values_of(line: Any) -> tuple[Any, Any]:
    return np.asarray(line.get_xdata(), dtype=float), np.asarray(line.get_ydata(), dtype=float)


def labelled(axes: Any, label: str) -> Any:
    (line,) = [line for line in axes.get_lines() if line.get_label() == label]
    return line


def band_of(axes: Any) -> tuple[Any, Any]:
    """Lower and upper edge of the shaded band at every number of components."""
    (band,) = axes.collections
    vertices = np.vstack([path.vertices for path in band.get_paths()])
    components = np.unique(vertices[:, 0])
    heights = [vertices[vertices[:, 0] == k, 1] for k in components]
    return np.array([h.min() for h in heights]), np.array([h.max() for h in heights])


# ---- a report ----


def test_nrc1_of_the_report_is_drawn(report: nrc.Report) -> None:
    figure = plot_report(report)
    left, _ = figure.axes
    components, values = values_of(labelled(left, "NRC1"))
    np.testing.assert_array_equal(components, np.arange(1, 9))
    np.testing.assert_array_equal(values[:-1], report.nrc1_by_k[:-1])
    assert math.isnan(values[-1])
    assert report.nrc1_by_k[-1] == 0.0
    zero_at, zero_height = values_of(labelled(left, "NRC1 = 0"))
    assert zero_at.tolist() == [8.0]
    assert zero_height[0] == left.get_ylim()[0] > 0.0
    assert left.get_yscale() == "log"
    assert set(values_of(labelled(left, "n = 2"))[0]) == {2.0}
    assert left.figure is figure


def test_bars_are_the_explained_variance(report: nrc.Report) -> None:
    _, right = plot_report(report).axes
    np.testing.assert_array_equal([bar.get_height() for bar in right.patches], report.explained_variance_ratio)
    colours = [bar.get_facecolor() for bar in right.patches]
    assert colours[0] == colours[1] != colours[2]
    assert len(set(colours)) == 2
    share = 100 * report.explained_variance_ratio[:2].sum()
    assert right.get_title() == f"first 2 components: {share:.1f}% of the variance"


def test_band_is_the_bound_and_no_wider_than_monotony_allows(report: nrc.Report) -> None:
    by_k = np.array([0.5, 0.1, 0.2, 1e-3, 1e-4, 1e-4, 1e-5, 0.0])
    bounds = np.array([0.01, 0.05, 1.0, 1e-4, 1e-6, 1e-6, 2e-5, 0.0])
    left, _ = plot_report(replace(report, nrc1_by_k=by_k, bounds={"nrc1_by_k": bounds})).axes
    lowest, highest = band_of(left)
    np.testing.assert_allclose(
        highest, [0.51, 0.15, 0.15, 1.1e-3, 1.01e-4, 1.01e-4, 3e-5, left.get_ylim()[0]], rtol=1e-12
    )
    np.testing.assert_allclose(lowest[:6], [0.49, 0.05, 9e-4, 9e-4, 9.9e-5, 9.9e-5], rtol=1e-12)
    drawn = values_of(labelled(left, "NRC1"))[1]
    # Values that are no larger than their bound are not among the known ones.
    np.testing.assert_array_equal(drawn, np.where(np.isin(np.arange(8), [2, 6, 7]), np.nan, by_k))


@pytest.mark.parametrize(
    ("by_k", "shares"),
    [
        (np.zeros(8), np.eye(8)[0]),
        (np.full(8, math.nan), np.full(8, math.nan)),
        (np.array([1.0, 5e-324, *np.zeros(6)]), np.eye(8)[0]),
    ],
)
def test_zeros_subnormals_and_nan_can_be_drawn(report: nrc.Report, by_k: Any, shares: Any) -> None:
    for bounds in ({}, {"nrc1_by_k": np.full(8, 1e-17)}, {"nrc1_by_k": np.full(8, math.nan)}):
        odd = replace(report, nrc1_by_k=by_k, explained_variance_ratio=shares, bounds=bounds)
        figure = plot_report(odd)
        left, _ = figure.axes
        figure.canvas.draw()
        assert 0.0 < left.get_ylim()[0] < left.get_ylim()[1] < math.inf


def test_one_feature_can_be_drawn() -> None:
    plot_report(nrc.measure(np.arange(5.0)[:, None], n=1)).canvas.draw()


def test_wide_features_have_a_logarithmic_number_of_components() -> None:
    wide = nrc.measure(np.random.default_rng(1).standard_normal((100, 40)), n=3, by_k="all")
    left, right = plot_report(wide).axes
    assert left.get_xscale() == "log"
    assert len(right.patches) == 12


def results() -> dict[str, Any]:
    """A result of each kind that can be drawn, by the number of its panels."""
    rng = np.random.default_rng(5)
    H, Y, W = rng.standard_normal((60, 5)), rng.standard_normal((60, 2)), rng.standard_normal((2, 5))
    history = History("run")
    for step in range(3):
        history.add(step, nrc.measure(H, Y, W), W, np.cov(Y, rowvar=False, bias=True))
    layers = tuple(LayerCollapse(f"fc{k}", 8, 2, 0.2 / (k + 1), 0.9, 0.9, 0.1, 2.0, 2.0) for k in range(2))
    deep = DeepReport(layers, 10, 2, 0.1, 1.0, 1.5)
    return {"report": nrc.measure(H, Y, W), "floor": ufm.predict(Y, c=0.1), "history": history, "layers": deep}


PANELS = {"report": 2, "floor": 2, "history": 6, "layers": 1}


@pytest.mark.parametrize("kind", list(PANELS))
def test_given_axes_are_used_and_files_are_written(kind: str, tmp_path: Path) -> None:
    from matplotlib.figure import Figure

    result = results()[kind]
    own = Figure(figsize=(12.0, 8.0))
    part, _ = own.subfigures(1, 2)
    for given in (own.subplots(2, 3).ravel()[: PANELS[kind]], list(part.subplots(1, PANELS[kind], squeeze=False)[0])):
        before = len(own.axes)
        assert result.plot(ax=given) is own
        assert len(own.axes) == before + (kind == "history")  # R2 has an axis of its own
        assert all(axis.has_data() for axis in given)
        assert own._suptitle is None  # type: ignore[attr-defined]
        assert not own.legends
        with pytest.raises(ValueError, match=f"ax holds {len(given) + 1} axes; {len(given)} are expected, for "):
            result.plot(ax=[*given, given[0]])
    if PANELS[kind] == 1:
        assert result.plot(ax=own.subplots()) is own
    figure = result.plot(path=tmp_path / "figure.svg")
    assert isinstance(figure, Figure)
    assert figure is not own
    assert ElementTree.parse(tmp_path / "figure.svg").getroot().tag.endswith("svg")
    with pytest.raises(ValueError, match="has no ending of a plot"):
        result.plot(path=tmp_path / "figure.docs")


@pytest.mark.parametrize("kind", list(PANELS))
def test_a_notebook_shows_figures_as_they_are(kind: str) -> None:
    """What IPython's formatter of PNG calls on an object of a class that it does not know."""
    figure = results()[kind].plot()
    for shown in (figure, pickle.loads(pickle.dumps(figure))):
        image, size = shown._repr_png_()
        assert image.startswith(b"\x89PNG\r\n\x1a\n")
        pixels = int.from_bytes(image[16:20], "big"), int.from_bytes(image[20:24], "big")
        np.testing.assert_allclose(pixels, figure.get_size_inches() * 120, atol=1)
        assert size == {"width": round(pixels[0] * 0.6), "height": round(pixels[1] * 0.6)}


def test_pyplot_is_never_imported(run_alone: Any) -> None:
    code = (
        "import sys, numpy, nrc_fast\n"
        "nrc_fast.measure(numpy.eye(5), n=2).plot()._repr_png_()\n"
        "print('matplotlib.pyplot' in sys.modules)"
    )
    result = run_alone(code)
    assert result.stdout == "False\n", result.stderr


def test_missing_matplotlib_is_named(report: nrc.Report, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(ImportError, match=r"pip install 'nrc-fast\[demo\]'"):
        plot_report(report)


# ---- runs that are compared ----


@pytest.fixture
def runs() -> dict[str, Any]:
    rng = np.random.default_rng(2)
    return {name: FakeHistory(rng) for name in ("first", "second", "third")}


class FakeHistory:
    """As many records as there are steps; NRC3 is ten times as large for each step's own gamma."""

    convention, n = "nrc24", 3

    def __init__(self, rng: np.random.Generator) -> None:
        drawn = [{field: rng.uniform(1e-6, 1.0) for field in FIELDS} for _ in range(4)]
        self.all = [SimpleNamespace(step=10 * k, bounds={}, **values) for k, values in enumerate(drawn)]

    def records(self, gamma: str | float) -> list[Any]:
        if gamma == "last":
            return self.all
        return [SimpleNamespace(**(vars(record) | {"nrc3": 10.0 * record.nrc3})) for record in self.all]

    def nrc3_null(self) -> tuple[float, float, float]:
        return math.nan, math.nan, math.nan


PREDICTED = {"third": 0.02}


def plot_runs(runs: dict[str, Any], gamma: str = "last", predicted: dict[str, float] | None = None) -> Any:
    return plot_charts(charts_of_runs(runs, gamma, predicted))


def test_every_curve_holds_its_history(runs: dict[str, Any]) -> None:
    figure = plot_runs(runs, predicted=PREDICTED)
    assert len(figure.axes) == len(FIELDS)
    for panel, field in zip(figure.axes, FIELDS, strict=True):
        assert panel.get_yscale() == ("linear" if field == "explained_variance" else "log")
        for (name, history), line in zip(runs.items(), panel.get_lines(), strict=False):
            steps, values = values_of(line)
            assert steps.tolist() == [0, 10, 20, 30]
            assert values.tolist() == [getattr(record, field) for record in history.all]
            assert line.get_label() == name
    names = [text.get_text() for text in figure.legends[0].get_texts()]
    assert names == ["first", "second", "third", "MSE predicted for third"]
    titles = [panel.get_title() for panel in figure.axes]
    assert titles[0] == "NRC1, convention nrc24 (rows as they are)"
    assert titles[3] == "NRC3, gamma of the last step\nthin: gamma of each step"
    assert titles[5] == "variance in the first 3 components"


def test_titles_say_which_gamma_and_which_definitions(runs: dict[str, Any]) -> None:
    runs["second"].convention, runs["second"].n = "variance", 2
    panels = plot_runs(runs, "each").axes
    titles = [panel.get_title() for panel in panels]
    assert titles[0] == "NRC1, convention nrc24, variance"
    assert titles[3] == "NRC3, the best gamma of each step"
    assert titles[5] == "variance in the first 3 or 2 components"
    drawn = values_of(panels[3].get_lines()[0])[1]
    assert drawn.tolist() == [10.0 * record.nrc3 for record in runs["first"].all]


def test_a_run_has_one_colour_in_every_panel_and_no_other_has_it(runs: dict[str, Any]) -> None:
    colours = [[line.get_color() for line in panel.get_lines()[:3]] for panel in plot_runs(runs).axes]
    assert all(panel == colours[0] for panel in colours)
    assert len(set(colours[0])) == 3


def test_predicted_error_is_marked_for_known_penalties_only(runs: dict[str, Any]) -> None:
    lines = plot_runs(runs, predicted=PREDICTED).axes[4].get_lines()
    assert len(lines) == 4
    assert set(values_of(lines[3])[1]) == {0.02}
    assert lines[3].get_color() == lines[2].get_color()


def test_zeros_lie_on_the_lower_edge_and_nan_leaves_a_gap(runs: dict[str, Any]) -> None:
    runs["first"].all[3].nrc1 = 0.0
    runs["second"].all[2].nrc1 = math.nan
    runs["third"].all[1].nrc2 = 1e-300
    for record in (record for history in runs.values() for record in history.all):
        record.nrc3 = math.nan
    figure = plot_runs(runs)
    figure.canvas.draw()
    panels = figure.axes
    edge = panels[0].get_ylim()[0]
    assert 0.0 < edge < 1e-300
    assert all(panel.get_ylim() == panels[0].get_ylim() for panel in panels[:3])
    assert values_of(panels[0].get_lines()[0])[1][3] == edge
    assert math.isnan(values_of(panels[0].get_lines()[1])[1][2])


def test_bounds_are_lines_and_given_axes_hold_the_key(runs: dict[str, Any]) -> None:
    from matplotlib.figure import Figure

    record = runs["second"].all[1]
    record.nrc1, record.bounds = 0.5, {"nrc1": 0.125, "mse": math.inf}
    own = Figure()
    panels = own.subplots(2, 3)
    charts = charts_of_runs(runs)
    assert plot_charts(charts, panels) is own
    (band,) = panels[0, 0].collections
    assert [segment.tolist() for segment in band.get_segments()] == [[[10.0, 0.375], [10.0, 0.625]]]
    assert not panels[1, 1].collections
    assert [text.get_text() for text in panels[0, 0].get_legend().get_texts()] == ["first", "second", "third"]
    assert not own.legends
    with pytest.raises(ValueError, match=r"ax holds 2 axes; 6 are expected, for NRC1, convention nrc24"):
        plot_charts(charts, panels[0, :2])


def test_reports_stand_side_by_side(report: nrc.Report) -> None:
    figure = plot_runs({"a$b": report, "second": report})
    for panel, field in zip(figure.axes, FIELDS, strict=True):
        first, second = panel.get_lines()
        assert (*first.get_xdata(), *second.get_xdata()) == (0, 1)
        assert first.get_marker() == "o"
        if field in ("nrc1", "explained_variance"):
            assert first.get_ydata()[0] == charts_of_runs({"a": report})[FIELDS.index(field)].curves[0].y[0]
    assert [tick.get_text() for tick in figure.axes[5].get_xticklabels()] == [r"a\$b", "second"]
    figure.canvas.draw()
