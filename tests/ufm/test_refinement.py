"""Descent on the profiled loss: where the closed form is, and where there is none."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from nrc_fast.ufm import minimum, refine

pytest.importorskip("scipy")

EPS = float(np.finfo(np.float64).eps)


@pytest.mark.parametrize("options", [{}, {"bias": False}])
@pytest.mark.parametrize("c", [1e-4, 0.02, 0.3, 1.2, 5.0])
@pytest.mark.parametrize("n", [1, 2, 3, 7])
def test_refinement_ends_at_the_closed_form(reference: Any, n: int, c: float, options: Any) -> None:
    rng = np.random.default_rng(n)
    covariance = reference.covariance_with(np.geomspace(2.0, 0.05, n), seed=n)
    keywords = {"covariance": covariance, "mean": rng.standard_normal(n), "lambda_W": 3.0, "lambda_H": c / 3.0}
    closed, found = minimum(**keywords, **options), refine(**keywords, **options, seed=n)
    assert found.gradient < 1e-7
    # The loss is flat at its minimum: the square of the gradient is far below rounding.
    assert found.loss == pytest.approx(closed.loss, rel=64 * n * EPS)
    # With lambda_H = lambda_W the loss over mu grows with |dW|^2 times at least ~mu; W^2 and k^2 turn it into G.
    slack = 1e-7 / min(np.sqrt(c), 1.0) * (1.0 + np.linalg.norm(closed.gram))
    np.testing.assert_allclose(found.gram, closed.gram, rtol=0, atol=slack)
    np.testing.assert_allclose(found.bias, closed.bias, rtol=0, atol=slack)
    assert found.mse == pytest.approx(closed.mse, rel=1e-6)


@pytest.mark.parametrize("lambda_b", [1e-3, 0.4, 20.0])
@pytest.mark.parametrize(("n", "c"), [(2, 0.02), (2, 1.2), (3, 0.3), (3, 0.01)])
def test_penalised_bias_with_any_mean(reference: Any, n: int, c: float, lambda_b: float) -> None:
    covariance = reference.covariance_with(np.geomspace(2.0, 0.2, n), seed=n)
    targets = reference.targets_with(covariance, 5 * n, np.arange(1.0, n + 1.0), seed=n)
    lambda_W, lambda_H = 0.5, c / 0.5
    with pytest.raises(ValueError, match="refine"):
        minimum(targets, lambda_W=lambda_W, lambda_H=lambda_H, lambda_b=lambda_b)
    found = refine(targets, lambda_W=lambda_W, lambda_H=lambda_H, lambda_b=lambda_b, d=n + 1)
    H = found.features(targets)
    loss, gradients = reference.loss_and_gradients(H, found.weights, found.bias, targets, lambda_W, lambda_H, lambda_b)
    assert found.loss == pytest.approx(loss, rel=64 * n * EPS)
    assert max(np.abs(part).max() for part in gradients) < 1e-6
    explicit, _, b = reference.optimise(targets, n + 1, lambda_W, lambda_H, lambda_b=lambda_b, seed=1)
    assert -64 * EPS * loss < explicit - loss < 1e-10 * loss
    np.testing.assert_allclose(found.bias, b, rtol=0, atol=1e-3)
    errors = H @ found.weights.T + found.bias - targets
    assert found.mse == pytest.approx(np.sum(errors**2) / len(targets), rel=1e-12)


def test_penalised_bias_with_a_closed_form() -> None:
    targets = np.eye(4)[np.arange(12) % 4]
    for lambda_b in (0.05, 0.7):
        keywords = {"lambda_W": 0.05, "lambda_H": 0.2, "lambda_b": lambda_b}
        closed, found = minimum(targets, **keywords), refine(targets, **keywords)
        np.testing.assert_allclose(found.gram, closed.gram, rtol=0, atol=1e-6)
        assert found.loss == pytest.approx(closed.loss, rel=256 * EPS)


@pytest.mark.parametrize("size", [1e-60, 1e60])
def test_units_do_not_matter(size: float) -> None:
    covariance = np.array([[1.3, -0.4], [-0.4, 0.5]])
    one = refine(covariance=covariance, lambda_W=0.1, lambda_H=0.2)
    other = refine(covariance=covariance * size**2, lambda_W=0.1 * size, lambda_H=0.2 * size)
    np.testing.assert_allclose(other.gram / size, one.gram, rtol=1e-6)


@pytest.mark.parametrize(
    ("keywords", "message"),
    [
        ({"lambda_W": 0.0}, "lambda_W must be positive"),
        ({"lambda_H": [0.1, 0.2]}, "one problem at a time"),
        ({"covariance": np.ones((2, 1, 1))}, "one problem at a time"),
        ({"d": 0}, "from 1 on"),
        ({"lambda_b": 0.1, "bias": False}, "give one of them"),
    ],
)
def test_bad_input(keywords: Any, message: str) -> None:
    options = {"covariance": np.diag([1.0, 0.5]), "lambda_W": 0.1, "lambda_H": 0.1} | keywords
    with pytest.raises(ValueError, match=message):
        refine(**options)


def test_giving_up_is_an_error() -> None:
    with pytest.raises(RuntimeError, match="raise iterations="):
        refine(covariance=np.diag([1.0, 0.5]), lambda_W=0.1, lambda_H=0.1, iterations=2)
    found = refine(covariance=np.eye(2), lambda_W=0.1, lambda_H=0.1)
    with pytest.raises(ValueError, match="2 are expected"):
        found.features(np.ones((3, 3)))


def test_without_scipy(run_alone: Any) -> None:
    code = (
        "import sys; sys.modules['scipy'] = None\n"
        "import numpy as np, nrc_fast as nrc\n"
        "try: nrc.ufm.refine(covariance=np.eye(2), lambda_W=0.1, lambda_H=0.1)\n"
        "except ImportError as error: print(error)"
    )
    result = run_alone(code)
    assert "pip install 'nrc-fast[ufm]'" in result.stdout, result.stderr


def test_text_names_the_numbers() -> None:
    found = refine(covariance=np.diag([4.0, 1.0]), lambda_W=0.5, lambda_H=0.5, d=3)
    title, numbers = repr(found).splitlines()
    assert title.startswith("minimum of the UFM by descent, n = 2, d = 3, ")
    assert numbers == "  loss 1.25, MSE 0.5 (summed over outputs)"
