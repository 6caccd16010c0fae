from __future__ import annotations

import json
import math
import pickle
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nrc_fast.base import linalg
from nrc_fast.metrics.spectra import explained_variance_ratio
from nrc_fast.metrics.targets import linear_cka
from nrc_fast.testing import ufm_optimum
from nrc_fast.ufm import closed_form, predicted_spectrum

EPS = float(np.finfo(np.float64).eps)


def covariance_with(eigenvalues: list[float], seed: int) -> Any:
    n = len(eigenvalues)
    basis = linalg.orthonormalize(np.random.default_rng(seed).standard_normal((n, n)))
    return (basis * np.array(eigenvalues)) @ basis.T


SPECTRA = [[1.3, 0.4], [2.0, 0.7, 0.1], [3.0, 1.0, 0.6, 0.2, 0.05], [1.0, 0.5, 0.0]]


@pytest.mark.parametrize("eigenvalues", SPECTRA)
@pytest.mark.parametrize("c", [0.01, 0.15, 0.65, 1.1])  # below, between and, for some spectra, above all
def test_prediction_is_what_a_drawn_minimum_shows(eigenvalues: list[float], c: float) -> None:
    n = len(eigenvalues)
    covariance = covariance_with(eigenvalues, seed=n)
    lambda_W = 0.3
    features, weights, bias, targets = ufm_optimum(covariance, 9, lambda_W, c / lambda_W, seed=1)
    rows = len(targets)
    prediction = predicted_spectrum(covariance, c)

    # Roots of eigenvalues of the drawn targets are off by some n eps lambda_1 / sqrt(lambda_j); where c lies
    # above the smallest one only those above c enter.
    tolerance = 16 * n * EPS * eigenvalues[0] / math.sqrt(min([x for x in eigenvalues if x > c] or [c]))
    assert prediction.c == c
    assert prediction.rank == sum(value > c for value in eigenvalues)
    singular_values = np.linalg.svd(weights, compute_uv=False)
    assert prediction.rank == np.sum(singular_values > 1e-6 * max(singular_values[0], 1.0))
    errors = features @ weights.T + bias - targets
    np.testing.assert_allclose(prediction.residual_covariance, errors.T @ errors / rows, rtol=0, atol=4 * tolerance)
    assert prediction.mse == pytest.approx(np.sum(errors**2) / rows, rel=0, abs=4 * n * tolerance)
    assert prediction.r2 == pytest.approx(1 - prediction.mse / sum(eigenvalues), rel=0, abs=tolerance)

    if prediction.rank == 0:
        assert not features.any()
        return
    gram = weights @ weights.T
    scale = tolerance / sum(max(math.sqrt(x) - math.sqrt(c), 0.0) for x in eigenvalues)  # relative to sum a
    np.testing.assert_allclose(prediction.head_gram_shape, gram / np.linalg.norm(gram), rtol=0, atol=8 * n * scale)
    centered, deviations = features - features.mean(axis=0), targets - targets.mean(axis=0)
    spectrum, _ = linalg.eigh_descending(centered.T @ centered / rows)
    shares = explained_variance_ratio(spectrum)
    np.testing.assert_allclose(shares[:n], prediction.explained_variance_ratio, rtol=0, atol=8 * n * scale)
    np.testing.assert_allclose(shares[n:], 0.0, rtol=0, atol=9 * EPS)
    cka = linear_cka(centered.T @ centered / rows, deviations.T @ deviations / rows, centered.T @ deviations / rows)
    assert prediction.cka == pytest.approx(cka, rel=0, abs=16 * n * scale)


def test_spectra_of_a_diagonal_covariance_are_the_formulas() -> None:
    prediction = predicted_spectrum(np.diag([9.0, 4.0, 0.25]), 1.0)
    assert prediction.rank == 2
    assert prediction.mse == 2.25
    assert prediction.r2 == pytest.approx(1 - 2.25 / 13.25, rel=2 * EPS)
    np.testing.assert_allclose(prediction.explained_variance_ratio, [2 / 3, 1 / 3, 0.0], rtol=2 * EPS)
    assert prediction.cka == pytest.approx((9 * 2 + 4) / math.sqrt((81 + 16 + 0.0625) * 5), rel=8 * EPS)
    np.testing.assert_allclose(
        prediction.head_gram_shape, np.diag([2.0, 1.0, 0.0]) / math.sqrt(5), rtol=2 * EPS, atol=0
    )
    assert np.array_equal(prediction.residual_covariance, np.diag([1.0, 1.0, 0.25]))


def test_cosine_of_two_rows_of_the_head() -> None:
    a, b, k, c = 1.3, 0.5, -0.4, 0.01
    gram = predicted_spectrum(np.array([[a, k], [k, b]]), c).head_gram_shape
    cosine = gram[0, 1] / math.sqrt(gram[0, 0] * gram[1, 1])
    delta = math.sqrt(a * b - k**2)
    s = math.sqrt(a + b + 2 * delta)
    closed = k / math.sqrt((a + delta - s * math.sqrt(c)) * (b + delta - s * math.sqrt(c)))
    # The root is off by 8 eps (tests of linalg) and its smaller diagonal entry is about 0.56.
    assert cosine == pytest.approx(closed, rel=32 * EPS)
    assert cosine == pytest.approx(-0.29332840654672687, rel=32 * EPS)


def test_cka_stays_below_one_for_anisotropic_targets() -> None:
    # sum lambda a / sqrt(sum lambda^2 sum a^2) = 1.125 / sqrt(1.0625 * 1.25) for a = sqrt(lambda) = (1, 1/2).
    limit = predicted_spectrum(np.diag([1.0, 0.25]), 0.0)
    assert limit.cka == pytest.approx(1.125 / math.sqrt(1.0625 * 1.25), rel=8 * EPS)
    assert limit.cka == pytest.approx(0.976, abs=5e-4)
    assert predicted_spectrum(0.7 * np.eye(3), 0.1).cka == pytest.approx(1.0, rel=8 * EPS)


def test_without_penalties_nothing_is_lost() -> None:
    covariance = covariance_with([2.0, 0.5, 0.1], seed=3)
    prediction = predicted_spectrum(covariance, 0.0)
    assert (prediction.rank, prediction.mse, prediction.r2) == (3, 0.0, 1.0)
    assert not prediction.residual_covariance.any()
    root = linalg.positive_sqrt(covariance)
    expected = root / np.linalg.norm(root)
    # The same eigenvectors give both: only products of three factors are rounded differently.
    np.testing.assert_allclose(prediction.head_gram_shape, expected, rtol=0, atol=8 * EPS)


def test_a_direction_without_variance_is_never_counted() -> None:
    one_hot = np.eye(4) / 4 - np.full((4, 4), 1 / 16)
    prediction = predicted_spectrum(one_hot, 0.0)
    assert prediction.rank == 3
    np.testing.assert_allclose(prediction.explained_variance_ratio, [1 / 3, 1 / 3, 1 / 3, 0.0], rtol=16 * EPS)
    simplex = (np.eye(4) - 0.25) / math.sqrt(3)  # the equiangular frame of neural collapse
    np.testing.assert_allclose(prediction.head_gram_shape, simplex, rtol=0, atol=16 * EPS)


@pytest.mark.parametrize("c", [1.0, 5.0, math.inf])
def test_heavy_penalties_leave_the_mean(c: float) -> None:
    covariance = np.diag([1.0, 0.5])
    prediction = predicted_spectrum(covariance, c)
    assert (prediction.rank, prediction.mse, prediction.r2) == (0, 1.5, 0.0)
    assert math.isnan(prediction.cka)
    assert np.isnan(prediction.explained_variance_ratio).tolist() == [True, True]
    assert not prediction.head_gram_shape.any()
    assert np.array_equal(prediction.residual_covariance, covariance)


def test_targets_without_variance() -> None:
    prediction = predicted_spectrum(np.zeros((2, 2)), 0.1)
    assert (prediction.rank, prediction.mse) == (0, 0.0)
    assert math.isnan(prediction.r2)
    assert math.isnan(prediction.cka)


def test_one_output() -> None:
    prediction = predicted_spectrum(np.array([[4.0]]), 1.0)
    assert (prediction.rank, prediction.mse, prediction.r2, prediction.cka) == (1, 1.0, 0.75, 1.0)
    assert prediction.head_gram_shape.tolist() == [[1.0]]


@pytest.mark.parametrize("c", [-1e-300, -1.0, math.nan])
def test_a_c_below_zero_is_refused(c: float) -> None:
    with pytest.raises(ValueError, match="at least 0"):
        predicted_spectrum(np.eye(2), c)


@given(st.integers(0, 2**32 - 1), st.integers(1, 6), st.floats(0.0, 3.0))
def test_one_model_for_all_outputs_beats_one_for_each(seed: int, n: int, c: float) -> None:
    rng = np.random.default_rng(seed)
    covariance = covariance_with(rng.uniform(0.0, 2.0, n).tolist(), seed)
    together = predicted_spectrum(covariance, c).mse
    apart = sum(predicted_spectrum(np.array([[variance]]), c).mse for variance in np.diagonal(covariance))
    # Schur and Horn: the diagonal is majorised by the spectrum. n eigenvalues <= 2 are off by 8 n eps each.
    assert together <= apart + 8 * n**2 * EPS * 2.0


@given(st.integers(0, 2**32 - 1), st.integers(1, 6), st.floats(0.0, 3.0))
def test_whitened_targets_map_back_to_an_error_of_c_times_the_variance(seed: int, n: int, c: float) -> None:
    covariance = covariance_with(np.random.default_rng(seed).uniform(0.1, 2.0, n).tolist(), seed)
    root = linalg.positive_sqrt(covariance)
    white = predicted_spectrum(np.eye(n), c).residual_covariance
    mapped = np.trace(root @ white @ root)
    # Hypothesis tries c below the normal range too, where digits are lost.
    smallest = float(np.finfo(np.float64).tiny)
    assert mapped == pytest.approx(min(1.0, c) * np.trace(covariance), rel=16 * n * EPS, abs=smallest)


def test_plain_numbers_survive_json() -> None:
    prediction = predicted_spectrum(covariance_with([2.0, 0.5], seed=7), 0.1)
    plain = json.loads(json.dumps(prediction.to_dict()))
    assert list(plain) == [
        "c",
        "rank",
        "mse",
        "r2",
        "explained_variance_ratio",
        "cka",
        "head_gram_shape",
        "residual_covariance",
        "bounds",
    ]
    bounds = plain.pop("bounds")
    assert bounds.keys() == prediction.bounds.keys() == plain.keys() - {"c"}
    for name, value in plain.items():
        assert np.array_equal(getattr(prediction, name), value)
        assert name == "c" or np.array_equal(prediction.bounds[name], bounds[name])


def test_text_names_the_numbers() -> None:
    expected = "the UFM at c = 1: rank 1 of 2, MSE 2 (summed over outputs), R2 0.6, CKA 0.970143"
    assert repr(predicted_spectrum(np.diag([4.0, 1.0]), 1.0)) == expected


def test_bounds_of_a_prediction_are_made_when_they_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    made, compute = [], closed_form.prediction_bounds
    monkeypatch.setattr(closed_form, "prediction_bounds", lambda *found: made.append(1) or compute(*found))
    prediction = predicted_spectrum(np.diag([4.0, 1.0]), 0.25)
    assert not made
    stored = pickle.loads(pickle.dumps(prediction))
    assert type(stored.bounds) is dict
    assert 0.0 < stored.bounds["mse"] < 1e-14
    assert json.loads(json.dumps(prediction.to_dict()))["bounds"]["mse"] == stored.bounds["mse"]
    assert made == [1]
