"""How contenders are timed, and what the limits of the machine explain of it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support.benches import bench


class Clock:
    """Time that passes only where a contender says so."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 0.0
        self.calls: list[str] = []
        time = bench("harness").time
        monkeypatch.setattr(time, "perf_counter", lambda: self.now)
        monkeypatch.setattr(time, "sleep", lambda _: None)

    def contender(self, name: str, taken: list[float], **more: Any) -> Any:
        """Takes so many seconds in its calls, one after the other."""
        left = iter(taken)

        def call() -> float:
            self.calls.append(name)
            self.now += next(left)
            return 1.5

        return bench("harness").Contender(name, call, **more)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock(monkeypatch)


def problem_of(contenders: list[Any], **more: Any) -> Any:
    error: Callable[[float], float] = lambda value: abs(value / 1.0 - 1.0)  # noqa: E731
    return bench("harness").Problem("work", contenders, error, {"rows": 10, "d": 2}, **more)


LIMITS = {"float32 flops": 100.0, "float64 flops": 50.0, "read bytes": 10.0}


def test_times_and_shares(clock: Clock) -> None:
    harness, Pass = bench("harness"), bench("limits").Pass
    passes = [Pass(100.0, 5.0), Pass(10.0, 20.0, "float64")]  # 1 s of arithmetic, 2 s of reading
    contenders = [
        clock.contender("nrc_fast", [9.0, 4.0, 8.0, 6.0]),
        clock.contender("rival", [30.0, 12.0, 15.0, 10.0]),
    ]
    problem = problem_of(contenders, passes=passes, plain=lambda: 1.25, tiny=0.125)
    settings = harness.Settings(runs=3, seconds=1000.0, refcheck=True)
    ours, rival = harness.measure(problem, settings, LIMITS)
    assert clock.calls == ["nrc_fast", "rival", "nrc_fast", "rival", "rival", "nrc_fast", "nrc_fast", "rival"]
    assert (ours["cold"], ours["seconds"], ours["fastest"], ours["slowest"], ours["runs"]) == (9.0, 6.0, 4.0, 8.0, 3)
    assert (rival["seconds"], rival["times ours"]) == (12.0, 2.0)
    assert ours["share of limit"] == 0.5
    assert rival["share of limit"] == 0.25
    assert ours["limit"] == "arithmetic, then memory"
    assert ours["error"] == 0.5
    assert ours["allowed error"] == 2 * 0.25 + 0.125
    assert ours["check"] == "ok"


@pytest.mark.parametrize(("cold", "runs"), [(0.1, 5), (3.0, 3), (11.0, 1), (61.0, 0)])
def test_slow_contenders_run_less_often(clock: Clock, cold: float, runs: int) -> None:
    harness = bench("harness")
    contenders = [clock.contender("nrc_fast", [1.0] * 9), clock.contender("rival", [cold] * 9)]
    _, rival = harness.measure(problem_of(contenders), harness.Settings(runs=5, seconds=10.0, limit=60.0), LIMITS)
    assert (rival["runs"], clock.calls.count("rival"), rival["seconds"]) == (runs, runs + 1, pytest.approx(cold))


def test_who_does_not_run_is_named(clock: Clock) -> None:
    harness, rivals = bench("harness"), bench("rivals")

    def broken() -> float:
        msg = "too large"
        raise MemoryError(msg)

    contenders = [
        clock.contender("nrc_fast", [1.0] * 9),
        rivals.contender("absent", "no_such_module_at_all", lambda _: None),
        clock.contender("endless", [], flops=100.0 * 61.0),
        harness.Contender("broken", broken),
        clock.contender("other", [1.0] * 9),
    ]
    settings = harness.Settings(runs=1, limit=60.0)
    rows = harness.measure(problem_of(contenders), settings, LIMITS)
    assert [row.get("not run") for row in rows] == [
        None,
        "not installed: pip install no_such_module_at_all",
        "61 s at the machine's peak, the limit is 60 s",
        "raised MemoryError: too large",
        None,
    ]
    assert rivals.requirement("torchdr").startswith("torchdr==")
    few = problem_of([clock.contender("nrc_fast", [1.0] * 9), clock.contender("torch.mm", [1.0] * 9)])
    assert len(harness.measure(few, harness.Settings(runs=1, rivals=["numpy"]), LIMITS)) == 1


@pytest.mark.parametrize("value", [2.0, float("nan")])
def test_an_error_too_large_fails(clock: Clock, value: float) -> None:
    harness, run = bench("harness"), bench("run")
    contenders = [clock.contender("nrc_fast", [1.0] * 9), clock.contender("rival", [1.0] * 9)]
    problem = problem_of(contenders, plain=lambda: 1.0)
    problem.error = lambda found: 0.0 if found == 1.0 else value
    ours, rival = harness.measure(problem, harness.Settings(runs=1, refcheck=True), LIMITS)
    assert run._fails(ours)
    assert rival["check"] != "ok"
    assert not run._fails(rival)


# ---- limits ----


def test_the_largest_limit_of_all_moments_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A row that was measured before it is shared anew."""
    record = bench("record")
    better = LIMITS | {"float32 flops": 400.0, "read bytes": 5.0}
    moments = iter([LIMITS, better, LIMITS | {"float32 flops": 200.0}])
    monkeypatch.setattr(record, "measure_limits", lambda *_: next(moments))
    path = tmp_path / "results.json"
    session = record.Record("command", 1, "isa", path)
    session.probe()
    row = {"routine": "work", "contender": "nrc_fast", "rows": 10, "seconds": 1.0}
    passes = [bench("limits").Pass(100.0, 2.0)]
    session.add(row | bench("limits").share_of_limit(row, passes, session.limits))
    session.add({"routine": "work", "contender": "rival", "not run": "too long"})
    first = json.loads(path.read_text(encoding="utf-8"))
    assert (first["rows"][0]["share of limit"], first["rows"][0]["limit"]) == (1.0, "arithmetic")
    session.probe()
    session.probe()
    last = json.loads(path.read_text(encoding="utf-8"))
    assert last["limits"] == LIMITS | {"float32 flops": 400.0}
    assert (last["limits at the start"], last["limits at the end"]) == (LIMITS, LIMITS | {"float32 flops": 200.0})
    assert (last["rows"][0]["share of limit"], last["rows"][0]["seconds to read"]) == (0.25, 0.2)
    assert last["rows"][1] == {"routine": "work", "contender": "rival", "not run": "too long"}
