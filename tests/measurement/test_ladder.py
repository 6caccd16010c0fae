"""Every number with a bound beside its exact value: features of every dtype, offset, noise, size and tail.

The references have 30 digits (`support.exact_numbers`). No bound may be smaller than the error of its number.
"""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.arrays import store
from support.exact_numbers import ExactNumbers
from support.ladder import Finding, Rung, findings, looseness

import nrc_fast as nrc

DTYPES = ["float64", "float32", "float16", "torch.bfloat16"]
OFFSETS = [0.0, 1.0, 30.0, 1e4]
NOISES = [1.0, 1e-2, 1e-4, 1e-7, 0.0]
COMPONENTS = 6
# The median of bound over error of a metric may be this large: the errors of collapsed features are of second order in
# the angle of a basis, whose bound is far from what that is off by.
LOOSEST = 1e12
# How the functions for one metric are called: with an array, and with batches that can be read once.
CALLS = ["()", " once()"]
# What it is to be at most on the whole ladder, where most numbers are those of few rows, which are held or kept; the
# convention uncentered beside another one is of sums over many rows alone.
BARS = {
    **dict.fromkeys(("explained_variance_ratio", "effective_rank", "stable_rank"), 30.0),
    **dict.fromkeys(("nrc1", "nrc1_by_k", "nrc2"), 50.0),
    **{f"{metric} {name}": 50.0 for metric in ("nrc1", "nrc2") for name in nrc.CONVENTIONS},
    **{f"{metric} uncentered": 2e3 for metric in ("nrc1", "nrc2")},
    **{f"{metric}{call} {name}": 50.0 for metric in ("nrc1", "nrc2") for call in CALLS for name in nrc.CONVENTIONS},
    **dict.fromkeys(("balance_asymmetry", "balance_decay", "balance_distance", "linear_mse", "mse", "r2"), 60.0),
    **dict.fromkeys(("cka", "cka_debiased"), 100.0),
    **dict.fromkeys(("gamma", "gamma()", "gamma_share", "head_outside", "nrc3", "nrc3()", "nrc3_at_zero"), 50.0),
}

SHORT = [
    (0.0, 1.0, 20, 3, "normal"),
    (0.0, 1e-4, 300, 17, "normal"),
    (1.0, 1e-7, 20, 3, "student"),
    (30.0, 1e-2, 300, 3, "normal"),
    (30.0, 1e-7, 20, 17, "normal"),
    (1e4, 1.0, 300, 17, "student"),
    (1e4, 1e-4, 20, 3, "normal"),
    (1.0, 0.0, 300, 3, "normal"),
]
LONG = [
    *itertools.product(OFFSETS, NOISES, [20, 300], [3, 17], ["normal"]),
    *itertools.product(OFFSETS, NOISES, [300], [17], ["student"], [1, 3]),
    *itertools.product([0.0, 1e4], [1.0, 1e-4, 0.0], [300], [64], ["normal"], [2, 18]),
    *itertools.product([0.0, 30.0], [1.0, 1e-4], [20_000], [17], ["normal", "student"]),
    *itertools.product([0.0, 1e4], [1.0, 1e-4], [200_000], [5], ["normal"]),
    *itertools.product([0.0, 30.0], [1e-2, 1e-7], [2000], [96], ["normal"]),
]


def reports(rung: Rung, arrays: tuple[Any, ...], folder: Path, *, every_convention: bool) -> Iterator[nrc.Report]:
    """Reports of the same rows, by every way in."""
    H, Y, W, b = arrays
    for convention in nrc.CONVENTIONS if every_convention else ("nrc24", "id25"):
        yield nrc.measure(H, Y, W, b, convention=convention)
    yield nrc.measure(write(H, folder), Y, W, b)
    third = rung.count // 3 + 1
    parts = [slice(first, first + third) for first in range(0, rung.count, third)]
    batches = nrc.FeatureStatistics(rung.d, n_targets=rung.n)
    for part in parts:
        batches.update(H[part], Y[part])
    yield batches.report(W, b)
    merged = nrc.FeatureStatistics(rung.d, n_targets=rung.n)
    for part in parts:
        merged.merge(nrc.FeatureStatistics(rung.d, n_targets=rung.n).update(H[part], Y[part]))
    yield merged.report(W, b)
    yield batches.report(W, b, convention="uncentered")


def write(H: Any, folder: Path) -> Path:
    if isinstance(H, np.ndarray):
        path = folder / "H.npy"
        np.save(path, H)
        return path
    torch = pytest.importorskip("torch")
    path = folder / "H.pt"
    torch.save(H, path)
    return path


def single_numbers(arrays: tuple[Any, ...], exact: ExactNumbers) -> Iterator[Finding]:
    """What the functions for one metric each give."""
    H, Y, W, _ = arrays
    n = len(W)
    for name in nrc.CONVENTIONS:
        pairs = {
            "nrc1": nrc.nrc1(H, n, convention=name, return_bound=True),
            "nrc2": nrc.nrc2(H, W, convention=name, return_bound=True),
        }
        parts = H[: len(H) // 3], H[len(H) // 3 :]
        pairs |= {
            "nrc1 once": nrc.nrc1(iter(parts), n, convention=name, return_bound=True),
            "nrc2 once": nrc.nrc2(iter(parts), W, convention=name, return_bound=True),
        }
        for label, (value, bound) in pairs.items():
            if np.isnan(value):  # id25 of many rows
                continue
            interval = exact.alternatives[name][label.split()[0]]
            yield Finding(f"{label}() {name}", value, bound, float(interval.distance(value)))
    for label, (value, bound) in {
        "nrc3": nrc.nrc3(W, Y, return_bound=True),
        "gamma": nrc.nrc3_gamma(W, Y, return_bound=True),
    }.items():
        if n == 1:
            assert np.isnan(value)
            continue
        interval = exact.numbers[label]
        assert not isinstance(interval, list)
        yield Finding(f"{label}()", value, bound, float(interval.distance(value)))


def climb(dtype: str, rungs: list[Any], folder: Path, *, every_convention: bool, bars: Mapping[str, float]) -> None:
    violations, found, checked = [], defaultdict(list), 0
    for sizes in rungs:
        rung = Rung(dtype, *sizes)
        arrays = rung.arrays()
        if not np.ptp(ExactNumbers.stored(arrays[0]), axis=0).any():
            continue  # the dtype holds none of the differences
        exact = ExactNumbers(*arrays, components=min(rung.d, max(COMPONENTS, rung.n)))
        all_found = [
            *single_numbers(arrays, exact),
            *(
                one
                for report in reports(rung, arrays, folder, every_convention=every_convention)
                for one in findings(report, exact)
            ),
        ]
        for one in all_found:
            found[one.name.split("[")[0]].append(one)
            checked += 1
            if one.is_violated:
                violations.append(f"{rung}: {one.name} is {one.value!r} +- {one.bound:.2e}, off by {one.error:.2e}")
    loose = looseness(found)
    print(f"{dtype}: {checked} numbers, bound / error:", {name: f"{value:.1e}" for name, value in loose.items()})
    assert not violations, f"{len(violations)} of {checked} bounds do not hold:\n" + "\n".join(violations)
    assert not {name: value for name, value in loose.items() if value > bars.get(name, LOOSEST)}
    assert checked > 100 * len(rungs) // 2


@pytest.mark.parametrize("dtype", DTYPES)
def test_every_bound_holds(dtype: str, tmp_path: Path) -> None:
    climb(dtype, SHORT, tmp_path, every_convention=False, bars={})


@pytest.mark.endurance
@pytest.mark.parametrize("dtype", DTYPES)
def test_every_bound_holds_on_the_whole_ladder(dtype: str, tmp_path: Path) -> None:
    climb(dtype, LONG, tmp_path, every_convention=True, bars=BARS)


def test_bounds_of_merged_parts_with_means_far_apart() -> None:
    rng = np.random.default_rng(8)
    parts, rows, d, n = 5, 200, 12, 2
    A = rng.standard_normal((n, d))
    H = np.concatenate([100 * rng.standard_normal(n) @ A + 1e-4 * rng.standard_normal((rows, d)) for _ in range(parts)])
    outside = np.eye(d) - np.linalg.pinv(A) @ A
    Y = (H - H.mean(axis=0)) @ outside @ rng.standard_normal((d, n)) / 1e-4
    W, b = rng.standard_normal((n, d)), np.zeros(n)
    merged = nrc.FeatureStatistics(d, n_targets=n)
    for part in range(parts):
        chosen = slice(part * rows, (part + 1) * rows)
        merged.merge(nrc.FeatureStatistics(d, n_targets=n).update(H[chosen], Y[chosen]))
    exact = ExactNumbers(H, Y, W, b, components=COMPONENTS)
    assert not [one for one in findings(merged.report(W, b), exact) if one.is_violated]


def test_rows_that_are_alike_round_the_same_way() -> None:
    """Sums of equal squares: their roundings do not cancel, and grow like the number of rows in a segment."""
    row = np.random.default_rng(0).standard_normal(5)
    H = np.repeat(store(row, "float32")[np.newaxis], 4096, axis=0)
    H[:8] *= np.float32(1.5)
    W = np.random.default_rng(1).standard_normal((2, 5))
    exact = ExactNumbers(H, np.arange(2.0 * len(H)).reshape(-1, 2), W, np.zeros(2), components=2)
    report = nrc.measure(H, W=W)
    for convention in ("nrc24", "raw"):
        value, bound = nrc.nrc2(H, W, convention=convention, return_bound=True)
        assert exact.alternatives[convention]["nrc2"].distance(value) <= bound
    assert exact.alternatives["nrc24"]["nrc2"].distance(report.nrc2) <= report.bounds["nrc2"]
