"""What a reading tells: its moments are read in float64 at most once, and then serve everything that is asked for."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.exact_numbers import ExactNumbers

import nrc_fast as nrc
from nrc_fast.kernels.results import Basis
from nrc_fast.measurement.evidence import Evidence, gathered
from nrc_fast.measurement.layer_conditions import layer_collapse
from nrc_fast.metrics.conventions import CONVENTIONS
from nrc_fast.passes import component_costs
from nrc_fast.passes.balance_sums import LinearModel
from nrc_fast.passes.begin import begin_reading
from nrc_fast.passes.reading import Reading
from nrc_fast.sources.left_over import LeftOver
from nrc_fast.testing import reference_nrc1, reference_residuals

EPSILON = 2.0**-52


@pytest.fixture
def titles(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Titles of the passes that were made, those over what is left of the rows apart."""
    found: list[str] = []
    run = Reading.run

    def recorded(self: Reading, title: str, sums: Any) -> None:
        found.append(f"{title} of what is left" if isinstance(self.source, LeftOver) else title)
        run(self, title, sums)

    monkeypatch.setattr(Reading, "run", recorded)
    return found


def plane(rows: int = 400, d: int = 9, dtype: type = np.float32) -> Any:
    """Rows in a plane up to the rounding of float32: a third component is lost in float32 blocks."""
    rng = np.random.default_rng(0)
    return (rng.standard_normal((rows, 2)) @ rng.standard_normal((2, d)) + 2.0).astype(dtype)


def spread(rows: int = 300, d: int = 6) -> Any:
    return np.random.default_rng(1).standard_normal((rows, d)) * 0.8 ** np.arange(d) + 1.5


# ---- precision is raised once ----


def test_moments_are_read_in_float64_once(titles: list[str]) -> None:
    H = plane()
    evidence = gathered(begin_reading(H))
    assert not evidence.moments.is_double
    evidence.components(2, centered=True)
    assert titles == ["statistics", "refinement"]
    evidence.components(3, centered=True)
    first = evidence.moments.spectrum(centered=True)[0]
    assert evidence.moments.is_double
    assert titles[:3] == ["statistics", "refinement", "statistics"]
    # The third component is rounding of float32, which is no rounding of float64.
    assert set(titles[3:]) == {"residuals", "statistics of what is left"}
    evidence.components(4, centered=True)
    evidence.require_double()
    assert titles.count("statistics") == 2
    np.testing.assert_array_equal(first, evidence.moments.spectrum(centered=True)[0])
    rows = H.astype(np.float64)
    exact = np.linalg.eigvalsh(np.cov(rows.T, bias=True))[::-1]
    assert np.abs(first - exact).max() <= 64 * EPSILON * exact[0]


@pytest.mark.usefixtures("many_rows")
@pytest.mark.parametrize("convention", ["nrc24", "id25", "variance"])
def test_what_was_read_in_float64_serves_every_metric(titles: list[str], convention: str) -> None:
    H = plane()
    Y = H[:, :3].astype(np.float64) @ np.diag([1.0, 2.0, 0.5])
    report = nrc.measure(H, Y, n=3, convention=convention)
    assert titles[:2] == ["statistics", "statistics"]
    assert titles.count("statistics") == 2
    # Bounds of float64 sums; those of float32 blocks are about 1e-5.
    assert max(report.bounds["explained_variance_ratio"]) <= 1e-12
    assert report.bounds["cka"] <= 1e-12
    assert report.bounds["nrc1_by_k"][0] <= 1e-12
    shares = np.linalg.eigvalsh(np.cov(H.T.astype(np.float64), bias=True))[::-1]
    assert np.abs(report.explained_variance_ratio - shares / shares.sum()).max() <= 64 * EPSILON
    assert abs(report.nrc1_by_k[0] - reference_nrc1(H, 1, convention)) <= report.bounds["nrc1_by_k"][0] + 64 * EPSILON


@pytest.mark.usefixtures("many_rows")
def test_saved_statistics_are_of_the_precision_that_was_asked_for(tmp_path: Path, titles: list[str]) -> None:
    H = plane()
    nrc.measure(H, n=3, save_statistics=tmp_path / "saved.npz")
    assert titles.count("statistics") == 2
    saved, plain = nrc.FeatureStatistics.load(tmp_path / "saved.npz"), nrc.FeatureStatistics(9).update(H)
    assert saved.precision == "high"
    assert {name: a.tobytes() for name, a in saved.arrays().items()} == {
        name: a.tobytes() for name, a in plain.moments.arrays().items()
    }


# ---- components and residuals ----


@pytest.mark.parametrize("centered", [True, False])
def test_components_of_features_that_are_not_collapsed(titles: list[str], centered: bool) -> None:
    H = spread()
    evidence = gathered(begin_reading(H))
    basis = evidence.components(3, centered=centered)
    x = H - H.mean(axis=0) if centered else H
    values, vectors = np.linalg.eigh(x.T @ x / len(x))
    assert titles == ["statistics"]
    assert np.abs(evidence.moments.spectrum(centered=centered)[0] - values[::-1]).max() <= 64 * EPSILON * values[-1]
    cosines = np.abs(np.sum(basis.vectors * vectors[:, ::-1].T[:3], axis=1))
    assert np.abs(cosines - 1.0).max() <= 1e-12
    assert np.abs(basis.mean - H.mean(axis=0)).max() <= 8 * EPSILON
    assert not basis.collapsed


def test_residuals_are_those_of_the_rows() -> None:
    H = spread()
    evidence = gathered(begin_reading(H))
    basis = evidence.components(2, centered=True)
    found = evidence.residuals([Basis(basis.vectors, basis.mean)], collapsed=False)
    expected = reference_residuals(H, basis.vectors.T, shift=basis.mean, unit=False).sum()
    assert found.sums[0].raw[-1] == pytest.approx(expected, rel=64 * EPSILON)
    assert found.count == 300


def test_rows_that_have_changed_are_refused() -> None:
    H = spread()
    evidence = gathered(begin_reading(H))
    basis = evidence.components(2, centered=True)
    H *= 1.01
    with pytest.raises(RuntimeError, match="gave other features when it was read again"):
        evidence.residuals([Basis(basis.vectors)], collapsed=False)


def test_errors_of_predictions() -> None:
    H = spread()
    rng = np.random.default_rng(2)
    W, b, Y = rng.standard_normal((2, 6)), rng.standard_normal(2), rng.standard_normal((300, 2))
    expected = float(np.mean(np.sum((H @ W.T + b - Y) ** 2, axis=1)))
    evidence = gathered(begin_reading(H, Y))
    model = LinearModel(W, b)
    assert evidence.prediction_errors(model).errors.sum() / 300 == pytest.approx(expected, rel=64 * EPSILON)
    basis = evidence.components(2, centered=True)
    found = evidence.residuals([Basis(basis.vectors, basis.mean)], collapsed=False, model=model)
    assert found.errors is not None
    assert found.errors.sum() / 300 == pytest.approx(expected, rel=64 * EPSILON)


def test_errors_of_predictions_do_not_come_with_residuals_in_float32() -> None:
    rng = np.random.default_rng(3)
    H, Y = rng.standard_normal((300, 40)).astype(np.float32), rng.standard_normal((300, 2))
    evidence = gathered(begin_reading(H, Y))
    model = LinearModel(rng.standard_normal((2, 40)), rng.standard_normal(2))
    basis = evidence.components(20, centered=True)
    for collapsed in (False, True):
        found = evidence.residuals([Basis(basis.vectors)], collapsed=collapsed, model=model)
        assert found.is_double == collapsed
        assert (found.errors is not None) == collapsed


# ---- second moments ----


@pytest.mark.parametrize("name", sorted(CONVENTIONS))
def test_second_moments_of_the_rows_of_a_convention(name: str) -> None:
    H, convention = spread(), CONVENTIONS[name]
    x = H - H.mean(axis=0) if convention.centered_rows else H
    x = x / np.linalg.norm(x, axis=1, keepdims=True) if convention.unit_rows else x
    expected = x.T @ x / len(x)
    found = gathered(begin_reading(H), unit_rows=True).second_moment_of_rows(convention)
    assert found is not None
    assert np.abs(found.on_host() - expected).max() <= 64 * EPSILON * np.trace(expected)


def test_rows_that_are_read_once_give_what_their_sums_give() -> None:
    H = spread()
    batches = (H[first : first + 100] for first in range(0, 300, 100))
    once = gathered(begin_reading(batches), unit_rows=True)
    alone = Evidence(once.moments)
    for evidence in (once, alone):
        assert not evidence.can_read_again
        assert evidence.second_moment_of_rows(CONVENTIONS["id25"]) is None
        unit = H / np.linalg.norm(H, axis=1, keepdims=True)
        found = evidence.second_moment_of_rows(CONVENTIONS["nrc24"])
        assert found is not None
        assert np.abs(found.on_host() - unit.T @ unit / 300).max() <= 64 * EPSILON


# ---- components below the rounding of the first ----


def fainter_and_fainter(scales: list[float], rows: int = 300) -> tuple[np.ndarray, np.ndarray]:
    """Features about a mean with given deviations along orthogonal directions, and what share each k leaves."""
    rng = np.random.default_rng(len(scales))
    d = len(scales)
    left = rng.standard_normal((rows, d))
    left = np.linalg.qr(left - left.mean(axis=0))[0] * np.sqrt(rows)
    H = left * scales @ np.linalg.qr(rng.standard_normal((d, d)))[0]
    squares = np.square(scales)
    return H, np.array([squares[k:].sum() for k in range(1, d + 1)]) / squares.sum()


@pytest.mark.parametrize("by_rows", [True, False], ids=["rows", "gram"])
def test_components_below_the_rounding_of_the_first(by_rows: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if by_rows:
        monkeypatch.setattr(component_costs, "MOST_SQUARE_BYTES", 0)
    scales = [2.0, 1.0, 3e-9, 2e-9, 1e-9, 5e-10]
    H, shares = fainter_and_fainter(scales)
    found = nrc.nrc1(H, [1, 2, 3, 4, 5, 6], convention="variance")
    # The stored numbers are rounded by up to 2^-53 of 2, which is 5e-7 of the fainter ones, at random.
    np.testing.assert_allclose(found, shares, rtol=1e-5)
    np.testing.assert_allclose(nrc.nrc1(H, None, convention="variance"), shares, rtol=1e-5)
    mean = 3.0 * np.linalg.svd(H)[2][3]  # along one of the fainter ones
    rows = H + mean
    exact = ExactNumbers(rows, rows[:, :1], np.ones((1, 6)), np.zeros(1), components=5)
    for k in (2, 3, 5):
        value, bound = nrc.nrc1(rows, k, return_bound=True)
        assert exact.by_k["nrc24"][k - 1].distance(value) <= bound
        assert bound < 1e-4


def test_bounds_of_fainter_components_hold() -> None:
    H, shares = fainter_and_fainter([1.0, 3e-9, 1e-9, 3e-10])
    basis = Evidence(reading=begin_reading(H), precision="highest").components(3, centered=True)
    exact = np.linalg.svd(H - H.mean(axis=0))[2]
    for k in (1, 2, 3):
        turned = np.linalg.norm(exact[:k] - exact[:k] @ basis.vectors[:k].T @ basis.vectors[:k], 2)
        own = 16 * 2.0**-52 / 1e-10  # of the reference
        assert turned <= basis.angles[k - 1] + own
        assert basis.angles[k - 1] < 1e-3
    assert len(basis.vectors) == 3
    values = nrc.measure(H, n=3, convention="variance")
    assert abs(values.nrc1 - shares[2]) <= values.bounds["nrc1"] + 1e-5 * shares[2]


def test_what_is_rounding_has_no_components(titles: list[str]) -> None:
    """Exactly one direction is left, so that more components leave what one does, with a bound that says so."""
    rng = np.random.default_rng(0)
    H = np.outer(rng.integers(-8, 8, 200), np.arange(1.0, 6.0)) + 3.0  # no rounding at all
    one, three = nrc.nrc1(H, [1, 3])
    assert one == three == pytest.approx(reference_nrc1(H, 1), rel=1e-12)
    assert "components" not in titles
    report = nrc.measure(H, n=3)
    assert report.bounds["nrc1"] >= report.nrc1


def test_blocks_that_all_round_the_same_way_are_in_the_bound_of_the_mse() -> None:
    """Features of two values: every float32 product is the same, and so is every rounding of a block."""
    count, value = 20480, np.float32(np.sqrt(2 - 2**-16))
    H = (np.where(np.arange(count) % 2 == 0, 1, -1).astype(np.float32) * value)[:, np.newaxis]
    Y = 1e-3 * np.random.default_rng(1).standard_normal((count, 1))
    report = nrc.FeatureStatistics(1, n_targets=1).update(H, Y).report(np.ones((1, 1)), np.zeros(1))
    exact = sum((Fraction(float(h)) - Fraction(float(y))) ** 2 for h, y in zip(H[:, 0], Y[:, 0], strict=True)) / count
    assert abs(Fraction(report.mse) - exact) <= Fraction(report.bounds["mse"])


def test_small_eigenvalues_that_add_up_are_in_the_noise() -> None:
    """Each is below the rounding of a decomposition, and together they are far above it."""
    d, small = 256, 1e-14
    rng = np.random.default_rng(1)
    direction = np.full((1, d), d**-0.5)
    H = rng.standard_normal((600, 1)) @ direction + small**0.5 * rng.standard_normal((600, d))
    centred = H - H.mean(axis=0)
    leading = np.linalg.svd(centred, full_matrices=False)[2][0]
    rest = centred - np.outer(centred @ leading, leading)
    exact = float(np.sum(rest**2)) / float(np.sum(centred**2))
    Y = H[:, :1].copy()
    report = nrc.measure(H, Y, n=1)
    share, bound = report.explained_variance_ratio[0], report.bounds["explained_variance_ratio"][0]
    assert abs(1.0 - share - exact) <= bound < 0.1 * exact
    layer = layer_collapse(nrc.FeatureStatistics(d, n_targets=1).update(H, Y))
    assert abs(layer.noise_fraction - exact) <= layer.bounds["noise_fraction"] < 0.1 * exact


def test_rows_without_a_target_are_left_out_of_fainter_components_too() -> None:
    rng = np.random.default_rng(0)
    H = rng.standard_normal((400, 8)) * [1.0, 1.0, 2e-9, 1e-9, 0.0, 0.0, 0.0, 0.0]
    H[::4, 3] *= 30.0  # the rows that are left out have another third component
    Y = rng.standard_normal((400, 3))
    Y[::4] = np.nan
    kept = np.isfinite(Y).all(axis=1)
    for convention in ("nrc24", "id25", "variance"):
        skipped = nrc.measure(H, Y, n=3, nonfinite="skip", convention=convention)
        clean = nrc.measure(H[kept], Y[kept], n=3, convention=convention)
        assert skipped.nrc1 == pytest.approx(clean.nrc1, rel=1e-6, abs=0.0)
        assert 0.0 < clean.nrc1 < 1e-15
