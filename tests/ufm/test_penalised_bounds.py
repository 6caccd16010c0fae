"""Minima with a penalised bias: every number is within its bound of a fixed point found with 40 digits."""

from __future__ import annotations

from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from nrc_fast import ufm

mp = pytest.importorskip("mpmath")

from support.exact_ufm import Comparison, Problem, exact_penalised, exactly  # noqa: E402 - mpmath may be missing


@pytest.fixture(autouse=True)
def digits() -> Iterator[None]:
    with mp.workdps(50):
        yield


def problem_of(rng: np.random.Generator, index: int) -> Any:
    """A covariance whose first or last direction the mean has, to the last digit or not; or one output."""
    n = 1 + index % 3
    values = np.array([3.0, 1.0, 0.4])[:n] * rng.uniform(0.5, 1.5, n)
    rotation = np.eye(n) if index % 4 == 0 else np.linalg.qr(rng.standard_normal((n, n)))[0]
    covariance = rotation @ np.diag(values) @ rotation.T
    covariance = 0.5 * (covariance + covariance.T)
    mean = rng.uniform(-3.0, 3.0) * rotation[:, -1 if index % 2 else 0]
    mean *= index % 7 != 0
    exact = SimpleNamespace(n=n, covariance=exactly(covariance), mean=exactly(mean[:, np.newaxis]))
    exact.spectrum = lambda about_mean: Problem.spectrum(exact, about_mean=about_mean)  # type: ignore[arg-type]
    exact.given = {"covariance": covariance, "mean": mean}
    return exact


def test_every_number_is_within_its_bound() -> None:
    rng, compared = np.random.default_rng(3), Comparison()
    for index in range(30):
        problem = problem_of(rng, index)
        lambda_W, lambda_b = 10.0 ** rng.uniform(-2, 2), [0.3, 1.0, 10.0][index // 3 % 3]
        c = float(np.trace(problem.given["covariance"])) * 10.0 ** rng.uniform(-3, 0.3)
        found = ufm.minimum(**problem.given, lambda_W=lambda_W, lambda_H=c / lambda_W, lambda_b=lambda_b)
        exact = exact_penalised(problem, lambda_W, c / lambda_W, lambda_b)
        compared.add(f"{index}", found, exact)
        squares = sorted(mp.eigsy(exact["gram"], eigvals_only=True), reverse=True)
        singular = [float(mp.sqrt(max(square, mp.mpf(0)))) for square in squares]
        order = np.argsort(-found.weight_singular_values, kind="stable")
        off = np.abs(found.weight_singular_values[order] - singular)
        assert (off <= found.bounds["weight_singular_values"][order] + 1e-15 * np.array(singular)).all()
    assert not compared.violations, compared.violations
    medians = compared.medians()
    assert len(medians) > 9
    assert max(medians.values()) < 1000.0, medians


def test_a_mean_that_is_an_eigenvector_nearly_widens_the_bounds() -> None:
    """Within what counts as an eigenvector the exact minimum is another, and by so much."""
    covariance, options = np.diag([4.0, 1.0]), {"lambda_W": 0.5, "lambda_H": 0.5, "lambda_b": 1.0}
    straight = ufm.minimum(covariance=covariance, mean=[2.0, 0.0], **options)
    turned = ufm.minimum(covariance=covariance, mean=[2.0, 4e-15], **options)
    for name in ("gram", "mse", "weight_norm_squared"):
        assert turned.bounds[name] > 1.2 * straight.bounds[name]
    exact = SimpleNamespace(n=2, covariance=exactly(covariance), mean=exactly(np.array([[2.0], [4e-15]])))
    exact.spectrum = lambda about_mean: Problem.spectrum(exact, about_mean=about_mean)  # type: ignore[arg-type]
    compared = Comparison()
    compared.add("turned", turned, exact_penalised(exact, 0.5, 0.5, 1.0))
    assert not compared.violations


def test_batches_and_ends() -> None:
    """Every minimum of a batch has the bounds of its own, and a free bias among them those of no mean at all."""
    covariance, mean = np.diag([4.0, 1.0]), [1.0, 0.0]
    options = {"covariance": covariance, "mean": mean, "lambda_W": 0.1}
    batch = ufm.minimum(**options, lambda_H=[0.1, 12.0, 0.0001], lambda_b=[[1.0], [0.0]])
    for i, lambda_b in enumerate((1.0, 0.0)):
        for j, lambda_H in enumerate((0.1, 12.0, 0.0001)):
            one = ufm.minimum(**options, lambda_H=lambda_H, lambda_b=lambda_b)
            for name in ("mse", "gram", "loss", "weight_norm_squared"):
                bound = np.asarray(batch.bounds[name])[i, j]
                assert np.isfinite(bound)
                assert bound < 1e-12
                if lambda_b > 0.0:
                    assert bound == pytest.approx(np.asarray(one.bounds[name]), rel=1e-9, abs=1e-300)
                assert abs(np.asarray(getattr(batch, name))[i, j] - getattr(one, name)).max() <= bound + np.max(
                    one.bounds[name]
                )
    assert batch.rank_range[0].tolist() == batch.rank_range[1].tolist() == [[2, 1, 2], [2, 1, 2]]
