"""Residuals on a basis: values of the definitions, and bounds that cover what a turned basis does."""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.features import largest_angle

from nrc_fast.metrics.conventions import CONVENTIONS
from nrc_fast.metrics.residuals import (
    PrincipalBasis,
    between_neighbours,
    leading_values,
    mixing_angle,
    residual_bound,
    residual_value,
    resolved_rank,
    trace_bound,
)
from nrc_fast.metrics.rounding import ProjectionRounding, projection_rounding
from nrc_fast.testing import reference_nrc1

EPS = float(np.finfo(np.float64).eps)


def features(rows: int = 200, d: int = 6) -> np.ndarray:
    rng = np.random.default_rng(0)
    rotation = np.linalg.qr(rng.standard_normal((d, d)))[0]
    return (rng.standard_normal((rows, d)) * 0.5 ** np.arange(d)) @ rotation + 0.3


def rounding(d: int, vectors: int) -> ProjectionRounding:
    return projection_rounding(d, vectors, double_precision=True, chunks=1)


def left_over(rows: np.ndarray, basis: np.ndarray) -> np.ndarray:
    """Sums of squares of what is left of the rows with the leading k = 0, 1, ... vectors."""
    rest = [rows - rows @ basis[:k].T @ basis[:k] for k in range(len(basis) + 1)]
    return np.array([np.sum(part**2) for part in rest])


def sums_of(H: np.ndarray, basis: np.ndarray, *, centered: bool) -> Any:
    rows = H - H.mean(axis=0) if centered else H
    units = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    return SimpleNamespace(raw=left_over(rows, basis), unit=left_over(units, basis), expanded=np.zeros(2))


def components(H: np.ndarray, *, centered: bool) -> tuple[np.ndarray, np.ndarray]:
    rows = H - H.mean(axis=0) if centered else H
    values, vectors = np.linalg.eigh(rows.T @ rows / len(rows))
    return values[::-1].copy(), vectors[:, ::-1].T.copy()


def test_a_tie_is_an_interval() -> None:
    """Two directions of one variance: the rows outside, which have another mean, may be any share of them."""
    values, bounds, energy = np.array([0.7, 0.5, 0.1, 0.1]), np.array([0.01, 0.9, 0.02, 1.0]), 0.95
    found = between_neighbours(values, bounds, energy)
    # Not above what one component leaves, not below what three leave, and the last not below nothing.
    assert found == pytest.approx([0.01, max(0.71 - 0.5, 0.5 - 0.08), 0.02, 0.1], rel=1e-12)
    alone = between_neighbours(values[1:2], bounds[1:2], energy)
    assert alone == pytest.approx([0.5], rel=1e-12)


@given(st.integers(1, 6), st.integers(0, 10**6))
def test_intervals_hold_whatever_falls(count: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    truth = np.sort(rng.random(count))[::-1]
    bounds = 10.0 ** -rng.integers(0, 12, count).astype(float)
    values = truth + rng.uniform(-1.0, 1.0, count) * bounds
    found = between_neighbours(values, bounds, 1.0)
    assert np.all(found <= bounds)
    assert np.all(np.abs(values - truth) <= found + 4 * EPS)


@pytest.mark.parametrize("gap", [1.0, 1e-3, 1e-8, 0.0])
def test_the_loss_of_a_basis_bounds_what_it_leaves(gap: float) -> None:
    """Vectors of a matrix that is off capture at most twice k times the error less than exact ones (Ky Fan)."""
    rng = np.random.default_rng(3)
    for size in (1e-2, 1e-6):
        spectrum = np.array([2.0, 1.0 + gap, 1.0, 0.2, 0.1])
        rotation = np.linalg.qr(rng.standard_normal((5, 5)))[0]
        rows = rng.standard_normal((50, 5))
        rows = np.linalg.svd(rows - rows.mean(axis=0), full_matrices=False)[0] * np.sqrt(50 * spectrum) @ rotation
        change = rng.standard_normal((5, 5))
        change = size * (change + change.T) / np.linalg.norm(change + change.T, 2)
        vectors = np.linalg.eigh(rows.T @ rows / 50 + change)[1][:, ::-1].T[:2]
        sums = sums_of(rows, vectors, centered=True)
        losses = 2.0 * size * np.arange(1.0, 3.0)
        basis = PrincipalBasis(vectors, rows.mean(axis=0), 0.0, np.ones(2), losses, collapsed=False)
        values, bounds = leading_values(CONVENTIONS["variance"], basis, sums, 50, rounding=rounding(5, 2))
        exact = 1.0 - np.cumsum(spectrum)[:2] / spectrum.sum()
        assert np.all(np.abs(values - exact) <= bounds)
        assert bounds[1] <= 1.01 * losses[1] / spectrum.sum() + 1e-14


# ---- values ----


@pytest.mark.parametrize("name", list(CONVENTIONS))
def test_values_are_those_of_the_definitions(name: str) -> None:
    H, convention = features(), CONVENTIONS[name]
    count, d = H.shape
    _, vectors = components(H, centered=convention.centered_basis)
    sums = sums_of(H, vectors[:4], centered=convention.centered_rows)
    wanted = reference_nrc1(H, [1, 2, 3, 4], name)
    for k in range(1, 5):
        assert residual_value(convention, sums, k, count, d)[0] == pytest.approx(wanted[k - 1], rel=1e-12)
    assert residual_value(convention, sums, d, count, d)[0] == 0.0
    basis = PrincipalBasis(vectors[:4], H.mean(axis=0), 0.0, np.zeros(4), np.zeros(4), collapsed=False)
    values, bounds = leading_values(convention, basis, sums, count, rounding=rounding(d, 4))
    assert np.all(np.abs(values - wanted) <= bounds)
    assert np.all(bounds <= 1e-12 * np.sqrt(wanted))


@pytest.mark.parametrize("name", list(CONVENTIONS))
def test_energy_of_the_rows(name: str) -> None:
    H, convention = features(), CONVENTIONS[name]
    sums = sums_of(H, components(H, centered=True)[1][:1], centered=convention.centered_rows)
    energy = residual_value(convention, sums, 1, *H.shape)[1]
    rows = H - H.mean(axis=0) if convention.centered_rows else H
    expected = 1.0 if convention.unit_rows or convention.relative else float(np.mean(np.sum(rows**2, axis=1)))
    assert energy == pytest.approx(expected, rel=1e-13)


def test_rows_without_energy_and_out_of_range() -> None:
    nothing = SimpleNamespace(raw=np.zeros(2), unit=np.zeros(2))
    assert math.isnan(residual_value(CONVENTIONS["raw"], nothing, 1, 5, 3)[0])
    lost = SimpleNamespace(raw=np.zeros(2), unit=np.array([5.0, 1.0]))  # squares below the smallest float64
    assert residual_value(CONVENTIONS["nrc24"], lost, 1, 5, 3) == (0.2, 1.0)
    with pytest.raises(ValueError, match="leave the range of float64"):
        residual_value(CONVENTIONS["variance"], lost, 1, 5, 3)


def test_components_beyond_the_rank_lie_between_nothing_and_what_is_left_there() -> None:
    H = features()
    _, vectors = components(H, centered=True)
    basis = PrincipalBasis(vectors[:2], H.mean(axis=0), 0.0, np.zeros(6), np.zeros(6), collapsed=False)
    values, bounds = leading_values(
        CONVENTIONS["variance"], basis, sums_of(H, vectors[:2], centered=True), len(H), rounding=rounding(6, 2)
    )
    exact = reference_nrc1(H, None, "variance")
    assert np.all(np.abs(values - exact) <= bounds + 1e-14)
    assert values[2:5].tolist() == [values[1]] * 3
    assert values[5] == bounds[5] == 0.0


def test_rank_counts_what_can_be_told_from_rounding() -> None:
    assert resolved_rank(np.array([1.0, 4.1 * EPS, 3.9 * EPS, 0.0]), 4) == 2
    assert resolved_rank(np.array([1e-300, 1e-310, 0.0]), 3) == 2
    assert resolved_rank(np.zeros(3), 3) == 0


# ---- bounds of residuals ----


@pytest.mark.parametrize("angle", [0.0, 1e-12, 1e-6, 1e-2, 0.3])
@pytest.mark.parametrize("noise", [1.0, 1e-4])
def test_bounds_cover_a_basis_that_is_turned(angle: float, noise: float) -> None:
    rng = np.random.default_rng(3)
    rows = rng.standard_normal((500, 8)) * np.where(np.arange(8) < 3, 1.0, noise)
    exact, energy = float(np.mean(np.sum(rows[:, 3:] ** 2, axis=1))), float(np.mean(np.sum(rows**2, axis=1)))
    worst = 0.0
    for _ in range(20):
        mixed = np.linalg.qr(rng.standard_normal((3, 3)))[0] @ np.eye(3, 8)
        others = np.linalg.qr(rng.standard_normal((5, 3)))[0].T @ np.eye(8)[3:]
        basis = math.cos(math.asin(angle)) * mixed + angle * others
        assert largest_angle(basis, np.eye(3, 8)) == pytest.approx(angle, abs=8 * EPS)
        value = float(left_over(rows, basis)[-1]) / len(rows)
        bound = residual_bound(value, energy, angle, rounding(8, 3))
        assert abs(value - exact) <= bound
        assert abs(value - exact) <= trace_bound(value, energy, angle, 0.0) + 16 * EPS * energy
        worst = max(worst, abs(value - exact) / bound)
    if angle == 0.3 and noise < 1.0:
        assert worst > 0.2  # and is worth reading


@given(st.integers(0, 10**6))
def test_components_turn_in_what_fewer_of_them_leave(seed: int) -> None:
    """Of a basis whose first vectors are nearly exact, later ones are mixed with what these leave, not with all."""
    rng = np.random.default_rng(seed)
    scales = 10.0 ** -np.sort(rng.uniform(0.0, 6.0, 6))
    rows = rng.standard_normal((40, 6)) * scales
    exact = np.eye(6)
    sizes = 10.0 ** rng.uniform(-12.0, -1.0, 3)
    found = np.linalg.qr(exact[:, :3] + np.tril(rng.standard_normal((6, 3)), -1) * np.sort(sizes))[0].T
    angles = np.array([largest_angle(found[:k], exact[:k]) for k in (1, 2, 3)])
    energy = float(np.mean(np.sum(rows**2, axis=1)))
    left = left_over(rows, found)[1:] / len(rows)
    for k in (1, 2, 3):
        amplitude = np.linalg.norm(rows @ (found[:k].T @ found[:k] - exact[:k].T @ exact[:k])) / np.sqrt(len(rows))
        share = mixing_angle(angles[:k], left[: k - 1], energy)
        assert amplitude <= share * np.sqrt(energy) * (1 + 1e-6) + 16 * EPS * np.sqrt(energy)
        assert share <= angles[k - 1]
