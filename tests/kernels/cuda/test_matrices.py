"""Symmetric matrices on a device against those of the host, whose questions they answer without coming there."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from support.double_double import Pairs

from nrc_fast.base.symmetric import HostMatrix, as_symmetric
from nrc_fast.kernels.cuda.matrices import DeviceMatrix, covariance_of_sums

EPS = 2.0**-52
SPECTRA: dict[str, Callable[[int], Any]] = {
    "ties": lambda d: np.append([2.0, 2.0, 2.0], np.full(d - 3, 0.1)),
    "collapsed": lambda d: np.append([3.0, 2.0, 1.0], np.full(d - 3, 1e-14)),
    "power": lambda d: np.arange(1.0, d + 1.0) ** -1.5,
    "rank 2": lambda d: np.append([2.0, 1.0], np.zeros(d - 2)),
    "zeros": np.zeros,
}


@pytest.fixture(params=["emulation", "card"])
def device(request: pytest.FixtureRequest, cuda_core: Any) -> Any:
    if request.param == "emulation":
        return cuda_core.Emulation().device()
    cuda_core.Card()
    from nrc_fast.kernels.cuda.device import cuda_device

    return cuda_device(0)


@pytest.fixture
def copied(device: Any, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Numbers of the elements of every copy to the host."""
    found: list[int] = []
    bring = type(device).bring

    def counting(self: Any, tensor: Any) -> Any:
        found.append(tensor.numel())
        return bring(self, tensor)

    monkeypatch.setattr(type(device), "bring", counting)
    return found


def reflected(values: Any, seed: int = 0) -> tuple[Any, Any]:
    """A matrix of these eigenvalues, and its eigenvectors as rows: of two reflections, so that many are cheap."""
    d = len(values)
    vectors = np.eye(d)
    matrix = np.diag(values)
    drawn = np.random.default_rng(seed).standard_normal((2, d))
    for axis in drawn / np.linalg.norm(drawn, axis=1, keepdims=True):
        vectors -= 2.0 * np.outer(vectors @ axis, axis)
        matrix -= 2.0 * np.outer(axis, axis @ matrix)
        matrix -= 2.0 * np.outer(matrix @ axis, axis)
    return 0.5 * (matrix + matrix.T), vectors


def placed(device: Any, matrix: Any) -> DeviceMatrix:
    return DeviceMatrix(device.place(matrix), device)


@pytest.mark.parametrize("kind", sorted(SPECTRA))
@pytest.mark.parametrize("exponent", [0, -400, 400])
def test_leading_pairs_are_those_of_the_matrix(device: Any, copied: list[int], kind: str, exponent: int) -> None:
    values = SPECTRA[kind](400)
    matrix, vectors = reflected(values)
    scaled = np.ldexp(matrix, exponent)
    found = placed(device, scaled).leading(3, tolerance=0.0, trace=float(np.trace(scaled)))
    assert found is not None
    assert max(copied) < 400 * 10
    size = 64 * EPS * max(values[0], 1e-300)
    assert np.abs(np.ldexp(found.values[:3], -exponent) - values[:3]).max() <= size
    # The distances that are told are those of the pairs, in twice as many digits.
    exact = Pairs(found.vectors) @ Pairs(matrix) - Pairs(np.ldexp(found.values, -exponent)[:, None]) * found.vectors
    left = np.linalg.norm(exact.astype(np.float64), axis=1)
    assert (left <= np.ldexp(found.distances, -exponent) + size).all()
    if values[0] > 0.0:
        rank = 2 if kind == "rank 2" else 3
        leading = found.vectors[:rank]
        turned = np.linalg.norm(leading - (leading @ vectors[:rank].T) @ vectors[:rank], 2)
        distance = float(np.ldexp(found.distance(rank), -exponent))
        assert turned <= (distance + size) / (values[rank - 1] - values[rank])
    host = HostMatrix(scaled).leading(3, tolerance=0.0, trace=float(np.trace(scaled)))
    assert host is not None
    assert np.abs(np.ldexp(host.values[:3] - found.values[:3], -exponent)).max() <= size


def test_three_of_three_thousand_components(device: Any, copied: list[int]) -> None:
    values = np.append([3.0, 2.0, 1.0], 1e-3 / np.arange(1.0, 2998.0))
    matrix, vectors = reflected(values)
    found = placed(device, matrix).leading(3, tolerance=1e-13, trace=float(values.sum()))
    assert found is not None
    assert found.values[:3] == pytest.approx(values[:3], rel=64 * EPS)
    assert np.abs(np.abs(np.sum(found.vectors[:3] * vectors[:3], axis=1)) - 1.0).max() <= 64 * EPS
    assert max(copied) < 3000 * 11
    assert sum(copied) < 3000 * 60


def test_a_spectrum_without_a_gap_is_left_to_the_whole_decomposition(device: Any) -> None:
    matrix, _ = reflected(1.0 + 1e-3 * np.arange(200.0))
    assert placed(device, matrix).leading(3, tolerance=0.0, trace=float(np.trace(matrix))) is None


@pytest.mark.parametrize("kind", sorted(SPECTRA))
def test_questions_have_the_answers_of_the_host(device: Any, copied: list[int], kind: str) -> None:
    rng = np.random.default_rng(1)
    values = SPECTRA[kind](120)
    matrix, vectors = reflected(values)
    here, there = as_symmetric(matrix), placed(device, matrix)
    assert as_symmetric(there) is there
    weights, mean, right = rng.standard_normal((4, 120)), rng.standard_normal(120), rng.standard_normal((120, 3))
    size = 64 * EPS * max(values[0], 1e-300)
    assert there.d == here.d
    assert there.trace == pytest.approx(here.trace, rel=16 * EPS)
    assert there.norm == pytest.approx(here.norm, rel=16 * EPS)
    assert np.abs(there.products(weights) - here.products(weights)).max() <= size * 120
    assert np.abs(there.along(weights) - here.along(weights)).max() <= size * 120
    assert abs(there.outside(vectors[:2]) - here.outside(vectors[:2])) <= size
    assert there.outside(vectors) == 0.0
    assert there.raised(mean).trace == pytest.approx(here.raised(mean).trace, rel=16 * EPS)
    for single in (False, True):
        solve, expected = (m.solver(0.5, single_precision=single) for m in (there, here))
        assert solve is not None
        assert expected is not None
        exact = np.linalg.solve(matrix + 0.5 * np.eye(120), right)
        allowed = 1e-12 if not single else 1e-5
        for solution in (solve(right), expected(right)):
            assert np.abs(solution - exact).max() <= allowed * np.abs(exact).max()
    assert there.solver(-1.5 * float(values[0]) - 1.0, single_precision=False) is None
    assert max(copied) <= 4 * 120


@pytest.mark.parametrize("kind", ["collapsed", "power"])
def test_all_pairs_stay_but_for_the_values(device: Any, copied: list[int], kind: str) -> None:
    values = SPECTRA[kind](90)
    matrix, vectors = reflected(values)
    other, _ = reflected(SPECTRA["power"](90), seed=5)
    right = np.random.default_rng(2).standard_normal((90, 2))
    pairs = placed(device, matrix).decomposed()
    expected = HostMatrix(matrix).decomposed()
    assert np.abs(pairs.values - values).max() <= 64 * EPS * values[0]
    assert np.abs(np.abs(np.sum(pairs.vectors(3) * vectors[:3], axis=1)) - 1.0).max() <= 1e-12
    assert np.abs(pairs.vectors(3) - expected.vectors(3)[:3]).max() <= 1e-12
    loadings = np.abs(pairs.products(right)[:3])  # their signs are those of the solver
    assert np.abs(loadings - np.abs(pairs.vectors(3) @ right)).max() <= 1e-13
    along, of_host = pairs.along(placed(device, other)), expected.along(HostMatrix(other))
    assert along[:3] == pytest.approx(of_host[:3], rel=1e-10)
    assert along.sum() == pytest.approx(np.trace(other), rel=1e-12)
    assert max(copied) < 90 * 10
    assert pairs.vectors(90).shape == (90, 90)


def test_a_wrong_decomposition_is_made_again_by_the_host(device: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    matrix, _ = reflected(SPECTRA["power"](30))
    eigh = torch.linalg.eigh
    monkeypatch.setattr(torch.linalg, "eigh", lambda m: (eigh(m)[0] * 1.001, eigh(m)[1]))
    with pytest.warns(RuntimeWarning, match="cannot be used"):
        pairs = placed(device, matrix).decomposed()
    np.testing.assert_array_equal(pairs.values, HostMatrix(matrix).decomposed().values)
    other = placed(device, matrix)
    assert pairs.along(other) == pytest.approx(pairs.values, rel=0.0, abs=64 * EPS)


def test_a_covariance_of_lower_triangles(device: Any) -> None:
    rows = np.random.default_rng(3).standard_normal((50, 20)) + 1.0
    gram, offset = rows.T @ rows, rows.mean(axis=0)
    lower = np.where(np.tri(20, dtype=bool), gram, np.nan)  # what lies above is not looked at
    for mean in (offset, None):
        found = covariance_of_sums(device.place(lower), mean, 50, device).on_host()
        exact = gram / 50 - (0.0 if mean is None else np.outer(mean, mean))
        assert np.abs(found - exact).max() <= 64 * EPS * np.trace(gram) / 50
        np.testing.assert_array_equal(found, found.T)
