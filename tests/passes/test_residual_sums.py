"""Sums of explicit residuals: over chunks, and from a state that was kept."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from support.chunks import chunk, draw

from nrc_fast.kernels.inputs import as_rows
from nrc_fast.kernels.results import Basis
from nrc_fast.metrics.rounding import projection_rounding
from nrc_fast.passes.balance_sums import LinearModel
from nrc_fast.passes.residual_sums import Residuals
from nrc_fast.passes.sums import OtherStateError
from nrc_fast.sources import Chunk

EPSILON = 2.0**-52


def test_residuals_know_how_far_their_shift_turns_the_rows() -> None:
    H, vectors, shift = draw()
    bases = [Basis(vectors), Basis(vectors, shift)]
    sums = Residuals(bases, double_precision=True, shift_error=0.25)
    for part in (H[:100], H[100:]):
        sums.add_chunk(chunk(part))
    expected = np.minimum(0.25 / np.sum((H - shift) ** 2, axis=1), 1.0).sum()
    assert sums.turned[0] == pytest.approx(expected, rel=1e-12)
    other = Residuals(bases, double_precision=True, shift_error=0.25)
    other.restore(sums.arrays())
    assert other.turned == sums.turned
    earlier = {name: array for name, array in sums.arrays().items() if name != "turned"}
    with pytest.raises(OtherStateError):
        other.restore(earlier)


def test_rows_that_are_kept_go_on_from_a_state() -> None:
    H, vectors, _ = draw()
    sums, rest, changed = (Residuals([Basis(vectors)], double_precision=True, kept_rows=len(H)) for _ in range(3))
    sums.add_chunk(chunk(H[:100]))
    rest.restore(sums.arrays())
    assert rest.rows is None  # not all yet
    rest.add_chunk(chunk(H[100:]))
    np.testing.assert_array_equal(rest.rows, H)
    sums.add_chunk(chunk(H))  # more than were expected
    assert sums.rows is None
    with pytest.raises(OtherStateError):
        changed.restore({name: array for name, array in rest.arrays().items() if name != "rows"})


def residuals_and_errors() -> tuple[Any, Any, Residuals]:
    H, vectors, shift = draw()
    Y = np.random.default_rng(1).standard_normal((300, 2))
    basis = np.ascontiguousarray(np.linalg.qr(vectors.T)[0].T)
    model = LinearModel(vectors, np.array([1.0, -2.0]))
    return H, Y, Residuals([Basis(basis), Basis(basis[:1], shift)], double_precision=True, model=model)


def test_errors_of_a_model_come_with_the_residuals_and_go_on_from_a_state() -> None:
    H, Y, sums = residuals_and_errors()
    _, _, rest = residuals_and_errors()
    assert rest.errors is not None
    assert not rest.errors.any()
    sums.add_chunk(Chunk(as_rows(H[:120], "H"), as_rows(Y[:120], "Y")))
    rest.restore(sums.arrays())
    for part in (sums, rest):
        part.add_chunk(Chunk(as_rows(H[120:], "H"), as_rows(Y[120:], "Y")))
    for name, array in sums.arrays().items():
        np.testing.assert_array_equal(rest.arrays()[name], array)
    _, vectors, shift = draw()
    assert sums.errors is not None
    expected = np.sum((H @ vectors.T + np.array([1.0, -2.0]) - Y) ** 2, axis=0)
    assert sums.errors == pytest.approx(expected, rel=64 * EPSILON)
    for basis, part, x in zip(sums.bases, sums.sums, (H, H - shift), strict=True):
        remainder = x - (x @ basis.vectors.T) @ basis.vectors
        assert part.raw[-1] == pytest.approx(np.sum(remainder**2), rel=256 * EPSILON)


def test_a_state_without_the_errors_of_the_model_is_refused() -> None:
    H, Y, sums = residuals_and_errors()
    sums.add_chunk(Chunk(as_rows(H, "H"), as_rows(Y, "Y")))
    earlier = {name: array for name, array in sums.arrays().items() if name != "errors"}
    with pytest.raises(OtherStateError):
        residuals_and_errors()[2].restore(earlier)
    # Where no model is given they are not missed.
    without = Residuals(sums.bases, double_precision=True)
    without.restore(earlier)
    assert without.errors is None
    assert without.count == 300


def test_rounding_grows_with_chunks_which_a_state_keeps() -> None:
    H, vectors, _ = draw()
    basis = np.ascontiguousarray(np.linalg.qr(vectors.T)[0].T)
    sums, rest = (Residuals([Basis(basis)], double_precision=True) for _ in range(2))
    for part in (H[:100], H[100:250]):
        sums.add_chunk(chunk(part))
    rest.restore(sums.arrays())
    rest.add_chunk(chunk(H[250:]))
    assert rest.count == 300
    assert rest.chunks == 3
    assert rest.rounding(0) == projection_rounding(7, 2, double_precision=True, chunks=3)
    earlier = {name: array for name, array in sums.arrays().items() if name != "counts"}
    with pytest.raises(OtherStateError):
        rest.restore(earlier | {"count": np.array([250.0])})


def test_energy_of_residuals_that_are_differences_adds_up() -> None:
    """Rows outside of the span, and rows in it, of which nothing is expanded."""
    rows = np.ones((64, 7))
    rows[:, :2] = 0.0
    inside = np.zeros((64, 7))
    inside[:, :2] = 1.0
    sums = Residuals([Basis(np.eye(7)[:2])], double_precision=True)
    for part in (rows, inside):
        sums.add_chunk(chunk(part))
    assert sums.sums[0].expanded.tolist() == [5.0 * 64, 64.0]
    assert sums.sums[0].raw.tolist() == [7.0 * 64, 6.0 * 64, 5.0 * 64]
