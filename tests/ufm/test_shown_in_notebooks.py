"""Every result of the model shows its numbers in a notebook, and a curve or bars of them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from support.drawings import Tags, cells, tree

from nrc_fast import ufm
from nrc_fast.base.svg import MARGIN, PALETTE, SPARK

HEIGHT = SPARK[1] - 2 * MARGIN
SIGMA = np.diag([4.0, 1.0, 0.01])


@pytest.fixture(scope="module")
def targets() -> Any:
    return np.random.default_rng(0).standard_normal((60, 3)) * [2.0, 1.0, 0.1]


def rows_of(result: Any) -> dict[str, list[str]]:
    assert set(Tags(result._repr_html_()).tags).isdisjoint({"script", "img", "a", "link", "style"})
    return {row[0]: row[1:] for row in cells(result._repr_html_())}


def bars(result: Any) -> tuple[list[float], list[str | None]]:
    """Heights of the bars, relative to the highest, and their colours."""
    drawn = list(tree(result._repr_html_()).iter("rect"))
    return [float(str(bar.get("height"))) / HEIGHT for bar in drawn], [bar.get("fill") for bar in drawn]


def said(result: Any) -> str:
    return "".join(tree(result._repr_html_()).itertext())


def test_error_floor() -> None:
    floor = ufm.predict(covariance=SIGMA, weight_decay=0.1)
    heights, colours = bars(floor)
    np.testing.assert_allclose(heights, floor.eigenvalues / 4.0, atol=3e-4)
    assert colours == [PALETTE[0]] * floor.rank + ["currentColor"] * (3 - floor.rank)
    assert f"the UFM keeps {floor.rank} of 3 target directions" in said(floor)
    assert rows_of(floor)["one model for each output"] == [f"{floor.single_task_floor:.4g}"]
    assert floor.note in said(floor)


def test_minimum_and_a_batch_of_them() -> None:
    minimum = ufm.minimum(covariance=SIGMA, lambda_W=0.1, lambda_H=0.2)
    heights, _ = bars(minimum)
    values = minimum.weight_singular_values
    np.testing.assert_allclose(heights, values / values[0], atol=3e-4)
    assert rows_of(minimum)["R2"] == [f"{minimum.r2:.6g}"]
    batch = ufm.minimum(covariance=SIGMA, lambda_W=np.array([0.1, 0.2, 0.4]), lambda_H=0.2)
    assert "3 minima of the UFM" in said(batch)
    (path,) = tree(batch._repr_html_()).iter("path")
    assert str(path.get("d")).count("L") == 2


def test_minima_under_convex_losses(targets: Any) -> None:
    found = ufm.convex(targets, loss="huber", lambda_W=0.1, lambda_H=0.2)
    heights, _ = bars(found)
    values = found.weight_singular_values
    np.testing.assert_allclose(heights, values / values[0], atol=3e-4)
    assert rows_of(found)["loss without penalties"] == [f"{found.data_loss:.6g}"]
    assert f"Features and head have rank {found.rank}." in said(found)
    classes = ufm.convex(range(3), weights=[60, 20, 20], loss="cross_entropy", lambda_W=0.5, lambda_H=0.5)
    assert "classes that have merged: {1, 2}; accuracy 0.6" in said(classes)
    batch = ufm.convex(targets, loss="huber", lambda_W=[0.1, 0.2, 0.4], lambda_H=0.2)
    assert said(batch).startswith("3 minima of the UFM, huber loss, n = 3")
    (path,) = tree(batch._repr_html_()).iter("path")
    assert str(path.get("d")).count("L") == 2


def test_descent(targets: Any) -> None:
    descent = ufm.descend(targets, steps=40, lambda_W=0.1, lambda_H=0.1, lr=0.05, d=4, record=("loss", "mse"), at=10)
    rows = rows_of(descent)
    assert rows["mse"][0] == f"{descent.history['mse'][-1]:.4g}"
    paths = [str(path.get("d")) for path in tree(descent._repr_html_()).iter("path")]
    assert [path.count("L") + 1 for path in paths] == [len(descent.recorded_steps)] * 2
    several = ufm.descend(targets, steps=40, lambda_W=[0.1, 0.2, 0.4], lambda_H=0.1, lr=0.05, d=4, record=("mse",))
    assert rows_of(several)["mse"][0] == f"{np.median(several.history['mse'][:, -1]):.4g}"
    assert rows_of(several)[""] == ["last, median", "recorded steps"]


def test_deep_heads_refinements_penalties_and_predictions(targets: Any) -> None:
    deep = ufm.deep(covariance=SIGMA, lambda_W=[0.1, 0.1], lambda_H=0.1)
    values = deep.prediction_singular_values
    np.testing.assert_allclose(bars(deep)[0], values / values[0], atol=3e-4)
    assert f"{deep.rank} of 3 target directions are kept" in said(deep)
    batch = ufm.deep(covariance=SIGMA, lambda_W=[np.array([0.1, 0.2]), 0.1], lambda_H=0.1)
    assert said(batch).startswith("2 minima: ")
    pytest.importorskip("scipy")
    refined = ufm.refine(targets, lambda_W=0.1, lambda_H=0.1)
    eigenvalues = np.linalg.eigvalsh(refined.gram)[::-1]
    np.testing.assert_allclose(bars(refined)[0], eigenvalues / eigenvalues[0], atol=3e-4)
    assert rows_of(refined)["MSE, summed over outputs"] == [f"{refined.mse:.6g}"]
    penalties = ufm.penalties(0.1, feature_decay=0.2, n=3)
    assert rows_of(penalties)["c"] == [f"{penalties.c:.6g}"]
    prediction = ufm.predicted_spectrum(SIGMA, 0.5)
    shares = prediction.explained_variance_ratio
    heights, colours = bars(prediction)
    np.testing.assert_allclose(heights, shares / shares[0], atol=3e-4)
    assert colours.count(PALETTE[0]) == prediction.rank == 2
