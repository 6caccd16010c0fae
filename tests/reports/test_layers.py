"""The report of layers: which is the first that is collapsed, and what text, JSON and plot say."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
from support.drawings import cells

import nrc_fast as nrc
from nrc_fast.reports.layers import DeepReport, LayerCollapse, first_collapsed
from nrc_fast.reports.pages import page
from nrc_fast.reports.records import NAN

torch = pytest.importorskip("torch")
nn = torch.nn


def draw(*shape: int, seed: int = 1) -> Any:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def rows_of_page(report: DeepReport) -> list[list[str]]:
    text = page([("net", report)])
    return cells(text[text.index("<body>") : text.index("</html>")])


def test_first_collapsed_layer_follows_its_rule() -> None:
    def layers(*noise: float) -> list[LayerCollapse]:
        return [LayerCollapse(f"fc{k}", 8, 2, value, 1.0, 1.0, 0.0, 2.0, 2.0) for k, value in enumerate(noise)]

    assert first_collapsed(layers(0.5, 0.04, 0.01)) == "fc1"
    assert first_collapsed(layers(0.01, 0.5, 0.01)) == "fc2"
    assert first_collapsed(layers(0.01, 0.02)) == "fc0"
    assert first_collapsed(layers(0.01, 0.05)) is None
    assert first_collapsed(layers(0.01, 0.05), threshold=0.1) == "fc0"
    assert first_collapsed(layers(0.01, float("nan"))) is None


def test_report_as_text_json_and_plot(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    model = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 2, bias=False))
    with torch.no_grad():
        model[2].weight.zero_()
    report = nrc.measure_layers(model, [(draw(50, 4), draw(50, 2, seed=2))], threshold=0.9)
    stored = json.loads(report.to_json(tmp_path / "deep.json"))
    loaded = DeepReport.from_dict(stored)
    assert str(loaded) == str(report)
    assert loaded.to_json() == report.to_json()
    assert asdict(loaded.layers[0]) == asdict(report.layers[0])
    # As the other reports: they can be keys, and one is equal to itself alone.
    assert {report: 1, report.layers[0]: 2}[report] == 1
    assert report.layers[0] in set(report.layers)
    assert loaded != report
    assert loaded.layers[0] != report.layers[0]
    for broken in ({}, {"layers": 1}, stored | {"layers": [{}]}):
        with pytest.raises(ValueError, match="holds no report of layers"):
            DeepReport.from_dict(broken)
    errors = float((model(draw(50, 4)) - draw(50, 2, seed=2)).detach().double().square().sum(dim=1).mean())
    assert abs(report.mse - errors) <= report.bounds["mse"] < 1e-13
    assert 0.0 < report.bounds["target_variance"] < 1e-5
    assert stored["layers"][1]["weight_alignment"] is None
    assert stored["layers"][0]["noise_fraction"] == report.layers[0].noise_fraction
    assert stored["first_collapsed"] == report.first_collapsed == "0"
    assert f"{report.layers[0].noise_fraction:.4g}" in str(report)
    assert str(report).splitlines()[2].startswith("All 2 layers are given collapsed features, from 0 on")
    figure = report.plot()
    texts = [text.get_text() for text in figure.axes[0].texts]
    assert len(texts) == 12
    assert texts[0] == f"{report.layers[0].noise_fraction:.4g}"
    assert texts.count("-") == 2
    (image,) = figure.axes[0].get_images()
    assert float(image.get_array()[0, 0]) == pytest.approx(1.0 - report.layers[0].noise_fraction)
    figure.savefig(tmp_path / "deep.png")


@pytest.mark.parametrize("name", ["fc", "backbone.layer4.1.conv2.projection"])
def test_title_of_the_heat_map_is_not_cut(name: str) -> None:
    Text = pytest.importorskip("matplotlib.text").Text
    layers = tuple(LayerCollapse(name, 8, 2, 0.01, 0.9, 0.9, 0.1, 2.0, 2.0) for _ in range(2))
    figure = DeepReport(layers, 10, 2, 0.1, 1.0, 1.5).plot()
    figure.canvas.draw()
    (title,) = (text for text in figure.findobj(Text) if "first collapsed" in text.get_text())
    assert name in title.get_text()
    place = title.get_window_extent()
    assert figure.bbox.x0 <= place.x0 < place.x1 <= figure.bbox.x1


def test_the_balance_is_shown_where_it_is_known() -> None:
    pytest.importorskip("matplotlib")
    below = LayerCollapse("fc0", 8, 2, 0.5, 0.9, 0.9, 0.1, 2.0, 2.0)
    above = LayerCollapse("fc1", 8, 2, 0.01, 0.9, 0.9, 0.1, 2.0, 2.0, bounds={"balance": 1e-3}, balance=0.25)
    layers = above, replace(above, balance=NAN)
    known, unknown = (DeepReport((below, layer), 10, 2, 0.1, 1.0, 1.5) for layer in layers)
    head, first, second = str(known).splitlines()[-3:]
    assert [line[-11:].strip() for line in (head, first, second)] == ["balance", "-", "0.2500"]
    assert [row[-1] for row in cells(known._repr_html_())[:3]] == ["balance", "-", "0.25"]
    assert [row[-1] for row in rows_of_page(known)[:3]] == ["balance", "", "0.2500"]
    assert "<dt>balance of layers</dt>" in page([("net", known)])
    panel = known.plot().axes[0]
    assert panel.get_yticklabels()[-1].get_text() == "balance with the layer below"
    assert [part.get_text() for part in panel.texts][-2:] == ["-", "0.25"]
    shades = panel.get_images()[0].get_array()
    assert float(shades[-1, 1]) == 0.75  # from 1, not balanced at all, to 0
    assert "balance" not in str(unknown)
    assert len(unknown.plot().axes[0].get_yticklabels()) == 6
    assert not any("balance" in cell for cell in rows_of_page(unknown)[0])
