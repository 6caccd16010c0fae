"""More outputs than features (n > d): keypoints, images, autoencoders. Everything that has a meaning is measured."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

import nrc_fast as nrc
from nrc_fast import ufm
from nrc_fast.testing import reference_nrc2, reference_nrc3
from nrc_fast.ufm import predicted_spectrum

EPSILON = 2.0**-52


def draw(d: int, n: int, rank: int | None = None) -> tuple[Any, Any, Any, Any]:
    rng = np.random.default_rng(100 * d + n)
    H = rng.standard_normal((200, d)) + 0.5
    W = rng.standard_normal((n, d))
    if rank is not None:
        W = rng.standard_normal((n, rank)) @ rng.standard_normal((rank, d))
    Y = H @ W.T + 0.1 * rng.standard_normal((200, n)) * 0.9 ** np.arange(n)
    return H, Y, W, rng.standard_normal(n)


@pytest.mark.parametrize(("d", "n"), [(1, 2), (2, 3), (4, 6), (5, 31)])
@pytest.mark.parametrize("convention", list(nrc.CONVENTIONS))
def test_every_metric_of_a_wide_head(d: int, n: int, convention: str) -> None:
    H, Y, W, b = draw(d, n)
    for report in (
        nrc.measure(H, Y, W, b, convention=convention),
        nrc.FeatureStatistics(d, n_targets=n).update(H, Y).report(W, b, convention=convention),
    ):
        assert (report.n, report.d, len(report.nrc1_by_k)) == (n, d, d)
        if not np.isnan(report.nrc1):  # id25 of rows that are read once
            assert report.nrc1 == report.nrc1_by_k[-1] == report.nrc2 == 0.0
        assert report.mse == pytest.approx(np.mean(np.sum((H @ W.T + b - Y) ** 2, axis=1)), rel=1e-9)
        assert report.nrc3 == pytest.approx(reference_nrc3(W, Y, report.gamma), abs=256 * EPSILON)
        assert sum(report.explained_variance_ratio) == pytest.approx(1.0)
        assert any(f"more outputs ({n}) than features ({d})" in note for note in report.notes)


def test_a_head_of_low_rank_leaves_something() -> None:
    H, Y, W, _ = draw(6, 9, rank=2)
    report = nrc.measure(H, Y, W)
    assert report.nrc2 == pytest.approx(reference_nrc2(H, W), rel=1e-10)
    assert report.nrc2 > 0.1
    (note,) = (note for note in report.notes if "more outputs (9) than features (6)" in note)
    assert "NRC1 is 0" in note
    assert "NRC2" not in note


def test_the_width_of_the_features_limits_the_prediction() -> None:
    """The best prediction of rank d, penalised: the leading d directions, each thresholded."""
    values = np.array([9.0, 4.0, 1.0, 0.25])
    turn = np.linalg.qr(np.random.default_rng(0).standard_normal((4, 4)))[0]
    sigma, c = (turn * values) @ turn.T, 0.16
    for d in range(1, 6):
        found = predicted_spectrum(sigma, c, d=d)
        kept = np.where(np.arange(4) < d, np.sqrt(values) - np.sqrt(c), 0.0)
        assert found.rank == min(d, 4)
        assert found.mse == pytest.approx(np.where(np.arange(4) < d, np.minimum(values, c), values).sum())
        np.testing.assert_allclose(found.explained_variance_ratio, kept / kept.sum(), atol=16 * EPSILON)
        expected = (turn * kept) @ turn.T / np.linalg.norm(kept)
        np.testing.assert_allclose(found.head_gram_shape, expected, atol=64 * EPSILON)
    penalised = nrc.measure(*draw(2, 4)[:3], penalties=ufm.Penalties(0.1, 0.1))
    assert penalised.ufm is not None
    assert penalised.ufm.rank <= 2


def test_the_shape_of_all_directions_says_nothing_of_c() -> None:
    """At the minimum for two features NRC3 is above 0 at every gamma, and the best gamma is not c."""
    Y = np.random.default_rng(0).standard_normal((300, 5)) @ np.diag([3.0, 2.0, 1.0, 0.8, 0.5])
    closed = ufm.minimum(Y, lambda_W=0.1, lambda_H=0.1, d=2)
    report = nrc.measure(closed.features(Y), Y, closed.weights(), closed.bias)
    shape = closed.gram / np.linalg.norm(closed.gram)
    np.testing.assert_allclose(closed.head_gram_shape, shape, atol=1e-14)
    assert report.nrc3 > 0.04
    assert abs(report.gamma - 0.01) > 0.005
    assert report.ufm is None
    assert report.nrc3_untrained > report.nrc3  # that of heads of two columns, of which none has the shape either
    assert report.mse == pytest.approx(closed.mse, rel=1e-12)
    assert report.verdict[1] == (
        "W W^T does not have the shape that the UFM predicts from n = 5 features on: NRC3 is "
        f"{report.nrc3:.2g}. Its rank is at most 2, so that NRC3 is 0 for no gamma below lambda_min. See "
        "ufm.minimum(..., d=2).gram."
    )
    assert not any("c = gamma" in note for note in report.notes)
    history = nrc.History()
    for step in range(3):
        history.add(step, report, closed.weights(), np.cov(Y.T))
    assert [sentence.partition(":")[0] for sentence in history.verdict] == [
        "At step 2",
        report.verdict[1].partition(":")[0],
        "In balance",
    ]


def test_a_number_of_components_alone_must_fit() -> None:
    H, _, _, _ = draw(4, 6)
    with pytest.raises(ValueError, match="n is 6; it must lie between 1 and d = 4"):
        nrc.measure(H, n=6)
    with pytest.raises(ValueError, match="n is 6"):
        nrc.nrc1(H, 6)
    for wrong in (0, -1):
        with pytest.raises(ValueError, match=f"n is {wrong}; it must lie between 1 and d = 4"):
            nrc.measure(H, n=wrong)
    for kind in ([2.0], 1.5, "2"):
        with pytest.raises(TypeError, match="a whole number of components"):
            nrc.measure(H, n=kind)  # type: ignore[arg-type]


def test_an_autoencoder_is_monitored() -> None:
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(10, 4), torch.nn.Tanh(), torch.nn.Linear(4, 10))
    X = torch.randn(50, 10)
    record = nrc.Monitor(model, [(X, X)]).step()
    with torch.no_grad():
        expected = float((model(X) - X).square().sum(dim=1).mean())
    assert record is not None
    assert record.mse == pytest.approx(expected, rel=1e-6)
    assert record.nrc1 == record.nrc2 == 0.0


def test_a_report_of_a_wide_head_is_drawn() -> None:
    pytest.importorskip("matplotlib").use("agg")
    figure = nrc.measure(*draw(3, 8)).plot()
    axes = figure.axes
    lines = [line.get_xdata()[0] for line in axes[0].get_lines() if line.get_label() == "n = 8"]
    assert lines == [3]
    assert axes[1].get_title().startswith("first 3 components")
    figure.clear()
