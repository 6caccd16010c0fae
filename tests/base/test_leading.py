from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from nrc_fast.base.leading import BlockKrylov, LeadingPairs, is_close, leading_pairs, start_block

EPS = float(np.finfo(np.float64).eps)
SPECTRA = {
    "collapsed": lambda d: np.append([3.0, 2.0, 1.0], np.full(d - 3, 1e-8)),
    "power": lambda d: 1.0 / np.arange(1.0, d + 1.0),
    "slow": lambda d: np.arange(1.0, d + 1.0) ** -0.5,
    "ties": lambda d: np.append([2.0] * 3, np.full(d - 3, 0.1)),
    "rank 2": lambda d: np.append([2.0, 1.0], np.zeros(d - 2)),
}


def matrix_of(values: Any, seed: int = 0) -> Any:
    rotation = np.linalg.qr(np.random.default_rng(seed).standard_normal((len(values), len(values))))[0]
    matrix = (rotation * values) @ rotation.T
    return 0.5 * (matrix + matrix.T)


def angle(found: Any, exact: Any) -> float:
    """Sine of the largest angle between two spans of rows."""
    return float(np.linalg.norm(found - (found @ exact.T) @ exact, 2))


@pytest.mark.parametrize("kind", list(SPECTRA))
@pytest.mark.parametrize("d", [601, 800])
def test_pairs_are_those_of_the_whole_decomposition(kind: str, d: int) -> None:
    C = matrix_of(np.sort(SPECTRA[kind](d))[::-1])
    exact, vectors = np.linalg.eigh(C)
    exact, vectors = exact[::-1], vectors[:, ::-1].T
    found = leading_pairs(C, 3, tolerance=0.0, trace=float(np.trace(C)))
    assert found is not None
    assert len(found.values) == 4
    assert found.d == d
    # The error of an eigenvalue is of second order in that of its vector.
    assert found.values[:3] == pytest.approx(exact[:3], rel=0.0, abs=64 * EPS * exact[0])
    left = np.linalg.norm(found.vectors @ C - found.values[:, np.newaxis] * found.vectors, axis=1)
    assert np.all(left <= found.distances + 64 * EPS * exact[0])
    assert found.vectors @ found.vectors.T == pytest.approx(np.eye(4), abs=64 * EPS)
    rank = 2 if kind == "rank 2" else 3
    gap = exact[rank - 1] - exact[rank]
    assert angle(found.vectors[:rank], vectors[:rank]) <= (found.distance(rank) + 64 * EPS * exact[0]) / gap


def test_a_tolerance_is_kept_and_saves_products() -> None:
    C = matrix_of(SPECTRA["slow"](500))
    found = leading_pairs(C, 3, tolerance=1e-4, trace=float(np.trace(C)))
    assert found is not None
    assert 64 * EPS < found.distances[:3].max() <= 1e-4
    assert is_close(found, 3, 1e-4)
    assert not is_close(found, 3, 1e-9)
    assert np.abs(np.linalg.eigvalsh(C)[::-1][:3] - found.values[:3]).max() <= 1e-4  # Weyl


def test_what_would_cost_more_than_a_decomposition_is_left() -> None:
    C = matrix_of(1.0 + 1e-3 * np.arange(200.0))
    assert leading_pairs(C, 3, tolerance=0.0, trace=float(np.trace(C))) is None


def test_nothing_is_found_in_zeros() -> None:
    found = leading_pairs(np.zeros((200, 200)), 3, tolerance=0.0, trace=0.0)
    assert found is not None
    assert found.values.tolist() == found.distances.tolist() == [0.0] * 4


@pytest.mark.parametrize("d", [1, 2, 3, 5, 7, 15, 16, 17, 33])
@pytest.mark.parametrize("block", [1, 3, 40])
def test_a_span_is_exhausted_and_then_exact(d: int, block: int) -> None:
    values = np.arange(d, 0.0, -1.0)
    C, rng = matrix_of(values), np.random.default_rng(1)
    krylov = BlockKrylov(rng.standard_normal((block, d)) if block < 40 else start_block(np.empty((0, d)), block))
    while len(krylov.block):
        assert krylov.block @ krylov.block.T == pytest.approx(np.eye(len(krylov.block)), abs=64 * EPS)
        krylov.add(krylov.block @ C)
        assert krylov.dimensions <= d
    found = krylov.pairs(d + 1, trace=float(values.sum()))
    assert found.is_whole
    assert found.values == pytest.approx(values, rel=64 * d * EPS)
    assert found.distances.max() <= 64 * EPS * d * d


def test_a_direction_that_no_row_has_is_found() -> None:
    # Two blocks that know nothing of each other; the rows of the start lie in the first alone.
    first, second = matrix_of(SPECTRA["power"](40)), matrix_of(SPECTRA["power"](40), seed=1)
    C = np.block([[0.5 * first, np.zeros((40, 40))], [np.zeros((40, 40)), second]])
    rows = np.pad(np.random.default_rng(2).standard_normal((20, 40)), ((0, 0), (0, 40)))
    krylov = BlockKrylov(start_block(rows, 6))
    for _ in range(6):
        krylov.add(krylov.block @ C)
    found = krylov.pairs(3, trace=float(np.trace(C)))
    assert found.values == pytest.approx([1.0, 0.5, 0.5], rel=1e-5)


def test_a_start_is_the_same_for_equal_rows_and_does_not_see_their_size() -> None:
    rows = np.random.default_rng(3).standard_normal((9, 50))
    first = start_block(rows, 8)
    assert np.array_equal(first, start_block(rows.copy(), 8))
    assert np.array_equal(first, start_block(np.ldexp(rows, 600), 8))
    assert np.linalg.matrix_rank(first) == np.linalg.matrix_rank(start_block(np.empty((0, 50)), 8)) == 8
    assert start_block(rows, 60).shape == (50, 50)


def test_what_a_trace_leaves_bounds_the_next_value() -> None:
    vectors, values = np.eye(4)[:2], np.array([3.0, 1.0])
    collapsed = LeadingPairs(values, vectors, np.array([1e-9, 1e-3]), trace=4.5)
    assert collapsed.outside(1) == 1.5
    assert collapsed.next_value(1) == 1.001  # what was found lies closer
    assert collapsed.next_value(2) == pytest.approx(0.5, rel=8 * EPS)
    whole = LeadingPairs(values, np.eye(2), np.zeros(2), trace=4.0)
    assert whole.next_value(1) == 1.0
