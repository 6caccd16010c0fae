"""Components from products of the rows with few vectors: against references in float64, with certificates that hold."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import nrc_fast as nrc
from nrc_fast.measurement import row_components as module
from nrc_fast.measurement.evidence import Evidence
from nrc_fast.metrics.angles import leading_angle_bound
from nrc_fast.passes import component_costs as costs
from nrc_fast.passes.begin import begin_reading
from nrc_fast.testing import reference_nrc1, reference_rows

CONVENTIONS = list(nrc.CONVENTIONS)
EPS = 2.0**-52
KINDS = ["collapsed", "deep", "power", "relu", "heavy", "mean", "one"]


@pytest.fixture
def only_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    """No matrix of d x d is held, whatever the size."""
    monkeypatch.setattr(costs, "MOST_SQUARE_BYTES", 0)


def features(kind: str, rows: int, d: int, dtype: str = "float64") -> Any:
    rng = np.random.default_rng(rows + d)
    signal = rng.standard_normal((rows, 3)) * [3.0, 2.0, 1.0] @ rng.standard_normal((3, d))
    found = {
        "collapsed": lambda: signal + 1e-2 * rng.standard_normal((rows, d)),
        "deep": lambda: signal + 1e-7 * rng.standard_normal((rows, d)),
        "power": lambda: rng.standard_normal((rows, d)) * np.arange(1.0, d + 1.0) ** -0.5,
        "relu": lambda: np.maximum(rng.standard_normal((rows, 17)) @ rng.standard_normal((17, d)), 0.0),
        "heavy": lambda: signal * rng.standard_t(2, (rows, 1)) + 0.1 * rng.standard_normal((rows, d)),
        "mean": lambda: signal + 0.1 * rng.standard_normal((rows, d)) + 1e4 * rng.standard_normal(d),
        "one": lambda: signal[:, :1] * rng.standard_normal(d),
    }[kind]()
    return found.astype(dtype)


def reads_of(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The titles of all passes from now on."""
    titles: list[str] = []
    before = module.Reading.run

    def run(self: Any, title: str, sums: Any) -> None:
        titles.append(title)
        before(self, title, sums)

    monkeypatch.setattr(module.Reading, "run", run)
    return titles


def spread_of_outside(H: Any, n: int, convention: str) -> float:
    """How much a basis that is off by float64's rounding changes NRC1, relative to it: the tolerance of a reference."""
    value = reference_nrc1(H, n, convention)
    energy = (
        1.0
        if nrc.CONVENTIONS[convention].unit_rows or nrc.CONVENTIONS[convention].relative
        else np.mean(np.sum(reference_rows(H) ** 2, axis=1))
    )
    turned = 64 * EPS * np.sqrt(H.shape[1])
    return float(2 * turned * np.sqrt(energy / value) + turned**2 * energy / value) if value > 0 else np.inf


@pytest.mark.usefixtures("only_rows")
@pytest.mark.parametrize("convention", CONVENTIONS)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_values_are_those_of_the_definition(kind: str, dtype: str, convention: str) -> None:
    H = features(kind, 400, 300, dtype)
    n = 1 if kind == "one" else 3
    expected = reference_nrc1(H, n, convention)
    found = nrc.nrc1(H, n, convention=convention)
    if kind == "one":  # nothing but rounding is outside
        assert abs(found - expected) <= 1e-12 if dtype == "float32" else found <= 1e-26
        return
    # Rows that are not float64 are met far below their rounding, 2^-24, and far below that of a float32 residual.
    close = module.CLOSE if dtype == "float32" else module.CLOSE_DOUBLE
    assert found == pytest.approx(expected, rel=0.01 * close + spread_of_outside(H, n, convention))


@pytest.mark.filterwarnings("ignore::nrc_fast.PrecisionWarning")  # more components than the rows have
@pytest.mark.filterwarnings("ignore::nrc_fast.SuspiciousInputWarning")  # far fewer rows than features
@pytest.mark.usefixtures("only_rows")
@pytest.mark.parametrize("rows", [1, 2, 3, 5, 7, 15, 16, 17, 31, 33, 63, 65, 97])
@pytest.mark.parametrize("d", [1, 2, 3, 5, 7, 15, 16, 17, 31, 33, 63, 65, 97])
def test_every_small_size(rows: int, d: int) -> None:
    H = np.random.default_rng(rows * 100 + d).standard_normal((rows, d)) + 1.0
    numbers = sorted({1, min(2, d), min(3, d), d})
    for convention in ("nrc24", "variance", "raw"):
        found, expected = nrc.nrc1(H, numbers, convention=convention), reference_nrc1(H, numbers, convention)
        assert found == pytest.approx(expected, rel=1e-10, abs=1e-13 * d, nan_ok=True)


@pytest.mark.parametrize(("rows", "d"), [(1200, 900), (500, 1500), (2000, 3000)])
@pytest.mark.parametrize("kind", ["collapsed", "power"])
def test_wide_features_take_this_way_by_themselves(
    kind: str, rows: int, d: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    H, titles = features(kind, rows, d, "float32"), reads_of(monkeypatch)
    found = nrc.nrc1(H, 3)
    assert set(titles) == {"components", "residuals"}
    assert len(titles) <= (4 if kind == "collapsed" else 10)
    assert found == pytest.approx(reference_nrc1(H, 3), rel=1e-9)


@pytest.mark.usefixtures("only_rows")
@pytest.mark.parametrize("centered", [True, False])
@pytest.mark.parametrize("kind", KINDS[:-1])
def test_certificates_hold(kind: str, centered: bool) -> None:
    H = features(kind, 300, 200)
    basis = Evidence(reading=begin_reading(H)).components(3, centered=centered)
    exact = np.linalg.svd(H - H.mean(axis=0) if centered else H, full_matrices=False)[2]
    for k in range(1, 4):
        turned = np.linalg.norm(basis.vectors[:k] - (basis.vectors[:k] @ exact[:k].T) @ exact[:k], 2)
        # The reference itself is off by some roundings over the gap, which the bound has of its own.
        assert turned <= 2.0 * basis.angles[k - 1] + 64 * EPS
    assert basis.angles[-1] < 1e-6
    assert basis.mean == pytest.approx(H.mean(axis=0), rel=1e-13, abs=1e-13)


@pytest.mark.usefixtures("only_rows")
def test_early_certificates_hold_too(monkeypatch: pytest.MonkeyPatch) -> None:
    H = features("power", 300, 200)
    values, vectors = np.linalg.eigh(np.cov(H.T, bias=True))
    exact, seen = vectors[:, ::-1].T, []

    def looked_at(pairs: Any, numbers: Any, close: float, before: Any) -> float:
        seen.append(pairs)
        return before_patch(pairs, numbers, close, before)

    before_patch = module._reads_left
    monkeypatch.setattr(module, "_reads_left", looked_at)
    nrc.nrc1(H, 3)
    assert len(seen) > 4
    for pairs in seen:
        turned = np.linalg.norm(pairs.vectors[:3] - (pairs.vectors[:3] @ exact[:3].T) @ exact[:3], 2)
        assert turned <= leading_angle_bound(pairs, 3, 0.0) + 1e-13
        assert np.abs(pairs.values[:3] - values[::-1][:3]).max() <= pairs.distance(3) + 1e-13 * values[-1]


@pytest.mark.usefixtures("only_rows")
def test_a_cluster_of_few_rows_with_features_of_its_own_is_found() -> None:
    rng = np.random.default_rng(0)
    H = np.zeros((3000, 120))
    H[:, :60] = rng.standard_normal((3000, 2)) @ rng.standard_normal((2, 60)) + 1e-6 * rng.standard_normal((3000, 60))
    few = np.arange(17, 3000, 300)  # none of which is in the sample, and which share no feature with the others
    H[few] = 0.0
    H[np.ix_(few, np.arange(60, 120))] = 100.0 * rng.standard_normal((10, 1)) * rng.standard_normal(60)
    sample = begin_reading(H).source.sample(module.SAMPLE_ROWS)
    assert not sample[:, 60:].any()
    for convention in ("variance", "nrc24"):
        assert nrc.nrc1(H, 3, convention=convention) == pytest.approx(reference_nrc1(H, 3, convention), rel=1e-6)


def test_noise_goes_over_to_the_gram(monkeypatch: pytest.MonkeyPatch) -> None:
    H, titles = np.random.default_rng(0).standard_normal((900, 1000)), reads_of(monkeypatch)
    found = nrc.nrc1(H, 3)
    assert titles[-2:] == ["statistics", "residuals"]
    assert 2 <= titles.count("components") <= 6
    assert found == pytest.approx(reference_nrc1(H, 3), rel=1e-12)


@pytest.mark.usefixtures("only_rows")
def test_noise_is_measured_without_a_matrix_where_none_may_be_held() -> None:
    H = np.random.default_rng(0).standard_normal((400, 300))
    assert nrc.nrc1(H, 3) == pytest.approx(reference_nrc1(H, 3), rel=1e-10)


@pytest.mark.usefixtures("only_rows")
def test_equal_inputs_give_equal_bits_whatever_their_layout() -> None:
    H = features("power", 500, 90, "float32")
    wide = np.zeros((500, 200), np.float32)
    wide[:, 7:187:2] = H
    found = {nrc.nrc1(same, 3) for same in (H, H.copy(), np.asfortranarray(H), wide[:, 7:187:2])}
    assert len(found) == 1


@given(st.integers(0, 2**32 - 1), st.integers(-240, 400))
def test_order_rotation_and_scale_do_not_matter(seed: int, exponent: int) -> None:
    rng = np.random.default_rng(seed)
    H = features("collapsed", 120, 40)
    rotation = np.linalg.qr(rng.standard_normal((40, 40)))[0]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(costs, "MOST_SQUARE_BYTES", 0)
        value = nrc.nrc1(H, 3)
        for other in (H[rng.permutation(120)], np.ldexp(H, exponent), np.concatenate([H, H])):
            assert nrc.nrc1(other, 3) == pytest.approx(value, rel=1e-10)
        assert nrc.nrc1(H @ rotation, 3) == pytest.approx(value, rel=1e-9)


@pytest.mark.usefixtures("only_rows")
def test_files_batches_and_chunks_are_the_same_rows(tmp_path: Path) -> None:
    H = features("power", 700, 80, "float32")
    np.save(tmp_path / "H.npy", H)
    for number in range(3):
        np.save(tmp_path / f"part{number}.npy", H[number * 250 : number * 250 + 250])
    value = nrc.nrc1(H, 3)
    for other in (tmp_path / "H.npy", str(tmp_path / "part*.npy"), [H[:100], H[100:500], H[500:]]):
        assert nrc.nrc1(other, 3) == pytest.approx(value, rel=1e-9)
    assert nrc.nrc1(H, 3, memory="24MiB") == pytest.approx(value, rel=1e-9)


@pytest.mark.usefixtures("only_rows", "no_kept_rows")
def test_rows_that_change_between_reads_are_an_error() -> None:
    H, rng = features("power", 200, 50), np.random.default_rng(0)

    class Augmented:
        def __iter__(self) -> Any:
            return iter([H + 1e-3 * rng.standard_normal(H.shape)])

    with pytest.raises(RuntimeError, match="other features when it was read again"):
        nrc.nrc1(Augmented(), 3)


@pytest.mark.usefixtures("only_rows")
def test_rows_without_variance_zeros_and_rank_below_n() -> None:
    rng = np.random.default_rng(0)
    constant = np.tile(rng.standard_normal(60), (50, 1))
    assert nrc.nrc1(constant, 2) == pytest.approx(1.0, rel=1e-14)
    assert np.isnan(nrc.nrc1(constant.astype(np.float32), 2, convention="variance"))
    assert np.isnan(nrc.nrc1(np.zeros((50, 60)), 2))
    low = rng.standard_normal((50, 2)) @ rng.standard_normal((2, 60))
    low -= low.mean(axis=0)
    assert nrc.nrc1(low, [2, 5, 60]) == pytest.approx([0.0] * 3, abs=1e-28)
    some_zero = np.concatenate([np.zeros((70, 60)), rng.standard_normal((70, 3)) @ rng.standard_normal((3, 60))])
    assert nrc.nrc1(some_zero, 1) == pytest.approx(reference_nrc1(some_zero, 1), rel=1e-10)


@pytest.mark.usefixtures("only_rows")
def test_rows_that_are_not_finite_and_rows_out_of_range() -> None:
    H = features("power", 300, 40)
    bad = H.copy()
    bad[[3, 250], [1, 2]] = np.nan
    bad[[0, 299], :] = np.inf  # in the sample
    with pytest.raises(ValueError, match="4 of 300 rows hold NaN or infinite values, the first is row 0"):
        nrc.nrc1(bad, 3)
    kept = np.isfinite(bad).all(axis=1)
    assert nrc.nrc1(bad, 3, nonfinite="skip") == pytest.approx(reference_nrc1(bad[kept], 3), rel=1e-10)
    with pytest.raises(ValueError, match="all 5 rows"):
        nrc.nrc1(np.full((5, 4), np.nan), 1, nonfinite="skip")
    with pytest.raises(ValueError, match="squares leave the range"):
        nrc.nrc1(np.ldexp(H, 600), 3)
    with pytest.raises(ValueError, match="squares leave the range"):
        nrc.nrc1(np.ldexp(H, -700), 3)


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="needs Linux, which tells the peak of memory")
def test_no_square_matrix_is_held(tmp_path: Path) -> None:
    # One array of 6,000 x 6,000 would be 288 MB.
    script = """
from pathlib import Path
import numpy as np, nrc_fast as nrc
rng = np.random.default_rng(0)
H = rng.standard_normal((800, 3), dtype=np.float32) @ rng.standard_normal((3, 6000), dtype=np.float32)
H += 1e-3 * rng.standard_normal((800, 6000), dtype=np.float32)
nrc.nrc1(H[:100, :100].copy(), 3)
Path("/proc/self/clear_refs").write_text("5")  # the peak is what is held now
facts = lambda: dict(line.split(":") for line in Path("/proc/self/status").read_text().splitlines())
before = int(facts()["VmHWM"].split()[0])
nrc.nrc1(H, 3, memory="100MiB")
print((int(facts()["VmHWM"].split()[0]) - before) / 1024)
"""
    alone = os.environ | {"NRC_FAST_NUM_THREADS": "2"}
    command = [sys.executable, "-c", script]
    # Elsewhere: the source tree has no compiled core.
    run = subprocess.run(command, capture_output=True, text=True, check=True, env=alone, cwd=tmp_path)
    assert 0.0 < float(run.stdout) < 100


@pytest.mark.usefixtures("only_rows", "on_every_device")
@pytest.mark.parametrize("convention", CONVENTIONS)
@pytest.mark.parametrize("kind", ["collapsed", "power", "mean"])
def test_rows_on_devices(kind: str, convention: str) -> None:
    for dtype in ("float32", "float64"):
        H = features(kind, 60, 40, dtype)
        expected = reference_nrc1(H, 3, convention)
        close = module.CLOSE if dtype == "float32" else module.CLOSE_DOUBLE
        assert nrc.nrc1(H, 3, convention=convention) == pytest.approx(
            expected, rel=0.01 * close + spread_of_outside(H, 3, convention)
        )


@pytest.mark.usefixtures("only_rows", "on_every_device")
def test_fainter_components_on_devices() -> None:
    rng = np.random.default_rng(0)
    scales = np.array([2.0, 1.0, 3e-9, 1e-9])
    scores = rng.standard_normal((50, 4))
    scores = np.linalg.qr(scores - scores.mean(axis=0))[0]
    H = scores * scales @ np.linalg.qr(rng.standard_normal((4, 4)))[0]
    shares = [np.sum(scales[k:] ** 2) / np.sum(scales**2) for k in (2, 3)]
    assert nrc.nrc1(H, [2, 3], convention="variance") == pytest.approx(shares, rel=1e-5, abs=0.0)
