"""What cannot be measured says what was given, what is expected and what to do; nothing is guessed."""

from __future__ import annotations

import math
import re
from typing import Any

import numpy as np
import pytest
import torch

import nrc_fast as nrc
from nrc_fast.base.options import as_integer
from nrc_fast.metrics import residuals

rng = np.random.default_rng(0)
H, Y, W = rng.standard_normal((50, 6)), rng.standard_normal((50, 2)), rng.standard_normal((2, 6))
SIGMA = np.array([[2.0, 0.5], [0.5, 1.0]])


@pytest.mark.parametrize(
    ("features", "error", "words"),
    [
        pytest.param(H[0], ValueError, r"H has shape \(6,\); a matrix with one row per sample", id="vector"),
        pytest.param(H[None], ValueError, r"H has shape \(1, 50, 6\)", id="three dimensions"),
        pytest.param(H[:0], ValueError, r"H has shape \(0, 6\): no samples", id="no rows"),
        pytest.param(H[:, :0], ValueError, r"H has shape \(50, 0\): rows without values", id="no columns"),
        pytest.param(H.astype(np.int64), TypeError, "H has dtype int64; float64, float32", id="integers"),
        pytest.param(H.astype(complex), TypeError, "H has dtype complex128", id="complex"),
        pytest.param(H > 0, TypeError, "H has dtype bool", id="booleans"),
        pytest.param(H.astype(object), TypeError, "H has dtype object", id="objects"),
        pytest.param(np.ma.masked_less(H, 0), TypeError, "masked", id="masked"),
        pytest.param([[1.0], [1.0, 2.0]], TypeError, "cannot read as an array", id="ragged"),
        pytest.param("absent.npy", OSError, r"there is no file absent\.npy", id="absent file"),
        pytest.param("features.txt", OSError, "there is no file", id="text"),
        pytest.param(torch.ones(4, 2, dtype=torch.int32), TypeError, "H has dtype int32", id="integer tensor"),
        pytest.param(torch.ones(4, 2).to_sparse(), TypeError, "to_dense", id="sparse tensor"),
        pytest.param(torch.ones(4, 2, device="meta"), RuntimeError, "H lies on meta", id="tensor elsewhere"),
        pytest.param(1e200 * H, ValueError, "H is so large.*divide it by a constant", id="too large"),
        pytest.param(1e-200 * H, ValueError, "H is so small.*multiply it by a constant", id="too small"),
    ],
)
def test_features(features: Any, error: type[Exception], words: str) -> None:
    for call in (lambda: nrc.nrc1(features, 1), lambda: nrc.measure(features, n=1)):
        with pytest.raises(error, match=words):
            call()


@pytest.mark.parametrize(("value", "reason"), [(0.0, "All rows are zero"), (0.1, "The features do not vary")])
def test_features_without_variance_say_so(value: float, reason: str) -> None:
    for rows in (np.full((9, 4), value), np.full((9, 4), value, dtype=np.float32)):
        for report in (nrc.measure(rows, n=2), nrc.FeatureStatistics(4).update(rows).report(n=2)):
            assert np.isnan([report.stable_rank, report.effective_rank, *report.explained_variance_ratio]).all()
            assert sum(note.startswith(f"{reason}: they have no components") for note in report.notes) == 1
    assert not any("no components" in note for note in nrc.measure(H, n=2).notes)


def test_a_layer_is_not_its_weight() -> None:
    with pytest.raises(TypeError, match=r"W is a Linear, a layer; give its weights \(W.weight\)"):
        nrc.nrc2(H, torch.nn.Linear(6, 2))


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("dtype", ["float64", "float32", "float16"])
def test_rows_that_are_not_finite_are_counted_and_named(dtype: str, value: float) -> None:
    bad = H.astype(dtype)
    bad[[7, 30], [5, 0]] = value
    for call in (
        lambda: nrc.nrc1(bad, 2),
        lambda: nrc.nrc1(bad, None),
        lambda: nrc.nrc2(bad, W),
        lambda: nrc.measure(bad, Y, W),
    ):
        with pytest.raises(ValueError, match=r"H: 2 of 50 rows .* first is row 7; .*nonfinite='skip'"):
            call()
    targets = Y.astype(dtype)
    targets[11, 1] = value
    with pytest.raises(ValueError, match=r"Y: 1 of 50 rows .* first is row 11"):
        nrc.measure(H, targets)
    with pytest.raises(ValueError, match="all 50 rows"):
        nrc.nrc1(np.full((50, 6), value, dtype), 2, nonfinite="skip")


@pytest.mark.parametrize(
    ("n", "error", "words"),
    [
        (0, ValueError, "between 1 and d = 6"),
        (-1, ValueError, "between 1 and d = 6"),
        (7, ValueError, "between 1 and d = 6"),
        ([1, 7], ValueError, "between 1 and d = 6"),
        ([], TypeError, "whole number"),
        (2.0, TypeError, "whole number"),
        ("2", TypeError, "whole number"),
        ([[1, 2]], TypeError, "whole number"),
    ],
)
def test_number_of_components(n: Any, error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        nrc.nrc1(H, n)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        pytest.param({"Y": Y[:40]}, "H has 50 rows and Y has 40", id="Y too short"),
        pytest.param({"W": W[:, :5], "Y": Y}, r"W has shape \(2, 5\) and H has 6 features", id="W of other width"),
        pytest.param({"W": W[:1], "Y": Y}, "the rows of W: 1, the columns of Y: 2", id="W and Y differ"),
        pytest.param({"W": W, "n": 3}, "n: 3, the rows of W: 2", id="n and W differ"),
        pytest.param({}, "n is not known", id="no n"),
        pytest.param({"n": 7}, "between 1 and d = 6", id="n too large"),
        pytest.param({"n": 2, "b": np.zeros(2)}, "b was given without W", id="b without W"),
        pytest.param({"W": W, "b": np.zeros(3)}, "b has 3 values", id="b too long"),
        pytest.param({"W": np.full((2, 6), np.nan)}, "W has 12 values that are not finite", id="W not finite"),
        pytest.param(
            {"n": 2, "convention": "nrc"}, "unknown convention 'nrc'; the known ones are nrc24", id="convention"
        ),
        pytest.param({"n": 2, "precision": "low"}, "precision is 'low'", id="precision"),
        pytest.param({"n": 2, "rtol": 0.0}, "rtol is 0.0", id="rtol 0"),
        pytest.param({"n": 2, "rtol": np.nan}, "rtol is nan", id="rtol NaN"),
        pytest.param({"Y": 1e160 * Y}, "Y is so large", id="Y too large"),
        pytest.param({"Y": 1e-170 * Y}, "Y is so small", id="Y too small"),
        pytest.param({"n": 2, "nonfinite": "drop"}, "nonfinite is 'drop'", id="nonfinite"),
    ],
)
def test_arguments_of_measure(arguments: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        nrc.measure(H, **arguments)


@pytest.mark.parametrize("device", ["cuda:977", "tpu", torch.device("cuda", 97)], ids=str)
def test_a_device_that_cannot_be_used_is_refused(device: Any) -> None:
    for call in (
        lambda: nrc.nrc1(H, 2, device=device),
        lambda: nrc.nrc2(H, W, device=device),
        lambda: nrc.measure(H, Y, W, device=device),
    ):
        with pytest.raises(RuntimeError, match=r"cannot be used.*(cpu|CPU)"):
            call()
    assert nrc.nrc1(H, 2, device="cpu") == nrc.nrc1(H, 2)


@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        pytest.param({}, ValueError, "either the targets Y or their covariance", id="neither"),
        pytest.param({"Y": Y, "covariance": SIGMA}, ValueError, "either the targets Y or", id="both"),
        pytest.param({"Y": Y[:, :1]}, ValueError, "W has 2 rows and Y has 1 columns", id="Y of other width"),
        pytest.param({"Y": Y[:0]}, ValueError, "no samples", id="no targets"),
        pytest.param({"covariance": np.eye(3)}, ValueError, r"covariance has shape \(3, 3\)", id="size"),
        pytest.param({"covariance": SIGMA + np.triu(SIGMA, 1)}, ValueError, "not symmetric", id="not symmetric"),
        pytest.param({"covariance": -SIGMA}, ValueError, "negative eigenvalue", id="negative"),
        pytest.param({"Y": Y.astype(int)}, TypeError, "Y has dtype int64", id="integers"),
        pytest.param(
            {"covariance": SIGMA, "gamma": 0.9}, ValueError, r"must lie in \[0, lambda_min\]", id="gamma large"
        ),
        pytest.param(
            {"covariance": SIGMA, "gamma": -0.1}, ValueError, r"must lie in \[0, lambda_min\]", id="gamma < 0"
        ),
        pytest.param({"covariance": SIGMA, "gamma": np.nan}, ValueError, "gamma is nan", id="gamma NaN"),
        pytest.param({"covariance": SIGMA, "gamma": "0.1"}, TypeError, "gamma is '0.1'", id="gamma text"),
    ],
)
def test_arguments_of_nrc3(arguments: dict[str, Any], error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        nrc.nrc3(W, **arguments)


def test_not_finite_targets_are_named() -> None:
    targets = Y.copy()
    targets[4, 0] = np.inf
    with pytest.raises(ValueError, match=r"Y: 1 of 50 rows .* first is row 4"):
        nrc.nrc3(W, targets)


def test_lambda_min_itself_is_allowed_as_gamma() -> None:
    smallest = np.linalg.eigvalsh(SIGMA)[0]
    assert nrc.nrc3(W, covariance=SIGMA, gamma=np.nextafter(smallest, 1.0)) == nrc.nrc3(
        W, covariance=SIGMA, gamma=smallest
    )


def test_other_types_are_named() -> None:
    with pytest.raises(TypeError, match=r"gammas is 0\.1"):
        nrc.nrc3_curve(W, Y, 0.1)
    with pytest.raises(TypeError, match="penalties is a int"):
        nrc.measure(H, Y, W, penalties=3)
    with pytest.raises(TypeError, match="without memory of its own"):
        nrc.nrc1(torch._efficientzerotensor((50, 4)), 2)


def test_squares_out_of_range_are_refused_by_nrc2() -> None:
    for factor in (1e160, 1e-170):
        for convention in ("raw", "variance"):
            with pytest.raises(ValueError, match="range of float64"):
                nrc.nrc2(factor * H, W, convention=convention)
        assert nrc.nrc2(factor * H, W) == pytest.approx(nrc.nrc2(H, W), rel=1e-12)


def test_small_rows_among_ordinary_ones_are_no_reason_to_refuse() -> None:
    mixed = np.vstack([np.zeros((1024, 6)), H])
    mixed[3, 3] = 1e-200
    assert nrc.nrc1(mixed, 2, convention="raw") == pytest.approx(nrc.nrc1(H, 2, convention="raw") * 50 / 1074, rel=0.5)


def test_squares_of_squares_may_overflow_without_a_warning() -> None:
    rng = np.random.default_rng(5)
    H = rng.standard_normal((400, 6))
    W = rng.standard_normal((2, 6))
    for convention in nrc.CONVENTIONS:
        plain, large = (
            nrc.measure(rows, rows @ W.T, W, np.zeros(2), convention=convention) for rows in (H, H * 2.0**246)
        )
        assert large.nrc3 == pytest.approx(plain.nrc3, rel=1e-9)
        assert math.isfinite(large.bounds["linear_mse"])
    assert residuals.trace_bound(1e200, 1e200, 1e-8, 0.0) == pytest.approx(2e192, rel=1e-6)


def test_whole_numbers_of_any_kind() -> None:
    assert [as_integer(value, "d") for value in (3, np.int8(-3), np.uint64(3))] == [3, -3, 3]
    wrong: list[Any] = [True, np.True_, 3.0, "3", None, [3]]
    for value in wrong:
        with pytest.raises(TypeError, match=re.escape(f"d is {value!r}; a whole number is expected")):
            as_integer(value, "d")
    with pytest.raises(ValueError, match="d is 0; a whole number from 1 on is expected"):
        as_integer(0, "d", least=1)
