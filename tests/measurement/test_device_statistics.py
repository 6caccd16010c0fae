"""What is particular to rows on a CUDA device, emulated and real: nothing waits, and nothing is lost."""

from __future__ import annotations

import copy
import pickle
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from support import cuda_core, on_device
from support.products import prediction_error

import nrc_fast as nrc
from nrc_fast.base.linalg import eigh_descending
from nrc_fast.kernels import calls as kernels_calls
from nrc_fast.kernels.cuda import spectrum
from nrc_fast.kernels.cuda.device import CudaDevice
from nrc_fast.kernels.devices import tensor_backend
from nrc_fast.kernels.errors import NonFiniteRowsError
from nrc_fast.kernels.inputs import as_rows
from nrc_fast.kernels.placement import rows_in_place
from nrc_fast.kernels.results import Basis
from nrc_fast.testing import reference_nrc1, reference_nrc2

EPSILON = 2.0**-52


@pytest.fixture(params=["emulated", "card"])
def on(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Places an array on the device under test."""
    package = on_device.device_package(request.param, cuda_core, monkeypatch)
    return package.placed


@pytest.fixture
def fetches(on: Any, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Numbers of the elements of every copy from the device to the host."""
    found: list[int] = []
    kinds = {CudaDevice, type(tensor_backend(on(np.zeros((1, 1)))).device)}
    # All of them before any is replaced: one inherits from the other.
    for kind, fetch in [(kind, kind.fetch) for kind in kinds]:

        def counting(self: Any, tensor: Any, fetch: Any = fetch) -> Any:
            found.append(tensor.numel())
            return fetch(self, tensor)

        monkeypatch.setattr(kind, "fetch", counting)
    return found


def draw(seed: int, rows: int = 90, d: int = 7, n: int = 2) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    H = rng.standard_normal((rows, d)) * 0.7 ** np.arange(d) + 2.0 * rng.standard_normal(d)
    return H, H @ rng.standard_normal((d, n)) + 0.1 * rng.standard_normal((rows, n)) - 5.0


def assert_same(found: nrc.FeatureStatistics, expected: nrc.FeatureStatistics, unit: float = EPSILON) -> None:
    """Moments that agree to some roundings of their size."""
    assert (found.count, found.zero_rows, found.skipped) == (expected.count, expected.zero_rows, expected.skipped)
    scale = np.trace(expected.second_moment)
    assert np.abs(found.mean - expected.mean).max() <= 64 * unit * scale**0.5
    assert np.abs(found.covariance - expected.covariance).max() <= 64 * unit * scale
    assert np.abs(found.unit_second_moment - expected.unit_second_moment).max() <= 64 * unit
    if expected.n_targets:
        target_scale = np.trace(expected.target_covariance) + expected.target_mean @ expected.target_mean
        assert np.abs(found.target_covariance - expected.target_covariance).max() <= 64 * EPSILON * target_scale
        allowed = 64 * unit * (scale * target_scale) ** 0.5
        assert np.abs(found.cross_covariance - expected.cross_covariance).max() <= allowed


def test_a_gram_is_put_onto_another(on: Any) -> None:
    H, _ = draw(21)
    start, unit_start = np.random.default_rng(0).standard_normal((2, 7, 7))
    rows = rows_in_place(on(H), "H")
    alone = kernels_calls.gram(rows, unit="raw")
    found = kernels_calls.gram(rows, unit="raw", onto=start, unit_onto=unit_start)
    assert found.gram.tobytes() == (start + alone.gram).tobytes()
    assert found.unit_gram.tobytes() == (unit_start + alone.unit_gram).tobytes()
    assert found.energy == alone.energy


# ---- updates ----


@pytest.mark.parametrize("nonfinite", ["raise", "skip"])
def test_nothing_comes_to_the_host_before_it_is_asked_for(on: Any, fetches: list[int], nonfinite: str) -> None:
    H, Y = draw(0)
    statistics = nrc.FeatureStatistics(7, n_targets=2, nonfinite=nonfinite)
    for first in range(0, 90, 30):
        statistics.update(on(H[first : first + 30]), on(Y[first : first + 30]))
    assert fetches == []
    report = statistics.report(n=2)
    # The shifts, then sums and totals in one piece, and the totals once more for what was refused.
    assert len(fetches) == 4
    assert max(fetches) < 7 + 2 * 49 + 14 + 2 + 4 + 20
    statistics.report(n=2)
    assert len(fetches) == 4
    assert report.backend.startswith("cuda:")
    assert_same(statistics, nrc.FeatureStatistics(7, n_targets=2).update(H, Y))


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
@pytest.mark.parametrize("precision", ["high", "highest", "fast"])
def test_precisions_stay_within_their_bounds(on: Any, dtype: str, precision: str) -> None:
    H, Y = draw(1, rows=120, d=6)
    stored = torch.from_numpy(H).to(getattr(torch, dtype))
    statistics = nrc.FeatureStatistics(6, n_targets=2, precision=precision)
    for first in range(0, 120, 40):
        statistics.update(on(stored[first : first + 40]), on(Y[first : first + 40]))
    assert statistics.is_double == (precision == "highest")
    W = np.eye(6)[:2]
    report = statistics.report(W)
    for k in range(1, 7):
        error = abs(report.nrc1_by_k[k - 1] - reference_nrc1(stored, k))
        assert error <= report.bounds["nrc1_by_k"][k - 1] + 64 * EPSILON
    assert abs(report.nrc2 - reference_nrc2(stored, W)) <= report.bounds["nrc2"] + 64 * EPSILON
    rows = stored.double().numpy()
    exact = np.cov(rows.T, bias=True)
    assert np.linalg.norm(statistics.covariance - exact, 2) <= statistics.covariance_error
    # A bound that says nothing would pass, too.
    limit = {"high": 1e-4, "highest": 1e-12, "fast": 0.1}[precision]
    assert statistics.covariance_error <= limit * np.trace(exact)


def test_rows_of_the_host_of_devices_and_of_several_dtypes_add_up(on: Any) -> None:
    H, Y = draw(2)
    single = H.astype(np.float32)
    mixed, plain = (nrc.FeatureStatistics(7, n_targets=2) for _ in range(2))
    for part, place in ((slice(0, 30), on), (slice(30, 50), lambda a: a), (slice(50, 90), on)):
        for rows in (H[part], single[part]):
            mixed.update(place(rows), place(Y[part]))
            plain.update(rows, Y[part])
    assert mixed.dtype == "mixed"
    assert_same(mixed, plain, 2.0**-20)


def test_targets_of_the_host_follow_the_features_and_never_the_other_way(on: Any) -> None:
    H, Y = draw(3)
    followed = nrc.FeatureStatistics(7, n_targets=2).update(on(H), Y)
    assert_same(followed, nrc.FeatureStatistics(7, n_targets=2).update(H, Y))
    with pytest.raises(RuntimeError, match=r"H lies on the CPU and Y on cuda:0; put both in one place"):
        nrc.FeatureStatistics(7, n_targets=2).update(H, on(Y))


# ---- what is wrong with rows ----


def test_a_batch_that_is_not_finite_is_left_out_and_told_of_once(on: Any) -> None:
    H, Y = draw(4)
    bad = H[30:60].copy()
    bad[4, 2] = np.nan
    bad[9, 0] = np.inf
    statistics = nrc.FeatureStatistics(7, n_targets=2)
    for rows, targets in ((H[:30], Y[:30]), (bad, Y[30:60]), (H[60:], Y[60:])):
        statistics.update(on(rows), on(targets))
    with pytest.raises(NonFiniteRowsError, match=r"2 of 30 rows hold NaN.*row 4 in batch 1 of cuda:0, which was not"):
        statistics.report(n=2)
    kept = nrc.FeatureStatistics(7, n_targets=2).update(H[:30], Y[:30]).update(H[60:], Y[60:])
    assert_same(statistics, kept)
    statistics.update(on(bad), on(Y[30:60]))
    with pytest.raises(NonFiniteRowsError, match="batch 1 of cuda:0"):
        _ = statistics.count
    assert_same(statistics, kept)


@pytest.mark.parametrize("dtype", ["float64", "float32", "float16"])
@pytest.mark.parametrize("of", ["features", "targets"])
def test_rows_that_are_not_finite_can_be_skipped(on: Any, dtype: str, of: str) -> None:
    H, Y = draw(5)
    H = H.astype(dtype)
    good = np.ones(90, dtype=bool)
    good[[0, 17, 44, 89]] = False
    broken, broken_targets = H.copy(), Y.copy()
    (broken if of == "features" else broken_targets)[~good, 1] = [np.nan, np.inf, -np.inf, np.nan]
    statistics = nrc.FeatureStatistics(7, n_targets=2, nonfinite="skip")
    for first in range(0, 90, 45):
        part = slice(first, first + 45)
        statistics.update(on(broken[part]), on(broken_targets[part]))
    assert statistics.skipped == 4
    kept = nrc.FeatureStatistics(7, n_targets=2, nonfinite="skip").update(broken, broken_targets)
    assert_same(statistics, kept, EPSILON if dtype == "float64" else 2.0**-20)


@pytest.mark.parametrize("scale", [1e-30, 1e-18, 1.0, 1e18, 1e30])
def test_float32_rows_of_any_size_keep_their_digits(on: Any, scale: float) -> None:
    H, _ = draw(6)
    rows = (H * scale).astype(np.float32)
    statistics = nrc.FeatureStatistics(7).update(on(rows[:50])).update(on(rows[50:]))
    exact = np.cov(rows.astype(np.float64).T, bias=True)
    assert np.abs(statistics.covariance - exact).max() <= 2.0**-20 * np.trace(exact)
    report = statistics.report(n=2)
    assert abs(report.nrc1 - reference_nrc1(rows, 2)) <= report.bounds["nrc1"]


def test_squares_beyond_float64_are_refused_and_the_others_kept(on: Any) -> None:
    H, Y = draw(7)
    statistics = nrc.FeatureStatistics(7, n_targets=2).update(on(H), on(Y))
    statistics.update(on(H * 1e200), on(Y)).update(on(H), on(Y * 1e200))
    with pytest.raises(ValueError, match=r"H is so large in batch 1 of cuda:0 \(and in 1 more\) that squares leave"):
        statistics.report(n=2)
    assert_same(statistics, nrc.FeatureStatistics(7, n_targets=2).update(H, Y))
    with pytest.raises(ValueError, match="H is so small that squares leave the range"):
        nrc.FeatureStatistics(7).update(on(H * 1e-200)).report(n=2)
    constant = nrc.FeatureStatistics(7).update(on(np.full((20, 7), 1e-200))).report(n=2)
    assert np.isnan(constant.stable_rank)


def test_a_batch_of_the_host_is_not_added_when_it_tells_what_a_device_refused(on: Any) -> None:
    H, _ = draw(22)
    broken = H.copy()
    broken[3, 0] = np.nan
    statistics = nrc.FeatureStatistics(7).update(on(H)).update(on(broken))
    with pytest.raises(NonFiniteRowsError, match="batch 1"):
        statistics.update(H)
    assert statistics.count == 90
    assert statistics.update(H).count == 180


# ---- parts ----


def test_parts_merge_copy_and_go_through_files(on: Any, tmp_path: Path) -> None:
    H, Y = draw(8)
    whole = nrc.FeatureStatistics(7, n_targets=2).update(H, Y)
    left = nrc.FeatureStatistics(7, n_targets=2).update(on(H[:40]), on(Y[:40]))
    right = nrc.FeatureStatistics(7, n_targets=2).update(on(H[40:60] + 0.0), on(Y[40:60]))
    host = nrc.FeatureStatistics(7, n_targets=2).update(H[60:], Y[60:])
    left += right
    left += host
    assert_same(left, whole)
    left.save(tmp_path / "state.npz")
    for other in (
        nrc.FeatureStatistics.load(tmp_path / "state.npz"),
        pickle.loads(pickle.dumps(left)),
        copy.deepcopy(left),
    ):
        assert_same(other, whole)
        other.update(on(H[:5]), on(Y[:5]))
        assert other.count == 95
    empty = nrc.FeatureStatistics(7, n_targets=2)
    empty += nrc.FeatureStatistics(7, n_targets=2).update(on(H), on(Y))
    assert_same(empty, whole)
    assert left.reset().count == 0


def test_looking_changes_no_bits(on: Any) -> None:
    H, Y = draw(9)
    states = []
    for looks in (False, True):
        statistics = nrc.FeatureStatistics(7, n_targets=2)
        for first in range(0, 90, 18):
            statistics.update(on(H[first : first + 18]), on(Y[first : first + 18]))
            if looks:
                assert statistics.count == first + 18
                statistics.spectrum()
        states.append(statistics.arrays())
    assert all(np.array_equal(states[0][name], states[1][name]) for name in states[0])


def test_a_first_batch_inside_a_capture_is_refused(on: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    H, _ = draw(10)
    device = tensor_backend(on(H)).device
    begun = nrc.FeatureStatistics(7).update(on(H))
    monkeypatch.setattr(type(device), "is_capturing", lambda self: True)  # noqa: ARG005
    begun.update(on(H))
    on_host = nrc.FeatureStatistics(7).update(H)
    for statistics, rows in ((nrc.FeatureStatistics(7), H), (begun, H.astype(np.float32)), (on_host, H)):
        with pytest.raises(RuntimeError, match="Call update once before the capture"):
            statistics.update(on(rows))
    assert begun.count == 180
    assert on_host.devices == ()
    assert on_host.report(n=1).backend.startswith("cpu")


def test_batches_of_a_replayed_graph_are_seen_at_every_look(on: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A replay launches what `update` launched, and calls nothing here."""
    H, _ = draw(10)
    launched: list[Any] = []
    device = tensor_backend(on(H)).device
    statistics = nrc.FeatureStatistics(7).update(on(H))
    launch = type(device).launch

    def recorded(self: Any, *arguments: Any, **options: Any) -> None:
        launched.append((arguments, options))
        launch(self, *arguments, **options)

    with monkeypatch.context() as capture:
        capture.setattr(type(device), "is_capturing", lambda self: True)  # noqa: ARG005
        capture.setattr(type(device), "launch", recorded)
        rows = on(H)
        statistics.update(rows)
    for replays in range(3):
        assert statistics.count == 180 + 90 * replays
        variance = float(np.trace(statistics.covariance))
        assert variance == pytest.approx(float(np.trace(np.cov(H.T, bias=True))), rel=1e-12)
        ((arguments, options),) = launched
        launch(device, *arguments, **options)


# ---- device= ----


@pytest.mark.parametrize("dtype", ["float64", "float32", "float16", "bfloat16"])
def test_rows_of_the_host_are_copied_to_the_device_that_is_named(on: Any, dtype: str, fetches: list[int]) -> None:
    H, Y = draw(11)
    stored = torch.from_numpy(H).to(getattr(torch, dtype))
    W = np.eye(7)[:2]
    streamed = nrc.measure(stored, Y, W, np.zeros(2), device="cuda", chunk_rows=25)
    there = nrc.measure(on(stored), on(Y), W, np.zeros(2), chunk_rows=25)
    assert streamed.to_dict() == there.to_dict()
    assert streamed.backend.startswith("cuda:")
    assert fetches


def test_files_and_batches_are_copied_to_the_device(on: Any, tmp_path: Path) -> None:
    H, _ = draw(12)
    value = nrc.nrc1(on(H), 2)
    np.save(tmp_path / "h.npy", H)
    for source in (tmp_path / "h.npy", [H[:31], H[31:]], nrc.open([H[:31], H[31:]])):
        assert nrc.nrc1(source, 2, device="cuda") == pytest.approx(value, rel=1e-12)
    assert nrc.nrc2(tmp_path / "h.npy", H[:2], device="cuda") == pytest.approx(nrc.nrc2(on(H), H[:2]), rel=1e-12)
    with pytest.raises(ValueError, match=r"row 3 of batch 1"):
        nrc.nrc1([H[:31], np.where(np.arange(59)[:, None] == 3, np.nan, H[31:])], 2, device="cuda")
    assert nrc.nrc1([on(H[:31]), on(H[31:])], 2) == pytest.approx(value, rel=1e-12)
    with pytest.raises(ValueError, match="batch 1 lies on the CPU and the first on cuda:0"):
        nrc.nrc1([on(H[:31]), H[31:]], 2)


def test_rows_on_their_way_are_waited_for_before_any_look(on: Any) -> None:
    H, Y = draw(19)
    H[[5, 40], 3] = np.nan
    kept = nrc.measure(on(H), on(Y), nonfinite="skip", chunk_rows=25)
    streamed = nrc.measure(H, Y, nonfinite="skip", chunk_rows=25, device="cuda")
    assert streamed.skipped_rows == 2
    assert streamed.to_dict() == kept.to_dict()


def test_chunks_are_copied_from_pageable_memory_where_it_cannot_be_pinned(
    on: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    H, Y = draw(20)
    pinned = nrc.plan(H, Y, n=2, device="cuda", chunk_rows=25)
    there = nrc.measure(on(H), on(Y), chunk_rows=25).to_dict()
    device = tensor_backend(on(H)).device
    refusal = "cudaErrorNotSupported, operation not supported"
    freed: list[int] = []
    monkeypatch.setattr(device.core, "register_host_memory", lambda *_: refusal)
    monkeypatch.setattr(device.core, "unregister_host_memory", lambda address, _: freed.append(address))
    plan = nrc.plan(H, Y, n=2, device="cuda", chunk_rows=25)
    assert nrc.measure(H, Y, device="cuda", chunk_rows=25).to_dict() == there
    assert freed == []  # what was never registered
    assert pinned.copying == "chunks are copied to cuda:0 from pinned memory, beside the computation"
    assert plan.copying == f"chunks are copied to cuda:0 from pageable memory, which takes longer: {refusal}"
    assert plan.copying == str(plan).splitlines()[-1] == plan.to_dict()["copying"]
    assert plan.copying in plan._repr_html_()
    assert nrc.plan(H, Y, n=2).copying == nrc.plan(on(H), on(Y), n=2).copying == ""


def test_what_was_pinned_is_given_back(on: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    H, Y = draw(23)
    core, held = tensor_backend(on(H)).device.core, {}
    register, unregister = core.register_host_memory, core.unregister_host_memory

    def registered(address: int, size: int, device: int) -> str:
        held[address] = size
        return str(register(address, size, device))

    def unregistered(address: int, device: int) -> None:
        del held[address]
        unregister(address, device)

    monkeypatch.setattr(core, "register_host_memory", registered)
    monkeypatch.setattr(core, "unregister_host_memory", unregistered)
    for part in (slice(0, 40), slice(0, 90)):
        nrc.measure(H[part], Y[part], device="cuda", chunk_rows=25)
        nrc.plan(H[part], Y[part], n=2, device="cuda", chunk_rows=25)
        assert held == {}


def test_tensors_on_a_device_stay_there(on: Any) -> None:
    H, _ = draw(13)
    with pytest.raises(RuntimeError, match=r"H lies on cuda:0 and device='cpu' was given; tensors are never moved"):
        nrc.nrc1(on(H), 2, device="cpu")
    assert nrc.nrc1(on(H), 2, device="cuda") == nrc.nrc1(on(H), 2)


def test_a_row_that_is_not_finite_is_named_as_on_the_cpu(on: Any) -> None:
    H, Y = draw(14)
    H[70, 1] = np.nan
    for chunk_rows in (None, 25):
        with pytest.raises(NonFiniteRowsError, match=r"the first is row 70;"):
            nrc.measure(on(H), on(Y), chunk_rows=chunk_rows)
        kept = nrc.measure(on(H), on(Y), nonfinite="skip", chunk_rows=chunk_rows)
        assert kept.skipped_rows == 1
        assert kept.nrc1 == pytest.approx(nrc.nrc1(np.delete(H, 70, axis=0), 2), rel=1e-12)


# ---- large matrices ----


@pytest.mark.parametrize("centered", [True, False])
def test_large_matrices_are_decomposed_on_the_device(on: Any, centered: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    H, _ = draw(16)
    monkeypatch.setattr(spectrum, "LEAST_SIZE", 7)
    monkeypatch.setattr("nrc_fast.base.symmetric.eigh_descending", lambda _: pytest.fail("the host decomposes"))
    values, vectors = nrc.FeatureStatistics(7).update(on(H)).spectrum(centered=centered)
    monkeypatch.undo()
    expected = nrc.FeatureStatistics(7).update(H).spectrum(centered=centered)
    assert np.abs(values - expected[0]).max() <= 64 * EPSILON * values[0]
    assert np.abs(vectors - expected[1]).max() <= 1e-10


@pytest.mark.parametrize("wrong", ["raises", "not orthogonal", "other values", "nan"])
def test_wrong_decompositions_of_a_device_are_found(on: Any, wrong: str, monkeypatch: pytest.MonkeyPatch) -> None:
    H, _ = draw(17)
    eigh = torch.linalg.eigh

    def broken(matrix: Any) -> Any:
        if wrong == "raises":
            message = "it did not converge"
            raise torch.linalg.LinAlgError(message)
        values, vectors = eigh(matrix)
        factor = {"not orthogonal": 1.0 + 1e-9, "nan": float("nan")}.get(wrong, 1.0)
        return values * (1.0 + 1e-9 * (wrong == "other values")), vectors * factor

    statistics = nrc.FeatureStatistics(7).update(on(H))
    monkeypatch.setattr(spectrum, "LEAST_SIZE", 7)
    monkeypatch.setattr(torch.linalg, "eigh", broken)
    with pytest.warns(RuntimeWarning, match=r"eigenvectors from cuda:0 cannot be used .*the host computes them"):
        values, _ = statistics.spectrum()
    assert np.array_equal(values, eigh_descending(statistics.covariance)[0])


# ---- classes ----


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_classes_are_measured_as_on_the_cpu(on: Any, dtype: type, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(18)
    labels = rng.permutation(np.repeat(np.arange(3), (10, 25, 45)))
    H = (3.0 * rng.standard_normal((3, 6))[labels] + 1e-2 * rng.standard_normal((80, 6)) + 10.0).astype(dtype)
    W, b = rng.standard_normal((3, 6)), rng.standard_normal(3)
    monkeypatch.setattr("nrc_fast.measurement.class_moments.CHUNK_ROWS", 37)
    expected = nrc.measure_classes(H, labels, W, b).to_dict()
    for found in (
        nrc.measure_classes(on(H), labels, on(W), on(b)),
        nrc.measure_classes([(on(H[:50]), labels[:50]), (on(H[50:]), labels[50:])], W=W, b=b),
    ):
        for name, value in found.to_dict().items():
            if name.startswith("bound"):
                continue  # of another arithmetic, with other roundings
            assert value == pytest.approx(expected[name], rel=1e-9 if dtype is np.float64 else 1e-5, abs=1e-12), name
    H[7, 2] = np.nan
    with pytest.raises(NonFiniteRowsError, match="the first is row 7"):
        nrc.measure_classes(on(H), labels)
    skipping = nrc.ClassStatistics(6, 3, nonfinite="skip").update(on(H), labels)
    assert (skipping.count, skipping.skipped) == (79, 1)


@pytest.mark.parametrize("precision", ["high", "fast"])
def test_bounds_of_classes_know_the_rounding_of_the_device(on: Any, precision: str) -> None:
    rng = np.random.default_rng(17)
    labels = np.arange(120) % 3
    H = (3.0 * rng.standard_normal((3, 6))[labels] + rng.standard_normal((120, 6))).astype(np.float32)
    found = nrc.ClassStatistics(6, 3, precision=precision).update(on(H), labels)
    exact = nrc.ClassStatistics(6, 3, precision="highest").update(H, labels)
    error = np.linalg.norm(found.within_covariance - exact.within_covariance)
    assert error <= found.within_error + exact.within_error
    assert found.within_error >= 2.0**-24 * np.trace(exact.within_covariance)
    report, truth = found.report(), exact.report()
    for name, bound in report.bounds.items():
        assert abs(getattr(report, name) - getattr(truth, name)) <= bound + truth.bounds[name], name


# ---- calls of the kernels ----


@pytest.mark.parametrize("layout", ["rows", "columns", "strided", "none"])
def test_calls_give_what_those_of_the_cpu_give(on: Any, layout: str) -> None:
    H, Y = draw(15)
    placed = on(H)
    if layout == "columns":
        placed = placed.T.contiguous().T
    elif layout == "strided":
        placed, H = placed[::3, ::2], H[::3, ::2]
    elif layout == "none":
        placed, H = placed[:0], H[:0]
    targets = Y[::3] if layout == "strided" else Y[: len(H)]
    shift = np.linspace(-1.0, 1.0, H.shape[1])
    basis = np.linalg.qr(np.random.default_rng(0).standard_normal((H.shape[1], 2)))[0].T
    rows = rows_in_place(placed, "H"), rows_in_place(on(targets), "Y")
    plain = as_rows(H, "H"), as_rows(targets, "Y")
    calls = [
        lambda h, y: kernels_calls.gram(
            h, shift=shift, unit="shifted", targets=y, target_shift=np.ones(2), target_moments=True
        ),
        # Which residuals are differences of energies is another thing on each device.
        lambda h, _: replace(
            kernels_calls.residual(h, [Basis(basis, shift, per_row=True)], double_precision=True)[0],
            expanded=np.zeros(2),
        ),
        lambda h, _: kernels_calls.gram_product(h, basis, shift),
        lambda h, y: prediction_error(h, basis, np.ones(2), y),
    ]
    for call in calls:
        found, expected = call(*rows), call(*plain)
        pairs = zip(
            *(
                vars(r).values() if hasattr(r, "__dict__") else r if isinstance(r, tuple) else (r,)
                for r in (found, expected)
            ),
            strict=True,
        )
        for ours, theirs in pairs:
            scale = float(np.abs(theirs).max(initial=0.0)) if theirs is not None else 0.0
            if theirs is not None:
                np.testing.assert_allclose(ours, theirs, rtol=0, atol=64 * EPSILON * scale)
