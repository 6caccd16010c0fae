"""Timing that a rival's author would accept: interleaved, medians and spread, cold and warm, the error beside it."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from limits import Pass, share_of_limit

__all__ = ["OURS", "Contender", "Problem", "Settings", "measure", "taking_part", "time_all"]

# Shorter calls are repeated until this many seconds have passed, and the mean counts as one run.
LEAST_SECONDS = 5e-3
# Threads of BLAS and OpenMP libraries wait actively for some time after a call: not at the cost of the next one.
PAUSE_SECONDS = 0.15
# What a median needs, unless one run takes longer than all of them should.
LEAST_RUNS = 3
OURS = "nrc_fast"


@dataclass
class Contender:
    """One way to do the work.

    Attributes
    ----------
    name : str
        Library and call, as its users would write it. Ours begin with "nrc_fast".
    call : callable, optional
        Does the work and returns its result.
    absent : str
        Why it cannot run, instead of a call.
    flops : float
        What it must compute in its own form, where that is much more than the work needs: it is left out, and said
        to be, where that takes longer than the limit even at the machine's peak.
    passes : sequence of Pass, optional
        What limits it, where that differs from the limits of the problem.
    """

    name: str
    call: Callable[[], Any] | None = None
    absent: str = ""
    flops: float = 0.0
    passes: Sequence[Pass] | None = None


@dataclass
class Problem:
    """One piece of work, who does it, and what limits it.

    Attributes
    ----------
    name : str
    contenders : list of Contender
        Ours first.
    error : callable
        Relative error of a result against float64.
    facts : dict
        Columns that say what the work is.
    passes : sequence of Pass
        One after the other; none where no limit is known.
    plain : callable, optional
        The plain computation in the dtype of the features: ours may err twice as much.
    tiny : float
        And this much more.
    """

    name: str
    contenders: list[Contender]
    error: Callable[[Any], float]
    facts: dict[str, Any]
    passes: Sequence[Pass] = ()
    plain: Callable[[], Any] | None = None
    tiny: float = 1e-14
    columns: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Settings:
    """How often and how long.

    Attributes
    ----------
    runs : int
        Of each contender, at most.
    seconds : float
        For the runs of one contender; there are at least three, unless one takes longer.
    limit : float
        Of one run, in seconds. What is slower is run once, and what is known to be slower is not run.
    rivals : sequence of str, optional
        Parts of the names of the rivals that take part; all of them if not given.
    refcheck : bool
        Whether the plain computation is done too, and our error compared with its.
    """

    runs: int = 5
    seconds: float = 10.0
    limit: float = 60.0
    rivals: Sequence[str] | None = None
    refcheck: bool = False

    def keeps(self, contender: Contender) -> bool:
        """Whether a contender takes part."""
        if self.rivals is None or contender.name.startswith(OURS):
            return True
        return any(part.lower() in contender.name.lower() for part in self.rivals)

    def warm_runs(self, cold: float) -> int:
        """How many, for a contender whose first call took `cold` seconds."""
        if cold > self.limit:
            return 0
        least = LEAST_RUNS if cold <= self.seconds else 1
        return min(self.runs, max(least, int(self.seconds / max(cold, 1e-9))))


def measure(problem: Problem, settings: Settings, limits: Mapping[str, float]) -> list[dict[str, Any]]:
    """A row for each contender, with its share of the machine's limit; those that were not run say why."""
    problem.contenders = taking_part(problem.contenders, settings, limits)
    rows = time_all(problem, settings)
    passes = {contender.name: contender.passes or problem.passes for contender in problem.contenders}
    rows = [row | share_of_limit(row, passes[row["contender"]], limits) for row in rows]
    if not settings.refcheck:
        return rows
    plain = 0.0 if problem.plain is None else problem.error(problem.plain())
    return [row | _checked(row, 2.0 * plain + problem.tiny) for row in rows]


def taking_part(contenders: Sequence[Contender], settings: Settings, limits: Mapping[str, float]) -> list[Contender]:
    """Those that are asked for; who cannot be done within the limit of one run says so instead of a call."""
    kept = [contender for contender in contenders if settings.keeps(contender)]
    for contender in kept:
        expected = contender.flops / limits["float32 flops"]
        if contender.call is not None and expected > settings.limit:
            contender.absent = f"{expected:.0f} s at the machine's peak, the limit is {settings.limit:.0f} s"
            contender.call = None
    return kept


def time_all(problem: Problem, settings: Settings) -> list[dict[str, Any]]:
    """A row for each contender: cold, median, fastest and slowest seconds, ratio to ours, error."""
    first, taken = _first_calls(problem, settings), {}
    for name, facts in first.items():
        taken[name] = [] if "not run" in facts else [facts.pop("seconds")] * (facts["runs"] == 0)
    calls = {contender.name: contender.call for contender in problem.contenders if contender.call is not None}
    for turn in range(settings.runs):
        names = [name for name, facts in first.items() if facts.get("runs", 0) > turn]
        for name in [*names[turn % max(len(names), 1) :], *names[: turn % max(len(names), 1)]]:
            taken[name].append(_timed(calls[name], first[name]["cold"]))
    ours = statistics.median(taken[problem.contenders[0].name])
    return [problem_facts(problem, name) | _times(taken[name], ours) | facts for name, facts in first.items()]


def problem_facts(problem: Problem, name: str) -> dict[str, Any]:
    """The columns that say who did what."""
    return {"routine": problem.name, **problem.facts, **problem.columns, "contender": name}


def _first_calls(problem: Problem, settings: Settings) -> dict[str, dict[str, Any]]:
    """The cold call of everybody, which also gives the error, and how many calls shall follow."""
    found: dict[str, dict[str, Any]] = {}
    for contender in problem.contenders:
        if contender.call is None:
            found[contender.name] = {"not run": contender.absent}
            continue
        time.sleep(PAUSE_SECONDS)
        start = time.perf_counter()
        try:
            result = contender.call()
        except Exception as failure:
            if contender.name.startswith(OURS):
                raise
            found[contender.name] = {"not run": f"raised {type(failure).__name__}: {failure}"[:200]}
            continue
        cold = time.perf_counter() - start
        runs = settings.warm_runs(cold)
        found[contender.name] = {"cold": cold, "runs": runs, "error": problem.error(result), "seconds": cold}
        del result
    return found


def _timed(call: Callable[[], Any], cold: float) -> float:
    """Seconds of one run; of a short call the mean of several, after one that wakes the processor up."""
    time.sleep(PAUSE_SECONDS)
    count = 1
    if cold < 4 * LEAST_SECONDS:
        start = time.perf_counter()
        call()
        count = max(1, round(LEAST_SECONDS / max(time.perf_counter() - start, 1e-7)))
    start = time.perf_counter()
    for _ in range(count):
        call()
    return (time.perf_counter() - start) / count


def _times(times: list[float], ours: float) -> dict[str, Any]:
    if not times:
        return {}
    median = statistics.median(times)
    return {"seconds": median, "fastest": min(times), "slowest": max(times), "times ours": median / ours}


def _checked(row: dict[str, Any], allowed: float) -> dict[str, Any]:
    """Whether the error is as small as it must be; a rival's is only remarked on."""
    if "error" not in row:
        return {}
    # Written so that NaN fails.
    return {"allowed error": allowed, "check": "ok" if row["error"] <= allowed else "errs more than allowed"}
