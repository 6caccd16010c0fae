"""Products of the errors of a model with what its weights make of the rows, on each instruction set of the CPU."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from support.double_double import Pairs
from support.products import prediction_error

from nrc_fast.kernels.calls import residual_and_errors
from nrc_fast.kernels.inputs import as_rows
from nrc_fast.kernels.interface import PredictionRequest
from nrc_fast.kernels.results import Basis, PredictionSums

EPSILON = 2.0**-52

every_isa = pytest.mark.usefixtures("isa")

SetThreads = Callable[[int], None]


def found_in(features: Any, weights: Any, bias: Any, targets: Any, scale: float = 1.0) -> PredictionSums:
    request = PredictionRequest(weights, bias, as_rows(targets, "Y"), scale=scale, wants_products=True)
    return residual_and_errors(as_rows(features, "H"), [], request)[1]


def check(arrays: Any, features: Any, weights: Any, bias: Any, targets: Any, scale: float = 1.0) -> PredictionSums:
    """Products and energies as far off as those of numpy in float64, or by a few roundings of what is added up."""
    found = found_in(features, weights, bias, targets, scale)
    wide = [arrays.reference_rows(array) for array in (features, targets)]
    x, y = map(Pairs, wide)
    images = x @ weights.T
    exact = (y - images * scale - bias).T @ images
    plain_images = wide[0] @ weights.T
    plain = (wide[1] - scale * plain_images - bias).T @ plain_images
    lengths = np.abs(wide[0]) @ np.abs(weights).T
    terms = (scale * lengths + np.abs(bias) + np.abs(wide[1])).T @ lengths
    rounding = EPSILON * (4.0 + len(wide[0]) ** 0.5 + x.shape[1] ** 0.5)
    arrays.expected(exact, terms, plain, rounding).check(found.products, "products")
    assert found.image_energy == pytest.approx(float((images**2).sum()), rel=4 * rounding * (1.0 + lengths.size**0.5))
    assert found.energy == pytest.approx(float((x**2).sum()), rel=rounding)
    return found


@every_isa
@pytest.mark.parametrize("dtype", ["float64", "float32", "float16", "torch.bfloat16"])
def test_products_of_every_size(arrays: Any, set_threads: SetThreads, dtype: str) -> None:
    rng = np.random.default_rng(0)
    sizes = [(0, 3, 2), (1, 1, 1), (5, 17, 3), (129, 7, 2), (257, 33, 4), (400, 65, 5), (300, 260, 8), (600, 49, 17)]
    for count, width, n in sizes:
        features = arrays.normal((count, width), dtype, seed=1)
        targets = arrays.normal((count, n), "float32", seed=2, mean=1.0)
        weights, bias = rng.standard_normal((n, width)), rng.standard_normal(n)
        for threads in (1, 3):
            set_threads(threads)
            found = check(arrays, features, np.ldexp(weights, -7), bias, targets, scale=2.0**7)
            # A power of two changes no digit, nor does it what else is added up.
            alone = prediction_error(as_rows(features, "H"), weights, bias, as_rows(targets, "Y"))
            assert found.errors.tobytes() == alone.tobytes()


@every_isa
def test_products_beside_residuals_are_those_alone(arrays: Any, set_threads: SetThreads) -> None:
    set_threads(1)
    rng = np.random.default_rng(0)
    features, targets = rng.standard_normal((300, 33)), rng.standard_normal((300, 3))
    weights, bias = rng.standard_normal((3, 33)), rng.standard_normal(3)
    request = PredictionRequest(weights, bias, as_rows(targets, "Y"), wants_products=True)
    bases = [Basis(arrays.orthonormal(4, 33, seed=1)), Basis(arrays.orthonormal(2, 33, seed=2), np.ones(33))]
    together = residual_and_errors(as_rows(features, "H"), bases, request)[1]
    alone = check(arrays, features, weights, bias, targets)
    np.testing.assert_array_equal(together.products, alone.products)
    assert (together.image_energy, together.energy) == (alone.image_energy, alone.energy)


@every_isa
@pytest.mark.parametrize("power", [-480, 480])
def test_products_of_rows_whose_squares_leave_the_safe_range(arrays: Any, power: int) -> None:
    rng = np.random.default_rng(0)
    features, weights = np.ldexp(rng.standard_normal((60, 13)), power), rng.standard_normal((3, 13))
    features[::3] = np.ldexp(features[::3], -power)
    check(arrays, features, weights, rng.standard_normal(3), rng.standard_normal((60, 3)), scale=2.0**-power)


@every_isa
def test_sums_of_products_do_not_round_with_the_number_of_rows() -> None:
    """Products of equal rows round the same way, in every addition."""
    row = np.random.default_rng(1).standard_normal((1, 5))
    weights, bias, target = np.random.default_rng(2).standard_normal((2, 5)), np.ones(2), np.full((1, 2), 3.7)
    count = 100_003
    whole = found_in(np.repeat(row, count, axis=0), weights, bias, np.repeat(target, count, axis=0))
    single = found_in(row, weights, bias, target)
    assert whole.products is not None
    assert single.products is not None
    pairs = [
        *zip(whole.products.ravel(), single.products.ravel(), strict=True),
        (whole.image_energy, single.image_energy),
        (whole.energy, single.energy),
    ]
    for many, one in pairs:
        assert abs(Fraction(many) - count * Fraction(one)) <= 16 * Fraction(EPSILON) * abs(Fraction(many))


@every_isa
@pytest.mark.parametrize("threads", [1, 3])
def test_repeated_calls_give_the_same_bits(set_threads: SetThreads, threads: int) -> None:
    set_threads(threads)
    rng = np.random.default_rng(3)
    given = rng.standard_normal((5000, 40)).astype(np.float32), rng.standard_normal((4, 40)), np.zeros(4)
    targets = rng.standard_normal((5000, 4))
    first = found_in(*given, targets)
    assert first.products is not None
    assert first.products.all()
    for _ in range(5):
        again = found_in(*given, targets)
        np.testing.assert_array_equal(again.products, first.products)
        assert (again.image_energy, again.energy) == (first.image_energy, first.energy)
