"""NRC1 and NRC2 of many rows on the components found and on the exact ones, against pairs of float64."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support import arrays, cuda_core, on_device
from support.exact_numbers import ExactNumbers

import nrc_fast as nrc
from nrc_fast.measurement import evidence, projections

pytestmark = pytest.mark.usefixtures("many_rows")


def collapsed(noise: float, *, offset: float = 0.0, rows: int = 3000, d: int = 17, dtype: str = "float32") -> Any:
    """Rows near a plane of three directions through an offset that is mostly in it."""
    rng = np.random.default_rng(int(-np.log10(noise)) + d)
    plane = arrays.orthonormal(3, d, seed=1)
    around = rng.standard_normal((rows, 3)) * [3.0, 2.0, 1.0] @ plane + noise * rng.standard_normal((rows, d))
    return (around + offset * (0.8 * plane[0] + 0.6 * arrays.orthonormal(1, d, seed=2)[0])).astype(dtype)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("noise", [1e-2, 1e-4, 1e-6])
@pytest.mark.parametrize("offset", [0.0, 1.0, 1e4])
def test_bounds_hold_in_two_reads(passes: list[str], noise: float, offset: float, dtype: str) -> None:
    H = collapsed(noise, offset=offset, dtype=dtype)
    rng = np.random.default_rng(0)
    Y, W = rng.standard_normal((len(H), 2)), rng.standard_normal((2, H.shape[1]))
    exact = ExactNumbers(H, Y, W, np.zeros(2), components=3)
    for name in ("nrc24", "id25", "raw", "variance", "uncentered"):
        values, bounds = nrc.nrc1(H, [1, 2, 3], convention=name, return_bound=True)
        for known, value, bound in zip(exact.by_k[name], values, bounds, strict=True):
            assert float(known.distance(float(value))) <= bound
        passes.clear()
        value, bound = nrc.nrc1(H, 3, convention=name, return_bound=True)
        assert float(exact.by_k[name][2].distance(value)) <= bound
        if offset < 1e4:  # else eigenvalues of a large mean are far above those that matter
            assert passes == ["statistics", "residuals"]
            # With an offset, second moments have a fourth direction: three leave too much to count as collapsed.
            assert bound <= (1e-6 if name != "uncentered" or offset == 0.0 else 1e-3) * value
    report = nrc.measure(H, Y, W, np.zeros(2))
    for name, one in {"nrc24": {"nrc1": report.nrc1, "nrc2": report.nrc2}, **report.alternatives}.items():
        own = report.bounds if name == "nrc24" else report.alternative_bounds[name]
        assert float(exact.by_k[name][1].distance(one["nrc1"])) <= own["nrc1"]
        assert float(exact.alternatives[name]["nrc2"].distance(one["nrc2"])) <= own["nrc2"]


def test_reports_of_features_that_are_not_collapsed_have_measured_angles(monkeypatch: pytest.MonkeyPatch) -> None:
    H = collapsed(1.0)
    rng = np.random.default_rng(0)
    Y, W = rng.standard_normal((len(H), 3)), rng.standard_normal((3, H.shape[1]))
    report = nrc.measure(H, Y, W)
    exact = ExactNumbers(H, Y, W, np.zeros(3), components=3).alternatives["nrc24"]["nrc1"]
    assert float(exact.distance(report.nrc1)) <= report.bounds["nrc1"]
    monkeypatch.setattr(evidence, "MOST_IMAGED", 0)
    assert report.bounds["nrc1"] < 0.1 * nrc.measure(H, Y, W).bounds["nrc1"]


@pytest.mark.parametrize("convention", ["nrc24", "id25", "raw", "variance"])
def test_values_are_those_of_a_refined_basis(convention: str, monkeypatch: pytest.MonkeyPatch) -> None:
    H = collapsed(1e-4, offset=1.0)
    value, bound = nrc.nrc1(H, 3, convention=convention, return_bound=True)
    monkeypatch.setattr(evidence, "MOST_IMAGED", 0)
    refined, wider = nrc.nrc1(H, 3, convention=convention, return_bound=True)
    assert abs(value - refined) <= bound + wider
    assert bound <= 4.0 * wider


def test_a_basis_is_refined_where_the_turns_leave_too_few_digits(
    passes: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    H = collapsed(1e-4)
    value, bound = nrc.nrc1(H, 3, return_bound=True)
    monkeypatch.setattr(projections, "KNOWN", 0.0)
    monkeypatch.setattr(projections, "ABOVE_ROUNDING", 0.0)
    passes.clear()
    refined, wider = nrc.nrc1(H, 3, return_bound=True)
    assert passes == ["statistics", "residuals", "refinement", "residuals"]
    assert abs(value - refined) <= bound + wider


def in_files(H: Any, path: Path) -> Any:
    np.save(path / "H.npy", H)
    return str(path / "H.npy")


def in_batches(H: Any, _: Path) -> Any:
    return [H[first : first + 700] for first in range(0, len(H), 700)]


@pytest.mark.parametrize("placed", [in_files, in_batches])
def test_rows_in_files_and_batches_have_the_same_bounds(placed: Callable[[Any, Path], Any], tmp_path: Path) -> None:
    H = collapsed(1e-4, offset=1.0)
    value, bound = nrc.nrc1(H, 3, return_bound=True)
    again, other = nrc.nrc1(placed(H, tmp_path), 3, return_bound=True)
    assert abs(value - again) <= bound + other
    assert other <= 2.0 * bound


def test_rows_that_are_skipped_are_in_no_image() -> None:
    H = collapsed(1e-4, offset=1.0)
    broken = np.concatenate([H[:100], np.full((3, H.shape[1]), np.nan, dtype=H.dtype), H[100:]])
    value, bound = nrc.nrc1(H, 3, return_bound=True)
    found, other = nrc.nrc1(broken, 3, return_bound=True, nonfinite="skip")
    assert abs(found - value) <= bound + other
    assert other <= 2.0 * bound


@pytest.mark.parametrize(
    ("convention", "expected"),
    [
        ("nrc24", ["statistics", "refinement", "residuals"]),
        ("raw", ["statistics", "residuals"]),
        ("variance", ["statistics", "residuals"]),
    ],
)
def test_a_device_has_images_of_rows_that_are_not_divided_by_their_norm(
    convention: str, expected: list[str], passes: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    device = on_device.device_package("emulated", cuda_core, monkeypatch)
    monkeypatch.setattr(evidence, "MOST_HELD", 0)
    H = collapsed(1e-4, rows=300, d=8)
    found, bound = device.nrc1(H, 3, convention=convention, return_bound=True)
    assert passes == expected
    rng = np.random.default_rng(0)
    exact = ExactNumbers(H, rng.standard_normal((300, 2)), rng.standard_normal((2, 8)), np.zeros(2), components=3)
    assert float(exact.by_k[convention][2].distance(found)) <= bound <= 1e-6 * found
