"""What the benchmarks time is right, rivals compute the same, and every row can be measured again."""

from __future__ import annotations

from typing import Any

import pytest
from support.benches import EPSILON, bench

TIMED = ["gram", "fused", "residual", "gram_product", "nrc1", "measure", "all_k", "nrc3", "nrc3_gamma", "cka", "update"]


def dtypes_of(name: str) -> tuple[str, ...]:
    """Routines whose rivals know no 16-bit features are measured without them."""
    wide = ("float64", "float32")
    return wide if name in {"nrc3", "nrc3_gamma", "update", "all_k"} else (*wide, "bfloat16", "float16")


def small_case(routine: Any, **changes: Any) -> Any:
    """A case with few rows of what the routine measures by default."""
    cases = bench("cases")
    first = routine.SUITES["short"][0]
    k = None if first.k is None else min(first.k, 3)
    chosen = {"dtype": first.dtype, "k": k} | changes
    return cases.Case(1_003, 17, **chosen)


@pytest.mark.parametrize(("name", "dtype"), [(name, dtype) for name in TIMED for dtype in dtypes_of(name)])
def test_ours_is_right_and_rivals_compute_the_same(name: str, dtype: str) -> None:
    routine = bench("run").load(name)
    problem = routine.problem(small_case(routine, dtype=dtype))
    rounding = EPSILON.get(dtype, EPSILON["float32"])
    allowed = problem.tiny
    if problem.plain is not None:
        plain = problem.error(problem.plain())
        assert plain <= 1e5 * rounding
        allowed += 2.0 * plain
    for contender in problem.contenders:
        if contender.call is None:
            assert contender.absent.startswith("not installed: pip install ")
            continue
        error = problem.error(contender.call())
        if contender.name.startswith("nrc_fast"):
            assert error <= allowed, contender.name
        else:
            # The grid knows gamma to half a step; IncrementalPCA and what draws vectors are approximations; 16-bit
            # products give 16 bits.
            loose = ("grid", "IncrementalPCA", "random", "torch.mm", "authors", "same metrics", "arXiv")
            most = 2e-2 if any(part in contender.name for part in loose) else 1e5 * rounding
            most = 0.2 if "lowrank" in contender.name else most
            assert error <= most, contender.name


def test_descend_is_right() -> None:
    routine = bench("routines.ufm.descend")
    problem = routine.problem(bench("cases").Case(65, 7, "float64", k=3))
    ours, rival = problem.contenders
    assert problem.error(ours.call()) <= problem.tiny
    assert problem.error(rival.call()) == 0.0


@pytest.mark.parametrize("name", [*TIMED, "descend", "busy", "memory"])
def test_suites_repeat_by_their_commands(name: str) -> None:
    """The options of each case choose that case and no other."""
    cases, run, routine = bench("cases"), bench("run"), bench("run").load(name)
    for suite in ("short", "full"):
        chosen = routine.SUITES[suite]
        assert len(set(chosen)) == len(chosen)
        for case in chosen:
            command = ["--routine", name, "--suite", suite, *case.options().split()]
            assert run._cases(routine, run._parser().parse_args(command)) == [case]
            assert cases.DTYPES.count(case.dtype) == cases.LAYOUTS.count(case.layout) == 1


def test_full_suite_covers_the_shapes() -> None:
    """d from 16 to 4096, four dtypes, both layouts, H from 64 MB to 2 GB, the numbers of vectors."""
    gram, residual = bench("routines.kernels.gram").SUITES["full"], bench("routines.kernels.residual").SUITES["full"]
    widths = {16, 64, 100, 128, 256, 512, 1000, 1024, 2048, 4096}
    for suite in (gram, residual):
        assert {(case.d, case.dtype) for case in suite} == {
            (d, dtype) for d in widths for dtype in ("float64", "float32", "float16", "bfloat16")
        }
        assert {case.d for case in suite if case.layout == "strided"} == widths
    sizes = {4 * case.rows * case.d for case in gram if case.dtype == "float32"}
    assert min(sizes) == 64_000_000
    assert max(sizes) == 2_048_000_000
    assert {1, 3, 16, 64} <= {case.k for case in residual}
    assert {case.k for case in bench("routines.measurement.nrc1").SUITES["full"]} == {1, 3, 16, 64}


@pytest.mark.parametrize("kind", ["collapsed", "power"])
def test_nrc1_of_wide_features(kind: str) -> None:
    """Of the shape of the benchmark, with fewer rows and features."""
    routine = bench("run").load("nrc1")
    problem = routine.problem(bench("cases").Case(2_003, 300, k=3, kind=kind))
    for contender in problem.contenders:
        if contender.call is not None:
            allowed = 1e-8 if contender.name.startswith("nrc_fast") else 0.2
            assert problem.error(contender.call()) <= allowed, contender.name
    # Two reads at least, and less arithmetic than a covariance.
    assert [one.bytes_read for one in problem.passes] == [4.0 * 2_003 * 300] * 2
    assert problem.passes[0].flops < 2_003 * 300 * 301


def test_decompositions_that_take_minutes_are_left_out() -> None:
    """At 16,384 features whoever needs d x d eigenvectors, but not who finds a few."""
    harness, pipelines = bench("harness"), bench("rivals").pipelines

    class Wide:
        shape = (20_000, 16_384)

    limits = {"float32 flops": 4e11, "float64 flops": 2e11, "read bytes": 2e10}
    left = [one.name for one in harness.taking_part(pipelines(Wide, 3, 2), harness.Settings(), limits) if one.call]
    few = ["torch.pca_lowrank", "scikit-learn PCA, numpy", "scikit-learn randomized_svd, numpy"]
    assert left == [*few, "code of arXiv 2409.04180, written anew"]


def test_memory_of_each_contender() -> None:
    routine, settings = bench("run").load("memory"), bench("harness").Settings(rivals=["randomized_svd"], limit=1e9)
    case = bench("cases").Case(50_000, 64, k=3, kind="collapsed")
    rows = list(routine.measured(case, settings, {"float32 flops": 1.0}))
    assert [row["contender"] for row in rows] == ["nrc_fast.nrc1(H, k)", "scikit-learn randomized_svd, numpy"]
    ours, rival = rows
    assert ours["kind"] == "collapsed"
    assert ours["MB beyond H"] < rival["MB beyond H"]
    assert rival["MB beyond H"] >= 2 * 4e-6 * 50_000 * 64  # the centred rows, and the unit rows


def test_beside_busy_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    routine, harness = bench("run").load("busy"), bench("harness")
    monkeypatch.setattr(routine, "PROCESSES", 1)
    case = bench("cases").Case(1_003, 17, k=3, kind="power")
    settings = harness.Settings(runs=1, rivals=["scikit-learn PCA, numpy"])
    rows = list(routine.measured(case, settings, {"float32 flops": 1.0}))
    assert [row["contender"] for row in rows] == ["nrc_fast.nrc1(H, k)", "scikit-learn PCA, numpy"]
    for row in rows:
        assert row["routine"] == "busy"
        assert row["slowdown"] == row["seconds"] / row["quiet seconds"]
    assert rows[0]["error"] <= 1e-9


def test_busy_processes_are_busy_and_end() -> None:
    with bench("run").load("busy").busy_processes(2) as processes:
        assert [process.poll() for process in processes] == [None, None]
    assert [process.poll() is not None for process in processes] == [True, True]
