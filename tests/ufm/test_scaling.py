"""Penalties of training losses: the gradient of each loss is the paper's, up to one factor."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import nrc_fast as nrc
from nrc_fast.ufm.scaling import LOSSES

EPS = float(np.finfo(np.float64).eps)


def terms(loss: str, errors: Any, weights: Any, features: Any) -> tuple[float, float, float]:
    """The error, weight and feature term of a loss with decays of 1, written as the training code writes them."""
    mse, squares = float(np.mean(errors**2)), float(np.sum(errors**2))
    w, h, samples = float(np.sum(weights**2)), float(np.sum(features**2)), len(errors)
    return {
        "paper": (squares / (2 * samples), w / 2, h / (2 * samples)),
        "id25": (squares / (2 * samples), w / 2, h / 2),
        "torch_mse": (mse, w / 2, h / (2 * samples)),
        "torch_mse_sum": (squares, w / 2, h / 2),
        "half_mse": (mse / 2, w / 2, h / (2 * samples)),
        "half_sum": (squares / 2, w / 2, h / 2),
        "mse_and_norms": (mse, w, h / samples),
    }[loss]


@pytest.mark.parametrize("loss", list(LOSSES))
@pytest.mark.parametrize("n", [1, 2, 7])
def test_the_paper_s_loss_is_a_multiple_of_the_training_loss(loss: str, n: int) -> None:
    rng = np.random.default_rng(n)
    errors, weights, features = (rng.standard_normal(shape) for shape in ((11, n), (n, 5), (11, 5)))
    found = nrc.ufm.penalties(0.3, feature_decay=0.07, loss=loss, n=n, samples=11)
    coded = np.array(terms(loss, errors, weights, features)) * [1.0, 0.3, 0.07]
    paper = np.array(terms("paper", errors, weights, features)) * [1.0, found.lambda_W, found.lambda_H]
    # The three terms stand in the same proportions; sums of at most 77 squares, in two orders.
    np.testing.assert_allclose(paper / paper[0], coded / coded[0], rtol=128 * EPS)
    assert found.c == found.lambda_W * found.lambda_H


@given(st.sampled_from(list(LOSSES)), st.integers(1, 9), st.integers(1, 1000), st.floats(0, 10), st.floats(0, 10))
def test_there_and_back(loss: str, n: int, samples: int, weight: float, feature: float) -> None:
    there = nrc.ufm.penalties(weight, feature_decay=feature, loss=loss, n=n, samples=samples)
    back = there.decays(loss, n=n, samples=samples)
    tiny = 1e3 * 5e-324  # digits of subnormal numbers are lost
    assert back.weight_decay == pytest.approx(weight, rel=2 * EPS, abs=tiny)
    assert back.feature_decay == pytest.approx(feature, rel=2 * EPS, abs=tiny)


def test_weight_decay_alone_leaves_c_open() -> None:
    found = nrc.ufm.penalties(weight_decay=5e-4, loss="torch_mse", n=2)
    assert found.lambda_W == 5e-4
    assert math.isnan(found.lambda_H)
    assert math.isnan(found.c)
    assert math.isnan(found.decays("torch_mse", n=2).feature_decay)


def test_arrays_broadcast() -> None:
    found = nrc.ufm.penalties(np.array([[0.1], [0.2]]), feature_decay=[1.0, 2.0, 3.0], loss="half_mse", n=3)
    assert found.c.shape == (2, 3)
    assert found.c[1, 2] == pytest.approx(9 * 0.2 * 3.0, rel=4 * EPS)
    assert str(found) == "lambda_W = 0.3 to 0.6, lambda_H = 3 to 9, c = 0.9 to 5.4"
    assert repr(found) == f"<Penalties {found}>"
    unknown = str(nrc.ufm.penalties(1e-3, n=2))
    assert unknown.startswith("lambda_W = 0.001, lambda_H = nan, c = nan: without feature_decay nothing says how")


@pytest.mark.parametrize(
    ("arguments", "keywords", "message"),
    [
        ((-1.0,), {"n": 2}, "weight_decay must be at least 0"),
        ((math.nan,), {"n": 2}, "not finite"),
        ((math.inf,), {"n": 2}, "not finite"),
        ((0.1,), {"n": 2, "feature_decay": -0.1}, "feature_decay must be at least 0"),
        (([0.1, 0.2],), {"n": 2, "feature_decay": [0.1, 0.2, 0.3]}, "do not broadcast"),
        ((0.1,), {}, "depends on n; give n="),
        ((0.1,), {"loss": "half_sum"}, "depends on samples; give samples="),
        ((0.1,), {"n": 0}, "n must be at least 1"),
        ((0.1,), {"n": 2, "loss": "mae"}, "'torch_mse'"),
    ],
)
def test_what_cannot_be_is_refused(arguments: Any, keywords: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        nrc.ufm.penalties(*arguments, **keywords)


def test_what_is_no_number_is_refused() -> None:
    with pytest.raises(TypeError, match="real numbers"):
        nrc.ufm.penalties("much", n=2)


# ---- the report ----


def test_the_report_takes_c_from_the_penalties() -> None:
    rng = np.random.default_rng(0)
    targets = rng.standard_normal((200, 2))
    rows = (rng.standard_normal((200, 5)), targets, rng.standard_normal((2, 5)), np.zeros(2))
    known = nrc.measure(*rows, penalties=nrc.ufm.penalties(0.1, feature_decay=0.2, n=2))
    assert known.ufm is not None
    assert known.ufm.c == pytest.approx(0.02, rel=4 * EPS)
    unknown = nrc.measure(*rows, penalties=nrc.ufm.penalties(0.1, n=2))
    assert unknown.ufm is not None
    assert unknown.ufm.c == unknown.gamma
    assert any("feature_decay" in note for note in unknown.notes)
    assert not any("feature_decay" in note for note in known.notes)
    with pytest.raises(ValueError, match="one c is expected"):
        nrc.measure(*rows, penalties=nrc.ufm.penalties([0.1, 0.2], feature_decay=0.2, n=2))
