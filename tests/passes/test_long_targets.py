"""Means and covariances of targets from pairs of float64 numbers, against fractions, however the rows came."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

import nrc_fast as nrc
from nrc_fast.base.processes import Team
from nrc_fast.kernels.counts import FEW_LONG_TARGETS, RESTS, counted
from nrc_fast.passes.begin import begin_reading
from nrc_fast.passes.moments import Moments
from nrc_fast.passes.target_moments import gather_targets
from nrc_fast.passes.team_sums import sums_of_team
from nrc_fast.sources import TableSource, as_table

FloatArray = NDArray[np.float64]
UNIT = 2.0**-53


def exact_moments(Y: NDArray[np.floating]) -> tuple[list[Fraction], list[list[Fraction]]]:
    columns = [[Fraction(float(y)) for y in column] for column in Y.T]
    means = [sum(column) / len(column) for column in columns]
    centred = [[y - mean for y in column] for column, mean in zip(columns, means, strict=True)]
    return means, [[sum(a * b for a, b in zip(x, y, strict=True)) / len(x) for y in centred] for x in centred]


def require_exact(moments: Moments, Y: NDArray[np.floating], *, digits: float = 1e-24) -> None:
    """Bounds hold, and are no more than one rounding, and of pairs some digits of 31."""
    long = moments.long_targets
    assert long is not None
    means, exact = exact_moments(Y)
    shift = moments.shifts[1]
    n, size = len(means), float(np.linalg.norm(moments.target_covariance))
    apart = [
        Fraction(float(shift[i]))
        + Fraction(float(long.offset.high[i]))
        + Fraction(float(long.offset.low[i]))
        - means[i]
        for i in range(n)
    ]
    assert float(sum(part**2 for part in apart)) ** 0.5 <= long.offset_error <= digits * size**0.5 * 4.0
    off = [
        [
            Fraction(float(long.covariance.high[i, j])) + Fraction(float(long.covariance.low[i, j])) - exact[i][j]
            for j in range(n)
        ]
        for i in range(n)
    ]
    assert float(sum(entry**2 for row in off for entry in row)) ** 0.5 <= long.covariance_error <= digits * size * 4.0
    rounded = [[Fraction(float(moments.target_covariance[i, j])) - exact[i][j] for j in range(n)] for i in range(n)]
    error = float(sum(entry**2 for row in rounded for entry in row)) ** 0.5
    assert error <= moments.target_error <= 1.001 * UNIT * size
    mean_error = (
        float(sum((Fraction(float(m)) - e) ** 2 for m, e in zip(moments.target_mean, means, strict=True))) ** 0.5
    )
    assert mean_error <= moments.target_mean_error <= 1.001 * UNIT * float(np.linalg.norm(moments.target_mean)) + 1e-20


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("offset", [0.0, 30.0, 1e6])
@pytest.mark.parametrize("parts", [1, 7])
def test_targets_in_batches_and_merged(dtype: str, offset: float, parts: int) -> None:
    rng = np.random.default_rng(parts)
    H, Y = (
        rng.standard_normal((400, 3)).astype(dtype),
        (rng.standard_normal((400, 2)) * [1.0, 1e-3] + offset).astype(dtype),
    )
    batches, merged = nrc.FeatureStatistics(3, n_targets=2), nrc.FeatureStatistics(3, n_targets=2)
    for rows in np.array_split(np.arange(400), parts):
        batches.update(H[rows], Y[rows])
        merged.merge(nrc.FeatureStatistics(3, n_targets=2).update(H[rows], Y[rows]))
    for found in (batches, merged):
        require_exact(found.moments, Y)


def test_rows_that_come_sorted_and_shifts_that_are_far_apart() -> None:
    """What was subtracted is far from the mean of all."""
    rng = np.random.default_rng(0)
    H, Y = rng.standard_normal((300, 2)), np.sort(rng.standard_normal((300, 1)) * 10.0, axis=0)
    found = nrc.FeatureStatistics(2, n_targets=1).update(H[:1], Y[:1]).update(H[1:200], Y[1:200])
    other = nrc.FeatureStatistics(2, n_targets=1).update(H[200:], Y[200:])
    require_exact(found.merge(other).moments, Y)
    require_exact(nrc.FeatureStatistics(2, n_targets=1).merge(found).moments, Y)


@pytest.mark.usefixtures("no_kept_rows")
def test_saved_statistics_keep_the_pairs_and_those_of_earlier_versions_have_none(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    H, Y, W = rng.standard_normal((500, 4)), rng.standard_normal((500, 2)), rng.standard_normal((2, 4))
    statistics = nrc.FeatureStatistics(4, n_targets=2).update(H[:300], Y[:300])
    statistics.save(tmp_path / "statistics.npz")
    loaded = nrc.FeatureStatistics.load(tmp_path / "statistics.npz").update(H[300:], Y[300:])
    require_exact(loaded.moments, Y)
    earlier = {name: array for name, array in statistics.arrays().items() if name not in RESTS.values()}
    earlier["counts"] = earlier["counts"][:-1]
    found = nrc.FeatureStatistics(4, n_targets=2).restore(earlier).update(H[300:], Y[300:])
    assert found.moments.long_targets is None
    gap = np.linalg.norm(found.target_covariance - loaded.target_covariance)
    assert gap <= found.target_error
    assert found.target_error > 4.0 * loaded.target_error
    reports = [part.report(W) for part in (found, loaded)]
    assert [report.bound_kinds["nrc3"] for report in reports] == ["probable", "certified"]
    # What is damaged is not taken for what is older.
    damaged = {name: array for name, array in statistics.arrays().items() if name != "target_gram_rest"}
    with pytest.raises(ValueError, match="target_gram_rest"):
        nrc.FeatureStatistics(4, n_targets=2).restore(damaged)


def test_more_targets_than_are_worth_it_are_summed_in_float64() -> None:
    rng = np.random.default_rng(2)
    for d, n, is_long in (
        (4, FEW_LONG_TARGETS, True),
        (4, FEW_LONG_TARGETS + 1, False),
        (512, 16, True),
        (640, 17, False),
    ):
        H, Y = rng.standard_normal((64, d)), rng.standard_normal((64, n))
        statistics = (
            nrc.FeatureStatistics(d, n_targets=n, unit_rows=False).update(H[:40], Y[:40]).update(H[40:], Y[40:])
        )
        other = nrc.FeatureStatistics(d, n_targets=n, unit_rows=False).update(H + 1.0, Y + 1.0).merge(statistics)
        assert (statistics.moments.long_targets is not None) == is_long
        assert (other.moments.long_targets is not None) == is_long
        expected = np.cov(np.vstack([Y, Y + 1.0]).T, bias=True)
        gap = np.linalg.norm(other.target_covariance - expected)
        assert gap <= other.target_error + 64.0 * UNIT * float(np.trace(expected))


@pytest.mark.parametrize("n", [1, 3, 16, 20])
def test_targets_that_come_alone(n: int) -> None:
    Y = np.random.default_rng(n).standard_normal((150, n)) + 5.0
    moments = gather_targets(begin_reading(TableSource(as_table(Y, "Y"))))
    assert moments.count == 150
    if n <= 16:
        require_exact(moments, Y)
    else:
        assert moments.long_targets is None
    np.testing.assert_allclose(moments.target_covariance, np.cov(Y.T, bias=True).reshape(n, n), atol=1e-13)


class _Processes(Team):
    """Those that hold some states; `rank` asks."""

    def __init__(self, states: Sequence[dict[str, FloatArray]]) -> None:
        self._states = states

    def sum(self, arrays: Sequence[FloatArray]) -> None:
        pairs = {name for names in RESTS.items() for name in names}
        names = [name for name in self._states[0] if name not in pairs and not name.endswith("shift")]
        assert len(names) == len(arrays)
        for name, array in zip(names, arrays, strict=True):
            array[...] = sum(state[name] for state in self._states)

    def gather(self, values: Sequence[float]) -> FloatArray:
        names = [name for names in RESTS.items() for name in names]
        table = np.array([np.concatenate([state[name].ravel() for name in names]) for state in self._states])
        assert values in table.tolist()
        return table


@pytest.mark.usefixtures("no_kept_rows")
def test_processes_add_up_pairs() -> None:
    rng = np.random.default_rng(3)
    H, Y = rng.standard_normal((200, 2)), rng.standard_normal((200, 2))
    whole = nrc.FeatureStatistics(2, n_targets=2)
    shifts = {"shift": np.zeros(2), "target_shift": np.array([0.1, 0.2])}
    empty = whole.arrays() | shifts
    states = [
        nrc.FeatureStatistics(2, n_targets=2).restore(empty).update(H[p], Y[p]).arrays()
        for p in (slice(90), slice(90, 200))
    ]
    order = [name for name in states[0] if name not in shifts]
    states = [{name: state[name] for name in order} for state in (states[0], empty, states[1])]
    found = [sums_of_team(_Processes(states), state) for state in states]
    for state in found:
        require_exact(whole.restore(shifts | state).moments, Y)
        for name in state:
            np.testing.assert_array_equal(state[name], found[0][name])
    assert counted(rows=200)[0] == found[0]["counts"][0]


@pytest.mark.parametrize("exponent", [-400, -300, 230])
def test_errors_of_targets_of_any_scale(exponent: int) -> None:
    """Squares of covariances may be too small for float64, and their roundings are there all the same."""
    rng = np.random.default_rng(7)
    H, Y = rng.standard_normal((50, 3)), rng.standard_normal((50, 2)) + 5.0
    one, far = (nrc.FeatureStatistics(3, n_targets=2).update(H, np.ldexp(Y, power)) for power in (0, exponent))
    np.testing.assert_array_equal(far.target_covariance, np.ldexp(one.target_covariance, 2 * exponent))
    assert far.target_error == pytest.approx(np.ldexp(one.target_error, 2 * exponent), rel=1e-9, abs=0)
    assert far.target_mean_error == pytest.approx(np.ldexp(one.target_mean_error, exponent), rel=1e-9, abs=0)
