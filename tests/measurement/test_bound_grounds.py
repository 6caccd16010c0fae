"""What the bounds of a report rest on, by every way in: from tables of what each way does."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support import cuda_core, on_device

import nrc_fast as nrc
from nrc_fast.kernels.inputs import as_rows
from nrc_fast.kernels.placement import rows_in_place
from nrc_fast.kernels.results import Basis
from nrc_fast.measurement.exact_components import MOST_EXACT
from nrc_fast.passes.residual_sums import Residuals
from nrc_fast.sources import Chunk

SUMS, BLOCKS, CORES, ROWS = "float64 sums", "float32 blocks", "tensor cores", "products along rows"
LAPACK, KRYLOV, DRAWN, FIRST = "decomposition", "iteration", "drawn heads", "first order"
OF_SPECTRUM = ("explained_variance_ratio", "effective_rank", "stable_rank")
# Products N d^2 of these are too many for float64.
COUNT, D = 1700, 256


def draw(count: int = 400, d: int = 12) -> tuple[Any, Any, Any, Any]:
    rng = np.random.default_rng(1)
    H = rng.standard_normal((count, d)) * 0.8 ** np.arange(d)
    return H, H[:, :2] + 0.1 * rng.standard_normal((count, 2)), rng.standard_normal((2, d)), np.zeros(2)


def said(report: nrc.Report, names: Mapping[str, set[str]]) -> None:
    found = {name: set(report.bound_grounds[name]) for name in names}
    assert found == dict(names)


def explicit(extra: set[str]) -> dict[str, set[str]]:
    """Of rows that are read again, whose products had those other roundings."""
    of_basis = {SUMS, LAPACK, ROWS} | extra
    return {
        "nrc1": of_basis,
        "nrc1 variance": of_basis,
        "nrc1_by_k": of_basis,
        "nrc2": {ROWS},
        "nrc2 raw": {ROWS},
        "nrc2 id25": {ROWS, SUMS},
        "linear_mse": {SUMS, LAPACK} | extra,
        **dict.fromkeys(OF_SPECTRUM, {SUMS, LAPACK} | extra),
        # Targets of few rows are held.
        "nrc3": set(),
        "cka": set(),
        "mse": set(),
        "nrc3_untrained": {LAPACK, DRAWN},
    }


def test_rows_in_memory_and_files(tmp_path: Path) -> None:
    H, Y, W, b = draw(MOST_EXACT // 12 + 1)
    np.save(tmp_path / "H.npy", H)
    for features in (H, tmp_path / "H.npy"):
        report = nrc.measure(features, Y, W, b)
        said(report, explicit(set()))
        assert report.bound_kinds["nrc3_untrained"] == "statistical"
        assert report.bound_kinds["nrc1"] == "probable"


def test_few_rows_have_exact_numbers(tmp_path: Path) -> None:
    H, Y, W, b = draw()
    np.save(tmp_path / "H.npy", H)
    exact = {name: {FIRST} for name in ("nrc1", "nrc1 variance", "nrc1_by_k", *OF_SPECTRUM)}
    certified: dict[str, set[str]] = {name: set() for name in ("nrc2", "nrc2 raw", "nrc2 id25", "linear_mse")}
    for features in (H, tmp_path / "H.npy"):
        report = nrc.measure(features, Y, W, b)
        said(report, explicit(set()) | exact | certified)
        assert report.bound_kinds["nrc2"] == "certified"
        assert report.bound_kinds["stable_rank"] == "probable"


@pytest.mark.usefixtures("no_kept_rows")
def test_rows_that_are_read_once_batches_and_merged_ones() -> None:
    H, Y, W, b = draw()
    batches, merged = (nrc.FeatureStatistics(12, n_targets=2) for _ in range(2))
    for part in (slice(0, 150), slice(150, 400)):
        batches.update(H[part], Y[part])
        merged.merge(nrc.FeatureStatistics(12, n_targets=2).update(H[part], Y[part]))
    for report in (nrc.measure(iter([(H, Y)]), None, W, b), batches.report(W, b), merged.report(W, b)):
        said(report, {"nrc1": {SUMS, LAPACK, ROWS}, "nrc2": {SUMS, ROWS}, "mse": {SUMS, ROWS}, "cka": {SUMS}})


def test_blocks_of_float32_stay_said_after_they_were_read_again() -> None:
    rng = np.random.default_rng(2)
    Z, A = rng.standard_normal((COUNT, 2)), rng.standard_normal((2, D))
    noise = rng.standard_normal((COUNT, D))
    for size, is_read_again in ((0.3, False), (3e-8, True)):
        H = (Z @ A + size * noise).astype(np.float32)
        report = nrc.measure(H, Z, rng.standard_normal((2, D)), np.zeros(2))
        said(report, {"cka": {SUMS, BLOCKS}, "nrc2": {ROWS}, "nrc3": set()})
        assert report.bound_kinds["cka"] == "probable"
        assert is_read_again == (report.bounds["linear_mse"] < 1e-12)


def test_few_components_of_many_features_rest_on_an_iteration() -> None:
    rng = np.random.default_rng(3)
    H = rng.standard_normal((300, 2)) @ rng.standard_normal((2, 1100)) + 1e-3 * rng.standard_normal((300, 1100))
    report = nrc.measure(H, H[:, :2])
    assert {KRYLOV} == set(report.bound_grounds["stable_rank"]) - {SUMS, LAPACK}
    assert np.isnan(report.effective_rank)


@pytest.mark.parametrize("precision", ["high", "highest", "fast"])
def test_tensor_cores_are_assumed_where_they_multiply(precision: str, monkeypatch: pytest.MonkeyPatch) -> None:
    package = on_device.device_package("emulated", cuda_core, monkeypatch)
    H, Y, W, b = draw(90, 7)
    H = H.astype(np.float32)
    batches = package.FeatureStatistics(7, n_targets=2, precision=precision)
    report = batches.update(H, Y).report(W, b)
    extra = set() if precision == "highest" else {CORES}
    said(report, {"nrc1": {SUMS, LAPACK, ROWS} | extra, "cka": {SUMS} | extra, "nrc3": {SUMS}})
    assert report.bound_kinds["cka"] == ("assumed" if extra else "probable")
    # So few rows are read again in float64, in which tensor cores cut nothing.
    again = package.measure(H, Y, W, b, precision=precision)
    of_rows_or_head = ("nrc2", "mse", "r2", "balance", "nrc3", "gamma", "head_outside")
    of_sums = {name for name in again.bound_grounds if not name.startswith(of_rows_or_head)}
    found = {name for name, grounds in again.bound_grounds.items() if CORES in grounds}
    assert found == (of_sums if precision == "fast" else set())


@pytest.mark.parametrize("is_placed", [True, False])
@pytest.mark.parametrize("is_double", [True, False])
def test_residuals_in_float32_on_a_device_rest_on_its_tensor_cores(
    is_double: bool, is_placed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = on_device.device_package("emulated", cuda_core, monkeypatch)
    H = draw(64, 8)[0].astype(np.float32)
    residuals = Residuals([Basis(np.eye(2, 8))], double_precision=is_double)
    rows = rows_in_place(package.placed(H), "H") if is_placed else as_rows(H, "H")
    residuals.add_chunk(Chunk(rows, None))
    expected = {ROWS} | ({CORES} if is_placed and not is_double else set())
    assert residuals.grounds == expected
    resumed = Residuals([Basis(np.eye(2, 8))], double_precision=is_double)
    resumed.restore(residuals.arrays())
    assert resumed.grounds == expected
    # A state from before there was this count comes back as one of the host.
    resumed.restore({name: part for name, part in residuals.arrays().items() if name != "devices"})
    assert resumed.grounds == {ROWS}
