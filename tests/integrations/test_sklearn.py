"""The scikit-learn estimator: numbers of the references, scikit-learn's own checks, pipelines and searches."""

from __future__ import annotations

import importlib.util
import pickle
from typing import Any

import numpy as np
import pytest

import nrc_fast as nrc
from nrc_fast.integrations import sklearn as integration
from nrc_fast.testing import reference_nrc1, reference_nrc2, reference_nrc3, reference_nrc3_gamma

base = pytest.importorskip("sklearn.base")
checks = pytest.importorskip("sklearn.utils.estimator_checks")
PCA = pytest.importorskip("sklearn.decomposition").PCA
NotFittedError = pytest.importorskip("sklearn.exceptions").NotFittedError
LinearRegression = pytest.importorskip("sklearn.linear_model").LinearRegression
GridSearchCV = pytest.importorskip("sklearn.model_selection").GridSearchCV
make_pipeline = pytest.importorskip("sklearn.pipeline").make_pipeline
NRCEstimator = integration.NRCEstimator


@pytest.fixture
def rows() -> tuple[Any, Any, Any, Any]:
    """H, Y, W and b: features with a mean, that lie mostly near two directions."""
    rng = np.random.default_rng(0)
    Y = rng.standard_normal((400, 2)) @ np.array([[1.0, 0.3], [0.0, 0.5]])
    H = Y @ rng.standard_normal((2, 8)) + 0.1 * rng.standard_normal((400, 8)) + rng.standard_normal(8)
    return H, Y, rng.standard_normal((2, 8)), rng.standard_normal(2)


ESTIMATORS = [NRCEstimator(), NRCEstimator(n=1, convention="variance", precision="highest")]


@pytest.mark.parametrize(
    ("estimator", "check"),
    [pair for estimator in ESTIMATORS for pair in checks.estimator_checks_generator(estimator)],
    ids=lambda part: part.func.__name__ if hasattr(part, "func") else type(part).__name__,
)
def test_checks_of_scikit_learn(estimator: Any, check: Any) -> None:
    check(estimator)


@pytest.mark.parametrize("convention", list(nrc.CONVENTIONS))
def test_fit_gives_the_numbers_of_the_references(rows: Any, convention: str) -> None:
    H, Y, W, b = rows
    found = NRCEstimator(W=W, b=b, convention=convention).fit(H, Y)
    assert found.nrc1_ == pytest.approx(reference_nrc1(H, 2, convention), rel=1e-11)
    assert found.nrc2_ == pytest.approx(reference_nrc2(H, W, convention), rel=1e-11)
    assert found.nrc3_ == pytest.approx(reference_nrc3(W, Y), rel=1e-9)
    assert found.gamma_ == pytest.approx(reference_nrc3_gamma(W, Y), rel=1e-9, abs=1e-12)
    report = nrc.measure(H, Y, W, b, convention=convention)
    assert found.report_.to_dict() == report.to_dict()
    assert found.score(H) == pytest.approx(-found.nrc1_, rel=1e-11)
    assert found.n_samples_seen_ == len(H)


def test_score_is_the_residual_of_new_rows_outside_the_fitted_components(rows: Any) -> None:
    H = rows[0]
    fitted = NRCEstimator(2).fit(H[:200])
    assert fitted.score(H[200:]) == pytest.approx(-reference_nrc2(H[200:], fitted.components_), rel=1e-11)
    assert fitted.score(H[200:]) != pytest.approx(-reference_nrc1(H[200:], 2), rel=1e-3)


def test_transform_is_that_of_pca(rows: Any) -> None:
    H, Y, _, _ = rows
    ours, theirs = NRCEstimator().fit(H, Y), PCA(2).fit(H)
    signs = np.sign(np.sum(ours.components_ * theirs.components_, axis=1))
    assert ours.components_ == pytest.approx(signs[:, None] * theirs.components_, abs=1e-12)
    assert ours.transform(H) == pytest.approx(signs * theirs.transform(H), abs=1e-12)
    assert ours.mean_ == pytest.approx(theirs.mean_, abs=1e-13)
    assert ours.explained_variance_ratio_ == pytest.approx(theirs.explained_variance_ratio_, rel=1e-12)


def test_output_can_be_a_data_frame(rows: Any) -> None:
    fitted = NRCEstimator(2).fit(rows[0])
    names = ["nrcestimator0", "nrcestimator1"]
    assert list(fitted.get_feature_names_out()) == names
    fitted.set_output(transform="pandas")
    if importlib.util.find_spec("pandas") is None:
        with pytest.raises(ImportError, match="pandas"):
            fitted.transform(rows[0])
    else:
        assert list(fitted.transform(rows[0]).columns) == names


def test_transform_of_uncentered_components_subtracts_nothing(rows: Any) -> None:
    H = rows[0]
    fitted = NRCEstimator(3, convention="uncentered").fit(H)
    leading = np.linalg.svd(H, full_matrices=False)[2][:3]
    signs = np.sign(np.sum(fitted.components_ * leading, axis=1))
    assert fitted.transform(H) == pytest.approx(signs * (H @ leading.T), abs=1e-11)


@pytest.mark.parametrize("dtype", [np.float32, np.float16, np.int64])
def test_dtypes(rows: Any, dtype: Any) -> None:
    H = (10.0 * rows[0]).astype(dtype)
    fitted = NRCEstimator(2, precision="highest").fit(H)
    # int64 becomes float64; the others are measured as they are.
    assert fitted.report_.dtype == ("float64" if dtype is np.int64 else np.dtype(dtype).name)
    assert fitted.nrc1_ == pytest.approx(reference_nrc1(H.astype(np.float64), 2), rel=1e-5)


def test_partial_fit_is_fit_in_parts(rows: Any) -> None:
    H, Y, W, b = rows
    whole, parts = NRCEstimator(W=W, b=b).fit(H, Y), NRCEstimator(W=W, b=b)
    for first in range(0, 400, 100):
        parts.partial_fit(H[first : first + 100], Y[first : first + 100])
    assert parts.n_samples_seen_ == 400
    for name in ("nrc1_", "nrc2_", "nrc3_"):
        assert getattr(parts, name) == pytest.approx(getattr(whole, name), rel=1e-10), name
    assert parts.transform(H) == pytest.approx(whole.transform(H), abs=1e-11)
    # After a fit batches are added to its rows; a fit begins anew.
    continued = NRCEstimator(W=W, b=b).fit(H[:300], Y[:300]).partial_fit(H[300:], Y[300:])
    assert continued.n_samples_seen_ == 400
    assert continued.nrc1_ == pytest.approx(whole.nrc1_, rel=1e-10)
    assert continued.fit(H[:100], Y[:100]).nrc1_ == pytest.approx(reference_nrc1(H[:100], 2), rel=1e-11)


def test_parameters_of_a_fit_hold_until_the_next(rows: Any) -> None:
    H, Y, _, _ = rows
    fitted = NRCEstimator().partial_fit(H, Y).set_params(convention="variance")
    assert fitted.report_.convention == "nrc24"
    assert fitted.score(H) == pytest.approx(-reference_nrc1(H, 2), rel=1e-10)
    assert fitted.fit(H, Y).nrc1_ == pytest.approx(reference_nrc1(H, 2, "variance"), rel=1e-11)


def test_in_pipelines_and_searches(rows: Any) -> None:
    H, Y, W, _ = rows
    plain = make_pipeline(PCA(2), LinearRegression()).fit(H, Y)
    ours = make_pipeline(NRCEstimator(), LinearRegression()).fit(H, Y)
    assert ours.predict(H) == pytest.approx(plain.predict(H), abs=1e-10)
    search = GridSearchCV(NRCEstimator(), {"n": [1, 2, 4]}, cv=2).fit(H)
    assert search.best_params_ == {"n": 4}  # more components leave less outside
    halves = [(H[200:], H[:200]), (H[:200], H[200:])]
    expected = [-reference_nrc2(test, PCA(4).fit(train).components_) for train, test in halves]
    assert search.best_score_ == pytest.approx(np.mean(expected), rel=1e-9)
    copy = base.clone(NRCEstimator(W=W, convention="raw"))
    assert np.array_equal(copy.get_params()["W"], W)
    assert copy.get_params()["convention"] == "raw"
    fitted = copy.fit(H, Y)
    assert pickle.loads(pickle.dumps(fitted)).transform(H) == pytest.approx(fitted.transform(H), abs=0.0)


def test_rows_that_are_not_finite(rows: Any) -> None:
    H, Y, _, _ = rows
    broken = H.copy()
    broken[7, 3] = np.nan
    with pytest.raises(ValueError, match=r"NaN or infinite.*row 7|row 7.*NaN or infinite"):
        NRCEstimator().fit(broken, Y)
    kept = np.delete(H, 7, axis=0)
    skipping = NRCEstimator(2, nonfinite="skip").fit(broken)
    assert skipping.report_.skipped_rows == 1
    assert skipping.nrc1_ == pytest.approx(reference_nrc1(kept, 2), rel=1e-11)
    assert np.flatnonzero(np.isnan(skipping.transform(broken)).any(axis=1)).tolist() == [7]
    assert skipping.score(broken) == pytest.approx(skipping.score(kept), rel=1e-12)


def test_features_without_variance_have_no_components() -> None:
    fitted = NRCEstimator(2).fit(np.ones((5, 4)))
    assert fitted.components_.shape == (0, 4)
    assert fitted.transform(np.ones((3, 4))).shape == (3, 0)
    assert np.isnan(fitted.score(np.ones((3, 4))))


def test_what_does_not_fit(rows: Any) -> None:
    H, Y, W, _ = rows
    with pytest.raises(ValueError, match="n is not known"):
        NRCEstimator().fit(H)
    with pytest.raises(ValueError, match="the target dimension differs"):
        NRCEstimator(3, W=W).partial_fit(H, Y)
    with pytest.raises(ValueError, match="unknown convention 'nrc'"):
        NRCEstimator(2, convention="nrc").partial_fit(H)
    with pytest.raises(ValueError, match=r"H has 400 rows and Y has 399"):
        NRCEstimator().fit(H, Y[1:])
    with pytest.raises(NotFittedError):
        NRCEstimator(2).nrc1_  # noqa: B018
    fitted = NRCEstimator(W=W).partial_fit(H, Y)
    with pytest.raises(ValueError, match="7 features"):
        fitted.partial_fit(H[:, :7], Y)
    with pytest.raises(ValueError, match=r"targets"):
        fitted.partial_fit(H)
    assert fitted.n_samples_seen_ == 400


def test_all_that_is_asked_for_of_wide_features() -> None:
    H = np.random.default_rng(0).standard_normal((40, 1030)) * np.linspace(1.0, 3.0, 1030)
    whole = nrc.measure(H, n=2, by_k="all", spectrum="full")
    asked = NRCEstimator(2, by_k="all", spectrum="full")
    for fitted in (asked.fit(H), base.clone(asked).partial_fit(H[:30]).partial_fit(H[30:])):
        assert fitted.report_.effective_rank == pytest.approx(whole.effective_rank, rel=1e-9)
        np.testing.assert_allclose(fitted.report_.nrc1_by_k, reference_nrc1(H, range(1, 1031)), rtol=0, atol=1e-12)
    assert np.isnan(NRCEstimator(2).fit(H).report_.effective_rank)
    with pytest.raises(ValueError, match="spectrum is 'whole'"):
        NRCEstimator(2, spectrum="whole").fit(H)
