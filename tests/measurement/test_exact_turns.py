"""Components of few rows and the exact ones: what their difference changes, beside NRC1 on both bases."""

from __future__ import annotations

import numpy as np
import pytest
from support.exact_numbers import ExactNumbers

import nrc_fast as nrc
from nrc_fast.measurement import evidence
from nrc_fast.measurement.exact_turns import MOST_HELD_FEATURES, exact_turns
from nrc_fast.passes.begin import begin_reading

CONVENTIONS = ("nrc24", "id25", "raw")


def nrc1_on(rows: np.ndarray, vectors: np.ndarray, convention: str) -> float:
    """By the definition, on orthonormal rows."""
    about = rows - rows.mean(axis=0) if convention == "id25" else rows
    left = about - (about @ vectors.T) @ vectors
    squares = np.sum(left**2, axis=1)
    return float(np.mean(squares if convention == "raw" else squares / np.sum(about**2, axis=1)))


@pytest.mark.parametrize("convention", CONVENTIONS)
@pytest.mark.parametrize("centered", [True, False])
def test_the_first_order_of_a_basis_that_was_turned(convention: str, centered: bool) -> None:
    rng = np.random.default_rng(5)
    rows = rng.standard_normal((40, 6)) * [3.0, 2.0, 1.5, 1.0, 0.7, 0.4] + rng.standard_normal(6)
    about = rows - rows.mean(axis=0) if centered else rows
    values, columns = np.linalg.eigh(about.T @ about / len(rows))
    values, exact = values[::-1], columns.T[::-1]
    skew = 1e-6 * rng.standard_normal((6, 6))
    turned = np.linalg.qr(((np.eye(6) + skew - skew.T) @ exact).T)[0].T
    turned *= np.sign(np.sum(turned * exact, axis=1))[:, np.newaxis]
    found = np.einsum("ij,jk,ik->i", turned, about.T @ about / len(rows), turned)
    turns = exact_turns(rows, found, turned, 5, error=1e-4, centered=centered)
    first_order = turns.first_order(nrc.CONVENTIONS[convention])
    assert first_order is not None
    for k in range(1, 6):
        angle = np.linalg.norm(exact[k:] @ turned[:k].T, 2)
        assert angle <= turns.angles[k - 1] < 100.0 * angle
        wanted = nrc1_on(rows, exact[:k], convention) - nrc1_on(rows, turned[:k], convention)
        energy = float(np.mean(np.sum(rows**2, axis=1))) if convention == "raw" else 1.0
        assert abs(wanted) > 1e-12
        assert abs(first_order.changes[k - 1] - wanted) <= 2.0 * turns.angles[k - 1] ** 2 * energy + 1e-14
        if centered or convention != "raw":  # where the basis is of the rows themselves all is of second order
            assert first_order.changes[k - 1] == pytest.approx(wanted, rel=1e-4)


def test_a_basis_of_the_rows_that_are_projected_is_left_alone() -> None:
    rows = np.random.default_rng(0).standard_normal((20, 3))
    turns = exact_turns(rows, np.array([3.0, 2.0, 1.0]), np.eye(3), 2, error=1e-3, centered=True)
    assert turns.first_order(nrc.CONVENTIONS["variance"]) is None
    assert turns.first_order(nrc.CONVENTIONS["raw"]) is not None


def test_components_that_tie_are_not_turned() -> None:
    rows = np.concatenate([np.diag([6.0, 6.0, 3.0]), -np.diag([6.0, 6.0, 3.0])])
    turns = exact_turns(rows, np.array([12.0, 12.0, 3.0]), np.eye(3), 2, error=1e-14, centered=True)
    first_order = turns.first_order(nrc.CONVENTIONS["raw"])
    assert first_order is not None
    assert first_order.applied(1, 0.5, 1.0) == (0.5, np.inf, np.inf)
    assert np.isfinite(first_order.applied(2, 0.5, 1.0)).all()
    assert first_order.applied(3, 0.5, 1.0) == (0.5, np.inf, np.inf)


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_few_rows_have_the_digits_of_exact_components(dtype: str, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(11)
    H = (rng.standard_normal((120, 8)) * 0.7 ** np.arange(8) + 30.0 * rng.uniform(0.5, 1.5, 8)).astype(dtype)
    Y, W = rng.standard_normal((120, 2)), rng.standard_normal((2, 8))
    exact = ExactNumbers(H, Y, W, np.zeros(2), components=6)
    numbers = list(range(1, 7))

    def found(convention: str) -> tuple[np.ndarray, np.ndarray]:
        return nrc.nrc1(H, numbers, convention=convention, return_bound=True)

    held = {name: found(name) for name in CONVENTIONS}
    monkeypatch.setattr(evidence, "MOST_HELD", 0)
    for name, (values, bounds) in held.items():
        before, wide = found(name)
        errors = [float(one.distance(float(value))) for one, value in zip(exact.by_k[name], values, strict=True)]
        assert (errors <= bounds).all()
        assert (np.abs(before - values) <= wide + bounds).all()
        assert np.median(wide / bounds) > (1.0 if name == "id25" else 5.0)  # id25 has the error of a large mean
        assert max(errors) <= 1e-13 * float(values[0])


def test_rows_that_are_many_or_wide_are_not_held() -> None:
    rng = np.random.default_rng(1)
    for shape in ((evidence.MOST_HELD // 8 + 1, 8), (20, MOST_HELD_FEATURES + 1)):
        H = rng.standard_normal(shape)
        chosen = evidence.gathered(begin_reading(H))
        basis = chosen.components(2, centered=True)
        residuals = chosen.residuals([evidence.Basis(basis.vectors)], collapsed=True)
        assert residuals.rows is None
        assert chosen.turns(basis, residuals, centered=True) is None
