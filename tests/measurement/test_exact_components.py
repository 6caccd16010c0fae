"""Components of few rows in twice the digits, NRC1 on these, and what tells their errors."""

from __future__ import annotations

import mpmath
import numpy as np
import pytest
from support.exact_numbers import ExactNumbers

import nrc_fast as nrc
from nrc_fast.measurement.exact_components import MOST_EXACT, ExactComponents, exact_components

ROUNDOFF = 2.0**-53


def features(noise: float, offset: float, *, count: int = 60, d: int = 7) -> np.ndarray:
    rng = np.random.default_rng(3)
    Z = rng.standard_normal((count, 2)) * [2.0, 1.0]
    noisy = noise * rng.standard_normal((count, d)) * 0.8 ** np.arange(d)
    return np.asarray(Z @ rng.standard_normal((2, d)) + noisy + offset * rng.uniform(0.5, 1.5, d))


def found_by_lapack(rows: np.ndarray, *, centered: bool) -> np.ndarray:
    about = rows - rows.mean(axis=0) if centered else rows
    return np.asarray(np.linalg.eigh(about.T @ about / len(rows))[1].T[::-1])


def exact_eigenvalues(rows: np.ndarray, *, centered: bool) -> list[mpmath.mpf]:
    matrix = mpmath.matrix(rows.tolist())
    count, d = rows.shape
    means = [mpmath.fsum(matrix[i, j] for i in range(count)) / count for j in range(d)]
    about = mpmath.matrix(count, d)
    for i in range(count):
        for j in range(d):
            about[i, j] = matrix[i, j] - (means[j] if centered else 0)
    return list(mpmath.eigsy(about.T * about / count, eigvals_only=True))[::-1]


@pytest.mark.parametrize("centered", [True, False])
@pytest.mark.parametrize("offset", [0.0, 1e3])
@pytest.mark.parametrize("noise", [1.0, 1e-3, 1e-7])
def test_eigenvalues_beside_those_of_50_digits(noise: float, offset: float, centered: bool) -> None:
    rows = features(noise, offset)
    exact = exact_components(rows, found_by_lapack(rows, centered=centered), centered=centered)
    assert exact is not None
    with mpmath.workdps(50):
        wanted = exact_eigenvalues(rows, centered=centered)
        scale = mpmath.mpf(4) ** exact.images.given.exponent
        for place, value in enumerate(wanted):
            found = (mpmath.mpf(float(exact.values.high[place])) + mpmath.mpf(float(exact.values.low[place]))) * scale
            bound = mpmath.mpf(float(exact.value_errors[place])) * scale
            assert abs(found - value) <= bound
            # A second moment about 0 has what the mean adds to it for its first.
            assert bound <= (1e-17 if centered else 1e-12) * value + mpmath.mpf(1e-31) * wanted[0]


@pytest.mark.parametrize("name", list(nrc.CONVENTIONS))
@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize(("noise", "offset"), [(1.0, 0.0), (1e-2, 30.0), (1e-6, 1.0), (0.0, 0.0)])
def test_nrc1_to_some_roundings(name: str, dtype: str, noise: float, offset: float) -> None:
    H = features(noise, offset).astype(dtype)
    Y, W = np.zeros((len(H), 2)), np.eye(2, H.shape[1])
    Y[0] = 1.0
    exact = ExactNumbers(H, Y, W, np.zeros(2), components=6)
    convention = nrc.CONVENTIONS[name]
    rows = H.astype(np.float64)
    vectors = found_by_lapack(rows, centered=convention.centered_basis)
    found = exact_components(rows, vectors, centered=convention.centered_basis)
    assert found is not None
    values, bounds = found.nrc1(convention)
    errors = [float(one.distance(float(value))) for one, value in zip(exact.by_k[name], values, strict=False)]
    assert (np.array(errors) <= bounds[:6]).all()
    assert (bounds[:2] <= 20.0 * ROUNDOFF * values[:2] + 1e-40).all()
    assert bounds[-1] == values[-1] == 0.0


def test_vectors_that_are_a_little_off_give_the_same() -> None:
    rows = features(0.3, 2.0)
    vectors = found_by_lapack(rows, centered=True)
    skew = 1e-9 * np.random.default_rng(1).standard_normal(vectors.shape)
    turned = np.linalg.qr(((np.eye(len(skew)) + skew - skew.T) @ vectors).T)[0].T
    one, other = (exact_components(rows, basis, centered=True) for basis in (vectors, turned))
    assert one is not None
    assert other is not None
    for convention in nrc.CONVENTIONS.values():
        (values, bounds), (others, wider) = one.nrc1(convention), other.nrc1(convention)
        assert (np.abs(values - others) <= bounds + wider).all()
        assert (bounds[:-1] < 20.0 * ROUNDOFF * values[:-1]).all()
    assert (other.value_errors < 1e-17 * other.values.high).all()


def test_components_that_tie_are_left_as_they_were() -> None:
    rows = np.concatenate([np.diag([6.0, 6.0, 3.0]), -np.diag([6.0, 6.0, 3.0])])
    found = exact_components(rows, np.eye(3), centered=True)
    assert found is not None
    before, wide = np.array([0.5, 0.25, 0.0]), np.array([1.0, 1.0, 0.0])
    values, bounds, is_closer = found.narrowed(nrc.CONVENTIONS["raw"], before, wide)
    assert is_closer.tolist() == [False, True, True]
    assert values.tolist() == [0.5, 3.0, 0.0]
    assert bounds[0] == 1.0
    assert bounds[1] <= 40.0 * ROUNDOFF


def test_rows_of_zeros_and_rows_at_the_mean() -> None:
    rows = features(0.1, 5.0)
    rows[[3, 10]] = 0.0
    W = np.eye(2, rows.shape[1])
    exact = ExactNumbers(rows, np.arange(60.0)[:, np.newaxis] * [1.0, 2.0], W, np.zeros(2), components=3)
    found = exact_components(rows, found_by_lapack(rows, centered=True), centered=True)
    assert found is not None
    values, bounds = found.nrc1(nrc.CONVENTIONS["nrc24"])
    assert all(
        one.distance(float(value)) <= bound
        for one, value, bound in zip(exact.by_k["nrc24"], values, bounds, strict=False)
    )
    assert (bounds[:-1] <= 20.0 * ROUNDOFF * values[:-1]).all()
    alike = np.ones((4, 3))
    assert exact_components(alike, np.eye(3), centered=True) is None
    # A row at the mean has no direction: it counts for all that it may be.
    middle = np.concatenate([rows, -rows, np.zeros((1, rows.shape[1]))])
    about = exact_components(middle, found_by_lapack(middle, centered=True), centered=True)
    assert about is not None
    values, bounds = about.nrc1(nrc.CONVENTIONS["id25"])
    unit = middle[:-1] / np.maximum(np.linalg.norm(middle[:-1], axis=1, keepdims=True), 1e-300)
    basis = found_by_lapack(middle, centered=True)[:2]
    left = unit - unit @ basis.T @ basis
    assert abs(values[1] - np.sum(left**2) / len(middle)) <= bounds[1] + 1e-12


def test_any_scale_gives_the_same() -> None:
    rows = features(0.2, 1.0)
    vectors = found_by_lapack(rows, centered=True)

    def of(power: int) -> ExactComponents:
        found = exact_components(np.ldexp(rows, power), vectors, centered=True)
        assert found is not None
        return found

    once, scaled = of(0), of(400)
    for name in ("nrc24", "id25", "variance"):
        assert np.array_equal(once.nrc1(nrc.CONVENTIONS[name]), scaled.nrc1(nrc.CONVENTIONS[name]))
    for part, larger in zip(once.nrc1(nrc.CONVENTIONS["raw"]), scaled.nrc1(nrc.CONVENTIONS["raw"]), strict=True):
        assert np.array_equal(np.ldexp(part, 800), larger)


def test_reports_of_few_rows_say_what_their_numbers_rest_on() -> None:
    rng = np.random.default_rng(5)
    W, b = rng.standard_normal((2, 7)), np.zeros(2)
    H = features(0.1, 3.0)
    report = nrc.measure(H, H[:, :2], W, b)
    assert report.bound_kinds["nrc2"] == "certified"
    assert report.bound_grounds["nrc1"] == report.bound_grounds["stable_rank"] == ("first order",)
    many = features(0.1, 3.0, count=MOST_EXACT // 7 + 1)
    wider = nrc.measure(many, many[:, :2], W, b)
    assert "float64 sums" in wider.bound_grounds["stable_rank"]
    assert wider.bounds["stable_rank"] > 10.0 * report.bounds["stable_rank"]
