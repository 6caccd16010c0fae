"""NC1 to NC4 against other packages' numbers and plain float64 formulas, near collapse too."""

from __future__ import annotations

import json
import math
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support import processes

import nrc_fast as nrc
from nrc_fast.measurement.class_statistics import ClassStatistics
from nrc_fast.measurement.classes import measure_classes
from nrc_fast.metrics.classes import VARIANTS
from nrc_fast.reports.classes import ClassReport
from nrc_fast.reports.records import format_value

# What other packages' functions gave on the input of `labelled`, in float64.
PEERS = {
    "nc1": 0.04003629870930968,  # nc-toolbox nc1_strong; rhubarbwu pinv
    "nc1_sum": 0.16014519483723877,  # glbreeze nc1
    "nc1_ratio": 0.12112952811663685,  # rhubarbwu quotient
    "nc1_total": 0.02574184152150629,  # kowalski within
    "cdnv": 0.048480547655747795,  # rhubarbwu, kowalski
    "cdnv_unbiased": 0.04946994658749775,  # nc-toolbox
    "nc2_log_norms": 0.11728143918494982,  # nc-toolbox nc2_equinorm
    "nc2_cosines": 0.004651396553455682,  # nc-toolbox nc2_equiang
    "nc2_etf": 0.42572328305211354,  # rhubarbwu etf, glbreeze nc2h
    "nc2_etf_weights": 0.7650029029346526,  # kowalski W-etf, glbreeze nc2w
    "nc3": 1.601027423402331,  # nc-toolbox
    "nc3_squared": 2.5632888104863065,  # glbreeze
    "nc3_etf": 1.6876016940581884,  # rhubarbwu dual, kowalski self_duality, glbreeze nc2
    "bias_offset": 7.434610337346363,  # kowalski bias
}


def labelled() -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    means, labels = 2 * rng.standard_normal((4, 8)), np.repeat(np.arange(4), 50)
    H = means[labels] + 0.5 * rng.standard_normal((200, 8))
    return H, labels, rng.standard_normal((4, 8)), rng.standard_normal(4)


def by_definition(H: Any, labels: Any, W: Any, b: Any) -> dict[str, float]:
    H, W, b = (np.asarray(part, dtype=np.float64) for part in (H, W, b))
    classes = len(W)
    mu = np.array([H[labels == k].mean(axis=0) for k in range(classes)])
    R, M = H - mu[labels], mu - H.mean(axis=0)
    S_W, S_B = R.T @ R / len(H), M.T @ M / classes
    v = [np.mean(np.sum(R[labels == k] ** 2, axis=1)) for k in range(classes)]
    norms = np.linalg.norm(M, axis=1)
    pairs = list(combinations(range(classes), 2))
    cosines = np.array([M[k] @ M[j] / norms[k] / norms[j] for k, j in pairs])
    simplex = (np.eye(classes) - 1.0 / classes) / np.sqrt(classes - 1)
    counts = np.bincount(labels, minlength=classes)
    u = np.array(v) * counts / (counts - 1.0)
    chosen = np.argmax(H @ W.T + b, axis=1)
    nearest = np.argmin(np.linalg.norm(H[:, None] - mu, axis=2), axis=1)
    return {
        "nc1": np.trace(S_W @ np.linalg.pinv(S_B, rcond=1e-12)) / classes,
        "nc1_sum": np.trace(S_W @ np.linalg.pinv(S_B, rcond=1e-12)),
        "nc1_total": np.trace(S_W @ np.linalg.inv(np.cov(H, rowvar=False, bias=True))) / len(H),
        "nc1_ratio": np.trace(S_W) / np.trace(S_B),
        "nc1_share": np.trace(S_W) / (np.trace(S_W) + np.trace(S_B)),
        "cdnv": np.mean([(v[k] + v[j]) / (2 * np.sum((mu[k] - mu[j]) ** 2)) for k, j in pairs]),
        "cdnv_unbiased": np.mean([(u[k] + u[j]) / (2 * np.sum((mu[k] - mu[j]) ** 2)) for k, j in pairs]),
        "nc2_equinorm": norms.std() / norms.mean(),
        "nc2_equiangular": np.mean(np.abs(cosines + 1 / (classes - 1))),
        "nc2_cosines": np.mean(cosines + 1 / (classes - 1)),
        "nc2_log_norms": np.mean([np.log(norms[k]) - np.log(norms[j]) for k, j in pairs]),
        "nc2_etf": np.linalg.norm(M @ M.T / np.linalg.norm(M @ M.T) - simplex),
        "nc2_etf_weights": np.linalg.norm(W @ W.T / np.linalg.norm(W @ W.T) - simplex),
        "nc3_squared": np.linalg.norm(W / np.linalg.norm(W) - M / np.linalg.norm(M)) ** 2,
        "nc3_etf": np.linalg.norm(W @ M.T / np.linalg.norm(W @ M.T) - simplex),
        "bias_offset": np.linalg.norm(W @ H.mean(axis=0) + b),
        "nc3": np.linalg.norm(W / np.linalg.norm(W) - M / np.linalg.norm(M)),
        "nc4": np.mean(chosen != nearest),
        "accuracy": np.mean(chosen == labels),
    }


def agrees(report: ClassReport, expected: dict[str, float], rel: float) -> None:
    for name, value in expected.items():
        if name not in ("bounds", "bound_grounds", "bound_kinds"):
            assert getattr(report, name) == pytest.approx(value, rel=rel, abs=1e-13), name


def test_numbers_of_other_packages() -> None:
    agrees(measure_classes(*labelled()), PEERS, 1e-11)


def test_every_variant_is_described() -> None:
    assert set(VARIANTS) | {"samples", "d", "n_classes", "skipped_rows", "bounds", "bound_grounds", "notes"} == set(
        ClassReport.__dataclass_fields__
    )


@pytest.mark.parametrize("shares", [(100, 100, 100), (3, 70, 400)], ids=str)
@pytest.mark.parametrize("mean", [0.0, 1000.0])
def test_definitions_with_unequal_classes_and_a_mean(shares: tuple[int, ...], mean: float) -> None:
    rng = np.random.default_rng(1)
    labels = rng.permutation(np.repeat(np.arange(3), shares))
    H = rng.standard_normal((3, 6))[labels] + rng.standard_normal((len(labels), 6)) + mean
    W, b = rng.standard_normal((3, 6)), rng.standard_normal(3)
    agrees(measure_classes(H, labels, W, b), by_definition(H, labels, W, b), 1e-9)


def test_batches_parts_and_chunks_give_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    from nrc_fast.measurement import class_moments

    H, labels, W, b = labelled()
    whole = measure_classes(H, labels, W, b)
    batches = [(H[first : first + 30], labels[first : first + 30]) for first in range(0, 200, 30)]
    agrees(measure_classes(batches, W=W, b=b), whole.to_dict(), 1e-11)
    left, right = ClassStatistics(8, 4).update(*batches[0]), ClassStatistics(8, 4)
    for batch in batches[1:]:
        right.update(*batch)
    left += right
    agrees(left.report(W, b), {name: getattr(whole, name) for name in PEERS}, 1e-11)
    monkeypatch.setattr(class_moments, "CHUNK_ROWS", 7)
    agrees(measure_classes(H, labels, W, b), whole.to_dict(), 1e-11)


@pytest.mark.parametrize(("dtype", "rel"), [(np.float64, 1e-6), (np.float32, 1e-5)])
def test_collapsed_classes_keep_their_digits(dtype: Any, rel: float) -> None:
    rng = np.random.default_rng(2)
    labels = rng.integers(0, 4, 600)
    noise = 1e-5 if dtype is np.float64 else 1e-3
    H = (10.0 * rng.standard_normal((4, 6))[labels] + noise * rng.standard_normal((600, 6))).astype(dtype)
    W, b = rng.standard_normal((4, 6)), np.zeros(4)
    statistics = ClassStatistics(6, 4)
    for part in np.split(np.arange(600), 6):
        statistics.update(H[part], labels[part])
    expected = by_definition(H, labels, W, b)
    assert expected["nc1"] < (1e-11 if dtype is np.float64 else 1e-7)
    agrees(statistics.report(W, b), {name: expected[name] for name in ("nc1", "nc1_ratio", "cdnv")}, rel)


@pytest.mark.parametrize("dtype", [np.float32, np.float64], ids=str)
@pytest.mark.parametrize("precision", ["fast", "high", "highest"])
@pytest.mark.parametrize("noise", [1.0, 1e-3])
@pytest.mark.parametrize("mean", [0.0, 1000.0])
def test_bounds_hold_and_say_something(dtype: Any, precision: str, noise: float, mean: float) -> None:
    rng = np.random.default_rng(5)
    labels = rng.permutation(np.repeat(np.arange(4), (40, 300, 900, 60)))
    H = (2.0 * rng.standard_normal((4, 8))[labels] + noise * rng.standard_normal((len(labels), 8)) + mean).astype(dtype)
    W, b = rng.standard_normal((4, 8)), rng.standard_normal(4)
    statistics = ClassStatistics(8, 4, precision=precision)
    for first in range(0, len(labels), 500):
        statistics.update(H[first : first + 500], labels[first : first + 500])
    report, expected = statistics.report(W, b), by_definition(H - dtype(mean), labels, W, b)  # the same differences
    expected["bias_offset"] = np.linalg.norm(W @ H.mean(axis=0, dtype=np.float64) + b)
    assert set(report.bounds) == set(expected) - {"nc4", "accuracy"}
    is_double = dtype is np.float64 or precision == "highest"
    for name, bound in report.bounds.items():
        value = expected[name]
        reference_error = 1e-14 * abs(value) * (1.0 if name != "nc1_total" else 1.0 / noise**2)
        assert abs(getattr(report, name) - value) <= bound + reference_error + 1e-15, name
        if name != "nc1_total":  # the smallest direction of all rows is known by the square of the noise only
            assert bound <= (1e-8 if is_double else 1e-3) * max(abs(value), 1e-3), name


def test_a_large_mean_costs_distances_no_digits() -> None:
    rng = np.random.default_rng(6)
    labels = np.arange(200) % 4
    H = np.round(rng.standard_normal((4, 8))[labels] + 0.01 * rng.standard_normal((200, 8)), 6)
    H = ((H * 2.0**20).round() / 2.0**20).astype(np.float64)  # so that the mean below rounds nothing
    near, far = (ClassStatistics(8, 4).update(rows, labels).report() for rows in (H, H + 2**20))
    for name in ("cdnv", "cdnv_unbiased", "nc1", "nc2_etf"):
        assert abs(getattr(near, name) - getattr(far, name)) <= near.bounds[name] + far.bounds[name], name
        assert far.bounds[name] < 1e-11, name


def test_bounds_without_a_value_to_bound() -> None:
    labels = np.arange(90) % 3
    report = measure_classes(np.eye(3)[labels % 2], labels, np.eye(3))  # two classes have the same mean
    assert report.bounds["cdnv"] == report.bounds["nc1"] == np.inf
    stored = json.loads(report.to_json())
    assert stored["bounds"]["cdnv"] is None
    loaded = ClassReport.from_dict(stored)
    assert loaded.to_json() == report.to_json()
    assert {report: 1, loaded: 2}[report] == 1  # as the other reports, one is equal to itself alone


def test_the_simplex_is_collapsed() -> None:
    simplex = np.eye(5) - 0.2
    labels = np.arange(100) % 5
    report = measure_classes(3.0 * simplex[labels] + 7.0, labels, simplex)
    for name in VARIANTS:
        if name not in ("accuracy", "bias_offset"):
            assert getattr(report, name) == pytest.approx(0.0, abs=1e-14), name
    assert report.accuracy == 1.0


def test_nonfinite_rows() -> None:
    H, labels, W, b = labelled()
    kept = np.arange(200) != 77
    bad = H.copy()
    bad[77, 3] = np.nan
    statistics = ClassStatistics(8, 4, nonfinite="skip").update(bad, labels)
    assert statistics.skipped == 1
    assert statistics.report().nc1 == pytest.approx(by_definition(H[kept], labels[kept], W, b)["nc1"], rel=1e-9)
    strict = ClassStatistics(8, 4).update(H, labels)
    with pytest.raises(ValueError, match="the first is row 77"):
        strict.update(bad, labels)
    assert strict.count == 200


def test_processes_add_up_their_classes(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    H, labels, W, b = labelled()
    Y = np.column_stack([labels, labels]).astype(float)
    results = processes.run(tmp_path / "run", "classes", H, Y, np.vstack([W.T, b]).T, [60])
    expected = measure_classes(H, labels, W, b)
    for result in results:
        for name in PEERS:
            assert result[name] == pytest.approx(getattr(expected, name), rel=1e-11)


def test_statistics_say_what_they_hold() -> None:
    statistics = ClassStatistics(4, 3)
    assert repr(statistics) == "<ClassStatistics d = 4, n_classes = 3: 0 rows>"
    assert repr(statistics.update(np.ones((2, 4)), np.array([0, 1]))).endswith(": 2 rows>")


def test_text_and_json(tmp_path: Path) -> None:
    H, labels, W, _ = labelled()
    report = measure_classes(H, labels)
    stored = json.loads(report.to_json(tmp_path / "classes.json"))
    assert stored["nc3"] is None
    assert stored["nc1"] == report.nc1
    assert ClassReport.from_dict(stored).to_json() == report.to_json()
    with pytest.raises(ValueError, match="holds no report of classes: accuracy, bias_offset"):
        ClassReport.from_dict({})
    assert f"  nc1             {format_value(report.nc1, report.bounds['nc1'])}" in str(report)
    assert report.nc1 == pytest.approx(0.0400363, rel=1e-5)
    assert "\n  nc3 " not in str(report)
    assert "\n  nc3 " in str(measure_classes(H, labels, W))


def test_what_does_not_fit_is_said() -> None:
    H, labels, W, b = labelled()
    with pytest.raises(TypeError, match="labels are float64"):
        measure_classes(H, labels.astype(float), W)
    with pytest.raises(ValueError, match=r"lie in 0\.\.3; 0\.\.2"):
        measure_classes(H, labels, W[:3])
    with pytest.raises(ValueError, match=r"no rows of class 2, 3"):
        measure_classes(H[:100], labels[:100], W)
    with pytest.raises(ValueError, match=r"W is \(4, 7\)"):
        measure_classes(H, labels, W[:, :7])
    with pytest.raises(ValueError, match="199 labels"):
        measure_classes(H, labels[1:], W, b)
    with pytest.raises(ValueError, match="not known"):
        measure_classes([(H, labels)])
    for features in (H, "features.npy", nrc.open(H)):
        with pytest.raises(TypeError, match="labels are missing: give one for each row, or batches"):
            measure_classes(features)
    with pytest.raises(TypeError, match="read again"):
        measure_classes(iter([(H, labels)]), W=W)
    with pytest.raises(ValueError, match="no rows to measure"):
        measure_classes([], W=W)
    with pytest.raises(ValueError, match="do not add up"):
        ClassStatistics(8, 4).merge(ClassStatistics(8, 5))
    for options in ({"d": 0, "n_classes": 2}, {"d": 2, "n_classes": 1}, {"d": 2, "n_classes": 2, "nonfinite": "keep"}):
        with pytest.raises(ValueError, match=r"(is|are) expected"):
            ClassStatistics(**options)


# ---- files and sources, and rows that are not finite ----


@pytest.mark.parametrize("kind", ["path", "pattern", "source", "batches", "tensor"])
def test_features_in_files_and_sources(kind: str, tmp_path: Path) -> None:
    H, labels, W, b = labelled()
    np.save(tmp_path / "H_1.npy", H[:70])
    np.save(tmp_path / "H_2.npy", H[70:])
    np.save(tmp_path / "whole.npy", H)
    given = {
        "path": tmp_path / "whole.npy",
        "pattern": str(tmp_path / "H_*.npy"),
        "source": nrc.open([tmp_path / "H_1.npy", tmp_path / "H_2.npy"]),
        "batches": [H[:30], H[30:]],
        "tensor": pytest.importorskip("torch").from_numpy(H),
    }[kind]
    found = measure_classes(given, labels, W, b)
    for name, value in by_definition(H, labels, W, b).items():
        assert getattr(found, name) == pytest.approx(value, rel=1e-9), name
    with pytest.raises(ValueError, match="there are 199 labels; one for each row is expected"):
        measure_classes(given, labels[:199], W, b)


@pytest.mark.parametrize("kind", ["array", "path", "pairs"])
@pytest.mark.parametrize("value", [np.nan, -np.inf])
def test_rows_that_are_not_finite_are_left_out_of_all_numbers(kind: str, value: float, tmp_path: Path) -> None:
    H, labels, W, b = labelled()
    bad = H.copy()
    bad[[7, 130], 3] = value
    np.save(tmp_path / "bad.npy", bad)
    pairs = [(bad[:90], labels[:90]), (bad[90:], labels[90:])]
    given: Any = {"array": bad, "path": tmp_path / "bad.npy", "pairs": pairs}[kind]
    known = None if kind == "pairs" else labels
    found = measure_classes(given, known, W, b, nonfinite="skip")
    kept = np.isfinite(bad).all(axis=1)
    for name, expected in by_definition(H[kept], labels[kept], W, b).items():
        assert getattr(found, name) == pytest.approx(expected, rel=1e-9), name
    assert (found.samples, found.skipped_rows) == (198, 2)
    assert "198 samples of 4 classes, d = 8, 2 rows skipped as not finite" in str(found)
    assert ClassReport.from_dict(found.to_dict()).skipped_rows == 2
    with pytest.raises(ValueError, match=r"the first is .*row 7"):
        measure_classes(given, known, W, b)


@pytest.mark.parametrize("noise", [1e-3, 1e-7])
def test_a_small_share_within_classes_is_known_in_proportion_to_itself(noise: float) -> None:
    rng = np.random.default_rng(8)
    labels = np.arange(300) % 3
    H = rng.standard_normal((3, 6))[labels] + noise * rng.standard_normal((300, 6))
    report = ClassStatistics(6, 3).update(H, labels).report()
    expected = by_definition(H, labels, np.eye(3, 6), np.zeros(3))["nc1_share"]
    assert abs(report.nc1_share - expected) <= report.bounds["nc1_share"] + 1e-14 / noise * expected
    assert report.bounds["nc1_share"] <= 1e-13 / noise * report.nc1_share


@pytest.mark.parametrize(("dtype", "precision"), [("float32", "high"), ("float64", "high")])
def test_a_part_that_began_far_off_hands_on_its_rounding(dtype: str, precision: str) -> None:
    """Its shift is a row far from the others, whose energies cancel where it is moved to that of another part."""
    rng, means, labels = np.random.default_rng(9), np.eye(2, 4), np.arange(6000) % 2
    H = (means[labels] + 1e-3 * rng.standard_normal((6000, 4))).astype(dtype)
    H[20:22] += (1e4 * rng.standard_normal((2, 4))).astype(dtype)
    first = ClassStatistics(4, 2, precision=precision).update(H[:20], labels[:20])
    second = ClassStatistics(4, 2, precision=precision).update(H[20:22], labels[20:22]).update(H[22:], labels[22:])
    first.merge(second)
    rows = H.astype(np.float64)
    residuals = rows - np.array([rows[labels == k].mean(axis=0) for k in range(2)])[labels]
    error = np.linalg.norm(first.within_covariance - residuals.T @ residuals / 6000)
    assert error <= first.within_error
    if dtype == "float32":  # of float64 the error is not above that of this reference
        assert error > 100.0 * 2.0**-24 * np.trace(residuals.T @ residuals) / 6000
    assert first.within_error < 0.1 * np.trace(first.within_covariance)


@pytest.mark.parametrize("exponent", [-450, 450])
def test_classes_of_any_scale(exponent: int) -> None:
    """Features 2^k times as large, and weights 2^-2k times: the same numbers and bounds, to the bit."""
    H, labels, W, b = labelled()
    one = measure_classes(H, labels, W, b)
    far = measure_classes(np.ldexp(H, exponent), labels, np.ldexp(W, -2 * exponent), np.ldexp(b, -exponent))
    for name in VARIANTS:
        value = getattr(one, name)
        assert getattr(far, name) == (math.ldexp(value, -exponent) if name == "bias_offset" else value), name
    for name, bound in one.bounds.items():
        scaled = math.ldexp(bound, -exponent) if name == "bias_offset" else bound
        assert far.bounds[name] == pytest.approx(scaled, rel=1e-9, abs=0), name


def test_features_whose_squares_vanish_are_not_known() -> None:
    """Products of numbers about 1e-165 are 0, and what is made of them may be anything."""
    H, labels, W, b = labelled()
    report = ClassStatistics(8, 4).update(1e-165 * H, labels).report()
    expected = by_definition(H, labels, W, b)
    for name in ("nc1", "nc1_share", "nc1_ratio", "cdnv", "nc1_total"):
        assert abs(getattr(report, name) - expected[name]) <= report.bounds[name], name
    assert report.bounds["nc2_etf"] < 1e-10  # means are as they were
