"""Covariances and errors of few rows, against fractions: rounded once, and bounded by little more than that."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from numpy.typing import NDArray

import nrc_fast as nrc
from nrc_fast.measurement import all_metrics
from nrc_fast.measurement.exact_targets import TargetCovariance, exact_errors
from nrc_fast.passes.balance_sums import LinearModel

FloatArray = NDArray[np.float64]
UNIT = 2.0**-53


def fractions(matrix: FloatArray) -> list[list[Fraction]]:
    return [[Fraction(entry) for entry in row] for row in matrix.tolist()]


def size(matrix: list[list[Fraction]]) -> float:
    return float(sum(entry**2 for row in matrix for entry in row)) ** 0.5


def mean_product(left: list[list[Fraction]], right: list[list[Fraction]]) -> list[list[Fraction]]:
    columns = [[list(column) for column in zip(*part, strict=True)] for part in (left, right)]
    return [[sum(a * b for a, b in zip(x, y, strict=True)) / len(left) for y in columns[1]] for x in columns[0]]


def apart(exact: list[list[Fraction]], *parts: FloatArray) -> float:
    given = [[sum(map(Fraction, entries)) for entries in zip(*rows, strict=True)] for rows in zip(*parts, strict=True)]
    return size([[a - b for a, b in zip(*rows, strict=True)] for rows in zip(exact, given, strict=True)])


@pytest.mark.parametrize("offset", [0.0, 1.0, 1e8])
@pytest.mark.parametrize("scale", [1.0, 1e-70, 1e70])
def test_covariances_are_rounded_once(offset: float, scale: float) -> None:
    targets = scale * (np.random.default_rng(0).standard_normal((30, 3)) * [1.0, 1e-3, 1e-6] + offset)
    found = TargetCovariance.of_rows(targets)
    rows = fractions(targets)
    means = [sum(column) / len(rows) for column in zip(*rows, strict=True)]
    centred = [[entry - mean for entry, mean in zip(row, means, strict=True)] for row in rows]
    exact = mean_product(centred, centred)
    assert apart(exact, found.matrix) <= found.error <= 1.01 * UNIT * float(np.linalg.norm(found.matrix))
    assert found.rest is not None
    assert apart(exact, found.matrix, found.rest) <= found.long_error <= 1e-5 * found.error
    trace = sum(exact[i][i] for i in range(3))
    assert abs(Fraction(found.variance) - trace) <= Fraction(found.variance_error)
    assert found.variance_error <= 5.0 * UNIT * found.variance


@pytest.mark.parametrize("noise", [1.0, 1e-7, 0.0])
@pytest.mark.parametrize("offset", [0.0, 1e4])
@pytest.mark.parametrize("scale", [1.0, 1e-70, 1e70])
def test_errors_of_a_model_are_rounded_once(noise: float, offset: float, scale: float) -> None:
    rng = np.random.default_rng(1)
    rows, weights = rng.standard_normal((40, 5)) + offset, rng.standard_normal((3, 5))
    bias = rng.standard_normal(3) - weights @ np.full(5, offset)
    targets = scale * (rows @ weights.T + bias + noise * rng.standard_normal((40, 3)))
    model = LinearModel(scale * weights, scale * bias)
    found = exact_errors(rows, targets, model)
    images = [
        [sum(map(Fraction.__mul__, row, weight)) for weight in fractions(model.weights)] for row in fractions(rows)
    ]
    residuals = [
        [y - image - Fraction(b) for y, image, b in zip(*parts, model.bias.tolist(), strict=True)]
        for parts in zip(fractions(targets), images, strict=True)
    ]
    mse = sum(entry**2 for row in residuals for entry in row) / len(rows)
    assert abs(Fraction(found.mse) - mse) <= Fraction(found.mse_error)
    # Some 28 digits of what cancels are left.
    energy = size(images) ** 2 / len(rows)
    assert found.mse_error <= 1.01 * UNIT * found.mse + 1e-28 * (found.mse * energy) ** 0.5
    balance = found.balance
    unit = Fraction(2) ** balance.exponent
    exact = [[entry / unit for entry in row] for row in mean_product(residuals, images)]
    assert apart(exact, balance.values) <= balance.error
    # What cancels in the sums over the rows is not lost.
    if noise == 0.0:
        assert balance.error > np.linalg.norm(balance.values)  # it is the rounding of the targets
        return
    cancelling = size(residuals) * size(images) / len(rows) / float(unit)
    assert balance.error <= 1.01 * UNIT * float(
        np.linalg.norm(balance.values)
    ) + 1e-22 * cancelling + 1e-27 * energy / float(unit)


def test_reports_of_few_rows_have_these_numbers_and_say_that_they_are_certain(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(2)
    H, Y, W = rng.standard_normal((100, 6)), rng.standard_normal((100, 2)), rng.standard_normal((2, 6))
    report, exact = nrc.measure(H, Y, W, np.zeros(2)), exact_errors(H, Y, LinearModel(W, np.zeros(2)))
    assert (report.mse, report.bounds["mse"]) == (exact.mse, exact.mse_error)
    certain = ("mse", "r2", "balance_decay", "balance_distance", "balance_asymmetry")
    of_targets = ("nrc3", "gamma", "nrc3_at_zero", "gamma_share", "head_outside")
    assert {report.bound_kinds[name] for name in (*certain, *of_targets)} == {"certified"}
    held = nrc.measure(iter([(H, Y)]), W=W, b=np.zeros(2))
    assert held.to_dict() == report.to_dict()
    monkeypatch.setattr(all_metrics, "MOST_HELD", 0)
    read_once = nrc.measure(iter([(H, Y)]), W=W, b=np.zeros(2))
    assert {read_once.bound_kinds[name] for name in certain} == {"probable"}
    # The sums of targets are pairs however they came.
    assert {read_once.bound_kinds[name] for name in of_targets} == {"certified"}
    assert [getattr(read_once, name) for name in of_targets] == [getattr(report, name) for name in of_targets]
    assert abs(read_once.mse - report.mse) <= read_once.bounds["mse"] + report.bounds["mse"]
    assert report.bounds["mse"] < 0.1 * read_once.bounds["mse"]
    for value, bound in (nrc.nrc3(W, Y, return_bound=True), nrc.nrc3_gamma(W, Y, return_bound=True)):
        assert (value, bound) in {(report.nrc3, report.bounds["nrc3"]), (report.gamma, report.bounds["gamma"])}


def test_more_rows_than_are_held_and_rows_in_parts_come_to_the_same() -> None:
    rng = np.random.default_rng(3)
    H, Y, W = rng.standard_normal((6000, 6)), rng.standard_normal((6000, 2)), rng.standard_normal((2, 6))
    report, exact = nrc.measure(H, Y, W, np.zeros(2)), exact_errors(H, Y, LinearModel(W, np.zeros(2)))
    assert report.bound_kinds["mse"] == "probable"
    assert abs(report.mse - exact.mse) <= report.bounds["mse"] + exact.mse_error
    parts = nrc.measure(H[:500], Y[:500], W, np.zeros(2), chunk_rows=64)
    whole = nrc.measure(H[:500], Y[:500], W, np.zeros(2))
    assert [parts.mse, parts.nrc3, parts.balance_decay] == [whole.mse, whole.nrc3, whole.balance_decay]
