"""Rows in chunks, from memory, files and batches: the same bits for the same chunks, within memory, or an error."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import nrc_fast as nrc
from nrc_fast import kernels
from nrc_fast.kernels import calls
from nrc_fast.kernels.cpu import machine
from nrc_fast.kernels.inputs import as_rows
from nrc_fast.kernels.results import Basis
from nrc_fast.passes import chunk_sizes
from nrc_fast.passes.begin import begin_reading
from nrc_fast.sources import BatchSource
from nrc_fast.testing import reference_nrc1, reference_nrc2

CONVENTIONS = list(nrc.CONVENTIONS)
DTYPES = ["float64", "float32", "float16", "torch.bfloat16"]


@pytest.fixture
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Chunks of 256 rows, so that a few thousand rows are many."""
    monkeypatch.setattr(chunk_sizes, "CHUNK_BYTES", 1)


def draw(seed: int, rows: int, d: int, n: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    W = rng.standard_normal((n, d))
    H = rng.standard_normal((rows, d)) * 0.7 ** np.arange(d) + 0.3
    return H, H @ W.T + 0.1 * rng.standard_normal((rows, n)), W


def same_report(one: nrc.Report, other: nrc.Report) -> bool:
    return one.to_json() == other.to_json()


def shards(folder: Path, stem: str, array: np.ndarray, cuts: list[int]) -> str:
    """Files stem_0.npy, stem_1.npy, ... and the pattern for them."""
    for number, part in enumerate(np.split(array, cuts)):
        np.save(folder / f"{stem}_{number}.npy", part)
    return str(folder / f"{stem}_*.npy")


# ---- rows in files ----


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("d", [1, 7, 97, 300])
def test_kernels_read_files_to_the_same_bits(arrays: Any, isa: str, tmp_path: Path, dtype: str, d: int) -> None:
    """Rows in a file and the same rows in memory: every kernel, from any offset."""
    del isa
    features = as_rows(arrays.normal((1001, d), dtype, seed=3), "H")
    path = tmp_path / "rows.bin"
    path.write_bytes(b"x" * 13 + features.array.tobytes())
    stored = nrc.sources.table.RawTable(path, "rows.bin", 13, 1001, d, features.dtype)
    basis = np.linalg.qr(np.random.default_rng(0).standard_normal((d, min(d, 5))))[0].T
    shift = np.full(d, 0.25)
    for first, last in ((0, 1001), (1, 1001), (255, 700), (1000, 1001), (17, 17)):
        memory, file = features.part(first, last), stored.read(first, last)
        assert file.loaded().array.tobytes() == memory.array.tobytes()
        results = []
        for rows in (memory, file):
            sums = calls.gram(rows, shift=shift, unit="raw")
            (rest,) = calls.residual(rows, [Basis(basis, shift)], double_precision=True)
            image, column_sums = calls.gram_product(rows, basis, shift)
            results.append([sums.gram, sums.unit_gram, sums.column_sums, rest.raw, rest.unit, image, column_sums])
        assert all(a.tobytes() == b.tobytes() for a, b in zip(*results, strict=True))


def test_wide_rows_share_their_tiles_in_files_too(arrays: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Beyond 64 MiB of tiles all threads work on one block: another way to read it."""
    monkeypatch.setattr(machine, "MOST_THREADS", 8)
    before = kernels.thread_count()
    kernels.set_thread_count(8)
    try:
        features = as_rows(arrays.normal((600, 1500), "float32", seed=0), "H")
        (tmp_path / "wide.bin").write_bytes(features.array.tobytes())
        stored = nrc.sources.table.RawTable(tmp_path / "wide.bin", "wide", 0, 600, 1500, "float32").read(0, 600)
        assert calls.gram(stored).gram.tobytes() == calls.gram(features).gram.tobytes()
    finally:
        kernels.set_thread_count(before)


def test_a_file_that_ends_early_is_an_error_that_names_the_row(tmp_path: Path) -> None:
    H, _, _ = draw(0, 5000, 16, 2)
    path = tmp_path / "H.npy"
    np.save(path, H)
    table = nrc.sources.opening.open_table(path)
    rows = table.read(0, 5000)
    with path.open("r+b") as file:
        file.truncate(path.stat().st_size - 16 * 8 * 700 - 3)
    for run in (
        lambda: calls.gram(rows),
        lambda: calls.residual(rows, [Basis(np.eye(2, 16))], double_precision=True),
        lambda: calls.gram_product(rows, np.eye(2, 16), np.zeros(16)),
        rows.loaded,
    ):
        with pytest.raises(OSError, match=r"row 4299 of .*H\.npy cannot be read: the file ends before it"):
            run()
    with pytest.raises(OSError, match="has changed since it was opened"):
        table.read(0, 10)


# ---- the same report from anywhere ----


@pytest.mark.usefixtures("small_chunks")
@pytest.mark.parametrize("convention", CONVENTIONS)
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_files_arrays_and_batches_give_the_same_bits(tmp_path: Path, convention: str, dtype: type) -> None:
    H, Y, W = draw(1, 3000, 12, 2)
    H = H.astype(dtype)
    wanted = nrc.measure(H, Y, W, np.zeros(2), convention=convention)
    assert abs(wanted.nrc1 - reference_nrc1(H, 2, convention)) <= wanted.bounds["nrc1"]
    assert abs(wanted.nrc2 - reference_nrc2(H, W, convention)) <= wanted.bounds["nrc2"]
    np.save(tmp_path / "H.npy", H)
    np.save(tmp_path / "Y.npy", Y)
    np.savez(tmp_path / "both.npz", h=H, y=Y)
    pattern = shards(tmp_path, "H", H, [3, 3, 800, 2999])
    targets = shards(tmp_path, "Y", Y, [1500])
    batches = [(H[i : i + 77], Y[i : i + 77]) for i in range(0, 3000, 77)]
    loader = torch.utils.data.DataLoader(
        torch.utils.data.TensorDataset(torch.from_numpy(H), torch.from_numpy(Y)), batch_size=100
    )
    for features, given in (
        (str(tmp_path / "H.npy"), tmp_path / "Y.npy"),
        (tmp_path / "H.npy", Y),
        (H, str(tmp_path / "Y.npy")),
        (pattern, targets),
        (nrc.open(pattern, targets), None),
        (nrc.open(tmp_path / "both.npz", key="h", target_key="y"), None),
        (np.load(tmp_path / "H.npy", mmap_mode="r"), Y),
        (torch.from_numpy(H), torch.from_numpy(Y)),
        (batches, None),
        (loader, None),
        (nrc.open([{"h": h, "y": y, "other": 0} for h, y in batches], key="h", target_key="y"), None),
    ):
        assert same_report(nrc.measure(features, given, W, np.zeros(2), convention=convention), wanted)


@pytest.mark.usefixtures("small_chunks")
def test_other_chunks_agree_up_to_rounding() -> None:
    H, Y, W = draw(2, 5000, 20, 2)
    for dtype, allowed in ((np.float64, 1e-12), (np.float32, 1e-7)):
        wanted = nrc.measure(H.astype(dtype), Y, W, np.zeros(2))
        for rows in (1, 97, 4096, 10**6):
            if rows == 1 and dtype is np.float32:
                continue
            found = nrc.measure(H.astype(dtype), Y, W, np.zeros(2), chunk_rows=rows)
            for name in ("nrc1", "nrc2", "nrc3", "mse", "cka"):
                assert getattr(found, name) == pytest.approx(getattr(wanted, name), rel=allowed)


@pytest.mark.usefixtures("small_chunks")
def test_single_metrics_take_files_and_batches(tmp_path: Path) -> None:
    H, Y, W = draw(3, 1000, 10, 2)
    np.save(tmp_path / "H.npy", H)
    np.save(tmp_path / "Y.npy", Y)
    path = tmp_path / "H.npy"
    assert nrc.nrc1(path, 2) == nrc.nrc1(H, 2) == nrc.nrc1([H[:300], H[300:]], 2)
    assert nrc.nrc1(str(path), None).tobytes() == nrc.nrc1(H, None).tobytes()
    assert nrc.nrc2(path, W, convention="id25") == nrc.nrc2(H, W, convention="id25")
    assert nrc.nrc3(W, tmp_path / "Y.npy") == nrc.nrc3(W, Y)


# ---- what can be read once ----


def generated(H: np.ndarray, Y: np.ndarray | None, size: int, alive: list[int] | None = None) -> Iterator[Any]:
    for first in range(0, len(H), size):
        if alive is not None:
            alive.append(first)
        yield H[first : first + size] if Y is None else (H[first : first + size], Y[first : first + size])


@pytest.mark.usefixtures("small_chunks")
def test_generators_give_the_report_of_statistics() -> None:
    H, Y, W = draw(4, 2000, 8, 2)
    report = nrc.measure(generated(H, Y, 100), None, W, np.zeros(2))
    wanted = nrc.FeatureStatistics(8, n_targets=2)
    for first in range(0, 2000, 256):
        wanted.update(H[first : first + 256], Y[first : first + 256])
    assert same_report(report, wanted.report(W, np.zeros(2)))
    assert abs(report.nrc1 - reference_nrc1(H, 2, "nrc24")) <= report.bounds["nrc1"] + 1e-14
    assert nrc.nrc1(generated(H, None, 130), 2) == pytest.approx(nrc.nrc1(H, 2), rel=1e-10)
    assert nrc.nrc1(generated(H, None, 130), [1, 3]) == pytest.approx(nrc.nrc1(H, [1, 3]), rel=1e-10)
    assert nrc.nrc2(generated(H, None, 130), W) == pytest.approx(nrc.nrc2(H, W), rel=1e-10)
    assert np.isnan(nrc.measure(generated(H, Y, 100), W=W, convention="id25").nrc1)


@pytest.mark.usefixtures("small_chunks")
def test_generators_are_never_drained() -> None:
    H, _, _ = draw(5, 5000, 8, 2)
    asked: list[int] = []
    source = BatchSource(generated(H, None, 50, asked))
    chunks = source.chunks(256)
    next(chunks)
    assert len(asked) <= 256 // 50 + 1
    next(chunks)
    assert len(asked) <= 2 * 256 // 50 + 1


def test_a_generator_that_was_read_says_so() -> None:
    H, _, _ = draw(6, 100, 4, 2)
    source = nrc.open(generated(H, None, 10))
    nrc.measure(source, n=2)
    with pytest.raises(RuntimeError, match="was read already and cannot be read again"):
        nrc.measure(source, n=2)


# ---- batches ----


def test_batches_that_do_not_fit_are_named() -> None:
    H, Y, _ = draw(7, 30, 4, 2)
    for batches, error, words in (
        ([], ValueError, r"H has shape \(0,\)"),
        (iter([]), ValueError, "is empty: no samples"),
        ([H, H[:, :3]], ValueError, "batch 1 has 3 features of float64"),
        ([H, H.astype(np.float32)], ValueError, "batch 1 has 4 features of float32"),
        ([(H, Y), H], ValueError, "batch 1 has 4 features of float64 and 0 targets"),
        ([(H, Y[:3])], ValueError, "batch 0 has 30 rows of features and 3 of targets"),
        ([(H, Y, Y)], ValueError, "batch 0 has 3 parts"),
        ([{"h": H}], TypeError, "batch 0 is a mapping with keys h; name them with key="),
        (iter([H.astype(int)]), TypeError, "H of batch 0 has dtype int64"),
        (iter([H[0]]), ValueError, "H of batch 0 has shape"),
    ):
        with pytest.raises(error, match=words):
            nrc.measure(batches, n=2)
    with pytest.raises(ValueError, match="batch 0 has no x; it has h, y"):
        nrc.open([{"h": H, "y": Y}], key="x")
    with pytest.raises(TypeError, match="let every batch be a pair"):
        nrc.measure([H], Y)
    with pytest.raises(ValueError, match="holds targets, and Y was given too"):
        nrc.measure(nrc.open([(H, Y)]), Y)
    bad = H.copy()
    bad[3, 0] = np.inf
    with pytest.raises(ValueError, match="the first is row 3 of batch 1"):
        nrc.measure([H, bad], n=1)


def test_a_loader_may_reuse_the_memory_of_its_batches() -> None:
    H, _, _ = draw(8, 600, 5, 2)

    def reused() -> Iterator[np.ndarray]:
        memory = np.empty((50, 5))
        for first in range(0, 600, 50):
            memory[:] = H[first : first + 50]
            yield memory

    assert nrc.nrc1(reused(), 2) == nrc.nrc1(generated(H, None, 50), 2)


# ---- rows that are not finite, shards that are bad ----


@pytest.mark.usefixtures("small_chunks")
def test_bad_rows_are_named_by_shard_and_row(tmp_path: Path) -> None:
    H, Y, W = draw(9, 3000, 6, 2)
    H[2100, 2] = np.nan
    pattern = shards(tmp_path, "H", H, [1000, 2000])
    with pytest.raises(ValueError, match=r"the first is row 100 of .*H_2\.npy; .*nonfinite='skip'"):
        nrc.measure(pattern, Y, W)
    kept = np.isfinite(H).all(axis=1)
    found = nrc.measure(pattern, Y, W, nonfinite="skip")
    wanted = nrc.measure(H[kept], Y[kept], W)
    assert (found.samples, found.skipped_rows) == (2999, 1)
    assert found.nrc1 == pytest.approx(wanted.nrc1, rel=1e-12)
    assert found.nrc2 == pytest.approx(wanted.nrc2, rel=1e-12)


def test_a_chunk_of_wide_rows_may_be_skipped_as_a_whole() -> None:
    H, Y, _ = draw(21, 48, 1600, 2)
    H[16:32] = np.nan
    kept = np.isfinite(H).all(axis=1)
    options = {"convention": "id25", "chunk_rows": 16}
    found = nrc.measure(H, Y, nonfinite="skip", **options)
    wanted = nrc.measure(H[kept], Y[kept], **options)
    assert (found.samples, found.skipped_rows) == (32, 16)
    assert found.nrc1 == pytest.approx(wanted.nrc1, rel=1e-12)


def test_shards_of_other_widths_or_dtypes_are_named(tmp_path: Path) -> None:
    H, _, _ = draw(10, 60, 6, 2)
    pattern = shards(tmp_path, "H", H, [20, 40])
    np.save(tmp_path / "H_1.npy", H[20:40, :5])
    with pytest.raises(ValueError, match=r"H_1\.npy has 5 columns of float64; .*H_0\.npy and all before it have 6"):
        nrc.measure(pattern, n=2)
    np.save(tmp_path / "H_1.npy", H[20:40].astype(np.float32))
    with pytest.raises(ValueError, match=r"H_1\.npy has 6 columns of float32"):
        nrc.measure(pattern, n=2)


def test_features_and_targets_of_other_lengths_are_named(tmp_path: Path) -> None:
    H, Y, _ = draw(11, 60, 6, 2)
    np.save(tmp_path / "H.npy", H)
    np.save(tmp_path / "Y.npy", Y[:50])
    with pytest.raises(ValueError, match=r"H\.npy has 60 rows and .*Y\.npy has 50"):
        nrc.measure(tmp_path / "H.npy", tmp_path / "Y.npy")


def test_a_shard_that_changes_between_two_passes_is_named(tmp_path: Path) -> None:
    H, _, _ = draw(12, 60, 6, 2)
    pattern = shards(tmp_path, "H", H, [20, 40])
    source = nrc.open(pattern)
    nrc.measure(source, n=2)
    np.save(tmp_path / "H_1.npy", H[20:39])
    with pytest.raises(OSError, match=r"H_1\.npy has changed since it was opened"):
        nrc.measure(source, n=2)


# ---- memory ----

STREAM = """
import sys
import numpy as np
import nrc_fast as nrc

def peak():
    return int(next(line for line in open("/proc/self/status") if line.startswith("VmHWM")).split()[1]) * 1024

nrc.nrc1(np.random.default_rng(0).standard_normal((5000, 64)), 2)   # what a first call loads
before = peak()
mapped = np.load(sys.argv[1], mmap_mode="r") if sys.argv[3] == "mapped" else sys.argv[1]
plan = nrc.plan(mapped, n=2, memory=sys.argv[2])
report = nrc.measure(mapped, n=2, memory=sys.argv[2])
print(peak() - before, plan.memory, repr(report.nrc1))
"""


@pytest.mark.parametrize("kind", ["file", "mapped", "columns"])
def test_a_file_ten_times_the_memory_is_streamed_within_it(tmp_path: Path, kind: str) -> None:
    memory, d = 32 << 20, 64
    rows = 10 * memory // (4 * d)
    path = tmp_path / "features.npy"
    stored = np.lib.format.open_memmap(path, "w+", np.float32, (rows, d), fortran_order=kind == "columns")
    block = np.random.default_rng(0).standard_normal((rows // 10, d), dtype=np.float32)
    for first in range(0, rows, rows // 10):
        stored[first : first + rows // 10] = block
    del stored
    command = [sys.executable, "-c", STREAM, str(path), str(memory), "mapped" if kind == "mapped" else "path"]
    result = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, check=False)
    assert result.returncode == 0, result.stderr
    peak, planned, value = result.stdout.split()
    assert int(peak) <= memory
    assert int(planned) <= memory
    assert float(value) == pytest.approx(nrc.nrc1(block, 2), rel=1e-4)


def test_memory_that_does_not_do_is_refused_with_what_would(tmp_path: Path) -> None:
    H, _, _ = draw(13, 500, 400, 2)
    np.savez_compressed(tmp_path / "H.npz", H)
    with pytest.raises(ValueError, match=r"memory is 1.0 MiB; 400 features need at least \d+ MiB") as caught:
        nrc.measure(tmp_path / "H.npz", n=2, memory="1MiB")
    least = re.search(r"at least (\d+) MiB", str(caught.value))
    assert least is not None
    assert nrc.measure(tmp_path / "H.npz", n=2, memory=f"{least[1]}MiB").samples == 500
    with pytest.raises(ValueError, match="need at least"):
        nrc.measure(tmp_path / "H.npz", n=2, memory=f"{int(least[1]) - 1}MiB")
    for memory in ("much", "-1", "0", -5, "1 XB"):
        with pytest.raises(ValueError, match="a number of bytes such as '2GiB'"):
            nrc.measure(H, n=2, memory=memory)
    with pytest.raises(ValueError, match="chunk_rows is 0"):
        nrc.measure(H, n=2, chunk_rows=0)


# ---- the plan ----


def test_the_plan_is_what_is_done(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    W = rng.standard_normal((2, 16))
    spread, collapsed = draw(14, 3000, 16, 2)[0], rng.standard_normal((3000, 2)) @ W
    Y = rng.standard_normal((3000, 2))
    done: list[str] = []
    run = nrc.passes.reading.Reading.run

    def noted(self: Any, title: str, sums: Any) -> None:
        done.append(title)
        run(self, title, sums)

    monkeypatch.setattr(nrc.passes.reading.Reading, "run", noted)
    for H in (spread, spread.astype(np.float32), collapsed.astype(np.float32)):
        for convention in CONVENTIONS:
            for given in ({}, {"Y": Y, "b": np.zeros(2)}):
                done.clear()
                plan = nrc.plan(H, W=W, convention=convention, **given)
                nrc.measure(H, W=W, convention=convention, **given)
                certain = [title for title, when in plan.passes if when == "always"]
                assert [title for title in done if title in certain or title not in dict(plan.passes)][: len(certain)]
                assert set(certain) <= set(done) <= {title for title, _ in plan.passes}
                assert len(done) <= len(plan.passes)
    np.save(tmp_path / "H.npy", spread)
    plan = nrc.plan(tmp_path / "H.npy", n=2)
    assert (plan.rows, plan.bytes_per_pass) == (3000, spread.nbytes)
    assert "rows 3,000, 375.0 KiB in a pass" in str(plan)
    done.clear()
    plan = nrc.plan(nrc.open(generated(spread, None, 100)), n=2)
    assert [title for title, _ in plan.passes] == ["statistics"]
    assert plan.rows is None
    assert "rows unknown" in str(plan)


# ---- reading ahead ----


def test_errors_of_the_reader_arrive_and_its_thread_ends(tmp_path: Path) -> None:
    import threading

    H, _, _ = draw(15, 2000, 8, 2)
    pattern = shards(tmp_path, "H", H, [1000])
    source = nrc.open(pattern)
    with (tmp_path / "H_1.npy").open("r+b") as file:
        file.truncate(3000)
    for _ in range(3):
        with pytest.raises(OSError, match=r"H_1\.npy has changed"):
            nrc.measure(source, n=2, chunk_rows=100)
    assert not [thread for thread in threading.enumerate() if "nrc_fast" in thread.name]


def test_an_abandoned_pass_ends_its_thread(tmp_path: Path) -> None:
    import threading

    H, _, _ = draw(16, 2000, 8, 2)
    np.save(tmp_path / "H.npy", H)

    class Refuses:
        def begin(self, *_: object) -> None: ...

        def add_chunk(self, _: object) -> None:
            raise ZeroDivisionError

    reading = begin_reading(tmp_path / "H.npy", chunk_rows=10)
    with pytest.raises(ZeroDivisionError):
        reading.run("refused", Refuses())  # type: ignore[arg-type]
    assert not [thread for thread in threading.enumerate() if "nrc_fast" in thread.name]


# ---- traps ----


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("offset", [0.0, 10.0, 100.0, 1e4])
def test_first_rows_unlike_the_others_cost_no_digits(dtype: type, offset: float) -> None:
    """Sorted data: the shift is the mean of rows that are nothing like the rest."""
    rng = np.random.default_rng(0)
    H = rng.standard_normal((60_000, 8)) * 0.7 ** np.arange(8)
    H[:1024] += offset
    H = H.astype(dtype)
    W = rng.standard_normal((2, 8))
    report = nrc.measure(H, W=W)
    for name, reference in (
        ("nrc1", reference_nrc1(H, 2, "nrc24")),
        ("nrc2", reference_nrc2(H, W, "nrc24")),
    ):
        assert abs(getattr(report, name) - reference) <= report.bounds[name] + 1e-15
    if offset <= 100.0:
        assert report.bounds["nrc1"] < 0.1  # 1 says nothing
    streamed = nrc.FeatureStatistics(8).update(H[:1]).update(H[1:]).report(W, convention="variance")
    for k in range(1, 9):
        error = abs(streamed.nrc1_by_k[k - 1] - reference_nrc1(H, k, "variance"))
        assert error <= streamed.bounds["nrc1_by_k"][k - 1] + 1e-15
    assert abs(streamed.nrc2 - reference_nrc2(H, W, "variance")) <= streamed.bounds["nrc2"] + 1e-15


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_merging_forgets_no_rounding(dtype: type) -> None:
    rng = np.random.default_rng(1)
    good, bad = (rng.standard_normal((3000, 6)) * 0.6 ** np.arange(6) for _ in range(2))
    bad[0] = 1e5  # the shift of this part
    good, bad = good.astype(dtype), bad.astype(dtype)
    merged = nrc.FeatureStatistics(6).update(good)
    merged += nrc.FeatureStatistics(6).update(bad[:1]).update(bad[1:])
    report = merged.report(n=2, convention="variance")
    H = np.concatenate([good, bad])
    for k in range(1, 7):
        error = abs(report.nrc1_by_k[k - 1] - reference_nrc1(H, k, "variance"))
        assert error <= report.bounds["nrc1_by_k"][k - 1] + 1e-15
    eigenvalues = np.linalg.eigvalsh(np.cov(H.astype(np.float64).T, bias=True))[::-1]
    errors = np.abs(report.explained_variance_ratio - eigenvalues / eigenvalues.sum())
    assert np.all(errors <= report.bounds["explained_variance_ratio"])


def test_centered_unit_rows_next_to_their_mean_stay_within_their_bounds() -> None:
    H = 0.1 + 1e-9 * np.random.default_rng(2).standard_normal((4000, 6))
    report = nrc.measure(H, n=2, convention="id25")
    for k in range(1, 6):
        assert abs(report.nrc1_by_k[k - 1] - reference_nrc1(H, k, "id25")) <= report.bounds["nrc1_by_k"][k - 1]


def test_small_shards_and_column_maps_stay_within_the_memory(tmp_path: Path) -> None:
    memory = 48 << 20
    block = np.random.default_rng(0).standard_normal((4000, 64), dtype=np.float32)
    for number in range(200):
        np.save(tmp_path / f"part_{number}.npy", block)
    command = [sys.executable, "-c", STREAM, str(tmp_path / "part_*.npy"), str(memory), "path"]
    result = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, check=False)
    assert result.returncode == 0, result.stderr
    peak, planned, value = result.stdout.split()
    assert int(peak) <= memory
    assert 0.5 * int(peak) <= int(planned) <= memory
    assert float(value) == pytest.approx(nrc.nrc1(block, 2), rel=1e-4)


@pytest.mark.parametrize("mode", ["r", "r+", "w+", "c"])
def test_maps_that_are_released_are_those_that_files_hold(tmp_path: Path, mode: str) -> None:
    path = tmp_path / "H.bin"
    H, _, _ = draw(20, 5000, 64, 2)
    H.tofile(path)
    mapped = np.memmap(path, np.float64, mode, shape=H.shape)
    if mode != "r":
        mapped[:] = 2 * H  # of a private map these are the only copy
    wanted = mapped.copy()
    nrc.measure(mapped, n=2, chunk_rows=500)
    assert np.array_equal(mapped, wanted)


def test_targets_that_are_not_finite_are_named_by_their_own_file(tmp_path: Path) -> None:
    H, Y, _ = draw(21, 3000, 6, 2)
    Y[2500, 1] = np.nan
    np.save(tmp_path / "H.npy", H)
    pattern = shards(tmp_path, "Y", Y, [1000, 2000])
    with pytest.raises(ValueError, match=r"the first is row 500 of .*Y_2\.npy"):
        nrc.measure(tmp_path / "H.npy", pattern)
    with pytest.raises(ValueError, match=r"Y: 1 of 3000 rows .* the first is row 2500;"):
        nrc.measure(H, Y)


def test_files_that_are_listed_twice_or_are_no_files_are_refused(tmp_path: Path) -> None:
    import os

    H, _, _ = draw(22, 30, 4, 2)
    np.save(tmp_path / "H.npy", H)
    with pytest.raises(ValueError, match=r"H\.npy is listed more than once"):
        nrc.open([tmp_path / "H.npy", str(tmp_path / "*.npy")])
    os.mkfifo(tmp_path / "pipe.npy")
    with pytest.raises(ValueError, match=r"pipe\.npy is no regular file"):
        nrc.open(tmp_path / "pipe.npy")
    with pytest.raises(TypeError, match="in which nothing has a name"):
        nrc.open([H[:10], H[10:]], key="h")
    np.save(tmp_path / "I.npy", np.zeros((0, 4), np.float32))  # an empty shard has no say in the dtype
    assert nrc.measure([tmp_path / "I.npy", tmp_path / "H.npy"], n=1).dtype == "float64"


def test_shares_stay_shares_when_targets_are_given_beside_them(tmp_path: Path) -> None:
    H, Y, _ = draw(25, 101, 5, 2)
    np.save(tmp_path / "H.npy", H)
    np.save(tmp_path / "Y.npy", Y)
    wanted = nrc.measure(H[50:], Y[50:]).linear_mse
    features, targets = (nrc.open(tmp_path / name) for name in ("H.npy", "Y.npy"))
    for given in (Y, tmp_path / "Y.npy", targets, targets.share(1, 2)):
        report = nrc.measure(features.share(1, 2), given)
        assert report.samples == 51
        assert report.linear_mse == pytest.approx(wanted, rel=1e-9)
    for rows, given in ((H, targets.share(1, 2)), (features.share(0, 2), targets.share(1, 2))):
        with pytest.raises(ValueError, match=r"Y is rows 50 to 100 of .*; give features and targets together"):
            nrc.measure(rows, given)
    with pytest.raises(ValueError, match="Y is rows 50 to 100"):
        nrc.nrc3(np.eye(2, 5), targets.share(1, 2))


def test_looking_at_a_generator_takes_nothing_from_it() -> None:
    H, _, _ = draw(23, 300, 4, 2)
    with pytest.raises(TypeError, match="open it"):
        nrc.plan(generated(H, None, 50), n=1)
    source = nrc.open(generated(H, None, 50))
    nrc.plan(source, n=1)
    assert nrc.measure(source, n=1).samples == 300


def test_all_rows_skipped_is_an_error_everywhere() -> None:
    H, W = np.full((10, 4), np.nan), np.eye(2, 4)
    for call in (
        lambda: nrc.nrc1(H, 2, nonfinite="skip"),
        lambda: nrc.nrc2(H, W, nonfinite="skip"),
        lambda: nrc.nrc2(H, W, convention="id25", nonfinite="skip"),
        lambda: nrc.measure(H, W=W, nonfinite="skip"),
    ):
        with pytest.raises(ValueError, match=r"all .*rows hold NaN"):
            call()
